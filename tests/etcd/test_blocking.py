"""A manager for threads on a real etcd: forks, signals and the end of the interpreter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from typing import Any

import pytest

from etcdleader.testing import EtcdServer
from tests.helpers.child_script import CHILD

PATIENCE = 60
BEFORE = """
    import os, signal, sys, threading, time
    from concurrent.futures import ThreadPoolExecutor
    from etcdleader import Config, EtcdConfig, EtcdLeaderManager, NotLeaderError
    from etcdleader.blocking import BlockingLeaderManager
    endpoint, election = sys.argv[1:]
    config = Config(enabled=True, id="blocking", lease=20, renew=1, retry=2)
    manager = EtcdLeaderManager(EtcdConfig(endpoints=[endpoint]), config, election)
    blocking = BlockingLeaderManager(manager)

    def work(term):
        print("leads", flush=True)
        while term.is_valid():
            time.sleep(0.01)
"""


def start(script: str, etcd: EtcdServer, election: str) -> subprocess.Popen[str]:
    source = textwrap.dedent(BEFORE) + CHILD + textwrap.dedent(script)
    # Python 3.12 and later warn of a fork in a process with several threads, even if the child touches none of them.
    command = [
        sys.executable,
        "-W",
        "ignore:This process:DeprecationWarning",
        "-c",
        source,
        etcd.endpoints[0],
        election,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    with process:
        try:
            _, errors = process.communicate(timeout=PATIENCE)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # a forked child that hangs, too
    return process.returncode, errors


def run(script: str, etcd: EtcdServer, election: str) -> None:
    assert finish(start(script, etcd, election)) == (0, "")


def keys(operator: Any, election: str) -> list[bytes]:
    return [metadata.key for _, metadata in operator.get_prefix(f"{election}/")]


def test_a_thread_leads_on_etcd_and_its_lease_is_renewed(
    etcd_server: EtcdServer, election_key: str, operator: Any
) -> None:
    run(
        """
        with blocking:
            term = blocking.wait_elected(60)
            assert blocking.extend(term) is term
            assert blocking.leader().token == term.token
            with blocking.observe() as leaders:
                assert next(leaders).token == term.token
        """,
        etcd_server,
        election_key,
    )
    assert keys(operator, election_key) == []


def test_work_is_called_again_after_its_key_was_deleted(
    etcd_server: EtcdServer, election_key: str, operator: Any
) -> None:
    process = start("print(blocking.run(work))", etcd_server, election_key)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "leads\n"
        operator.delete_prefix(f"{election_key}/")
        assert process.stdout.readline() == "leads\n"
    finally:
        process.send_signal(signal.SIGINT)
        status, errors = finish(process)
    assert status == -signal.SIGINT
    assert errors.endswith("KeyboardInterrupt\n")
    assert keys(operator, election_key) == []


FORKS = {
    "before the first use": """
        assert child(lambda: blocking.run(lambda term: term.token)) == 0
        assert blocking.run(lambda term: term.token) > 0
    """,
    "between two uses": """
        assert blocking.run(lambda term: term.token) > 0
        assert child(lambda: blocking.run(lambda term: term.token)) == 0
        assert blocking.run(lambda term: term.token) > 0
    """,
    "while it leads": """
        def follow():
            assert not blocking.is_leader()
            assert blocking.term is None
            assert blocking.leader().token == term.token  # the child has its own event loop
            blocking.__exit__(None, None, None)  # of the parent's block
            assert blocking.leader().token == term.token
            with BlockingLeaderManager(manager) as mine:
                while len(mine.candidates()) < 2:
                    time.sleep(0.01)
                try:
                    mine.wait_elected(0.2)
                except TimeoutError:
                    pass
                else:
                    raise AssertionError("two leaders")
        with blocking:
            term = blocking.wait_elected(60)
            assert child(follow) == 0
            assert term.is_valid()
    """,
    "in the work, from which the child returns": """
        parent = os.getpid()

        def forking(term):
            if (pid := os.fork()) == 0:
                return "child"
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
            assert term.is_valid()
            return "parent"

        result = blocking.run(forking)
        if os.getpid() != parent:
            assert not blocking.is_leader()
            os._exit(3 if result == "child" else 4)
        assert result == "parent"
    """,
    "in the work, from which the child exits": """
        def forking(term):
            if (pid := os.fork()) == 0:
                sys.exit(3)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
            assert term.is_valid()
        blocking.run(forking)
    """,
    "in an observer's block, which the child leaves": """
        with blocking:
            blocking.wait_elected(60)
            with blocking.observe() as leaders:
                next(leaders)
                pid = os.fork()
            if pid == 0:
                os._exit(3)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    """,
}


@pytest.mark.parametrize("when", FORKS)
def test_a_forked_child_has_a_loop_and_a_candidacy_of_its_own(
    when: str, etcd_server: EtcdServer, election_key: str, operator: Any
) -> None:
    run(FORKS[when], etcd_server, election_key)
    assert keys(operator, election_key) == []


ENDS = {
    "a block that is not left": """
        blocking.__enter__()
        blocking.wait_elected(60)
    """,
    "a block that is not left, on a Python without the hook of executors": """
        del threading._register_atexit
        blocking.__enter__()
        blocking.wait_elected(60)
    """,
    "an exception": """
        blocking.__enter__()
        blocking.wait_elected(60)
        raise SystemExit(0)
    """,
    "work in a thread that is no daemon": """
        thread = threading.Thread(target=blocking.run, args=(work,))
        thread.start()
        blocking.wait_elected(60)
    """,
    "work in a daemon thread": """
        threading.Thread(target=blocking.run, args=(work,), daemon=True).start()
        blocking.wait_elected(60)
    """,
    "work in a thread of an executor": """
        pool = ThreadPoolExecutor()
        pool.submit(blocking.run, work)
        blocking.wait_elected(60)
    """,
    "a wait without a campaign, in a thread that is no daemon": """
        def wait():
            try:
                blocking.wait_elected()
            except NotLeaderError as error:
                assert str(error) == "this process ends"
        threading.Thread(target=wait).start()
    """,
    "two managers": """
        another = BlockingLeaderManager(EtcdLeaderManager(EtcdConfig(endpoints=[endpoint]), config, election + "-another"))
        blocking.__enter__()
        another.__enter__()
        blocking.wait_elected(60)
        another.wait_elected(60)
    """,
    "an observer": """
        leaders = blocking.observe()
        next(leaders.__enter__())
        blocking.__enter__()
        blocking.wait_elected(60)
    """,
}


@pytest.mark.parametrize("end", ENDS)
def test_the_end_of_the_main_thread_releases_leadership_and_ends_the_process(
    end: str, etcd_server: EtcdServer, election_key: str, operator: Any
) -> None:
    """The lease would last for 20 seconds, and the next candidate would wait for that long."""
    run(ENDS[end], etcd_server, election_key)
    assert keys(operator, election_key) == []


INTERRUPTED = {
    "run": "blocking.run(work)",
    "a leading block": """
        with blocking, blocking.leading() as term:
            work(term)
    """,
    "a wait for a term": """
        with blocking:
            print("leads", flush=True)
            BlockingLeaderManager(EtcdLeaderManager(EtcdConfig(endpoints=[endpoint]), config, "without-a-campaign")).wait_elected()
    """,
    "a sleep of the main thread": """
        with blocking:
            blocking.wait_elected()
            print("leads", flush=True)
            time.sleep(60)
    """,
    "an observer": """
        with blocking, blocking.observe() as leaders:
            blocking.wait_elected()
            print("leads", flush=True)
            for leader in leaders:
                pass
    """,
}


@pytest.mark.parametrize("call", INTERRUPTED)
def test_ctrl_c_releases_leadership_and_ends_the_process(
    call: str, etcd_server: EtcdServer, election_key: str, operator: Any
) -> None:
    process = start(INTERRUPTED[call], etcd_server, election_key)
    assert process.stdout is not None
    assert process.stdout.readline() == "leads\n"
    process.send_signal(signal.SIGINT)
    status, errors = finish(process)
    assert status == -signal.SIGINT
    assert errors.endswith("KeyboardInterrupt\n")
    assert keys(operator, election_key) == []


def test_interrupted_work_is_not_recorded_as_done(etcd_server: EtcdServer, election_key: str, operator: Any) -> None:
    script = """
        def interrupted(term):
            raise KeyboardInterrupt

        try:
            blocking.run_once("v42", interrupted)
        except KeyboardInterrupt:
            assert blocking.run_once("v42", lambda term: None)
            assert not blocking.run_once("v42", lambda term: None)
        else:
            raise AssertionError("not interrupted")
    """
    status, errors = finish(start(script, etcd_server, election_key))
    assert status == 0, errors
    assert "ERROR" not in errors
    assert keys(operator, election_key) == []
