"""The gate in a process, and the SQL of docs/fencing.md, which is run as it is printed there."""

from __future__ import annotations

import ast
import logging
import pickle
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from etcdleader import Config, EtcdLeaderError, NoopLeaderManager, Term
from etcdleader import fencing as fencing_module
from etcdleader.fencing import FencedError, Gate, fence_compares, fence_operations
from tests.helpers.paths import ROOT

DOCS = (ROOT / "docs" / "fencing.md").read_text()
SQL = {match[1]: match[2] for match in re.finditer(r"^```sql\n-- (.+)\n((?:.+\n)+?)```$", DOCS, re.MULTILINE)}

# In a process: the gate


def test_a_lower_token_is_refused_and_the_error_names_both_tokens() -> None:
    gate = Gate("report")
    gate.check(41)
    gate.check(57)
    with pytest.raises(FencedError, match="report: token 41 is refused, since token 57 was seen") as caught:
        gate.check(41)
    assert isinstance(caught.value, EtcdLeaderError)
    assert (caught.value.token, caught.value.highest, gate.token) == (41, 57, 57)


def test_an_equal_token_passes_again_and_again() -> None:
    gate = Gate()
    for _ in range(3):
        gate.check(41)
    assert gate.token == 41


def test_a_gate_made_with_what_was_stored_refuses_the_past_from_its_first_check() -> None:
    with pytest.raises(FencedError):
        Gate(token=57).check(41)


def test_the_epoch_counts_before_the_token() -> None:
    """After a restore tokens begin again from below: the later leader has the lower one."""
    gate = Gate()
    gate.check(9000, epoch=1)
    gate.check(12, epoch=2)
    with pytest.raises(FencedError, match="token 9000 of epoch 1 is refused, since token 12 of epoch 2 was seen"):
        gate.check(9000, epoch=1)
    with pytest.raises(FencedError, match="token 9000 of epoch 0 is refused"):
        gate.check(9000)
    assert (gate.epoch, gate.token) == (2, 12)


def test_a_gate_made_with_an_epoch_alone_refuses_the_epochs_before_it() -> None:
    gate = Gate(epoch=2)
    with pytest.raises(FencedError):
        gate.check(9000, epoch=1)
    gate.check(0, epoch=2)
    gate.check(1, epoch=2)


def test_token_0_passes_while_no_other_was_seen_and_is_not_remembered() -> None:
    """So that the same program runs where its election is switched off, with whatever epoch its settings have."""
    gate = Gate()
    gate.check(0, epoch=7)
    gate.check(0)
    assert (gate.epoch, gate.token) == (0, 0)
    gate.check(1)


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_token_0_is_refused_in_every_epoch_once_a_leader_has_been_there(epoch: int) -> None:
    """A copy that runs with its election off beside the others is the one thing it could still protect from."""
    gate = Gate()
    gate.check(41, epoch=1)
    with pytest.raises(FencedError, match=r"token 0 \(election is off\) is refused"):
        gate.check(0, epoch=epoch)


@pytest.mark.anyio
async def test_a_program_with_its_election_switched_off_passes() -> None:
    gate = Gate()

    async def work(term: Any) -> str:
        with gate.passing(term.token):
            return "written"

    assert await NoopLeaderManager(Config(), "jobs").run(work) == "written"


@pytest.mark.parametrize("wrong", [-1, 2**63])
def test_a_number_that_no_token_can_be_is_refused_and_shuts_no_leader_out(wrong: int) -> None:
    gate = Gate()
    for ask in (lambda: gate.check(wrong), lambda: gate.check(1, epoch=wrong), lambda: Gate(token=wrong)):
        with pytest.raises(ValueError, match="must be from 0 to"):
            ask()
    gate.check(2**63 - 1)


@pytest.mark.parametrize("wrong", ["41", 41.0, True, None])
def test_a_token_that_is_not_an_int_is_refused(wrong: Any) -> None:
    """As it comes out of a header or a JSON body: "9" is above "10"."""
    with pytest.raises(TypeError, match="must be an int"):
        Gate().check(wrong)


def test_no_check_passes_the_gate_while_a_writer_writes() -> None:
    """Else a thread that was stopped after its check would write after a later leader."""
    gate = Gate()
    with ThreadPoolExecutor(1) as pool:
        with gate.passing(1):
            assert not pool.submit(gate._lock.acquire, blocking=False).result(30)
            gate.check(1)  # the writer itself may ask again
        pool.submit(gate.check, 2).result(30)
    with pytest.raises(FencedError), gate.passing(1):
        pytest.fail("the block of a refused writer was entered")


def test_writers_that_race_are_never_written_out_of_order() -> None:
    gate = Gate()
    written: list[int] = []
    refused = [0] * 9
    start = threading.Barrier(8)

    def writer(first: int) -> None:
        start.wait(30)
        for token in range(first, 4001, 8):
            try:
                with gate.passing(token):
                    written.append(token)
            except FencedError as error:
                refused[first] += error.highest > token

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(writer, range(1, 9)))
    assert written == sorted(written)
    assert written[-1] == gate.token == 4000
    assert len(written) + sum(refused) == 4000


def test_the_lock_is_given_back_when_the_write_fails() -> None:
    gate = Gate()
    with pytest.raises(OSError, match="full"), gate.passing(1):
        raise OSError("full")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(gate.check, 1).result(30)


def test_the_error_can_be_sent_to_another_process() -> None:
    error = FencedError(41, 12, 1, 2, "report")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.token, copy.highest, copy.epoch, copy.highest_epoch) == (str(error), 41, 12, 1, 2)


@pytest.mark.anyio
async def test_in_async_code_a_lock_of_ones_own_holds_the_others_back() -> None:
    """As the docs say; a gate holds no lock between a check and a write that is awaited."""
    gate, lock, slow = Gate(), anyio.Lock(), anyio.Event()
    written: list[int] = []

    async def receive(token: int) -> None:
        async with lock:
            gate.check(token)
            if token == 1:
                await slow.wait()
            written.append(token)

    async with anyio.create_task_group() as group:
        group.start_soon(receive, 1)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(receive, 2)
        await anyio.wait_all_tasks_blocked()
        slow.set()
    assert written == [1, 2]


# For etcd: what needs no server


@pytest.mark.parametrize("key", ["", "report#1"])
@pytest.mark.parametrize("function", [fence_compares, fence_operations])
def test_a_fence_that_could_lie_in_the_range_of_another_is_refused(function: Callable[..., Any], key: str) -> None:
    with pytest.raises(ValueError, match="needs a key without '#'"):
        function(key, 1)


def test_token_0_writes_no_fence() -> None:
    assert fence_operations("report", 0, epoch=7) == []


def test_gates_are_made_without_a_heavy_import() -> None:
    """The receiver of writes may be a small process that does not need etcd."""
    script = (
        "import sys, etcdleader.fencing\n"
        "etcdleader.fencing.Gate().check(1)\n"
        "assert not {'grpc', 'etcd3', 'asyncio', 'trio', 'sqlite3', 'google.protobuf'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=60)


# In SQL: what docs/fencing.md prints


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Callable[[], sqlite3.Connection]]:
    """Connections to one database, which do not wait for locks."""
    with ExitStack() as stack:

        def connect() -> sqlite3.Connection:
            path = tmp_path / "jobs.sqlite"
            return stack.enter_context(closing(sqlite3.connect(path, timeout=0, check_same_thread=False)))

        with connect() as database:
            database.execute(SQL["job: schema"])
            database.execute(SQL["fence: schema"])
            database.execute("CREATE TABLE report (number INTEGER PRIMARY KEY, text TEXT NOT NULL)")
        yield connect


Connect = Callable[[], sqlite3.Connection]


def printed_write() -> Callable[[sqlite3.Connection, str, int, int, list[str]], None]:
    """The function of the docs, compiled from there."""
    (source,) = re.findall(r"^```python\n(import sqlite3\n.+?)```$", DOCS, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"RAISE_THE_FENCE": SQL["fence: raise"]}
    exec(source, names)
    write: Callable[[sqlite3.Connection, str, int, int, list[str]], None] = names["write"]
    return write


def rows(database: sqlite3.Connection, table: str) -> list[Any]:
    return database.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()


def test_the_printed_update_refuses_a_lower_token_and_shows_it_in_rowcount(connect: Connect) -> None:
    database = connect()

    def write(token: int, state: str) -> int:
        return database.execute(SQL["job: update"], {"name": "nightly", "token": token, "state": state}).rowcount

    assert write(5, "no such row") == 0
    database.execute("INSERT INTO job VALUES ('nightly', '', 0)")
    assert [write(5, "first"), write(5, "again"), write(10, "later"), write(9, "late")] == [1, 1, 1, 0]
    assert rows(database, "job") == [("nightly", "later", 10)]


def test_the_printed_upsert_takes_the_first_write_and_refuses_a_late_one(connect: Connect) -> None:
    database = connect()

    def write(token: int, state: str) -> int:
        values = {"name": "nightly", "token": token, "state": state}
        return database.execute(SQL["job: first write, too"], values).rowcount

    assert [write(5, "first"), write(5, "again"), write(10, "later"), write(9, "late")] == [1, 1, 1, 0]
    assert rows(database, "job") == [("nightly", "later", 10)]


def test_the_printed_fence_keeps_a_late_writer_from_every_table(connect: Connect) -> None:
    write = printed_write()
    old, new = connect(), connect()
    write(old, "nightly", 0, 5, ["old"])
    write(new, "nightly", 0, 6, [])
    with pytest.raises(FencedError, match="nightly: token 5 is refused, since token 6 was seen"):
        write(old, "nightly", 0, 5, ["late"])
    write(new, "nightly", 0, 6, ["new"])
    assert [text for _, text in rows(new, "report")] == ["old", "new"]
    assert not old.in_transaction


def test_the_printed_fence_has_epochs(connect: Connect) -> None:
    write = printed_write()
    database = connect()
    write(database, "nightly", 1, 9000, ["before the restore"])
    write(database, "nightly", 2, 12, ["after it"])
    with pytest.raises(FencedError) as caught:
        write(database, "nightly", 1, 9001, ["late"])
    assert (caught.value.highest_epoch, caught.value.highest) == (2, 12)
    assert [text for _, text in rows(database, "report")] == ["before the restore", "after it"]


def test_the_printed_fence_lets_token_0_pass_only_while_no_other_was_seen(connect: Connect) -> None:
    write = printed_write()
    database = connect()
    write(database, "nightly", 1, 0, ["off"])
    write(database, "nightly", 1, 0, ["still off"])
    write(database, "nightly", 1, 5, ["on"])
    for epoch in (0, 1, 2):
        with pytest.raises(FencedError, match="election is off"):
            write(database, "nightly", epoch, 0, ["a copy with its election off"])
    assert [text for _, text in rows(database, "report")] == ["off", "still off", "on"]


def test_a_writer_that_meets_an_unfinished_later_one_waits_and_is_then_refused(connect: Connect) -> None:
    """Two connections: the later leader has raised the fence and not committed when the late write comes."""
    write = printed_write()
    old, new = connect(), connect()
    write(old, "nightly", 0, 5, ["old"])
    assert new.execute(SQL["fence: raise"], {"name": "nightly", "epoch": 0, "token": 6}).rowcount == 1
    with pytest.raises(sqlite3.OperationalError, match="locked"):  # it would wait; here it waits for 0 s
        write(old, "nightly", 0, 5, ["late"])
    new.commit()
    with pytest.raises(FencedError):
        write(old, "nightly", 0, 5, ["late"])
    assert [text for _, text in rows(new, "report")] == ["old"]


def test_the_printed_work_tries_again_while_a_frozen_leader_holds_the_lock(connect: Connect) -> None:
    frozen, row = connect(), {"name": "nightly", "epoch": 0, "token": 5}
    assert frozen.execute(SQL["fence: raise"], row).rowcount == 1

    class Later:
        token, waits = 6, 0

        def is_valid(self) -> bool:
            return True

        def wait(self, seconds: float) -> None:
            self.waits += 1
            if self.waits == 2:
                frozen.rollback()

    (source,) = re.findall(r"^```python\n(def work\(.+?)```$", DOCS, re.MULTILINE | re.DOTALL)
    impatient = SimpleNamespace(connect=lambda _: connect(), OperationalError=sqlite3.OperationalError)
    names: dict[str, Any] = {"write": printed_write(), "sqlite3": impatient, "logging": logging, "Term": Term}
    names |= {"DATABASE": "", "epoch": 0, "reports": ["later"]}
    exec(source, names)
    term = Later()
    names["work"](term)
    assert term.waits == 2
    assert [text for _, text in rows(frozen, "report")] == ["later"]


def test_connections_that_race_never_write_out_of_order(connect: Connect) -> None:
    """Each row is written with its token in the transaction that raised the fence; their order is the commits'."""
    write = printed_write()
    start = threading.Barrier(4)
    databases = [connect() for _ in range(4)]
    for database in databases:
        database.execute("PRAGMA busy_timeout = 60000")
        database.execute("PRAGMA synchronous = OFF")
    refused = [0, 0, 0, 0]

    def writer(number: int) -> None:
        start.wait(30)
        for token in range(1 + number, 200, 4):
            try:
                write(databases[number], "nightly", 0, token, [str(token)])
            except FencedError:
                refused[number] += 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(writer, range(4)))
    written = [int(text) for _, text in rows(databases[0], "report")]
    assert written == sorted(written)
    assert written[-1] == 199
    assert len(written) + sum(refused) == 199


def test_every_block_of_python_in_the_docs_can_be_compiled() -> None:
    blocks = re.findall(r"^```python\n(.+?)```$", DOCS, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 6
    for block in blocks:
        compile(block, "docs/fencing.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert all(name in DOCS for name in fencing_module.__all__)
