"""A manager for threads, without etcd: what blocks, for how long, and what each call raises."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest

from etcdleader import Config, LeaderManager, LeadershipLostError, LossReason, NoopLeaderManager, NotLeaderError, Term
from etcdleader.blocking import BlockingLeaderManager
from etcdleader.model import HealthState

PATIENCE = 60


@pytest.fixture
def manager() -> NoopLeaderManager:
    return NoopLeaderManager(Config(retry=0.01), "jobs")


@pytest.fixture
def blocking(manager: LeaderManager) -> BlockingLeaderManager:
    return BlockingLeaderManager(manager)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as executor:
        yield executor


def of_loop() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "portal" in thread.name]


def let_the_loop_run(blocking: BlockingLeaderManager) -> None:
    """Return when the loop has run many times, so that it has done all that it can do without another event."""
    for _ in range(50):
        blocking.leader()


def test_the_block_campaigns_and_releases_leadership_at_its_end(blocking: BlockingLeaderManager) -> None:
    with blocking as entered:
        assert entered is blocking
        term = blocking.wait_elected(PATIENCE)
        assert blocking.is_leader()
        assert blocking.term is term
        assert blocking.leader() is not None
        assert [record.identity for record in blocking.candidates()] == ["noop"]
        assert blocking.extend() is term
    assert not term.is_valid()
    assert term.loss_reason is LossReason.STOPPED
    assert blocking.leader() is None


def test_the_block_may_be_entered_again(blocking: BlockingLeaderManager) -> None:
    for _ in range(2):
        with blocking:
            assert blocking.wait_elected(PATIENCE).is_valid()


def test_one_loop_serves_all_managers_of_the_process(blocking: BlockingLeaderManager) -> None:
    assert of_loop() == []
    with blocking, BlockingLeaderManager(NoopLeaderManager()) as another:
        another.wait_elected(PATIENCE)
        assert len(of_loop()) == 1
    assert of_loop() == []


def test_a_second_campaign_is_refused_and_the_first_one_continues(blocking: BlockingLeaderManager) -> None:
    with blocking:
        term = blocking.wait_elected(PATIENCE)
        with pytest.raises(anyio.BusyResourceError, match="is campaigning for 'jobs' already"):
            blocking.run(lambda term: term)
        assert term.is_valid()


@pytest.mark.parametrize("timeout", [-1, float("nan"), -0.1])
def test_a_timeout_that_is_no_duration_is_refused(blocking: BlockingLeaderManager, timeout: float) -> None:
    for call in (blocking.wait_elected, blocking.leading):
        with pytest.raises(ValueError, match="timeout = "):
            call(timeout)


def test_a_timeout_ends_the_wait_and_names_the_call(blocking: BlockingLeaderManager) -> None:
    with pytest.raises(TimeoutError, match=r"wait_elected\(\) took longer than 0\.01 s"):
        blocking.wait_elected(0.01)
    with pytest.raises(TimeoutError, match=r"leading\(\) took longer than 0\.01 s"), blocking.leading(0.01):
        pass
    assert of_loop() == []


def wait_elected(blocking: BlockingLeaderManager) -> None:
    blocking.wait_elected(PATIENCE)


def lead(blocking: BlockingLeaderManager) -> None:
    with blocking.leading(PATIENCE):
        pass


@pytest.mark.parametrize("wait", [wait_elected, lead])
@pytest.mark.parametrize("ended", [False, True], ids=["before its end", "after its end"])
def test_the_end_of_the_campaign_ends_a_wait(
    blocking: BlockingLeaderManager,
    manager: NoopLeaderManager,
    wait: Callable[[BlockingLeaderManager], None],
    ended: bool,
) -> None:
    """The body of an async block would be cancelled. A thread would wait for a next campaign."""

    def fail(manager: LeaderManager, term: Term) -> None:
        raise ZeroDivisionError

    manager.on_elected(fail)
    errors: list[NotLeaderError] = []
    with pytest.raises(ZeroDivisionError), blocking:
        while ended and manager.health().state is not HealthState.FAILED:
            pass
        try:
            while True:
                wait(blocking)
        except NotLeaderError as error:
            errors.append(error)
    assert isinstance(errors[0].__cause__, ZeroDivisionError | None)
    if ended:
        assert isinstance(errors[0].__cause__, ZeroDivisionError)


def test_the_error_of_the_block_comes_out_as_itself(blocking: BlockingLeaderManager) -> None:
    error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError) as raised, blocking:
        raise error
    assert raised.value is error


def test_a_timeout_of_zero_returns_the_term_that_there_is(blocking: BlockingLeaderManager) -> None:
    with blocking:
        term = blocking.wait_elected(PATIENCE)
        assert blocking.wait_elected(0) is term


@pytest.mark.parametrize("timeout", [math.inf, 1e10])
def test_a_timeout_longer_than_any_wait_is_none(blocking: BlockingLeaderManager, timeout: float) -> None:
    with blocking:
        assert blocking.wait_elected(timeout) is blocking.term


@pytest.mark.parametrize("wrong", [None, 5, "jobs"])
def test_what_is_no_manager_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"BlockingLeaderManager\(\) takes a manager, not "):
        BlockingLeaderManager(wrong)


async def _async_work(term: Term) -> None:
    raise AssertionError("it is never run")


def _generator() -> Iterator[None]:
    yield  # it is never run


@pytest.mark.parametrize(
    "work",
    [lambda term: _async_work(term), lambda term: _generator()],  # noqa: PLW0108 - an async function itself is refused
    ids=["awaitable", "generator"],
)
def test_work_that_returns_before_anything_was_run_is_an_error(
    blocking: BlockingLeaderManager, work: Callable[[Term], object]
) -> None:
    """Otherwise ``run_once`` would record as done what never ran."""
    with pytest.raises(TypeError, match="the work has returned"):
        blocking.run_once("v1", work)
    assert blocking.run_once("v1", lambda term: None)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interruption_of_the_block_releases_leadership(
    blocking: BlockingLeaderManager, interruption: type[BaseException]
) -> None:
    with pytest.raises(interruption), blocking:
        term = blocking.wait_elected(PATIENCE)
        raise interruption
    assert not term.is_valid()
    assert of_loop() == []


# run


def test_run_calls_the_work_in_the_calling_thread_and_returns_its_result(blocking: BlockingLeaderManager) -> None:
    thread = threading.get_ident()
    assert blocking.run(lambda term: (threading.get_ident(), term.is_valid())) == (thread, True)


def test_run_raises_what_the_work_raises(blocking: BlockingLeaderManager) -> None:
    error = ZeroDivisionError()

    def work(term: Term) -> None:
        raise error

    with pytest.raises(ZeroDivisionError) as raised:
        blocking.run(work)
    assert raised.value is error
    assert of_loop() == []


def test_an_interruption_of_the_work_releases_leadership(blocking: BlockingLeaderManager) -> None:
    seen: list[Term] = []

    def work(term: Term) -> None:
        seen.append(term)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        blocking.run(work)
    assert [term.loss_reason for term in seen] == [LossReason.STOPPED]


def test_stop_from_the_work_requests_the_end_and_run_returns_none(blocking: BlockingLeaderManager) -> None:
    def work(term: Term) -> str:
        blocking.stop()
        assert not term.is_valid()
        return "not the result of a campaign that was stopped"

    assert blocking.run(work) is None


def test_work_that_returns_after_a_loss_is_called_again_in_the_next_term(blocking: BlockingLeaderManager) -> None:
    terms: list[Term] = []

    def work(term: Term) -> int:
        terms.append(term)
        if len(terms) == 1:
            blocking.resign()
        return len(terms)

    assert blocking.run(work) == 2
    assert [term.loss_reason for term in terms] == [LossReason.RESIGNED] * 2


def test_stop_from_another_thread_waits_for_the_work(
    blocking: BlockingLeaderManager, manager: NoopLeaderManager, pool: ThreadPoolExecutor
) -> None:
    ousted: list[Term] = []
    manager.on_ousted(lambda _, term: ousted.append(term))
    began, may_end = threading.Event(), threading.Event()

    def work(term: Term) -> None:
        began.set()
        assert may_end.wait(PATIENCE)

    running = pool.submit(blocking.run, work)
    assert began.wait(PATIENCE)
    stopping = pool.submit(blocking.stop)
    while blocking.is_leader():
        pass
    let_the_loop_run(blocking)
    assert (running.done(), stopping.done(), ousted) == (False, False, [])
    may_end.set()
    assert running.result(PATIENCE) is None
    stopping.result(PATIENCE)


async def work_on_a_loop(term: Term) -> None:
    """It would need an event loop in this thread."""


@pytest.mark.parametrize("call", ["run", "run_once"])
@pytest.mark.parametrize("work", [work_on_a_loop, lambda: None, None], ids=["async", "no argument", "None"])
def test_work_that_cannot_be_called_in_this_thread_is_refused(
    blocking: BlockingLeaderManager, call: str, work: Any
) -> None:
    with pytest.raises(TypeError, match=rf"{call}\(\)"):
        blocking.run(work) if call == "run" else blocking.run_once("v1", work)
    assert of_loop() == []


def test_work_is_done_once_in_the_calling_thread(blocking: BlockingLeaderManager) -> None:
    threads: list[int] = []
    assert blocking.run_once("v42", lambda term: threads.append(threading.get_ident()))
    assert threads == [threading.get_ident()]


# step


def test_a_step_delays_the_release(
    blocking: BlockingLeaderManager, manager: NoopLeaderManager, pool: ThreadPoolExecutor
) -> None:
    ousted: list[Term] = []
    manager.on_ousted(lambda _, term: ousted.append(term))
    with blocking:
        blocking.wait_elected(PATIENCE)
        with blocking.step() as term:
            assert term is not None
            resigning = pool.submit(blocking.resign)
            while not asked_to_end(blocking):
                pass
            let_the_loop_run(blocking)
            assert (term.is_valid(), resigning.done(), ousted) == (True, False, [])
        resigning.result(PATIENCE)
        assert ousted == [term]


def asked_to_end(blocking: BlockingLeaderManager) -> bool:
    """Return whether a step that begins now receives no term."""
    with blocking.step() as term:
        return term is None


def test_an_advertised_text_is_kept(blocking: BlockingLeaderManager, manager: NoopLeaderManager) -> None:
    blocking.advertise("http://10.0.0.1:8000")
    assert manager.advertised == "http://10.0.0.1:8000"


# leading


def test_leadership_is_not_released_before_a_leading_block_of_a_thread_has_ended(
    blocking: BlockingLeaderManager, manager: NoopLeaderManager, pool: ThreadPoolExecutor
) -> None:
    ousted: list[Term] = []
    manager.on_ousted(lambda _, term: ousted.append(term))
    with blocking:
        with pytest.raises(LeadershipLostError), blocking.leading(PATIENCE) as term:
            resigning = pool.submit(blocking.resign)
            while term.is_valid():
                pass
            let_the_loop_run(blocking)
            before = resigning.done(), list(ousted)
        assert before == (False, [])
        resigning.result(PATIENCE)
        assert ousted == [term]


def test_stop_from_a_leading_block_requests_the_end(blocking: BlockingLeaderManager) -> None:
    with blocking, pytest.raises(LeadershipLostError), blocking.leading(PATIENCE) as term:
        blocking.stop()
        assert term.loss_reason is LossReason.STOPPED


def test_a_leading_block_does_not_end_the_term(blocking: BlockingLeaderManager) -> None:
    with blocking:
        with blocking.leading(PATIENCE) as term:
            pass
        assert term.is_valid()


def test_a_leading_block_raises_its_own_error(blocking: BlockingLeaderManager) -> None:
    error = ZeroDivisionError()
    with blocking, pytest.raises(ZeroDivisionError) as raised, blocking.leading(PATIENCE):
        raise error
    assert raised.value is error


# observe


def test_observe_gives_the_newest_state_and_ends_with_its_block(
    blocking: BlockingLeaderManager, pool: ThreadPoolExecutor
) -> None:
    with blocking.observe() as leaders:
        assert next(leaders) is None
        coming = pool.submit(next, leaders)
        with blocking:
            record = coming.result(PATIENCE)
            assert record is not None
            assert record.identity == "noop"
    assert of_loop() == []
    with pytest.raises(StopIteration):
        while True:
            next(leaders)


# Event loops


async def call_in_loop(blocking: BlockingLeaderManager) -> None:
    with pytest.raises(RuntimeError, match=r"await the manager's own leader\(\)"):
        blocking.leader()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_call_in_a_thread_with_an_event_loop_names_the_right_one(
    blocking: BlockingLeaderManager, backend: str
) -> None:
    """It would block the loop, and with it each renewal of the managers on that loop."""
    anyio.run(call_in_loop, blocking, backend=backend)
