"""The hand-over of leadership to a named candidate.

The candidates between the leader and the named one are asked to queue again, one after the other, so that they keep their
order. Each answers by ending its candidacy and beginning another one behind all others. A waiting candidate does no work, so
its leaving is safe at any moment. The leader itself leaves last, by its usual way out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import anyio

from .._lease.shared_connection import SharedConnection
from ..errors import HandOverError
from .admin import Candidate, Changes, Queue, ask_to_step_down, read_queue, wait_until_gone
from .queue import election_prefix, prefix_end

_OURS = re.compile(r".+#[0-9a-f]{8}", re.DOTALL)
"""The pattern of an etcdleader's identity. A candidate with another one cannot answer a request."""


def candidates_between(queue: Queue, to: str) -> Sequence[Candidate]:
    """Return the candidates between the leader and the named one, in order.

    Raises:
        HandOverError: The named candidate cannot be the next leader.
    """
    places = [place for place, candidate in enumerate(queue.candidates) if candidate.identity == to]
    if not places:
        raise HandOverError(f"no candidate of {queue.election!r} has the identity {to!r}")
    if len(places) > 1:
        raise HandOverError(f"{len(places)} candidates of {queue.election!r} have the identity {to!r}")
    if places[0] == 0:
        raise HandOverError(f"{to!r} leads {queue.election!r} already")
    return queue.candidates[1 : places[0]]


def check_library(candidates: Sequence[Candidate], to: str) -> None:
    """Check that each of these candidates may be an etcdleader, before any of them is asked.

    Raises:
        HandOverError: One or more are of another library, or keys that were put by hand.
    """
    foreign = [one.identity for one in candidates if not one.lease_id or not _OURS.fullmatch(one.identity)]
    if foreign:
        raise HandOverError(
            f"{', '.join(map(repr, foreign))} cannot make way for {to!r}: only an etcdleader answers the request",
            foreign,
        )


async def clear_way(connection: SharedConnection, election: str, to: str, *, timeout: float) -> Candidate | None:
    """Ask the candidates between the leader and the named one to queue again, until there are none.

    Return the leader, as the last read has shown it. Return None if the named candidate leads meanwhile.

    Args:
        connection: The connection for all calls.
        election: The name of the election.
        to: The identity of the named candidate.
        timeout: The seconds within which each candidate must answer, and the timeout of each call.

    Raises:
        HandOverError: The named candidate cannot be the next leader, or a candidate in front of it stays there.
        EtcdUnavailableError: etcd did not respond.
        EtcdRefusedError: etcd refused a request.
    """
    asked = False
    while True:
        queue = await read_queue(connection, election, timeout=timeout, most=0)
        if asked and queue.leader is not None and queue.leader.identity == to:
            return None
        between = candidates_between(queue, to)
        check_library(between, to)
        if not between:
            return queue.leader
        asked = True
        await _let_pass(connection, election, between[0], to, timeout)


async def _let_pass(connection: SharedConnection, election: str, candidate: Candidate, to: str, timeout: float) -> None:
    with anyio.move_on_after(timeout) as bound:
        if await ask_to_step_down(connection, candidate, timeout=timeout):
            await wait_until_gone(connection, candidate, timeout=timeout)
    if bound.cancelled_caught:
        raise HandOverError(
            f"{candidate.identity!r} did not make way for {to!r} within {timeout:g} s: it may be an older etcdleader, or it "
            "hangs",
            [candidate.identity],
        )
    # The next one is asked when this one is in the queue again, so that both keep their order. It may also have ended.
    with anyio.move_on_after(timeout):
        await _wait_until_back(connection, election, candidate, timeout)


async def _wait_until_back(connection: SharedConnection, election: str, candidate: Candidate, timeout: float) -> None:
    prefix = election_prefix(election)
    with Changes(connection.api, prefix, prefix_end(prefix), timeout=timeout) as changes:
        while True:
            queue = await read_queue(connection, election, timeout=timeout, most=0)
            if any(one.identity == candidate.identity and one.token > candidate.token for one in queue.candidates):
                return
            await changes.wait()
