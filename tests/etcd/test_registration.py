"""Registrations on a real etcd: of processes that are killed, frozen, forked or interrupted."""

from __future__ import annotations

import signal
import textwrap
from typing import Any

import anyio
import pytest

from etcdleader import EtcdRefusedError
from etcdleader.registration import registered
from etcdleader.testing import EtcdServer
from tests.etcd.programs import line, python

LONG = 60
"""Seconds. A registration does not run out while a test runs: if the key is gone, it was deleted."""
SHORT = 5
"""For what is left to run out. To stand still for a second costs no registration."""
PATIENCE = 60

PROGRAM = """
    import os, select, sys
    import anyio
    from etcdleader import EtcdConfig
    from etcdleader.registration import registered

    endpoint, key, backend, ttl = sys.argv[1:]

    def say(*words):
        print(*words, flush=True)

    async def main():
        async with registered(EtcdConfig([endpoint]), key, "idle", ttl=float(ttl)) as registration:
            say("registered", f"{registration.lease_id:x}")
            BODY

    anyio.run(main, backend=backend)
"""

WAIT = """
            await anyio.sleep_forever()
"""

FROZEN = """
            while not select.select([sys.stdin], [], [], 0)[0]:
                await anyio.sleep(0.01)
            say("first look", registration.is_valid())
            while not registration.is_valid():
                await anyio.sleep(0.01)
            say("registered again")
            await anyio.sleep_forever()
"""

FORKED = """
            if (pid := os.fork()) == 0:
                say("child", registration.is_valid())
                sys.exit(7)  # a child that leaves by an exception does what its parent's block does at its end
            os.waitpid(pid, 0)
            await registration.update("after the fork")
            say("parent", registration.is_valid())
            await anyio.sleep_forever()
"""


def started(server: EtcdServer, key: str, backend: str, body: str, *, ttl: float = LONG) -> Any:
    source = textwrap.dedent(PROGRAM).replace("        BODY\n", textwrap.indent(textwrap.dedent(body), "        "))
    return python(source, server.endpoints[0], key, backend, str(ttl))


async def gone(operator: Any, key: str) -> None:
    with anyio.fail_after(PATIENCE):
        while operator.get(key)[0] is not None:
            await anyio.sleep(0.02)


@pytest.mark.anyio
async def test_a_key_is_kept_for_longer_than_its_ttl(etcd_server: EtcdServer, operator: Any, election_key: str) -> None:
    with anyio.fail_after(PATIENCE):
        async with registered(etcd_server.config, election_key, "idle", ttl=f"{SHORT}s") as registration:
            await anyio.sleep(SHORT + 2)
            assert registration.is_valid()
            assert operator.get_lease_info(registration.lease_id).TTL > 0
            assert operator.get(election_key)[0] == b"idle"


@pytest.mark.anyio
async def test_a_key_is_updated_put_again_and_deleted_with_the_block(
    etcd_server: EtcdServer, operator: Any, election_key: str
) -> None:
    with anyio.fail_after(PATIENCE):
        async with registered(etcd_server.config, election_key, "idle", ttl=LONG) as registration:
            for number in range(20):
                await registration.update(str(number))
                assert operator.get(election_key)[0] == str(number).encode()
            operator.delete(election_key)
            while operator.get(election_key)[0] is None:
                await anyio.sleep(0.02)
            assert operator.get(election_key)[0] == b"19"
        assert operator.get(election_key)[0] is None


@pytest.mark.anyio
async def test_a_second_registration_of_a_key_is_refused(etcd_server: EtcdServer, election_key: str) -> None:
    with anyio.fail_after(PATIENCE):
        async with registered(etcd_server.config, election_key, "first", ttl=LONG):
            with pytest.raises(EtcdRefusedError, match="exists already"):
                await registered(etcd_server.config, election_key, "second", ttl=LONG).__aenter__()


@pytest.mark.anyio
async def test_a_restarted_etcd_costs_no_registration(operator: Any) -> None:
    with EtcdServer() as server, anyio.fail_after(PATIENCE):
        async with registered(server.config, "workers/a", "idle", ttl=20) as registration:
            lease = registration.lease_id
            server.members[0].restart()
            await registration.update("busy")
            assert registration.is_valid()
            while registration.lease_id == lease:  # etcd has a new raft term: the key moves
                await anyio.sleep(0.02)
            assert registration.is_valid()


@pytest.mark.anyio
async def test_the_key_of_a_killed_process_goes_with_its_ttl(
    etcd_server: EtcdServer, operator: Any, election_key: str, anyio_backend_name: str
) -> None:
    with started(etcd_server, election_key, anyio_backend_name, WAIT, ttl=SHORT) as process:
        line(process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert operator.get(election_key)[0] == b"idle"
        with pytest.raises(EtcdRefusedError, match="until its TTL"):
            await registered(etcd_server.config, election_key, "next", ttl=SHORT).__aenter__()
        await gone(operator, election_key)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_interrupted_process_takes_its_key_along(
    etcd_server: EtcdServer, operator: Any, election_key: str, backend: str
) -> None:
    with started(etcd_server, election_key, backend, WAIT) as process:
        line(process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
        assert "KeyboardInterrupt" in errors
        assert operator.get(election_key)[0] is None


@pytest.mark.anyio
async def test_a_frozen_process_is_not_valid_at_its_first_look_and_registers_again(
    etcd_server: EtcdServer, operator: Any, election_key: str, anyio_backend_name: str
) -> None:
    with started(etcd_server, election_key, anyio_backend_name, FROZEN, ttl=SHORT) as process:
        line(process)
        process.send_signal(signal.SIGSTOP)
        await gone(operator, election_key)
        assert process.stdin is not None
        process.stdin.write("look\n")
        process.stdin.flush()
        process.send_signal(signal.SIGCONT)
        assert line(process) == "first look False"
        assert line(process) == "registered again"
        assert operator.get(election_key)[0] == b"idle"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_forked_child_is_not_registered_and_takes_nothing_along(
    etcd_server: EtcdServer, operator: Any, election_key: str, backend: str
) -> None:
    with started(etcd_server, election_key, backend, FORKED) as process:
        lease = line(process).split()[1]
        assert line(process) == "child False"
        assert line(process) == "parent True"
        value, kv = operator.get(election_key)
        assert (value, f"{kv.lease_id:x}") == (b"after the fork", lease)
