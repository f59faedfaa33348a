"""A forked program behaves like a started one. Otherwise its tests would hold for forked programs only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.python_process import Python, run_python

FACTS = """
import json, os, signal, sys
loaded = [name for name in sys.modules if name.split(".")[0] in ("etcdleader", "etcd3", "tests", "pytest")]
blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
print(json.dumps([
    sys.argv, sys.path, os.getcwd(), dict(os.environ), os.getsid(0) == os.getpid(), sys.stdin.read(), loaded, __name__,
    sorted(int(name) for name in os.listdir("/proc/self/fd"))[:4], sorted(blocked),
    sorted(number for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN),
]))
"""

# With a locale, or Python sets one. And not all of this process's, whose libraries set more in C than is in
# ``os.environ``.
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name.startswith("PYTHON")},
    "PATH": os.environ["PATH"],
    "LANG": "C.UTF-8",
    "A": "1",
}


def both(arguments: list[str], **popen: Any) -> list[tuple[int, str, str]]:
    """Return the results of the program forked, and started as usual."""
    outcomes = []
    for kind in (Python, subprocess.Popen):
        process = kind(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **popen,
        )
        output, errors = process.communicate("read\n", timeout=60)
        outcomes.append((process.returncode, output, errors))
    return outcomes


@pytest.mark.parametrize("options", [["-c"], ["-P", "-c"]], ids=" ".join)
@pytest.mark.parametrize("session", [False, True])
def test_a_forked_program_finds_the_environment_of_a_new_interpreter(
    options: list[str], session: bool, tmp_path: Path
) -> None:
    arguments = [*options, FACTS, "a", "-b"]
    forked, started = both(arguments, cwd=tmp_path, env=ENVIRONMENT, start_new_session=session)
    assert json.loads(forked[1]) == json.loads(started[1])


def test_a_module_is_run_as_the_program(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(FACTS, encoding="utf-8")
    forked, started = both(["-m", "program", "a"], cwd=tmp_path, env=ENVIRONMENT)
    assert json.loads(forked[1]) == json.loads(started[1])


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("pass", 0),
        ("raise SystemExit(3)", 3),
        ("raise SystemExit('in words')", 1),
        ("1 / 0", 1),
        ("raise KeyboardInterrupt", -signal.SIGINT),
        ("import os; os.kill(os.getpid(), 9)", -9),
        ("import os; os._exit(7)", 7),
        ("import atexit, sys; atexit.register(sys.stdout.write, 'bye'); sys.exit(4)", 4),
    ],
)
def test_a_forked_program_ends_like_a_started_one(source: str, code: int) -> None:
    forked, started = both(["-c", source])
    assert forked[:2] == started[:2]
    assert forked[2].splitlines()[-1:] == started[2].splitlines()[-1:]
    assert forked[0] == code


def test_a_signal_sent_right_after_the_start_is_delivered() -> None:
    for _ in range(20):
        with Python(
            [sys.executable, "-c", "import time\nwhile True: time.sleep(0.01)"], stderr=subprocess.PIPE
        ) as process:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        assert process.returncode == -signal.SIGINT


def test_variables_for_the_interpreter_itself_start_a_new_interpreter(tmp_path: Path) -> None:
    source = "import sys; print('grpc' in sys.modules)"
    command = [sys.executable, "-c", source]
    assert run_python(command, tmp_path, {**os.environ, "PYTHONIOENCODING": "ascii"}, seconds=60).stdout == "False\n"
    assert run_python(command, tmp_path, os.environ, seconds=60).stdout == "True\n"


def test_a_program_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run_python([sys.executable, "-c", "import time; time.sleep(1000)"], tmp_path, os.environ, seconds=0.5)
