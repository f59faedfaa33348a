"""Signals at a process that leads or waits: leadership is given back. Only main() installs handlers."""

from __future__ import annotations

import signal
import subprocess
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from etcdleader.testing import EtcdServer
from tests.etcd.programs import line, python

PROGRAM = """
    import signal, sys, time
    import anyio, anyio.from_thread
    from etcdleader import Config, EtcdConfig, EtcdLeaderManager

    endpoint, election, backend, lease, retry, run = sys.argv[1:7]
    config = Config(enabled=True, id="signalled", lease=float(lease), renew=0.5, retry=float(retry))
    manager = EtcdLeaderManager(EtcdConfig(endpoints=[endpoint]), config, election)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the parent ignores

    def say(*words):
        print(*words, flush=True)

    async def work(term):
        try:
            # Inside, since trio raises KeyboardInterrupt wherever the process happens to be, here too.
            say("elected")
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                say("cleaning")
                await anyio.sleep(0.2)
                try:
                    record = await manager.leader()
                    say("cleaned", record is not None and record.identity == manager.identity)
                except Exception as error:
                    say("cleaned", type(error).__name__)

    def plain_work(term):
        say("elected")
        term.wait(60)
        say("cleaning")
        time.sleep(0.2)
        try:
            record = anyio.from_thread.run(manager.leader)
            say("cleaned", record is not None and record.identity == manager.identity)
        except Exception as error:
            say("cleaned", type(error).__name__)

    async def threaded():
        await manager.run(plain_work)

    async def plain():
        await manager.run(work)

    async def with_block():
        async with manager:
            async with manager.leading() as term:
                await work(term)

    async def stop_on_sigterm(scope):
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                scope.cancel()

    async def with_sigterm():
        async with anyio.create_task_group() as group:
            group.start_soon(stop_on_sigterm, group.cancel_scope)
            await manager.run(work)
        say("stopped")

    async def report_position():
        while manager.statistics().queue_position is None:
            await anyio.sleep(0.01)
        say("waiting", manager.statistics().queue_position)

    async def waiting():
        async with anyio.create_task_group() as group:
            group.start_soon(report_position)
            group.start_soon(manager.campaign)

    try:
        if run.startswith("main"):
            manager.main(plain_work if run == "main_threaded" else work, backend=backend)
        else:
            anyio.run(globals()[run], backend=backend)
    except* KeyboardInterrupt:
        sys.exit(130)
"""

LONG = 60
"""A lease that does not run out while a test runs: if the key is gone, it was released."""
RETRY, SHORT_RETRY = 10, 0.5
"""The time for a call. The short one is for an etcd that is gone, for which the process waits so long."""


@contextmanager
def program(
    server: EtcdServer, election_key: str, backend: str, run: str, *, lease: float = LONG, retry: float = RETRY
) -> Iterator[subprocess.Popen[str]]:
    arguments = (server.endpoints[0], election_key, backend, str(lease), str(retry), run)
    with python(textwrap.dedent(PROGRAM), *arguments) as process:
        yield process


def interrupted(process: subprocess.Popen[str], number: signal.Signals) -> tuple[list[str], str]:
    """Send a leader the signal; the lines that it still wrote, and its stderr."""
    assert line(process) == "elected"
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    return output.splitlines(), errors


def candidates(server: EtcdServer, election_key: str) -> list[str]:
    """The values of the keys that stand."""
    command = [str(server.etcdctl), f"--endpoints={server.endpoints[0]}", "get", "--prefix", "--print-value-only"]
    output = subprocess.check_output([*command, f"{election_key}/"], text=True, timeout=60)
    return output.split()


backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@backends
@pytest.mark.parametrize("run", ["plain", "threaded", "with_block", "with_sigterm"])
def test_ctrl_c_at_a_leader_ends_the_work_then_releases_leadership(
    etcd_server: EtcdServer, election_key: str, backend: str, run: str
) -> None:
    """While the work cleans up, it still leads; the library writes nothing to stderr."""
    with program(etcd_server, election_key, backend, run) as process:
        output, errors = interrupted(process, signal.SIGINT)
        assert output == ["cleaning", "cleaned True"]
        # One line of the log may say so, where trio has raised it in the very code that leads.
        assert "Traceback" not in errors
        assert process.returncode == 130
        assert candidates(etcd_server, election_key) == []


@backends
def test_ctrl_c_at_a_waiting_candidate_takes_it_out_of_the_queue(
    etcd_server: EtcdServer, election_key: str, backend: str
) -> None:
    with program(etcd_server, election_key, backend, "plain") as leader:
        assert line(leader) == "elected"
        with program(etcd_server, election_key, backend, "waiting") as process:
            assert line(process) == "waiting 1"
            assert len(candidates(etcd_server, election_key)) == 2
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=60)
            assert (output, process.returncode) == ("", 130)
            assert "Traceback" not in errors
            assert len(candidates(etcd_server, election_key)) == 1


@backends
def test_sigterm_turned_into_cancellation_releases_leadership(
    etcd_server: EtcdServer, election_key: str, backend: str
) -> None:
    with program(etcd_server, election_key, backend, "with_sigterm") as process:
        output, errors = interrupted(process, signal.SIGTERM)
        assert output == ["cleaning", "cleaned True", "stopped"]
        assert (errors, process.returncode) == ("", 0)
        assert candidates(etcd_server, election_key) == []


@backends
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("run", ["main", "main_threaded"])
def test_a_signal_at_a_program_of_main_ends_the_work_then_releases_leadership(
    etcd_server: EtcdServer, election_key: str, backend: str, run: str, number: signal.Signals
) -> None:
    with program(etcd_server, election_key, backend, run) as process:
        output, errors = interrupted(process, number)
        assert (output, errors) == (["cleaning", "cleaned True"], "")
        assert process.returncode == 128 + number
        assert candidates(etcd_server, election_key) == []


@backends
def test_a_signal_at_a_program_of_main_that_waits_takes_it_out_of_the_queue(
    etcd_server: EtcdServer, election_key: str, backend: str
) -> None:
    with program(etcd_server, election_key, backend, "plain") as leader:
        assert line(leader) == "elected"
        with program(etcd_server, election_key, backend, "main") as process:
            while len(candidates(etcd_server, election_key)) < 2:
                assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            assert process.communicate(timeout=60) == ("", "")
            assert process.returncode == 128 + signal.SIGTERM
            assert len(candidates(etcd_server, election_key)) == 1


@backends
def test_sigterm_by_itself_ends_the_process_and_the_lease_runs_out(
    etcd_server: EtcdServer, election_key: str, backend: str
) -> None:
    """None of our handlers prevents what the system does."""
    with program(etcd_server, election_key, backend, "plain") as process:
        assert interrupted(process, signal.SIGTERM) == ([], "")
        assert process.returncode == -signal.SIGTERM
        assert len(candidates(etcd_server, election_key)) == 1
    with program(etcd_server, f"{election_key}-short", backend, "plain", lease=3, retry=SHORT_RETRY) as process:
        assert line(process) == "elected"
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        with program(etcd_server, f"{election_key}-short", backend, "plain", lease=3, retry=SHORT_RETRY) as successor:
            assert line(successor) == "elected"


@backends
@pytest.mark.parametrize("run", ["plain", "threaded", "with_block"])
@pytest.mark.parametrize("gone", ["killed", "paused"])
def test_ctrl_c_with_etcd_gone_still_ends_the_process(election_key: str, backend: str, run: str, gone: str) -> None:
    """Its lease has 60 s; the process asks for its release for half a second, and goes."""
    with EtcdServer() as server, program(server, election_key, backend, run, retry=SHORT_RETRY) as process:
        assert line(process) == "elected"
        if gone == "killed":
            server.members[0].kill()
        else:
            server.members[0].pause()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        assert output.splitlines() == ["cleaning", "cleaned EtcdUnavailableError"]
        assert "Traceback" not in errors
        assert process.returncode == 130
