"""A manager that was made before the process forked: each child is somebody else."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from etcdleader.testing import EtcdServer

BEFORE = """
    import json, os, sys, warnings
    import anyio
    from etcdleader import Config, EtcdConfig, EtcdLeaderManager
    # Python 3.12 warns of any fork beside threads, which gRPC has.
    warnings.simplefilter("ignore", DeprecationWarning)
    endpoint, election, backend = sys.argv[1:]
    config = Config(enabled=True, id="forked", lease=6, renew=1, retry=2)
    manager = EtcdLeaderManager(EtcdConfig(endpoints=[endpoint]), config, election)

    async def lead(term):
        return term.token

    def child(function):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                function()
                status = 0
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""

PRELOADED = """
    # As a preloading server does it: made at import, then forked, then each worker runs a loop of its own.
    mine = manager.identity
    def work():
        assert manager.identity != mine
        assert anyio.run(manager.run, lead, backend=backend) > 0
    assert [child(work) for _ in range(3)] == [0, 0, 0]
    assert manager.identity == mine
    assert anyio.run(manager.run, lead, backend=backend) > 0
"""

WHILE_LEADING = """
    async def main():
        async with manager:
            term = await manager.wait_elected()
            mine = manager.identity
            def look():
                assert not term.is_valid()
                assert not manager.is_leader()
                assert manager.term is None
                assert manager.identity != mine
                assert manager.statistics().terms == 0
            assert child(look) == 0
            # What the child's end closed or freed is not ours.
            assert await manager.extend(term) is term
            record = await manager.leader()
            assert record is not None and record.identity == mine, record
    anyio.run(main, backend=backend)
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("program", [PRELOADED, WHILE_LEADING], ids=["preloaded", "while leading"])
def test_a_forked_child_is_somebody_else(
    etcd_server: EtcdServer, election_key: str, program: str, backend: str
) -> None:
    """A new identity, no leadership, and neither the parent's lease nor its connection is touched."""
    source = textwrap.dedent(BEFORE) + textwrap.dedent(program)
    subprocess.run(
        [sys.executable, "-c", source, etcd_server.endpoints[0], election_key, backend], check=True, timeout=60
    )
