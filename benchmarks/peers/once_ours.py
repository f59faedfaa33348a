"""A whole program with etcdleader: it is elected, prints the time, and ends."""

from __future__ import annotations

import json
import sys
import time

import anyio

from etcdleader import Config, EtcdConfig, EtcdLeaderManager


async def main() -> None:
    _, endpoint, election = sys.argv
    async with EtcdLeaderManager(EtcdConfig(endpoints=endpoint), Config(enabled=True), election) as manager:
        await manager.wait_elected()
        elected = time.monotonic_ns()
        print(json.dumps({"elected": elected}), flush=True)


anyio.run(main)
