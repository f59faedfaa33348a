"""Fences in an etcd where the election is not, and in the one where it is, on real servers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import anyio
import anyio.to_thread
import pytest

from etcdleader import Config, EtcdLeaderManager, Term
from etcdleader.etcd3 import etcd3
from etcdleader.fencing import FencedError, fence_compares, fence_operations, fenced_transaction
from etcdleader.testing import EtcdServer

CONFIG = Config(enabled=True, id="fenced", lease=20, renew=1, retry=2)

Connect = Callable[[EtcdServer], Any]


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[EtcdServer]:
    """Another cluster, which does not have the election."""
    with EtcdServer() as server:
        yield server


@pytest.fixture
def connect() -> Iterator[Connect]:
    with ExitStack() as stack:

        def connect(server: EtcdServer) -> Any:
            host, _, port = server.endpoints[0].rpartition(":")
            return stack.enter_context(closing(etcd3.client(host, int(port), timeout=30)))

        yield connect


@pytest.fixture
def client(connect: Connect, elsewhere: EtcdServer) -> Any:
    return connect(elsewhere)


@pytest.fixture
def fence(election_key: str) -> str:
    """A fence that no other test uses. It is also the key of the data beside it."""
    return f"{election_key}/report"


def put(key: str, value: object) -> Any:
    return etcd3.transactions.Put(key, str(value))


def value(client: Any, key: str) -> str | None:
    found = client.get(key)[0]
    return None if found is None else found.decode()


def fences(client: Any, fence: str) -> list[str]:
    """The keys of a fence, which are one at most."""
    return [metadata.key.decode() for _, metadata in client.get_prefix(f"{fence}#")]


# By token alone, in another cluster


def test_the_first_write_finds_no_fence_and_passes(client: Any, fence: str) -> None:
    fenced_transaction(client, fence, 41, [put(fence, "first")])
    assert value(client, fence) == "first"
    assert fences(client, fence) == [f"{fence}#{0:019}.{41:019}"]


def test_equal_and_higher_tokens_pass_and_a_lower_one_changes_nothing(client: Any, fence: str) -> None:
    """Numbers are compared as numbers: 9 is below 10, and 99 below 100."""
    for token in (9, 9, 10, 99, 100, 100, 2**63 - 1):
        fenced_transaction(client, fence, token, [put(fence, token)])
        assert len(fences(client, fence)) == 1
        with pytest.raises(FencedError) as caught:
            fenced_transaction(client, fence, token - 1, [put(fence, "late")])
        assert (caught.value.token, caught.value.highest, caught.value.resource) == (token - 1, token, fence)
        assert value(client, fence) == str(token)


def test_a_new_leader_that_raised_the_fence_before_it_read_has_no_write_come_between(client: Any, fence: str) -> None:
    fenced_transaction(client, fence, 41, [put(fence, "old")])
    assert fenced_transaction(client, fence, 42, []) == []
    assert value(client, fence) == "old"
    with pytest.raises(FencedError):
        fenced_transaction(client, fence, 41, [put(fence, "late")])
    assert value(client, fence) == "old"


def test_the_epoch_counts_before_the_token(client: Any, fence: str) -> None:
    fenced_transaction(client, fence, 9000, [put(fence, "before the restore")], epoch=1)
    fenced_transaction(client, fence, 12, [put(fence, "after it")], epoch=2)
    for epoch in (0, 1):
        with pytest.raises(FencedError, match=f"token 9001 of epoch {epoch} is refused, since token 12 of epoch 2"):
            fenced_transaction(client, fence, 9001, [put(fence, "late")], epoch=epoch)
    assert value(client, fence) == "after it"
    assert len(fences(client, fence)) == 1


def test_token_0_passes_while_no_other_was_seen_and_is_refused_in_every_epoch_then(client: Any, fence: str) -> None:
    for epoch in (0, 7):
        fenced_transaction(client, fence, 0, [put(fence, "off")], epoch=epoch)
    assert fences(client, fence) == []
    fenced_transaction(client, fence, 41, [put(fence, "on")], epoch=1)
    for epoch in (0, 1, 7):
        with pytest.raises(FencedError, match="election is off"):
            fenced_transaction(client, fence, 0, [put(fence, "off")], epoch=epoch)
    assert value(client, fence) == "on"


def test_fences_whose_names_begin_alike_do_not_touch_each_other(client: Any, fence: str) -> None:
    """Nor do they touch the data that lies before, below and after them."""
    names = [fence, f"{fence}2", f"{fence}/0", fence[:-1]]
    for name in names:
        client.put(name, "data")
        fenced_transaction(client, name, 41, [])
    for token, name in enumerate(names, 42):
        fenced_transaction(client, name, token, [])
    assert [len(fences(client, name)) for name in names] == [1, 1, 1, 1]
    assert [value(client, name) for name in names] == ["data"] * 4
    fenced_transaction(client, fence, 42, [])


def test_the_answers_are_those_to_ones_own_operations(client: Any, fence: str) -> None:
    client.put(fence, "before")
    answers = fenced_transaction(client, fence, 41, [etcd3.transactions.Get(fence), put(fence, "after")])
    ((found, _),) = answers[0]
    assert (found, len(answers)) == (b"before", 2)


def test_a_condition_of_ones_own_neither_opens_the_fence_nor_is_opened_by_it(client: Any, fence: str) -> None:
    """All conditions must hold, so adding one can only refuse more."""

    def write(token: int, expected: str) -> bool:
        succeeded, _ = client.transaction(
            compare=[*fence_compares(fence, token), client.transactions.value(fence) == expected],
            success=[put(fence, f"by {token}"), *fence_operations(fence, token)],
            failure=[],
        )
        return bool(succeeded)

    client.put(fence, "begin")
    assert not write(41, "something else")
    assert fences(client, fence) == []
    assert write(41, "begin")
    assert write(43, "by 41")
    assert not write(42, "by 43")
    assert not write(42, "something else")
    assert value(client, fence) == "by 43"


def test_what_no_fence_wrote_is_named_not_taken_for_a_token(client: Any, fence: str) -> None:
    client.put(f"{fence}#note", "by hand")
    with pytest.raises(ValueError, match=r"report#note' lies where only the fence '.*/report' may write"):
        fenced_transaction(client, fence, 41, [put(fence, "x")])
    assert value(client, fence) is None


def test_writers_that_race_are_never_written_out_of_order(connect: Connect, elsewhere: EtcdServer, fence: str) -> None:
    """Each accepted write is a separate key, and its revision in etcd shows the order."""
    start = threading.Barrier(4)
    clients = [connect(elsewhere) for _ in range(4)]
    refused = [0, 0, 0, 0]

    def writer(number: int) -> None:
        start.wait(30)
        for token in range(1 + number, 200, 4):
            try:
                fenced_transaction(clients[number], fence, token, [put(f"{fence}/{token}", token)])
            except FencedError as error:
                refused[number] += error.highest > token

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(writer, range(4)))
    found = [(metadata.mod_revision, int(text)) for text, metadata in clients[0].get_prefix(f"{fence}/")]
    written = [token for _, token in sorted(found)]
    assert written == sorted(written)
    assert written[-1] == 199
    assert len(written) + sum(refused) == 199


# With real terms


async def successive(manager: EtcdLeaderManager) -> tuple[Term, Term]:
    """Two terms of one election; the first is over."""
    first = await manager.wait_elected()
    await manager.resign()
    return first, await manager.wait_elected()


@pytest.mark.anyio
async def test_a_leader_of_the_past_is_refused_by_a_cluster_that_has_never_seen_the_election(
    etcd_server: EtcdServer, election_key: str, client: Any, fence: str
) -> None:
    async def write(term: Term, text: str) -> None:
        await anyio.to_thread.run_sync(fenced_transaction, client, fence, term.token, [put(fence, text)])

    with anyio.fail_after(60):
        async with EtcdLeaderManager(etcd_server.config, CONFIG, election_key) as manager:
            past, present = await successive(manager)
            await write(past, "it cannot know yet")
            await write(present, "present")
            with pytest.raises(FencedError):
                await write(past, "late")
    assert value(client, fence) == "present"


@pytest.mark.anyio
async def test_a_term_that_writes_under_its_guard_fences_writers_that_have_only_the_token(
    etcd_server: EtcdServer, election_key: str, connect: Connect
) -> None:
    """In the cluster of the election; and the guard refuses the past at once, without any fence."""
    own = connect(etcd_server)
    data = f"{election_key}-data"
    with anyio.fail_after(60):
        async with EtcdLeaderManager(etcd_server.config, CONFIG, election_key) as manager:
            past, present = await successive(manager)
            assert not (await past.transaction([put(data, "late"), *fence_operations(data, past.token)]))[0]
            assert fences(own, data) == []
            succeeded, answers = await present.transaction(
                [put(data, "present"), *fence_operations(data, present.token)]
            )
            assert succeeded
            assert len(answers) == 3
            with pytest.raises(FencedError):
                fenced_transaction(own, data, past.token, [put(data, "late")])
            fenced_transaction(own, data, present.token, [put(data, "by its token")])
            assert (await present.transaction([put(data, "again"), *fence_operations(data, present.token)]))[0]
    assert value(own, data) == "again"
    assert len(fences(own, data)) == 1


def test_the_operations_alone_never_lower_a_fence(client: Any, fence: str) -> None:
    """Under a condition that is not the fence's, a lower token can come; the higher one goes on being held."""
    for token in (42, 41):
        client.transaction(compare=[], success=fence_operations(fence, token), failure=[])
    with pytest.raises(FencedError, match="token 41 is refused, since token 42 was seen"):
        fenced_transaction(client, fence, 41, [])
