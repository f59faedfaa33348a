"""`etcdleader demo` shows what it says, ends by itself, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks for what was left behind in /proc")

MARK = "ETCDLEADER_TEST_MARK"
ATTEMPTS = 5


@contextmanager
def demo(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run it in a working directory with misleading settings, and check that it leaves no process."""
    temporary, working = folder / "tmp", folder / "cwd"
    temporary.mkdir()
    working.mkdir()
    (working / "settings.toml").write_text("this is no TOML")
    (working / "anyio.py").write_text("raise ImportError('the demo imports from the working directory')")
    mark = uuid.uuid4().hex
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "etcdleader", "demo"],
        cwd=working,
        env={**os.environ, "TMPDIR": str(temporary), MARK: mark, "PYTHONFAULTHANDLER": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
    deadline = time.monotonic() + 60
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.02)  # the kernel takes a moment to end a process after a signal
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


def end_of(process: subprocess.Popen[str]) -> str:
    """Return what it wrote to stderr until it ended. If it does not end, fail with the stacks of its threads."""
    try:
        return process.communicate(timeout=60)[1]
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        pytest.fail(f"it did not end: {process.communicate()[1]}")


def marked(mark: str) -> list[int]:
    """The processes that inherited the mark. A zombie has no environment any more."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{MARK}={mark}".encode() in (path / "environ").read_bytes():
                found.append(int(path.name))
    return found


def read_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return
    pytest.fail(f"it ended before it said {words!r}")


def test_the_demo_ends_well_and_in_time_and_leaves_nothing(tmp_path: Path) -> None:
    """It is the first impression, often in a terminal that is recorded or in CI."""
    with demo(tmp_path) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert list((tmp_path / "tmp").iterdir()) == []
    assert err == ""
    assert "\x1b" not in out  # plain lines where there is no terminal
    tokens = [int(token) for token in re.findall(r"leads with token (\d+)", out)]
    assert len(tokens) == 3
    assert tokens == sorted(set(tokens))
    assert "etcd refuses it" in out


@pytest.mark.parametrize(
    "moment", ["Starting an etcd", "serves on", "leads with token", "kill -9", "after the kill", "refuses"]
)
def test_ctrl_c_ends_the_demo_at_once_and_leaves_nothing(tmp_path: Path, moment: str) -> None:
    """A person who stops the demo expects the terminal back, and no etcd on the machine."""
    for attempt in count(1):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        with demo(folder) as process:
            read_until(process, moment)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            err = end_of(process)
        assert list((folder / "tmp").iterdir()) == []
        if process.returncode == 0 and attempt < ATTEMPTS:
            continue  # some moments are near the end, and this process stood still for longer than the rest takes
        assert process.returncode == 130
        assert "Interrupted" in err
        assert "Traceback" not in err
        return


def test_a_demo_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    """After SIGKILL the library cannot clean up, so the kernel must."""
    with demo(tmp_path) as process:
        read_until(process, "leads with token")
        process.kill()
