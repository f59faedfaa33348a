"""gRPC's Python layer and its threads are only for users of a grpcio client. asyncio is loaded only on asyncio."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from etcdleader.testing import EtcdServer

PROGRAM = """
    import sys, threading
    import anyio
    from etcdleader import Config, EtcdConfig, EtcdLeaderManager

    endpoint, election, backend = sys.argv[1:]
    etcd = EtcdConfig(endpoints=[endpoint])
    config = Config(enabled=True, lease=20, renew=1, retry=5)

    async def lead(term):
        assert await manager.extend(term) is term
        assert [one.key for one in await manager.candidates()] == [term.key]
        async with EtcdLeaderManager(etcd, config, election).observe() as leaders:
            async for leader in leaders:
                assert leader is not None and leader.key == term.key, leader
                break
        threads = threading.enumerate()
        assert threads == [threading.main_thread()], threads
        return term.token

    manager = EtcdLeaderManager(etcd, config, election)
    assert anyio.run(manager.run, lead, backend=backend) > 0
    loaded = {name.partition(".")[0] for name in sys.modules} & {"grpc", "etcd3", "h2"}
    # Of etcd3, the messages.
    assert loaded <= {"etcd3"}, loaded
    assert "etcd3.client" not in sys.modules
    assert ("asyncio" in sys.modules) == (backend == "asyncio")
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_leader_from_a_config_loads_no_grpc_and_has_no_thread(
    etcd_server: EtcdServer, election_key: str, backend: str
) -> None:
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), etcd_server.endpoints[0], election_key, backend],
        check=True,
        timeout=60,
    )
