"""The first acts of a forked child, and their order."""

from __future__ import annotations

import subprocess
import sys

import pytest

from etcdleader._runtime.fork import AtFork, on_fork

FORK = """
import os
from etcdleader._runtime.fork import AtFork, on_fork, process_id

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

parent = process_id()
{register}
pid = os.fork()
if not pid:
    os._exit(0)
os.waitpid(pid, 0)
say("parent", process_id() == parent)
"""


def forked(register: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", FORK.format(register=register)], capture_output=True, text=True, check=True, timeout=60
    )


def test_a_child_takes_its_steps_in_the_declared_order_and_not_in_that_of_the_imports() -> None:
    done = forked(
        "on_fork(AtFork.CONNECTIONS, lambda: say('connections', process_id() != parent))\n"
        "on_fork(AtFork.SOCKETS, lambda: say('sockets', process_id() != parent))\n"
    )
    assert done.stdout.splitlines() == ["sockets True", "connections True", "parent True"]


def test_a_step_that_fails_is_reported_and_stops_no_other() -> None:
    done = forked("on_fork(AtFork.SOCKETS, lambda: 1 / 0)\non_fork(AtFork.CONNECTIONS, lambda: say('connections'))\n")
    assert done.stdout.splitlines() == ["connections", "parent True"]
    assert "ZeroDivisionError" in done.stderr


def test_a_step_has_one_action() -> None:
    with pytest.raises(AssertionError):
        on_fork(AtFork.IDENTITY, lambda: None)
