"""From a manager to a process that leads, dies and is succeeded, on a real etcd."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from etcdleader import Config, EtcdLeaderManager, LeaderManager, LeadershipLostError, LeaderStatus, LossReason, Term
from etcdleader._lease import shared_connection as connections
from etcdleader.etcd3 import etcd3
from etcdleader.testing import EtcdServer

pytestmark = pytest.mark.anyio

CONFIG = Config(enabled=True, id="main", lease=20, renew=1, retry=2)
PATIENCE = 60


@pytest.fixture
def make(etcd_server: EtcdServer, election_key: str) -> Callable[[], EtcdLeaderManager]:
    return lambda: EtcdLeaderManager(etcd_server.config, CONFIG, election_key)


Make = Callable[[], EtcdLeaderManager]


async def test_a_resigned_leader_is_succeeded_with_a_higher_token(make: Make) -> None:
    first, second = make(), make()
    async with first, second:
        leaders = {manager.identity: manager for manager in (first, second)}
        queue: list[str] = []
        with anyio.fail_after(PATIENCE):
            while len(queue) < 2:
                queue = [record.identity for record in await first.candidates()]
            old, new = leaders[queue[0]], leaders[queue[1]]
            old_term = await old.wait_elected()
            await old.resign()
            new_term = await new.wait_elected()
    assert old_term.loss_reason is LossReason.RESIGNED
    assert new_term.token > old_term.token
    assert (old.status, new.status) == (LeaderStatus.OUSTED, LeaderStatus.OUSTED)


async def test_a_leader_is_known_by_name_token_and_key(make: Make) -> None:
    manager = make()
    assert await manager.leader() is None
    async with manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
            record = await manager.leader()
            assert record is not None
            assert (record.identity, record.token, record.key, record.lease_id) == (
                manager.identity,
                term.token,
                term.key,
                term.lease_id,
            )
            assert manager.is_leader()
            assert manager.term is term
    assert not term.is_valid()
    assert await manager.leader() is None


async def test_tg_start_returns_once_the_candidate_has_joined(make: Make) -> None:
    manager = make()
    async with anyio.create_task_group() as group:
        with anyio.fail_after(PATIENCE):
            await group.start(manager.campaign)
            assert [record.identity for record in await manager.candidates()] == [manager.identity]
            await manager.stop()


async def test_callbacks_run_in_the_order_of_the_contract(make: Make) -> None:
    manager = make()
    records: list[tuple[str, LeaderStatus, bool]] = []

    @manager.on_elected
    async def elected(manager: LeaderManager, term: Term) -> None:
        records.append(("elected", manager.status, term.is_valid()))
        try:
            await anyio.sleep_forever()
        finally:
            records.append(("cancelled", manager.status, term.is_valid()))

    manager.on_ousted(lambda manager, term: records.append(("ousted", manager.status, term.is_valid())))
    async with manager:
        with anyio.fail_after(PATIENCE):
            await manager.wait_elected()
            await anyio.wait_all_tasks_blocked()
    assert records == [
        ("elected", LeaderStatus.ELECTED, True),
        ("cancelled", LeaderStatus.ELECTED, False),
        ("ousted", LeaderStatus.OUSTED, False),
    ]


async def test_extend_renews_and_refuses_a_term_that_is_over(make: Make) -> None:
    manager = make()
    async with manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
            before = manager.statistics().renewals
            assert await manager.extend(term) is term
            assert manager.statistics().renewals > before
            await manager.resign()
            again = await manager.wait_elected()
            assert await manager.extend() is again
            with pytest.raises(LeadershipLostError):
                await manager.extend(term)


async def test_a_late_write_is_refused_by_etcd(make: Make, etcd_server: EtcdServer, election_key: str) -> None:
    """With the guard of the term that is over, through the term and through an etcd3 client of the user's."""
    host, _, port = etcd_server.endpoints[0].rpartition(":")
    client = etcd3.client(host, int(port))
    put = client.transactions.put(f"{election_key}-data", "x")
    manager = make()
    async with manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
            assert (await term.transaction([put]))[0]
            assert client.transaction(compare=[*term.guard()], success=[put], failure=[])[0]
            await manager.resign()
            assert not (await term.transaction([put]))[0]
            assert not client.transaction(compare=[*term.guard()], success=[put], failure=[])[0]
    client.close()


async def test_run_returns_the_works_result_and_releases_leadership(make: Make) -> None:
    manager = make()

    async def work(term: Term) -> int:
        assert term.is_valid()
        return term.token

    with anyio.fail_after(PATIENCE):
        token = await manager.run(work)
        assert token is not None
        assert token > 0
        assert await manager.leader() is None


async def test_a_users_etcd3_client_is_used_and_left_open(etcd_server: EtcdServer, election_key: str) -> None:
    host, _, port = etcd_server.endpoints[0].rpartition(":")
    client = etcd3.client(host, int(port))
    manager = EtcdLeaderManager(client, CONFIG, election_key)
    async with manager:
        with anyio.fail_after(PATIENCE):
            term = await manager.wait_elected()
            assert client.get(term.key)[0] == manager.identity.encode()
    assert client.get(term.key) == (None, None)
    client.close()


async def test_fifty_managers_are_one_connection(etcd_server: EtcdServer, election_key: str) -> None:
    managers = [EtcdLeaderManager(etcd_server.config, CONFIG, f"{election_key}/{number}x") for number in range(50)]
    async with anyio.create_task_group() as group:
        with anyio.fail_after(PATIENCE):
            for manager in managers:
                group.start_soon(manager.campaign)
            for manager in managers:
                await manager.wait_elected()
            assert len(connections._pool) == 1
            (connection,) = connections._pool.values()
            assert connection.users == 50
            for manager in managers:
                await manager.stop()
    assert not connections._pool


async def test_etcdctl_and_a_manager_succeed_each_other(make: Make, etcd_server: EtcdServer, election_key: str) -> None:
    """One queue on the wire, both ways round."""
    manager = make()
    async with manager:
        with anyio.fail_after(PATIENCE):
            ours = await manager.wait_elected()
            async with elect(etcd_server, election_key, "from-go") as go:
                while len(await manager.candidates()) < 2:
                    await anyio.lowlevel.checkpoint()
                await manager.resign()
                assert await go.receive_line() == ours.key.rpartition("/")[0] + "/"
                theirs = await manager.leader()
                assert theirs is not None
                assert theirs.identity == "from-go"
                assert theirs.token > ours.token
                # Back in the queue behind it, ...
                while len(await manager.candidates()) < 2:
                    await anyio.lowlevel.checkpoint()
                assert not manager.is_leader()
            # ... and elected when it has gone.
            again = await manager.wait_elected()
    assert again.token > theirs.token


class Elect:
    """An ``etcdctl elect`` that runs."""

    def __init__(self, process: Process) -> None:
        assert process.stdout is not None
        self._process = process
        self._lines = TextReceiveStream(process.stdout)

    async def receive_line(self) -> str:
        """The prefix of the key that it leads with."""
        text = await self._lines.receive()
        return text.splitlines()[0].rpartition("/")[0] + "/"


@asynccontextmanager
async def elect(server: EtcdServer, election_key: str, proposal: str) -> AsyncIterator[Elect]:
    command = [str(server.etcdctl), f"--endpoints={server.endpoints[0]}", "elect", election_key, proposal]
    async with await anyio.open_process(command, stdin=subprocess.DEVNULL) as process:
        try:
            yield Elect(process)
        finally:
            process.send_signal(signal.SIGINT)  # it resigns
            await process.wait()


PROGRAM = """
    import sys
    import anyio
    from etcdleader import EtcdConfig, EtcdLeaderManager, Config

    async def main():
        config = Config(enabled=True, id="child", lease=3, renew=0.5, retry=0.25)
        manager = EtcdLeaderManager(EtcdConfig(endpoints=[sys.argv[1]]), config, sys.argv[2])
        async def work(term):
            print(term.token, flush=True)
            await anyio.sleep_forever()
        await manager.run(work)

    anyio.run(main, backend=sys.argv[3])
"""


async def test_a_killed_leader_is_succeeded_within_the_lease(
    etcd_server: EtcdServer, election_key: str, anyio_backend_name: str
) -> None:
    """kill -9 of a real process: it releases nothing, so the lease has to run out."""
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), etcd_server.endpoints[0], election_key]
    processes: list[Process] = []
    try:
        with anyio.fail_after(PATIENCE):
            processes.append(await anyio.open_process([*command, anyio_backend_name], stderr=None))
            processes.append(await anyio.open_process([*command, anyio_backend_name], stderr=None))
            tokens: list[int] = []
            send, receive = anyio.create_memory_object_stream[tuple[int, int]](10)

            async def read(number: int) -> None:
                stdout = processes[number].stdout
                assert stdout is not None
                async for text in TextReceiveStream(stdout):
                    for line in text.split():
                        await send.send((number, int(line)))

            with send, receive:
                async with anyio.create_task_group() as group:
                    group.start_soon(read, 0)
                    group.start_soon(read, 1)
                    leader, token = await receive.receive()
                    tokens.append(token)
                    processes[leader].kill()
                    successor, token = await receive.receive()
                    tokens.append(token)
                    assert successor != leader
                    processes[successor].kill()
            assert tokens == sorted(set(tokens))
    finally:
        for process in processes:
            with anyio.CancelScope(shield=True):
                if process.returncode is None:
                    process.kill()
                await process.aclose()
