"""One candidate of the demo. It uses only the public interface, as an application does.

It reports events on standard output, one JSON object a line. It resigns for each line on standard input, and stops at
the end of the input.
"""

from __future__ import annotations

import json
import sys
import time

import anyio

from etcdleader import Config, EtcdConfig, EtcdLeaderManager, LeaderManager, Term

LEASE, RENEW, RETRY = 4.0, 1.0, 0.5
_REPORT_SECONDS = 0.2


def report(event: str, **facts: object) -> None:
    """Print an event. ``at`` is its time on a clock that all processes of a machine share."""
    print(json.dumps({"event": event, "at": time.monotonic(), **facts}), flush=True)


async def campaign(name: str, endpoint: str, election_key: str) -> None:
    """Campaign and report events until the input ends."""
    config = Config(enabled=True, id=name, lease=LEASE, renew=RENEW, retry=RETRY)
    manager = EtcdLeaderManager(EtcdConfig(endpoints=[endpoint]), config, election_key)

    @manager.on_elected
    def elected(_manager: LeaderManager, term: Term) -> None:
        report("elected", token=term.token, key=term.key, lease_id=term.lease_id)

    @manager.on_ousted
    def ousted(_manager: LeaderManager, _term: Term) -> None:
        report("ousted")

    async with manager, anyio.create_task_group() as group:
        group.start_soon(report_place, manager)
        async for _ in anyio.wrap_file(sys.stdin):
            report("resigning")
            await manager.resign()
        group.cancel_scope.cancel()


async def report_place(manager: LeaderManager) -> None:
    """Report the position in the queue and the rest of the lease, five times a second."""
    while True:
        term = manager.term
        report(
            "position",
            position=manager.statistics().queue_position,
            remaining=None if term is None else term.remaining(),
        )
        await anyio.sleep(_REPORT_SECONDS)


if __name__ == "__main__":
    _, own_name, where, what = sys.argv
    anyio.run(campaign, own_name, where, what)
