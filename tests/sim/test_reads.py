"""Concurrent reads of many candidacies share one transaction, and no reader delays or fails another."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import anyio.lowlevel
import pytest

from etcdleader import EtcdLeaderError, EtcdRefusedError, EtcdRegressedError, EtcdUnavailableError
from etcdleader._etcd.api import Header, KeyValue, Range, RangeResult, TxnResult
from etcdleader._lease.batched_reads import BatchedReads
from etcdleader._runtime.limiter import FairLimiter
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.crowd import leaders, tokens

pytestmark = pytest.mark.anyio

KEYS_AT_A_TIME = 16
BATCHES_AT_A_TIME = 4
MANY = 192


class Etcd:
    """Answers each read with the requested key, once the test allows it."""

    def __init__(self) -> None:
        self.asked: list[list[bytes]] = []
        self.timeouts: list[float] = []
        self.refused: set[bytes] = set()
        self.error: EtcdLeaderError | None = None
        self.may_answer = anyio.Event()

    async def read(self, requests: Sequence[Range], timeout: float) -> TxnResult:
        keys = [request.key for request in requests]
        self.asked.append(keys)
        self.timeouts.append(timeout)
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        if self.refused.intersection(keys):
            raise EtcdRefusedError("not yours")
        header = Header(1, 1, len(self.asked), 1)
        results = tuple(RangeResult((KeyValue(key, b"", 1, 1, 1, 0),), 1, header) for key in keys)
        return TxnResult(succeeded=True, results=results, header=header)


class Readers:
    def __init__(self, etcd: Etcd, places: int = 64) -> None:
        self.turns = FairLimiter(places)
        self.reads = BatchedReads(etcd.read, self.turns)
        self.got: dict[str, list[bytes]] = {}
        self.failed: dict[str, EtcdLeaderError] = {}

    async def read(self, name: str, keys: int = 2, timeout: float = 5, scope: anyio.CancelScope | None = None) -> None:
        with scope or anyio.CancelScope():
            try:
                result = await self.reads.read([Range(f"{name}/{key}".encode()) for key in range(keys)], timeout)
            except EtcdLeaderError as error:
                self.failed[name] = error
            else:
                found = [one for one in result.results if isinstance(one, RangeResult)]
                self.got[name] = [one.kvs[0].key for one in found]

    def all_turns_given_back(self, places: int = 64) -> bool:
        return self.turns.available_tokens == places


async def settled() -> None:
    for _ in range(5):
        await anyio.lowlevel.checkpoint()


def own(*names: str) -> dict[str, list[bytes]]:
    return {name: [f"{name}/0".encode(), f"{name}/1".encode()] for name in names}


async def test_concurrent_reads_share_a_transaction_and_each_gets_its_own_keys(
    anyio_backend: object,
) -> None:
    etcd = Etcd()
    readers = Readers(etcd)
    etcd.may_answer.set()
    async with anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(readers.read, name)
    assert [sorted(keys) for keys in etcd.asked] == [[b"a/0", b"a/1", b"b/0", b"b/1", b"c/0", b"c/1"]]
    assert readers.got == own("a", "b", "c")
    assert readers.all_turns_given_back()


async def test_a_reader_that_comes_after_the_read_was_sent_gets_a_newer_one(anyio_backend: object) -> None:
    etcd = Etcd()
    readers = Readers(etcd)
    async with anyio.create_task_group() as group:
        group.start_soon(readers.read, "early")
        await settled()
        assert len(etcd.asked) == 1
        group.start_soon(readers.read, "late")
        await settled()
        assert etcd.asked == [[b"early/0", b"early/1"], [b"late/0", b"late/1"]]
        etcd.may_answer.set()
    assert readers.got == own("early", "late")


async def test_queued_reads_are_batched_up_to_etcds_limit(anyio_backend: object) -> None:
    etcd = Etcd()
    readers = Readers(etcd, places=1)
    names = [f"r{number}" for number in range(KEYS_AT_A_TIME // 2 + 1)]
    assert await readers.turns.acquire()
    async with anyio.create_task_group() as group:
        for name in names:
            group.start_soon(readers.read, name)
            await settled()
        assert not etcd.asked
        etcd.may_answer.set()
        readers.turns.release(succeeded=True)
    assert [len(keys) for keys in etcd.asked] == [KEYS_AT_A_TIME, 2]
    assert readers.got == own(*names)
    assert readers.all_turns_given_back(1)


@pytest.mark.parametrize("moment", ["at once", "before its turn", "while etcd is asked"])
async def test_when_the_first_reader_is_cancelled_the_others_still_read(anyio_backend: object, moment: str) -> None:
    etcd = Etcd()
    readers = Readers(etcd, places=1)
    assert await readers.turns.acquire()
    scope = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        for name, of_it in (("first", scope), ("a", None), ("b", None)):
            group.start_soon(readers.read, name, 2, 5, of_it)
        if moment == "at once":
            await anyio.lowlevel.checkpoint()
        else:
            await settled()
        if moment == "while etcd is asked":
            readers.turns.release(succeeded=True)
            await settled()
            assert len(etcd.asked) == 1
        scope.cancel()
        await settled()
        if moment != "while etcd is asked":
            readers.turns.release(succeeded=True)
        etcd.may_answer.set()
    assert readers.got == own("a", "b")
    assert len(etcd.asked) == 1
    assert {b"a/0", b"a/1", b"b/0", b"b/1"} <= set(etcd.asked[0])
    assert readers.all_turns_given_back(1)


async def test_when_the_first_reader_is_cancelled_the_others_keep_their_place_in_the_queue(
    anyio_backend: object,
) -> None:
    etcd = Etcd()
    etcd.may_answer.set()
    readers = Readers(etcd, places=1)
    assert await readers.turns.acquire()
    asked: list[int] = []

    async def come_later() -> None:
        assert await readers.turns.acquire()
        asked.append(len(etcd.asked))
        readers.turns.release(succeeded=True)

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(readers.read, "first", 2, 5, scope)
        await settled()
        group.start_soon(readers.read, "other")
        await settled()
        group.start_soon(come_later)
        await settled()
        scope.cancel()
        await settled()
        readers.turns.release(succeeded=True)
    assert asked == [1]
    assert readers.got == own("other")


async def test_concurrent_transactions_of_reads_are_limited(anyio_backend: object) -> None:
    """Each of them costs as much as many calls."""
    etcd = Etcd()
    readers = Readers(etcd)
    names = [f"r{number}" for number in range(KEYS_AT_A_TIME // 2 * (BATCHES_AT_A_TIME + 2))]
    async with anyio.create_task_group() as group:
        for name in names:
            group.start_soon(readers.read, name)
        await settled()
        assert [len(keys) for keys in etcd.asked] == [KEYS_AT_A_TIME] * BATCHES_AT_A_TIME
        etcd.may_answer.set()
    assert readers.got == own(*names)
    assert readers.all_turns_given_back()


async def test_cancelling_one_of_the_other_readers_affects_no_reader(anyio_backend: object) -> None:
    etcd = Etcd()
    readers = Readers(etcd, places=1)
    assert await readers.turns.acquire()
    scope = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(readers.read, "sender")
        await settled()
        group.start_soon(readers.read, "gone", 2, 5, scope)
        await settled()
        group.start_soon(readers.read, "other")
        await settled()
        scope.cancel()
        await settled()
        etcd.may_answer.set()
        readers.turns.release(succeeded=True)
    assert readers.got == own("sender", "other")
    assert readers.all_turns_given_back(1)


async def test_a_forbidden_key_fails_only_its_own_reader(anyio_backend: object) -> None:
    etcd = Etcd()
    etcd.refused = {b"b/1"}
    readers = Readers(etcd)
    async with anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(readers.read, name)
        await settled()
        first, etcd.may_answer = etcd.may_answer, anyio.Event()
        first.set()
        await settled()
        assert len(etcd.asked) == 4  # none waits for another reader's second read
        etcd.may_answer.set()
    assert readers.got == own("a", "c")
    assert isinstance(readers.failed.pop("b"), EtcdRefusedError)
    assert not readers.failed
    assert readers.all_turns_given_back()


@pytest.mark.parametrize("error", [EtcdUnavailableError("no response"), EtcdRegressedError(7, 9, 3)])
async def test_a_read_that_fails_raises_a_separate_error_in_each_reader(
    anyio_backend: object, error: EtcdLeaderError
) -> None:
    etcd = Etcd()
    etcd.error = error
    readers = Readers(etcd)
    etcd.may_answer.set()
    async with anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(readers.read, name)
    assert len(etcd.asked) == 1
    assert {str(failed) for failed in readers.failed.values()} == {str(error)}
    assert {type(failed) for failed in readers.failed.values()} == {type(error)}
    assert len({id(failed) for failed in readers.failed.values()}) == 3
    assert readers.all_turns_given_back()


async def test_an_unexpected_error_is_raised_in_all_readers(anyio_backend: object) -> None:
    async def broken(requests: Sequence[Range], timeout: float) -> TxnResult:
        raise ZeroDivisionError

    readers = Readers(Etcd())
    readers.reads = BatchedReads(broken, readers.turns)
    async with anyio.create_task_group() as group:
        for name in "ab":
            group.start_soon(readers.read, name)
    assert all("ZeroDivisionError" in str(error) for error in readers.failed.values())
    assert len(readers.failed) == 2
    assert readers.all_turns_given_back()


async def test_no_reader_waits_longer_because_of_another_ones_timeout(anyio_backend: object) -> None:
    etcd = Etcd()
    readers = Readers(etcd)
    etcd.may_answer.set()
    async with anyio.create_task_group() as group:
        for name, timeout in (("a", 1), ("b", 30), ("c", 1)):
            group.start_soon(readers.read, name, 2, timeout)
    assert sorted(zip(etcd.timeouts, map(len, etcd.asked), strict=True)) == [(1, 4), (30, 2)]
    assert readers.got == own("a", "b", "c")


async def test_many_candidates_that_begin_at_once_share_their_reads(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """Once its watch is created, each finds that others have written since it joined, so it must read again."""
    client = etcd.client()
    client.latency = 0.01
    async with leaders(client, clock, MANY) as managers:
        await anyio.sleep(1)
        joins, reads = MANY, client.calls["txn"] + client.calls["range"] - MANY
        assert 0 < reads < joins / 8
        assert all(tokens(managers))
