"""`etcdleader step-down`, as a separate process, on a real etcd."""

from __future__ import annotations

import signal
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from etcdleader import LeaderManager, Term
from etcdleader._election.admin import Candidate, ask_to_step_down, connected, delete_key, read_queue
from etcdleader._etcd.api import Put
from etcdleader.testing import EtcdServer
from tests.etcd.stage import Stage, go_leader, until
from tests.helpers.slow_work import work_until_cancelled
from tests.helpers.terminal import PATIENCE, Terminal

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The commands choose their loop themselves, so trying this side on both shows nothing."""
    return "asyncio"


@pytest.fixture
def stage(etcd_server: EtcdServer, election_key: str, tmp_path: Path) -> Stage:
    return Stage(etcd_server, election_key, tmp_path)


async def test_step_down_returns_when_the_leaders_work_has_ended_and_the_next_one_leads(stage: Stage) -> None:
    ended: list[float] = []

    async def work(manager: LeaderManager, term: Term) -> None:
        try:
            await work_until_cancelled(0.3)
        finally:
            ended.append(anyio.current_time())

    first, second = stage.manager(), stage.manager()
    first.on_elected(work)
    async with anyio.create_task_group() as group:
        await group.start(first.campaign)
        term = await first.wait_elected()
        await group.start(second.campaign)
        done = await stage.run("step-down", stage.election)
        assert len(ended) == 1, "it said so before the work had ended"
        with anyio.fail_after(PATIENCE):
            await second.wait_elected()  # the command may know it before the event has arrived here
        group.cancel_scope.cancel()
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{first.identity} (token {term.token}) has left {stage.election}" in done.stdout
    assert f"{second.identity} (token " in done.stdout


async def test_step_down_reports_the_old_and_the_new_leader_as_json(stage: Stage) -> None:
    async with stage.candidates(2) as (first, second):
        said = await stage.json("step-down", stage.election)
        assert (said["left"], said["how"]) == (True, "resigned")
        assert said["asked"]["identity"] == first.identity
        assert said["leader"]["identity"] == second.identity


async def test_step_down_to_a_named_candidate_lets_it_lead_next(stage: Stage) -> None:
    async with stage.candidates(4) as managers:
        first, second, third, fourth = managers
        done = await stage.run("step-down", stage.election, "--to", fourth.identity)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"{first.identity} (token " in done.stdout
        assert f"{fourth.identity} (token " in done.stdout
        await fourth.wait_elected()
        with anyio.fail_after(PATIENCE):
            while len(queue := [one.identity for one in await fourth.candidates()]) < len(managers):
                await anyio.sleep(0.01)
        assert queue == [one.identity for one in (fourth, second, third, first)]
        assert [one.statistics().terms for one in managers] == [1, 0, 0, 1]


async def test_step_down_to_a_candidate_that_cannot_be_next_sends_no_request(stage: Stage) -> None:
    async with stage.candidates(2) as (first, second), connected(stage.server.config, timeout=5) as connection:
        await connection.lease_grant(600, 0x90, timeout=5)
        await connection.txn([], [Put(f"{stage.election}/90".encode(), b"go", 0x90)], timeout=5)
        third = stage.manager()
        async with third:
            await until(lambda: third.statistics().queue_position)
            queue = await third.candidates()
            for to, code, reported in (
                (third.identity, 75, "'go' cannot make way"),
                (first.identity, 1, "leads"),
                ("no-such-candidate", 1, "no candidate"),
            ):
                done = await stage.run("step-down", stage.election, "--to", to)
                assert (done.returncode, done.stdout) == (code, "")
                assert reported in done.stderr
            assert await third.candidates() == queue
            done = await stage.run("step-down", stage.election, "--to", second.identity, "--force")
            assert done.returncode == 2
        await connection.lease_revoke(0x90, timeout=5)


async def test_step_down_to_a_candidate_behind_a_foreign_leader_sends_no_request(stage: Stage) -> None:
    async with go_leader(stage), stage.manager() as first, stage.manager() as second:
        await until(lambda: first.statistics().queue_position and second.statistics().queue_position)
        queue = await first.candidates()
        done = await stage.run("step-down", stage.election, "--to", queue[-1].identity)
        assert done.returncode == 75
        assert "'go' cannot make way" in done.stderr
        assert await first.candidates() == queue


@pytest.mark.parametrize("form", [[], ["--force", "--yes"], ["--force"]])
async def test_step_down_without_a_leader_ends_with_1(stage: Stage, form: list[str]) -> None:
    done = await stage.run("step-down", stage.election, *form)
    assert (done.returncode, done.stdout) == (1, "")
    assert "There is no leader of" in done.stderr


async def test_a_leader_of_gos_library_does_not_answer_and_the_command_names_force(stage: Stage) -> None:
    async with go_leader(stage):
        done = await stage.run("step-down", stage.election, "--timeout", "300ms")
        assert done.returncode == 75
        assert "go (token" in done.stderr
        assert "--force" in done.stderr
        assert (await stage.json("status", stage.election))["leader"]["identity"] == "go"
        reported = await stage.json("step-down", stage.election, "--timeout", "300ms")
        assert (reported["left"], reported["how"]) == (False, None)


async def test_force_deletes_the_key_of_a_leader_that_does_not_respond_and_the_next_one_leads(stage: Stage) -> None:
    async with go_leader(stage), anyio.create_task_group() as group:
        manager = stage.manager()
        await group.start(manager.campaign)
        done = await stage.run("step-down", stage.election, "--force", "--yes")
        assert done.returncode == 0
        assert "The key of go (token" in done.stdout
        with anyio.fail_after(PATIENCE):
            await manager.wait_elected()
        group.cancel_scope.cancel()


async def test_force_without_a_terminal_requires_the_yes_option(stage: Stage) -> None:
    async with stage.candidates(1) as (manager,):
        done = await stage.run("step-down", stage.election, "--force")
        assert done.returncode == 2
        assert "--yes" in done.stderr
        assert manager.is_leader()


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("", 1), ("y", 0)])
async def test_force_prompts_on_a_terminal_and_obeys_the_reply(stage: Stage, answer: str, code: int) -> None:
    async with stage.candidates(1) as (manager,):
        term = manager.term
        assert term is not None
        with Terminal("step-down", stage.election, "--force", *stage.endpoint, folder=stage.folder) as terminal:
            question = await anyio.to_thread.run_sync(terminal.read_until, r"Delete its key\? \[y/N\]")
            assert f"{manager.identity} (token {term.token})" in terminal.text[: question.start()]
            terminal.type(f"{answer}\n")
            assert await anyio.to_thread.run_sync(terminal.end) == code
        if code:
            assert term.is_valid()
        else:
            await until(lambda: not term.is_valid())


async def test_ctrl_c_at_the_question_does_nothing(stage: Stage) -> None:
    async with stage.candidates(1) as (manager,):
        with Terminal("step-down", stage.election, "--force", *stage.endpoint, folder=stage.folder) as terminal:
            await anyio.to_thread.run_sync(terminal.read_until, r"Delete its key\?")
            terminal.process.send_signal(signal.SIGINT)
            assert await anyio.to_thread.run_sync(terminal.end) == 130
        assert "Traceback" not in terminal.text
        assert manager.is_leader()


async def test_a_leader_elected_meanwhile_is_neither_requested_to_step_down_nor_deleted(stage: Stage) -> None:
    """The request was for the leader at that time: its token is part of the condition."""
    async with stage.candidates(1) as (manager,):
        async with connected(stage.server.config, timeout=5) as connection:
            leader = (await read_queue(connection, stage.election, timeout=5)).leader
            assert leader is not None
            seen = Candidate(leader.identity, leader.token - 1, leader.key, leader.lease_id, None, None, ())
            assert not await ask_to_step_down(connection, seen, timeout=5)
            assert not await delete_key(connection, seen, timeout=5)
        assert manager.is_leader()
        record = await manager.leader()
        assert record is not None
        assert record.token == leader.token
