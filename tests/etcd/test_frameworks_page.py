"""The programs of docs/frameworks.md run as they are printed, on stand-ins for the frameworks.

A stand-in has what the program uses, and calls the program as the framework does.
"""

from __future__ import annotations

import re
import signal
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from etcdleader.testing import EtcdServer
from tests.etcd.programs import line, python
from tests.helpers.paths import ROOT

PAGE = (ROOT / "docs" / "frameworks.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"`([\w./]+)`[^\n]*:\n\n```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
PATIENCE = 60
SETTINGS = """
[leader]
enabled = true
id = "page"
lease = "60s"
renew = "1s"
retry = "3s"

[etcd]
endpoints = ["127.0.0.1:2379"]
"""
SENDING = """
def send_mails(token):
    print("mails", token > 0, flush=True)
"""
SCHEDULER = """
class BackgroundScheduler:
    def add_job(self, function, trigger, minutes, args):
        function(*args)

    def start(self): pass

    def shutdown(self, wait):
        print("shut down", wait, flush=True)
"""
Run = Callable[[str], AbstractContextManager[subprocess.Popen[str]]]


@pytest.fixture
def run(etcd_server: EtcdServer, tmp_path: Path) -> Run:
    """Run a program in a folder with the page's files. Only endpoint and durations are others."""
    stand_ins = {
        "app/__init__.py": "",
        "apscheduler/schedulers/background.py": SCHEDULER,
        "app/mails.py": SENDING,
        "config/settings.toml": SETTINGS,
        "django/conf.py": "import settings",
        "django/core/management/base.py": "class BaseCommand: pass",
        "django/db.py": 'close_old_connections = lambda: None\nclass connections:\n    close_all = lambda: print("closed")',
        "mails/sending.py": SENDING,
    }
    for name, content in {**stand_ins, **FILES}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        endpoint = content.replace("127.0.0.1:2379", etcd_server.endpoints[0])
        path.write_text(endpoint.replace("wait(10)", "wait(0.01)"), encoding="utf-8")

    @contextmanager
    def run(source: str) -> Iterator[subprocess.Popen[str]]:
        beginning = f"import os, sys\nos.chdir({str(tmp_path)!r})\nsys.path.insert(0, '')\n"
        with python(beginning + textwrap.dedent(source)) as process:
            yield process

    return run


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Send SIGTERM to a leader. Return its exit status and stderr."""
    assert line(process) == "mails True"
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, errors


def candidates(operator: Any, election: str) -> list[bytes]:
    return [value for value, _ in operator.get_prefix(f"{election}/")]


SERVER = """
    import asyncio, signal
    from campaigning import campaign, manager

    @manager.on_elected
    async def elected(manager, term):
        print("elected", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        raise RuntimeError("broken")

    async def server():
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        generator = campaign(None)
        await anext(generator)
        await ended.wait()
        print("ending", flush=True)
        try:
            await anext(generator)
        except StopAsyncIteration:
            print("ended")
        except RuntimeError as error:
            print("raised", error)

    asyncio.run(server())
"""


def test_a_failed_campaign_ends_the_server_by_its_usual_way(run: Run, operator: Any) -> None:
    with run(SERVER) as process:
        assert line(process) == "elected"
        output, _ = process.communicate("go on\n", timeout=PATIENCE)
        assert (output.splitlines(), process.returncode) == (["ending", "raised broken"], 0)
    assert candidates(operator, "jobs") == []


def test_a_server_that_ends_stops_its_campaign(run: Run, operator: Any) -> None:
    with run(
        SERVER.replace("sys.stdin.readline", "lambda: None").replace('raise RuntimeError("broken")', "")
    ) as process:
        assert line(process) == "elected"
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=PATIENCE)
        assert (output.splitlines(), errors, process.returncode) == (["ending", "ended"], "", 0)
    assert candidates(operator, "jobs") == []


WORKER = """
    import signal, time

    names = {}
    with open("gunicorn.conf.py") as file:
        exec(file.read(), names)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    names["post_worker_init"](None)
    while True:
        time.sleep(1)
"""


def test_a_worker_of_gunicorn_that_ends_releases_leadership(run: Run, operator: Any) -> None:
    with run(WORKER) as process:
        assert end(process) == (0, "")
    assert candidates(operator, "mails") == []


COMMAND = """
    from mails.management.commands.sendmails import Command

    Command().handle()
"""


def test_a_command_of_django_ends_by_sigterm_and_releases_leadership(run: Run, operator: Any) -> None:
    with run(COMMAND) as process:
        assert end(process) == (128 + signal.SIGTERM, "")
    assert candidates(operator, "mails") == []


def test_a_scheduler_is_shut_down_before_leadership_is_released(run: Run, operator: Any) -> None:
    with run("import jobs") as process:
        assert line(process) == "mails True"
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=PATIENCE)
        assert (output.splitlines(), errors) == (["shut down True"], "")
        assert process.returncode == 128 + signal.SIGTERM
    assert candidates(operator, "mails") == []
