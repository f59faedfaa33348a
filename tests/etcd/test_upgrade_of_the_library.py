"""An upgrade of etcdleader itself: processes of the first release and of this one stand in one queue.

The first release comes from the repository's own history. Its dependencies are the ones installed here: it asks for no
upper bound of any. So its folder on PYTHONPATH is the same as an installation of it, and needs no network.
"""

from __future__ import annotations

import io
import json
import queue
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from etcdleader.testing import EtcdServer
from tests.helpers.paths import ROOT
from tests.helpers.python_process import Python
from tests.helpers.terminal import PATIENCE, environment, run

FIRST_RELEASE = "769020e"
"""The commit of 0.1.0."""

CANDIDATE = """
import sys
import anyio
import etcdleader
from etcdleader import Config, EtcdConfig, EtcdLeaderManager, EtcdUnavailableError

name, endpoint, election = sys.argv[1:]
config = Config(enabled=True, id=name, lease=30, renew=5, retry=2)
manager = EtcdLeaderManager(EtcdConfig(endpoints=[endpoint]), config, election)


async def say(*words):
    print(*words, flush=True)


async def work(manager, term):
    await say("leads", term.token)
    try:
        await anyio.sleep_forever()
    finally:
        print("left", term.token, flush=True)


async def watch_its_place():
    # It reports each key of this candidate.
    reported = None
    while True:
        try:
            keys = [record.key for record in await manager.candidates() if record.identity == manager.identity]
        except EtcdUnavailableError:
            continue  # a busy machine takes longer than `retry`
        if keys and keys[0] != reported:
            reported = keys[0]
            await say("stands", manager.identity)
        await anyio.sleep(0.02)


async def main():
    await say("from", etcdleader.__file__)
    manager.on_elected(work)
    async with anyio.create_task_group() as group:
        group.start_soon(watch_its_place)
        group.start_soon(until_asked_to_stop)
        await manager.campaign()
        group.cancel_scope.cancel()


async def until_asked_to_stop():
    await anyio.to_thread.run_sync(sys.stdin.readline)
    await manager.stop()
    await say("stopped")


anyio.run(main)
"""


def extract_first_release(folder: Path) -> str:
    """Extract the sources of the first release. Return why they cannot be had, or an empty string."""
    if shutil.which("git") is None:
        return "there is no git"
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", "--format=tar", FIRST_RELEASE, "src"], capture_output=True, check=False
    )
    if archive.returncode:
        return f"the history does not have it: {archive.stderr.decode(errors='replace').strip()[-200:]}"
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return ""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of each release's package."""
    folder = tmp_path_factory.mktemp("first-release")
    if reason := extract_first_release(folder):
        pytest.skip(f"no first release ({FIRST_RELEASE}) to upgrade from: {reason}")
    return {"first": folder / "src", "present": ROOT / "src"}


Event = tuple[str, str, str]


class Queue:
    """Processes of both releases in one election, and what they print, in the order in which it is read."""

    def __init__(self, server: EtcdServer, election: str, sources: dict[str, Path], folder: Path) -> None:
        self._endpoint, self._election, self._sources, self._folder = server.endpoints[0], election, sources, folder
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._events: queue.Queue[Event] = queue.Queue()
        self._unread: list[Event] = []
        self.identities: dict[str, str] = {}

    def join(self, name: str, release: str) -> None:
        """Start a candidate and wait until its key stands, so that candidates queue in the order of the calls."""
        source = self._sources[release]
        process = self._processes[name] = Python(
            [sys.executable, "-c", CANDIDATE, name, self._endpoint, self._election], cwd=self._folder,
            env=environment(PYTHONPATH=str(source)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        threading.Thread(target=self._read, args=(name, process), daemon=True).start()
        assert Path(self.wait(name, "from")).is_relative_to(source), "it runs another release"
        self.identities[name] = self.wait(name, "stands")

    def _read(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            kind, _, fact = line.strip().partition(" ")
            self._events.put((name, kind, fact))

    def wait(self, name: str, kind: str) -> str:
        """Return a candidate's line of this kind. Other lines can be waited for later."""
        while True:
            for event in self._unread:
                if event[:2] == (name, kind):
                    self._unread.remove(event)
                    return event[2]
            self._unread.append(self._events.get(timeout=PATIENCE))

    def step_down(self, release: str) -> dict[str, object]:
        """Ask the leader to step down, with the command of a release."""
        arguments = ("step-down", self._election, "--endpoint", self._endpoint, "--json")
        done = run(*arguments, folder=self._folder, variables={"PYTHONPATH": str(self._sources[release])})
        assert (done.returncode, done.stderr) == (0, "")
        said: dict[str, object] = json.loads(done.stdout)
        return said

    def stop(self, name: str) -> None:
        """Stop a candidate and wait for its end."""
        process = self._processes[name]
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        self.wait(name, "stopped")
        assert process.wait(PATIENCE) == 0

    def close(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()


@pytest.fixture
def candidates(etcd_server: EtcdServer, election_key: str, sources: dict[str, Path], tmp_path: Path) -> Iterator[Queue]:
    queue = Queue(etcd_server, election_key, sources, tmp_path)
    yield queue
    queue.close()


def test_candidates_of_the_first_release_and_of_this_one_lead_in_turn(candidates: Queue) -> None:
    """The command of each release asks leaders of the other one to step down."""
    releases = {"a": "first", "b": "present", "c": "first", "d": "present"}
    other = {"first": "present", "present": "first"}
    for name, release in releases.items():
        candidates.join(name, release)
    tokens = []
    # One that has stepped down joins at the back. The second round shows that of both releases.
    for name in [*releases, "a", "b"]:
        token = candidates.wait(name, "leads")
        tokens.append(int(token))
        said = candidates.step_down(other[releases[name]])
        assert (said["left"], said["how"]) == (True, "resigned")
        assert candidates.wait(name, "left") == token
        candidates.wait(name, "stands")  # before the next one steps down, and so queues behind it
    assert tokens == sorted(set(tokens))


@pytest.mark.parametrize("order", [("first", "present"), ("present", "first")])
def test_a_rolling_upgrade_and_a_rolling_downgrade_pass_leadership_on(candidates: Queue, order: Sequence[str]) -> None:
    """Processes of one release are stopped one by one, each after one of the other release has joined."""
    old, new = order
    for name in ("a", "b"):
        candidates.join(name, old)
    tokens = [int(candidates.wait("a", "leads"))]
    candidates.join("c", new)
    candidates.stop("a")
    tokens.append(int(candidates.wait("b", "leads")))
    candidates.join("d", new)
    candidates.stop("b")
    tokens.append(int(candidates.wait("c", "leads")))
    candidates.stop("c")
    tokens.append(int(candidates.wait("d", "leads")))
    assert tokens == sorted(set(tokens))
