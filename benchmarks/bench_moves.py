"""The cost of a change of the cluster leader for a process that leads many elections, on a real cluster of three members.

All managers lead. Then etcd's leader is frozen (SIGSTOP) for longer than a TTL, the others elect another one, and the
frozen one wakes up. It measures four things:

- the time until every key is on a new lease
- the requests that the other two members received meanwhile
- this process's processor time
- the number of leaderships that were lost until the end

The program exits with 1 if a leadership was lost::

    python -m benchmarks.bench_moves [--elections 10000] [--lease 60] [--backend asyncio]
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable

import anyio

from benchmarks.asked import received, since
from etcdleader import Config, EtcdLeaderManager
from etcdleader.testing import EtcdServer
from tests.helpers.etcd_leader import leader_and_others
from tests.versions.choice import choose

LOOK_EVERY = 0.25
PATIENCE = 180.0
AFTER = 20.0
"""Seconds after the wake-up in which leaderships are still counted: etcd revokes a thousand leases a second."""


async def until(holds: Callable[[], bool]) -> float:
    """Wait until something holds; return the seconds that it took."""
    begun = time.monotonic()
    with anyio.fail_after(PATIENCE):
        while not holds():  # noqa: ASYNC110 - statistics bring no event
            await anyio.sleep(LOOK_EVERY)
    return time.monotonic() - begun


async def measure(etcd: EtcdServer, wanted: argparse.Namespace) -> bool:
    """Print the figures; return whether every leadership was kept."""
    config = Config(enabled=True, id="bench", lease=wanted.lease, renew=wanted.lease / 4)
    managers = [EtcdLeaderManager(etcd.config, config, f"moves/{number}") for number in range(wanted.elections)]
    async with anyio.create_task_group() as group:
        for manager in managers:
            group.start_soon(manager.campaign)
        acquired = await until(lambda: all(manager.is_leader() for manager in managers))
        print(f"{wanted.elections} elections led after {acquired:.1f} s")
        await anyio.sleep(config.renew)
        tokens = [manager.term.token for manager in managers if manager.term is not None]
        frozen = etcd.members[(await leader_and_others(etcd))[0]]
        others = [
            endpoint for endpoint, member in zip(etcd.endpoints, etcd.members, strict=True) if member is not frozen
        ]
        requests, used = received(others), time.process_time()
        frozen.pause()
        froze_at = time.monotonic()

        def moves() -> int:
            return sum(manager.statistics().lease_moves > 0 for manager in managers)

        first = await until(lambda: moves() > 0)
        rest = await until(lambda: moves() == len(managers))
        used, asked = time.process_time() - used, since(requests, received(others))
        print(f"frozen: the first key moved after {first:.1f} s, all {rest:.1f} s later")
        print(f"requests: {', '.join(f'{method} {count:.0f}' for method, count in asked.items())}")
        print(f"processor of this process: {used:.1f} s, {100 * used / (first + rest):.0f} % of one")
        await anyio.sleep(max(0.0, froze_at + wanted.lease + 5 - time.monotonic()))
        frozen.resume()
        print(f"woken up after {time.monotonic() - froze_at:.0f} s")
        await anyio.sleep(AFTER)
        kept = sum(
            manager.term is not None and manager.term.token == token
            for manager, token in zip(managers, tokens, strict=True)
        )
        print(f"leaderships kept: {kept} of {len(managers)}")
        for manager in managers:
            group.start_soon(manager.stop)
    return kept == len(managers)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the cost of a change of etcd's own leader.")
    parser.add_argument("--elections", type=int, default=10_000)
    parser.add_argument("--lease", type=float, default=60.0)
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    wanted = parser.parse_args()
    logging.disable()
    print(choose())
    with EtcdServer(members=3) as etcd:
        return 0 if anyio.run(measure, etcd, wanted, backend=wanted.backend) else 1


if __name__ == "__main__":
    sys.exit(main())
