"""Keep-alives on a scripted stream, in virtual time: which response belongs to which request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from etcdleader._etcd.api import Header, KeepAlive, KeepAliveResponses
from etcdleader._etcd.error_mapping import (
    AuthenticationFailedError,
    ClusterIdMismatchError,
    GoingAwayError,
    InvalidAuthTokenError,
)
from etcdleader._etcd.grpcio_endpoint import GrpcioStream
from etcdleader._etcd.lease_stream import KeepAliveStream
from etcdleader._etcd.rpcs import Rpc
from etcdleader._etcd.stream import StreamCallbacks
from etcdleader._runtime.tasks import loop_scheduler
from etcdleader.errors import EtcdLeaderError, EtcdRefusedError, EtcdUnavailableError
from etcdleader.testing.virtual_time import VIRTUAL_BACKENDS, virtual_backend
from tests.helpers.scripted_stream import Opener, ScriptedCall

pytestmark = pytest.mark.anyio

REFUSED = EtcdRefusedError("PERMISSION_DENIED: etcdserver: permission denied")
STALE = InvalidAuthTokenError("etcdserver: invalid auth token")


@pytest.fixture(params=VIRTUAL_BACKENDS, ids=lambda name: f"virtual-{name}")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, Mapping[str, Any]]:
    return virtual_backend(request.param)


@pytest.fixture
def opener() -> Opener:
    return Opener()


@pytest.fixture
def keep_alives(opener: Opener, anyio_backend: object) -> KeepAliveStream:
    return KeepAliveStream(opener)


def answer(lease_id: int, ttl: int = 10, raft_term: int = 2) -> KeepAlive:
    return KeepAlive(lease_id, ttl, Header(cluster_id=1, member_id=2, revision=3, raft_term=raft_term))


class Outcome:
    """Records the outcome of a call that runs beside the test."""

    def __init__(self) -> None:
        self.answers: KeepAliveResponses | None = None
        self.error: EtcdLeaderError | None = None

    async def of(self, keep_alives: KeepAliveStream, lease_ids: Sequence[int], timeout: float) -> None:
        answers = await keep_alives.send(lease_ids, timeout)
        assert {*answers, *answers.errors} == set(lease_ids)
        if answers:
            self.answers = answers
        else:
            self.error = answers.errors[lease_ids[0]]


async def test_keep_alives_are_sent_back_to_back_and_each_response_counts_for_its_lease(
    keep_alives: KeepAliveStream, opener: Opener
) -> None:
    outcome = Outcome()
    async with anyio.create_task_group() as group:
        group.start_soon(outcome.of, keep_alives, [7, 8], 5)
        await anyio.sleep(1)
        assert [request.lease_id for request in opener.last.sent] == [7, 8]
        opener.last.bring(answer(8, ttl=20))
        opener.last.bring(answer(7, ttl=10, raft_term=4))
    assert outcome.answers is not None
    assert {lease_id: one.ttl for lease_id, one in outcome.answers.items()} == {7: 10, 8: 20}
    assert outcome.answers[7].header.raft_term == 4


async def test_a_late_response_is_never_credited_to_the_next_keep_alive(
    keep_alives: KeepAliveStream, opener: Opener
) -> None:
    """A is delayed, B is lost, A's response arrives after B was sent. Credited to B, it gave 2.6 s of two leaders."""
    a, b = Outcome(), Outcome()
    await a.of(keep_alives, [7], 1)
    assert a.error is not None
    old = opener.last
    assert not old.open, "a keep-alive that times out ends its stream"
    async with anyio.create_task_group() as group:
        group.start_soon(b.of, keep_alives, [7], 1)
        await anyio.sleep(0.5)
        assert opener.last is not old
        old.bring(answer(7))
    assert b.answers is None
    assert b.error is not None


async def test_a_cancelled_keep_alive_ends_its_stream_likewise(keep_alives: KeepAliveStream, opener: Opener) -> None:
    """Its response is still in flight when the next request is sent."""
    with anyio.move_on_after(0.5):
        await keep_alives.send([7], 5)
    assert not opener.last.open
    again = Outcome()
    async with anyio.create_task_group() as group:
        group.start_soon(again.of, keep_alives, [7], 5)
        await anyio.sleep(0.5)
        opener.streams[0].bring(answer(7, ttl=99))
        opener.streams[1].bring(answer(7, ttl=10))
    assert again.answers is not None
    assert again.answers[7].ttl == 10


async def test_an_unanswered_lease_is_missing_and_ends_the_stream(keep_alives: KeepAliveStream, opener: Opener) -> None:
    """The other leases of its call keep their responses."""
    outcome = Outcome()
    async with anyio.create_task_group() as group:
        group.start_soon(outcome.of, keep_alives, [7, 8], 1)
        await anyio.sleep(0.5)
        opener.last.bring(answer(7))
    assert outcome.answers is not None
    assert list(outcome.answers) == [7]
    assert not opener.last.open


async def test_the_end_of_a_stream_ends_the_other_calls_on_it(keep_alives: KeepAliveStream, opener: Opener) -> None:
    """They end at once, without waiting for their own timeouts."""
    slow, patient = Outcome(), Outcome()
    async with anyio.create_task_group() as group:
        group.start_soon(slow.of, keep_alives, [7], 1)
        group.start_soon(patient.of, keep_alives, [8], 50)
    assert anyio.current_time() == pytest.approx(1)
    assert slow.error is not None
    assert patient.error is not None


async def test_calls_at_once_share_one_stream(keep_alives: KeepAliveStream, opener: Opener) -> None:
    first, second = Outcome(), Outcome()
    async with anyio.create_task_group() as group:
        group.start_soon(first.of, keep_alives, [7], 5)
        group.start_soon(second.of, keep_alives, [8], 5)
        await anyio.sleep(1)
        assert len(opener.streams) == 1
        opener.last.bring(answer(8))
        opener.last.bring(answer(7))
    assert first.answers is not None
    assert list(first.answers) == [7]
    assert second.answers is not None
    assert list(second.answers) == [8]


async def test_responses_without_a_request_are_dropped(keep_alives: KeepAliveStream, opener: Opener) -> None:
    """They are another lease's response, and a second one for our lease: each keep-alive has one response."""
    outcome, later = Outcome(), Outcome()
    async with anyio.create_task_group() as group:
        group.start_soon(outcome.of, keep_alives, [7], 5)
        await anyio.sleep(1)
        opener.last.bring(answer(99))
        opener.last.bring(answer(7, ttl=10))
        opener.last.bring(answer(7, ttl=20))
        await anyio.sleep(1)
        group.start_soon(later.of, keep_alives, [7], 1)
    assert outcome.answers is not None
    assert {lease_id: one.ttl for lease_id, one in outcome.answers.items()} == {7: 10}
    assert later.answers is None


async def test_a_broken_stream_fails_its_pending_calls_and_the_next_call_opens_another(
    keep_alives: KeepAliveStream, opener: Opener
) -> None:
    outcome, again = Outcome(), Outcome()
    broken = EtcdUnavailableError("UNAVAILABLE: the connection was reset")
    async with anyio.create_task_group() as group:
        group.start_soon(outcome.of, keep_alives, [7], 50)
        await anyio.sleep(1)
        opener.last.end(broken)
    assert anyio.current_time() == pytest.approx(1)
    assert outcome.error is broken
    async with anyio.create_task_group() as group:
        group.start_soon(again.of, keep_alives, [7], 5)
        await anyio.sleep(1)
        opener.last.bring(answer(7))
    assert again.answers is not None
    assert len(opener.streams) == 2


async def test_a_refused_lease_fails_alone_and_those_behind_it_are_sent_again(
    keep_alives: KeepAliveStream, opener: Opener
) -> None:
    """etcd closes the stream at the first keep-alive that it does not authorize: the oldest unanswered one."""
    mine, others = Outcome(), Outcome()
    async with anyio.create_task_group() as group:
        group.start_soon(mine.of, keep_alives, [6, 7, 8], 5)
        await anyio.sleep(0.1)
        group.start_soon(others.of, keep_alives, [9], 5)
        await anyio.sleep(0.1)
        opener.last.bring(answer(6))
        opener.last.end(REFUSED)
        await anyio.sleep(0.1)
        assert len(opener.streams) == 2
        assert sorted(request.lease_id for request in opener.last.sent) == [8, 9]
        opener.last.bring(answer(8))
        opener.last.bring(answer(9))
    assert anyio.current_time() == pytest.approx(0.3)
    assert mine.answers is not None
    assert list(mine.answers) == [6, 8]
    assert mine.answers.errors == {7: REFUSED}
    assert others.answers is not None
    assert others.answers.errors == {}


async def test_a_refusal_after_a_response_is_no_timeout(keep_alives: KeepAliveStream, opener: Opener) -> None:
    """The first lease is answered, the second refused, the third unanswered. Each has its own outcome, at once."""
    outcome = Outcome()
    async with anyio.create_task_group() as group:
        group.start_soon(outcome.of, keep_alives, [1, 2, 3], 5)
        await anyio.sleep(0.1)
        opener.last.bring(answer(1))
        opener.last.end(REFUSED)
        await anyio.sleep(0.1)
        assert [request.lease_id for request in opener.last.sent] == [3]
        opener.last.bring(answer(3))
    assert anyio.current_time() == pytest.approx(0.2)
    assert outcome.answers is not None
    assert list(outcome.answers) == [1, 3]
    assert outcome.answers.errors == {2: REFUSED}
    again = Outcome()
    async with anyio.create_task_group() as group:  # as the second attempt of a round does it
        group.start_soon(again.of, keep_alives, [2], 5)
        await anyio.sleep(0.1)
        opener.last.end(REFUSED)
    assert anyio.current_time() == pytest.approx(0.3)
    assert again.error is REFUSED
    assert not any(end.retry_other_endpoint for end in opener.ends), "no end of a stream moves the connection"


async def test_a_refusal_without_a_pending_request_fails_no_call(keep_alives: KeepAliveStream, opener: Opener) -> None:
    first, second = Outcome(), Outcome()
    async with anyio.create_task_group() as group:
        group.start_soon(first.of, keep_alives, [1, 2], 5)
        await anyio.sleep(0.1)
        opener.last.bring(answer(1))
        opener.last.bring(answer(2))
        opener.last.end(REFUSED)
        await anyio.sleep(0.1)
        group.start_soon(second.of, keep_alives, [1, 2], 5)
        await anyio.sleep(0.1)
        opener.last.bring(answer(1))
        opener.last.bring(answer(2))
    assert anyio.current_time() == pytest.approx(0.3)
    for outcome in (first, second):
        assert outcome.answers is not None
        assert list(outcome.answers) == [1, 2]
        assert outcome.answers.errors == {}


async def test_each_refused_lease_costs_one_stream_and_no_other_lease(
    keep_alives: KeepAliveStream, opener: Opener
) -> None:
    outcome = Outcome()
    async with anyio.create_task_group() as group:
        group.start_soon(outcome.of, keep_alives, list(range(20)), 5)
        for lease_id in range(20):
            await anyio.sleep(0.01)
            if lease_id % 3:
                opener.last.bring(answer(lease_id))
            else:
                opener.last.end(REFUSED)
    assert outcome.answers is not None
    assert sorted(outcome.answers.errors) == list(range(0, 20, 3))
    assert len(opener.streams) == 8, "one for each refusal, and the last"


async def test_an_error_of_the_connection_fails_all_pending_calls(keep_alives: KeepAliveStream, opener: Opener) -> None:
    """A response from another cluster refuses no lease."""
    outcome = Outcome()
    stranger = ClusterIdMismatchError("it belongs to cluster 1")
    async with anyio.create_task_group() as group:
        group.start_soon(outcome.of, keep_alives, [7, 8], 5)
        await anyio.sleep(0.1)
        opener.last.end(stranger)
    assert outcome.error is stranger
    assert len(opener.streams) == 1


async def test_a_stale_token_is_no_failure_if_a_new_login_helps(keep_alives: KeepAliveStream, opener: Opener) -> None:
    """All unanswered requests are sent again on a stream with the new token."""
    first, second = Outcome(), Outcome()
    async with anyio.create_task_group() as group:
        group.start_soon(first.of, keep_alives, [7], 5)
        group.start_soon(second.of, keep_alives, [8, 9], 5)
        await anyio.sleep(0.1)
        opener.last.bring(answer(8))
        opener.last.end(STALE)
        await anyio.sleep(0.1)
        assert sorted(request.lease_id for request in opener.last.sent) == [7, 9]
        opener.last.bring(answer(7))
        opener.last.bring(answer(9))
    for outcome in (first, second):
        assert outcome.answers is not None
        assert outcome.answers.errors == {}


async def test_a_token_that_stays_stale_after_logins_is_reported(keep_alives: KeepAliveStream, opener: Opener) -> None:
    outcome = Outcome()
    async with anyio.create_task_group() as group:
        group.start_soon(outcome.of, keep_alives, [7], 50)
        while outcome.error is None:
            await anyio.sleep(0.1)
            opener.last.end(STALE)
    assert outcome.error is STALE
    assert len(opener.streams) == 4


async def test_a_failed_login_fails_all_pending_calls(keep_alives: KeepAliveStream, opener: Opener) -> None:
    outcome = Outcome()
    async with anyio.create_task_group() as group:
        group.start_soon(outcome.of, keep_alives, [7, 8], 5)
        await anyio.sleep(0.1)
        opener.failing = AuthenticationFailedError("user 'me' cannot log in")
        opener.last.end(STALE)
    assert outcome.error is opener.failing
    assert anyio.current_time() == pytest.approx(0.1)


async def test_opening_a_stream_is_bounded_by_the_timeout(keep_alives: KeepAliveStream, opener: Opener) -> None:
    """A member that accepts connections and never responds must not delay the renewals."""
    outcome, again = Outcome(), Outcome()
    opener.hanging = True
    await outcome.of(keep_alives, [7], 2)
    assert anyio.current_time() == pytest.approx(2)
    assert outcome.error is not None
    opener.hanging = False
    opener.failing = EtcdUnavailableError("connection refused")
    await again.of(keep_alives, [7], 2)
    assert again.error is opener.failing


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_messages_after_the_end_of_a_stream_are_not_delivered() -> None:
    """This is the real stream, with its thread. The rules above depend on it."""
    calls: list[ScriptedCall] = []

    def method(requests: Iterator[Any], metadata: object) -> ScriptedCall:
        calls.append(ScriptedCall(requests, metadata))
        return calls[0]

    got: list[Any] = []
    ends: list[Exception] = []
    came = anyio.Event()

    def on_message(message: Any) -> None:
        got.append(message)
        came.set()

    on_end: Callable[[Exception], None] = ends.append
    stream = GrpcioStream(
        Rpc("scripted", "/scripted", bytes, bytes),
        (),
        StreamCallbacks(lambda message: None, on_message, on_end, loop_scheduler()),
        SimpleNamespace(name="127.0.0.1:1", on_data=lambda: None),  # type: ignore[arg-type]
        SimpleNamespace(stream_stream=lambda path, **_: method),
    )
    calls[0].messages.put("in time")
    await came.wait()
    why = EtcdUnavailableError("given up")
    stream.end(why)
    calls[0].messages.put("too late")
    calls[0].messages.put(None)
    await stream.closed.wait()
    assert got == ["in time"]
    assert ends == [why]
    assert calls[0].cancelled
    assert list(calls[0].requests) == [], "the writing side is ended, too"


async def test_keep_alives_are_sent_again_after_a_goaway(keep_alives: KeepAliveStream, opener: Opener) -> None:
    for times in (1, 2):  # at the second time, the member counts as one that does not respond
        async with anyio.create_task_group() as group:
            answers: list[KeepAliveResponses] = []

            async def send(answers: list[KeepAliveResponses] = answers) -> None:
                answers.append(await keep_alives.send([1, 2], 5))

            group.start_soon(send)
            for _ in range(times):
                await anyio.sleep(0.1)
                opener.last.end(GoingAwayError("the peer is going away"))
            for lease_id in (1, 2) if times == 1 else ():
                await anyio.sleep(0.1)
                opener.last.bring(answer(lease_id))
        assert list(answers[0]) == ([1, 2] if times == 1 else [])
        assert [type(error) for error in answers[0].errors.values()] == [GoingAwayError] * 2 * (times - 1)
