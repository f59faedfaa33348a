"""Children that are ended, whatever state they and their parent are in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from etcdleader.testing import _children

SLEEPER = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(1000)"]


@pytest.fixture
def child() -> subprocess.Popen[bytes]:
    return _children.spawn(SLEEPER)


def ended(child: subprocess.Popen[bytes]) -> bool:
    """Return whether killing it comes to an end."""
    killer = threading.Thread(target=_children.kill, args=(child,), daemon=True)
    killer.start()
    killer.join(timeout=60)
    return not killer.is_alive()


def test_a_child_is_killed_and_its_status_taken(child: subprocess.Popen[bytes]) -> None:
    assert ended(child)
    assert child.returncode == -signal.SIGKILL
    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, os.WNOHANG)


def test_a_stopped_child_is_killed_too(child: subprocess.Popen[bytes]) -> None:
    os.kill(child.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    assert ended(child)
    assert child.returncode == -signal.SIGKILL


@pytest.mark.parametrize("reaped", [False, True])
def test_a_child_is_ended_though_ctrl_c_has_left_the_lock_of_its_popen_closed(
    child: subprocess.Popen[bytes], reaped: bool
) -> None:
    """``poll()`` closes it in one step and comes to the block that opens it again in the next: in between, Ctrl-C made
    a demo hang."""
    child._waitpid_lock.acquire()  # type: ignore[attr-defined]
    if reaped:
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
    assert ended(child)
    assert child.returncode == -signal.SIGKILL
    assert ended(child)  # and again
