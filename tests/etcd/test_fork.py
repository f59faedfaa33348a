"""A manager that was made before the process forked: each child is another candidate."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from etcdleader.testing import EtcdServer
from tests.helpers.child_script import CHILD

BEFORE = """
    import os, sys
    import anyio
    from etcdleader import Config, EtcdConfig, EtcdLeaderManager
    endpoint, election, backend = sys.argv[1:]
    config = Config(enabled=True, id="forked", lease=20, renew=1, retry=2)
    manager = EtcdLeaderManager(EtcdConfig(endpoints=[endpoint]), config, election)

    async def lead(term):
        return term.token
"""

PRELOADED = """
    # As a preloading server does it: made at import, then forked, then each worker runs a loop of its own. Workers that are
    # started later are forked from a process that has led.
    mine = manager.identity
    def work():
        assert manager.identity != mine
        assert anyio.run(manager.run, lead, backend=backend) > 0
    assert [child(work) for _ in range(3)] == [0, 0, 0]
    assert manager.identity == mine
    assert anyio.run(manager.run, lead, backend=backend) > 0
    assert child(work) == 0
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

WHILE_THE_KEY_MOVES = """
    # On the cluster in this process: it elects another leader, and the fork comes before, and after, etcd applies each request.
    from etcdleader.testing import FakeEtcd

    def look():
        assert not term.is_valid()
        assert not manager.is_leader()

    def fork(call):
        if call.kind in ("lease_grant", "txn") and call.client == "moving":
            forks.append(child(look))

    async def main():
        global manager, term
        async with FakeEtcd() as etcd:
            manager = EtcdLeaderManager(etcd.client("moving"), config, election)
            async with manager:
                term = await manager.wait_elected()
                before = term.lease_id
                etcd.hooks.append(fork)
                etcd.change_leader()
                with anyio.fail_after(config.lease):
                    while term.lease_id == before:
                        await anyio.sleep(0.01)
                etcd.hooks.remove(fork)
                assert await manager.extend(term) is term
                assert [kv.lease for kv in etcd.keys().values()] == [term.lease_id]
            assert not etcd.keys()
    forks = []
    anyio.run(main, backend=backend)
    assert len(forks) >= 4
    assert not any(forks)
"""

LEAVES_ALL_BLOCKS = """
    # A child that is written carelessly: it leaves by an exception, so all that its parent's tasks do at their ends, it does.
    async def main():
        async with manager, manager.leading() as term:
            if (pid := os.fork()) == 0:
                sys.exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0
            for _ in range(2):
                assert await manager.extend(term) is term
            record = await manager.leader()
            assert record is not None and record.key == term.key, record
    anyio.run(main, backend=backend)
"""


@pytest.mark.parametrize(
    ("program", "backend"),
    [
        (PRELOADED, "asyncio"),
        (PRELOADED, "trio"),
        (WHILE_LEADING, "asyncio"),
        (WHILE_LEADING, "trio"),
        (WHILE_THE_KEY_MOVES, "asyncio"),
        (WHILE_THE_KEY_MOVES, "trio"),
        # Not on trio. There the child continues in its parent's loop. The two share the selector and the socket that wakes
        # it, and take events from each other. No library can mend that.
        (LEAVES_ALL_BLOCKS, "asyncio"),
    ],
    ids=[
        "preloaded-asyncio",
        "preloaded-trio",
        "while leading-asyncio",
        "while leading-trio",
        "while the key moves-asyncio",
        "while the key moves-trio",
        "leaves all blocks",
    ],
)
def test_a_forked_child_is_another_candidate(
    etcd_server: EtcdServer, election_key: str, program: str, backend: str
) -> None:
    """A new identity, no leadership, and neither the parent's lease nor its connection is touched."""
    source = textwrap.dedent(BEFORE) + CHILD + textwrap.dedent(program)
    subprocess.run(
        [sys.executable, "-W", "error", "-c", source, etcd_server.endpoints[0], election_key, backend],
        check=True,
        timeout=60,
    )
