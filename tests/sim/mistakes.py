"""etcd's own mistakes in a random schedule: leases that a woken leader revokes, and raft terms that are too low."""

from __future__ import annotations

import random
from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup

from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import FakeClient, FakeMember

__all__ = ("Mistakes",)


class Mistakes:
    """Draws the mistakes. Each lasts for a while, after which the cluster is healthy again."""

    def __init__(
        self, etcd: FakeEtcd, rng: random.Random, *, lease: float, election_timeout: float, note: Callable[[str], None]
    ) -> None:
        """Let some members answer a write under the term of the entry before it.

        Args:
            etcd: The cluster whose members make the mistakes.
            rng: The source of random numbers.
            lease: The TTL of the candidates' leases.
            election_timeout: The minimum time for which the cluster is without a leader.
            note: Records what is done.
        """
        self._etcd = etcd
        self._rng = rng
        self._lease = lease
        self._election_timeout = election_timeout
        self._note = note
        for member in etcd.members:
            member.answers_early = rng.random() < 0.5

    def draw(self, group: TaskGroup, client: FakeClient, ended: Callable[[], None]) -> None:
        """Begin one mistake.

        Args:
            group: The task group that runs it.
            client: The client that it should harm.
            ended: Called when the cluster is healthy again.
        """
        member = client.member
        fault, moments = self._rng.choice((self._wake_a_leader, self._snapshot, self._restart)), self._rng.random()

        async def do() -> None:
            await fault(client, member, moments)
            ended()

        group.start_soon(do)

    async def _wake_a_leader(self, client: FakeClient, member: FakeMember, drawn: float) -> None:
        """Freeze etcd's leader past a TTL, elect another one, and wake it up.

        Three things are drawn independently, each with a chance of one half:

        - The client's member, unless it leads, catches up by snapshot before the wake-up.
        - The watches are silent at the wake-up.
        - etcd is full, so that no key can move to another lease.
        """
        leader, rng = self._etcd.leader, self._rng
        if leader is None:
            return
        lags = member is not leader and rng.random() < 0.5
        silent, full = rng.random() < 0.5, rng.random() < 0.5
        self._note(f"{leader!r} led, lags: {lags}, silent: {silent}, full: {full}")
        if lags:
            member.lag()
        leader.freeze()
        self._etcd.no_space = full
        await anyio.sleep(self._election_timeout * (1 + drawn))
        self._etcd.change_leader()
        if lags:
            member.recover(by_snapshot=True)
        await anyio.sleep(self._lease * (0.6 + drawn * 0.8))
        silent = silent and not client.stalled
        if silent:
            client.stall_watches()
            await anyio.sleep(0.1)
        leader.recover()
        await anyio.sleep(0.1)
        self._etcd.no_space = False
        if silent:
            await anyio.sleep(self._lease / 2)
            client.resume_watches()

    async def _snapshot(self, client: FakeClient, member: FakeMember, drawn: float) -> None:
        """Change etcd's leader while the client's member lags, then send that member a snapshot."""
        self._note(f"{member!r} catches up by snapshot")
        member.lag()
        await anyio.sleep(drawn * self._election_timeout)
        self._etcd.change_leader()
        await anyio.sleep(drawn)
        member.recover(by_snapshot=True)

    async def _restart(self, client: FakeClient, member: FakeMember, drawn: float) -> None:
        """Restart the client's member, which then has no raft term."""
        self._note(f"{member!r} restarts with a snapshot")
        member.restart(by_snapshot=True)
        await anyio.sleep(drawn)
