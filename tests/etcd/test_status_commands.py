"""`etcdleader status` and `observe`, as separate processes, on a real etcd."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any, Self

import anyio
import anyio.to_thread
import pytest

from etcdleader.testing import EtcdServer
from tests.etcd.stage import Stage, until
from tests.helpers.full_pipe import full_pipe
from tests.helpers.python_process import Python
from tests.helpers.terminal import PATIENCE, Terminal, command, environment, run

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The commands choose their loop themselves, so trying this side on both shows nothing."""
    return "asyncio"


@pytest.fixture
def stage(etcd_server: EtcdServer, election_key: str, tmp_path: Path) -> Stage:
    return Stage(etcd_server, election_key, tmp_path)


# status


async def test_what_others_wrote_can_be_shown_where_the_locale_has_no_such_characters(
    stage: Stage, operator: Any
) -> None:
    """An operator who is called at night may have any terminal."""
    lease = operator.lease(60)
    operator.put(f"{stage.election}/{lease.id:x}", "hüte-漢", lease)
    for arguments in ((stage.election,), ("--prefix", stage.election)):
        words = ("status", *arguments, *stage.endpoint)
        done = await anyio.to_thread.run_sync(
            lambda: run(*words, folder=stage.folder, variables={"PYTHONIOENCODING": "ascii"})  # noqa: B023 - awaited
        )
        assert done.returncode == 0, done.stderr
        assert r"h\xfcte-\u6f22" in done.stdout


async def test_status_shows_the_leader_its_token_and_lease_and_the_queue_in_order(stage: Stage) -> None:
    async with stage.candidates(3) as managers:
        expected = await managers[0].candidates()
        queue = await stage.json("status", stage.election)
        shown = await stage.run("status", stage.election)
    assert queue["leader"] == queue["candidates"][0]
    for candidate, record in zip(queue["candidates"], expected, strict=True):
        assert (candidate["identity"], candidate["token"]) == (record.identity, record.token)
        assert (candidate["key"], int(candidate["lease_id"], 16)) == (record.key, record.lease_id)
        assert candidate["lease_ttl"] == 30
        assert 0 < candidate["lease_left"] <= 30
        assert candidate["anomalies"] == []
    assert shown.returncode == 0
    lines = [line for line in shown.stdout.splitlines() if "candidate#" in line]
    assert f"{expected[0].identity} leads with token {expected[0].token}, 2 waiting" in lines[0]
    assert [line.split()[:3] for line in lines[1:]] == [
        [place, record.identity, str(record.token)]
        for place, record in zip(("leader", "1", "2"), expected, strict=True)
    ]
    assert "!" not in shown.stdout


async def test_status_flags_each_kind_of_key_that_does_not_belong(stage: Stage, operator: Any) -> None:
    """A stray key blocks an election until it is deleted, and no operator expects it there."""
    lease = operator.lease(60)
    operator.put(f"{stage.election}/stray", "no lease")
    operator.put(f"{stage.election}/strange", "foreign", lease=lease)
    operator.put(f"{stage.election}/nested/{lease.id:x}", "nested", lease=lease)
    operator.put(f"{stage.election}/{lease.id:x}", "", lease=lease)
    queue = await stage.json("status", stage.election)
    shown = (await stage.run("status", stage.election)).stdout
    lease.revoke()
    operator.delete(f"{stage.election}/stray")
    flagged = {candidate["identity"]: " ".join(candidate["anomalies"]) for candidate in queue["candidates"]}
    assert "has no lease" in flagged["no lease"]
    assert "is not named after its lease" in flagged["foreign"]
    assert f"'{stage.election}/nested'" in flagged["nested"]
    assert "a lock" in flagged[""]
    assert shown.count("\n! ") == 4
    assert "never expires" in shown


async def test_status_without_a_name_shows_every_election_and_nothing_else(stage: Stage, operator: Any) -> None:
    operator.put(f"{stage.election}-data/thing", "is no candidate")
    async with stage.candidates(2) as managers:
        record = await managers[0].leader()
        assert record is not None
        found = await stage.json("status", "--prefix", stage.election)
        everything = await stage.json("status")
        shown = (await stage.run("status", "--prefix", stage.election)).stdout.splitlines()
    operator.delete(f"{stage.election}-data/thing")
    assert [(queue["election"], len(queue["candidates"])) for queue in found["elections"]] == [(stage.election, 2)]
    assert found["elections"][0]["leader"]["token"] == record.token
    assert stage.election in [queue["election"] for queue in everything["elections"]]
    assert len(shown) == 2
    assert shown[1].split()[:3] == [stage.election, record.identity, str(record.token)]


async def test_status_ends_with_1_without_a_leader(stage: Stage) -> None:
    done = await stage.run("status", stage.election)
    assert done.returncode == 1
    assert "no leader" in done.stdout
    assert await stage.json("status", "--prefix", stage.election) == {"elections": []}


async def test_what_others_wrote_cannot_steer_the_terminal(stage: Stage, operator: Any) -> None:
    """A candidate must not be able to write into an operator's window title or clipboard."""
    operator.put(f"{stage.election}/\x1b[2J", "\x1b]0;title\x07[red]\nnext line")
    try:
        for arguments in (["status", stage.election], ["step-down", stage.election, "--timeout", "1ms"]):
            done = await stage.run(*arguments)
            assert "\x1b" not in done.stdout + done.stderr
            assert "\\x1b]0;title\\x07[red]\\nnext line" in done.stdout + done.stderr
    finally:
        operator.delete(f"{stage.election}/\x1b[2J")


async def test_an_endpoint_that_is_down_is_passed_over(stage: Stage) -> None:
    async with stage.candidates(1):
        stage.endpoint = ("--endpoint", "127.0.0.1:1", "--endpoint", stage.server.endpoints[0])
        assert (await stage.run("status", stage.election)).returncode == 0


# observe


class Observed:
    """The command's output, line by line."""

    def __init__(self, stage: Stage, *arguments: str) -> None:
        self.process = Python(
            command("observe", stage.election, *arguments, *stage.endpoint),
            cwd=stage.folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    async def line(self) -> str:
        assert self.process.stdout is not None
        with anyio.fail_after(PATIENCE):
            return await anyio.to_thread.run_sync(self.process.stdout.readline, abandon_on_cancel=True)

    async def end(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        _, said = await anyio.to_thread.run_sync(lambda: self.process.communicate(timeout=PATIENCE))
        return self.process.returncode, said

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


async def test_observe_prints_a_line_for_each_change_with_leader_and_token(stage: Stage) -> None:
    with Observed(stage) as observed:
        assert (await observed.line()).split()[1:] == ["no", "leader"]
        async with stage.candidates(2) as (first, second):
            term = first.term
            assert term is not None
            assert (await observed.line()).split()[1:] == [first.identity, "token", str(term.token)]
            await first.resign()
            later = await second.wait_elected()
            assert (await observed.line()).split()[1:] == [second.identity, "token", str(later.token)]
        code, said = await observed.end(signal.SIGINT)
    assert (code, said) == (130, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_observe_prints_an_object_a_line_for_programs_and_ends_by_a_signal(stage: Stage, number: int) -> None:
    async with stage.candidates(1) as (first,):
        record = await first.leader()
        assert record is not None
        with Observed(stage, "--json") as observed:
            change = json.loads(await observed.line())
            assert change["election"] == stage.election
            assert change["leader"] == {
                "identity": record.identity,
                "advertised": None,
                "token": record.token,
                "key": record.key,
                "lease_id": f"{record.lease_id:x}",
            }
            await first.stop()
            assert json.loads(await observed.line())["leader"] is None
            assert await observed.end(number) == (128 + number, "")


async def test_observe_ends_when_its_reader_has_gone_though_nothing_changes(stage: Stage) -> None:
    """`observe | head -1` would otherwise hang until the next change, which may be next year."""
    with Observed(stage) as observed:
        await observed.line()
        assert observed.process.stdout is not None
        observed.process.stdout.close()
        observed.process.stdout = None
        _, said = await anyio.to_thread.run_sync(lambda: observed.process.communicate(timeout=PATIENCE))
        assert (observed.process.returncode, said) == (0, "")


def writes_to_a_pipe(pid: int) -> bool:
    """Return whether one of its threads waits for the reader of a pipe."""
    return any("pipe_write" in task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/wchan"))


@pytest.mark.skipif(not Path("/proc/self/wchan").exists(), reason="needs a kernel that reports what a thread waits for")
@pytest.mark.parametrize("form", [[], ["--json"]])
async def test_observe_ends_by_a_signal_though_its_reader_does_not_read(stage: Stage, form: list[str]) -> None:
    """As a pager of which one page was read."""
    with full_pipe() as (_, writer):
        process = Python(
            command("observe", stage.election, *form, *stage.endpoint),
            cwd=stage.folder,
            env=environment(),
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            await until(lambda: writes_to_a_pipe(process.pid))
            process.send_signal(signal.SIGTERM)
            _, said = await anyio.to_thread.run_sync(lambda: process.communicate(timeout=PATIENCE))
        finally:
            process.kill()
            process.wait()
    assert (process.returncode, said) == (143, "")


async def test_watch_is_a_table_of_the_queue_that_lives(stage: Stage) -> None:
    def read(terminal: Terminal, pattern: str) -> Any:
        return anyio.to_thread.run_sync(terminal.read_until, pattern)

    async with stage.candidates(1) as (first,):
        with Terminal("observe", stage.election, "--watch", *stage.endpoint, folder=stage.folder) as terminal:
            await read(terminal, rf"{first.identity}  token \d+")
            await read(terminal, rf"leader +{first.identity} +\d+ +\d+ s of 30 s")
            async with anyio.create_task_group() as group:
                second = stage.manager()
                await group.start(second.campaign)
                await read(terminal, rf"\b1 +{second.identity} +\d+")
                await first.stop()
                await read(terminal, rf"{second.identity}  token \d+")
                await read(terminal, rf"leader +{second.identity}")
                group.cancel_scope.cancel()
            await read(terminal, "no leader and no candidates")
            terminal.process.send_signal(signal.SIGINT)
            assert await anyio.to_thread.run_sync(terminal.end) == 130
    assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.rindex("\x1b[?25l"), "the cursor stays hidden"
    assert "Traceback" not in terminal.text


async def test_watch_without_a_terminal_is_plain_lines(stage: Stage) -> None:
    with Observed(stage, "--watch") as observed:
        assert (await observed.line()).split()[1:] == ["no", "leader"]
        await observed.end(signal.SIGTERM)


async def test_watch_reports_that_etcd_is_unavailable_and_continues_when_it_is_back(tmp_path: Path) -> None:
    async with EtcdServer() as server:
        stage = Stage(server, "away", tmp_path)
        with Terminal("observe", "away", "--watch", "--timeout", "500ms", *stage.endpoint, folder=tmp_path) as terminal:
            await anyio.to_thread.run_sync(terminal.read_until, "no candidates")
            server.members[0].kill()
            await anyio.to_thread.run_sync(terminal.read_until, r"etcd has not responded for \d+ s")
            await anyio.to_thread.run_sync(server.members[0].restart)
            async with stage.candidates(1) as (manager,):
                await anyio.to_thread.run_sync(terminal.read_until, rf"leader +{manager.identity}")
