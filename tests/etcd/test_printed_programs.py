"""The programs of the pages that handle SIGTERM run as they are printed: to their end, and until a signal."""

from __future__ import annotations

import re
import signal
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from etcdleader.testing import EtcdServer
from tests.etcd.programs import line, python
from tests.helpers.paths import ROOT

PATIENCE = 60
TERMINATED = 128 + signal.SIGTERM
BEFORE = """
    import logging, signal, sys, threading, types
    import anyio, anyio.lowlevel, trio
    from etcdleader import Config, EtcdConfig, EtcdLeaderManager, Term
    from etcdleader import must_new_leader_manager_from_config as _from_config
    from etcdleader.blocking import BlockingLeaderManager
    import etcdleader

    _endpoint, _election, _until = sys.argv[1:]

    def must_new_leader_manager_from_config(*_):
        leader = dict(enabled=True, id="printed", lease="60s", renew="1s", retry="3s", election_key=_election)
        return _from_config(settings={"leader": leader, "etcd": {"endpoints": [_endpoint]}})

    etcdleader.must_new_leader_manager_from_config = must_new_leader_manager_from_config
    manager = must_new_leader_manager_from_config()

    def say(*words):
        print(*words, flush=True)
"""


def blocks(page: str, language: str = "python") -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def block(page: str, beginning: str) -> str:
    (found,) = [text for text in blocks(page) if text.startswith(beginning)]
    return found


@contextmanager
def program(
    server: EtcdServer, election_key: str, until: str, setup: str, printed: str
) -> Iterator[subprocess.Popen[str]]:
    source = textwrap.dedent(BEFORE) + textwrap.dedent(setup) + printed
    with python(source, server.endpoints[0], election_key, until) as process:
        yield process


def ended(process: subprocess.Popen[str]) -> tuple[int, list[str], str]:
    output, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, output.splitlines(), errors


def keys(operator: Any, prefix: str) -> list[str]:
    return [metadata.key.decode() for _, metadata in operator.get_prefix(prefix)]


# docs/operating.md: a program on an event loop

ASYNC_WORK = """
    async def work(term):
        say("began")
        if _until == "signal":
            try:
                await anyio.sleep_forever()
            finally:
                say("cleaned")
"""


def with_anyio() -> str:
    return block("operating.md", "async def main() -> int:\n")


def with_trio() -> str:
    """Return the same program, with the three lines for native trio."""
    source = with_anyio()
    replacements = block("operating.md", "        with trio.open_signal_receiver").splitlines()
    assert len(replacements) == 3
    for new in replacements:
        old = new.replace("open_nursery", "create_task_group").replace("trio.", "anyio.")
        assert source.splitlines().count(old) == 1
        source = source.replace(old, new)
    return source


on_both_loops = pytest.mark.parametrize("printed", [with_anyio, with_trio])


@on_both_loops
def test_a_program_on_an_event_loop_exits_with_0_at_its_end(
    etcd_server: EtcdServer, election_key: str, operator: Any, printed: Callable[[], str]
) -> None:
    with program(etcd_server, election_key, "end", ASYNC_WORK, printed()) as process:
        assert ended(process) == (0, ["began"], "")
    assert keys(operator, election_key) == []


@on_both_loops
def test_a_program_on_an_event_loop_says_by_its_status_that_sigterm_ended_it(
    etcd_server: EtcdServer, election_key: str, operator: Any, printed: Callable[[], str]
) -> None:
    with program(etcd_server, election_key, "signal", ASYNC_WORK, printed()) as process:
        assert line(process) == "began"
        process.send_signal(signal.SIGTERM)
        assert ended(process) == (TERMINATED, ["cleaned"], "")
    assert keys(operator, election_key) == []


# docs/once.md: work that is done once

MIGRATION = """
    def upgrade(token):
        say("began")
        if _until == "signal":
            threading.Event().wait()

    sys.modules["app"] = types.ModuleType("app")
    sys.modules["app.database"] = types.ModuleType("app.database")
    sys.modules["app.database"].upgrade = upgrade
"""


def test_the_program_for_work_that_is_done_once_is_done_once(
    etcd_server: EtcdServer, election_key: str, operator: Any
) -> None:
    printed = block("once.md", "import signal\n")
    with program(etcd_server, election_key, "signal", MIGRATION, printed) as process:
        assert line(process) == "began"
        process.send_signal(signal.SIGTERM)
        status, output, errors = ended(process)
        assert (status, output) == (TERMINATED, [])
        assert "Traceback" not in errors
    assert keys(operator, election_key) == []
    for expected in (["began", "migrated here"], ["migrated before, or elsewhere"]):
        with program(etcd_server, election_key, "end", MIGRATION, printed) as process:
            assert ended(process) == (0, expected, "")
    assert keys(operator, election_key) == [f"{election_key}@done/v42"]


# docs/threads.md: a program without an event loop

THREADED_WORK = """
    blocking = BlockingLeaderManager(manager)

    def work(term):
        say("began")
        while term.wait(60):
            pass
        say("ended", term.loss_reason.name)
"""


def test_sigterm_lets_the_work_of_a_thread_end_by_itself(
    etcd_server: EtcdServer, election_key: str, operator: Any
) -> None:
    printed = block("threads.md", "def on_sigterm(") + "say(result)\n"
    with program(etcd_server, election_key, "signal", THREADED_WORK, printed) as leader:
        assert line(leader) == "began"
        with program(etcd_server, election_key, "signal", THREADED_WORK, printed) as waiting:
            while len(keys(operator, f"{election_key}/")) < 2:
                assert waiting.poll() is None
            waiting.send_signal(signal.SIGTERM)
            assert ended(waiting) == (TERMINATED, [], "")
        leader.send_signal(signal.SIGTERM)
        assert ended(leader) == (0, ["ended STOPPED", "None"], "")
    assert keys(operator, election_key) == []
