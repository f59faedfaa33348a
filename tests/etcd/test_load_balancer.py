"""HAProxy with the example configuration, in front of ``etcdleader run``: which candidate gets the requests."""

from __future__ import annotations

import csv
import http.client
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from etcdleader.etcd3 import etcd3
from etcdleader.testing import EtcdServer
from tests.etcd.wrapped_commands import LEASE, Wrapper, is_alive, until, wrapped
from tests.helpers.debian import find_program
from tests.helpers.paths import ROOT

CONFIGURATION = ROOT / "deploy/haproxy.cfg"
PROGRAM = find_program("haproxy")

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux"),
    # The open nginx checks only the requests that it forwards: it cannot request /leader.
    pytest.mark.skipif(PROGRAM is None, reason="haproxy is not installed (Debian: haproxy)"),
]

SERVICE = """
    import os, sys, time
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            who = f"{sys.argv[1]} {os.environ['ETCDLEADER_TOKEN']} {os.getpid()}\\n".encode()
            self.send_response(200)
            if self.path == "/":
                self.send_header("Content-Length", str(len(who)))
            self.end_headers()
            self.wfile.write(who)
            while self.path == "/for-ever":
                self.wfile.write(who)
                time.sleep(0.02)

        def log_message(self, *args):
            pass

    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
"""
"""The command on the leader: it responds with its candidate's name."""

LONG = ("--lease=10m", "--renew=500ms", "--retry=500ms")
"""A lease that does not run out while a test runs."""
SHORT = (*LEASE, "--lease=8s")
"""A lease that is left to run out, but not because its holder stands still for some seconds."""
NAMES = ("a", "b", "c")
ENOUGH = 20


class Standby(BaseHTTPRequestHandler):
    """The service of a candidate that does not lead, but answers. No request may ever reach it."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"standby 0 0\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""


@dataclass(frozen=True)
class Answer:
    name: str
    token: int
    pid: int

    @classmethod
    def read(cls, line: bytes) -> Answer:
        name, token, pid = line.split()
        return cls(name.decode(), int(token), int(pid))


@dataclass
class Balancer:
    """HAProxy, the candidates behind it, and what an operator's client sees of both."""

    etcd: etcd3.Etcd3Client
    election_key: str
    port: int
    socket: Path
    candidates: dict[str, Wrapper]
    answers: list[Answer] = field(default_factory=list)

    def up(self) -> set[str]:
        """Return the candidates that count as the leader."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(30)
            asking.connect(str(self.socket))
            asking.sendall(b"show stat\n")
            received = asking.makefile().read().removeprefix("# ")
        rows = [row for row in csv.DictReader(received.splitlines()) if row["pxname"] == "leader"]
        return {row["svname"] for row in rows if row["status"].startswith("UP")} - {"BACKEND"}

    def newest_token(self) -> int:
        """Return the token of the leader by etcd, or 0 without a leader."""
        queue = self.etcd.get_prefix(f"{self.election_key}/", sort_order="ascend", sort_target="create")
        return min((about.create_revision for _, about in queue), default=0)

    def ask(self) -> Answer | None:
        """Send a request on a new connection. The candidate that answers must not have had a successor when it was sent."""
        newest = self.newest_token()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", "/")
            response = connection.getresponse()
            body = response.read()
        except (ConnectionError, http.client.IncompleteRead):
            return None  # the candidate was ended while it answered
        finally:
            connection.close()
        if response.status != 200:
            # HAProxy's own response: there is no leader, two seem to lead, or the leader ended during the request.
            assert response.status in {502, 503}, body
            return None
        answer = Answer.read(body)
        assert answer.token >= newest, f"{answer}, but {newest} led before it was asked"
        self.answers.append(answer)
        return answer

    def ask_until(self, is_the_last: Callable[[Answer], bool]) -> Answer:
        """Send requests until this candidate has answered so many times in succession."""
        those: list[Answer] = []

        def enough() -> bool:
            answer = self.ask()
            if answer is not None:
                those[:] = [*those, answer] if is_the_last(answer) else []
            return len(those) >= ENOUGH

        until(enough)
        assert len(set(those)) == 1
        return those[0]

    def check_that_tokens_only_rise(self) -> None:
        tokens = [answer.token for answer in self.answers]
        assert tokens == sorted(tokens)
        assert {answer.name for answer in self.answers} <= set(NAMES)


def reserved_port(stack: ExitStack) -> int:
    """A port that the system gives only to a process that requests it by number and with SO_REUSEADDR."""
    holder = stack.enter_context(socket.socket())
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port: int = holder.getsockname()[1]
    return port


def configuration(port: int, admin: Path, ports: dict[str, tuple[int, int]]) -> str:
    """The file that we show, with other addresses and nothing else."""
    text = CONFIGURATION.read_text()
    changes = {"bind :80\n": f"bind 127.0.0.1:{port}\n", "socket /run/haproxy/admin.sock ": f"socket {admin} "}
    for number, (name, (service, health)) in enumerate(ports.items(), 1):
        shown = f"server {name} 10.0.0.{number}:8080 check port 8008\n"
        changes[shown] = f"server {name} 127.0.0.1:{service} check port {health}\n"
    for shown, ours in changes.items():
        assert text.count(shown) == 1, shown
        text = text.replace(shown, ours)
    assert re.findall(r"10\.0\.0\.\d", text) == []
    return text


@contextmanager
def haproxy(text: str, folder: Path, port: int) -> Iterator[None]:
    file = folder / "haproxy.cfg"
    file.write_text(text)
    assert PROGRAM is not None
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, "-db", "-f", str(file)], stdin=subprocess.DEVNULL, stderr=log)

    def listens() -> bool:
        assert process.poll() is None, (folder / "haproxy.log").read_text()
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=30):
            return True
        return False

    try:
        until(listens)
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def balancer(etcd: EtcdServer, election_key: str, folder: Path, of_a: tuple[str, ...] = LONG) -> Iterator[Balancer]:
    """``a`` leads, ``b`` waits, and so does ``c``, whose service answers although it does not lead. Only ``a`` has other
    options: if ``b`` lost its key on a busy machine, ``c`` would lead."""
    host, _, port_of_etcd = etcd.endpoints[0].rpartition(":")
    with ExitStack() as stack:
        ports = {name: (reserved_port(stack), reserved_port(stack)) for name in NAMES}
        port = reserved_port(stack)
        client = etcd3.client(host, int(port_of_etcd), timeout=30)
        stack.callback(client.close)
        standby = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", ports["c"][0]), Standby))
        thread = threading.Thread(target=standby.serve_forever)
        thread.start()
        stack.callback(thread.join)
        stack.callback(standby.shutdown)
        ours = Balancer(client, election_key, port, folder / "admin.sock", {})
        for number, (name, (service, health)) in enumerate(ports.items(), 1):
            ours.candidates[name] = stack.enter_context(
                wrapped(
                    *(name, etcd.endpoints[0], election_key),
                    *(sys.executable, "-I", "-S", "-c", textwrap.dedent(SERVICE), name, str(service)),
                    options=(*(of_a if name == "a" else LONG), "--http", f"127.0.0.1:{health}"),
                )
            )
            until(lambda: len([*client.get_prefix(f"{election_key}/")]) == number)  # noqa: B023 - called at once
        stack.enter_context(haproxy(configuration(port, ours.socket, ports), folder, port))
        # Asked from the first moment on: everybody counts as up until its first check.
        ours.ask_until(lambda answer: answer.name == "a")
        until(lambda: ours.up() == {"a"})
        yield ours


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP], ids=["killed", "terminated", "frozen"]
)
def test_requests_reach_the_leader_only_and_then_its_successor(
    etcd_server: EtcdServer, election_key: str, tmp_path: Path, how: signal.Signals
) -> None:
    """However the leader ends: no candidate answers that has a successor, or that does not lead."""
    with balancer(etcd_server, election_key, tmp_path, SHORT) as ours:
        first = ours.ask_until(lambda answer: answer.name == "a")
        ours.candidates["a"].process.send_signal(how)
        second = ours.ask_until(lambda answer: answer.name == "b")
        assert second.token > first.token
        assert not is_alive(first.pid)
        until(lambda: ours.up() == {"b"})
        ours.check_that_tokens_only_rise()


def test_a_leader_that_answers_no_check_loses_what_is_connected_to_it(
    etcd_server: EtcdServer, election_key: str, tmp_path: Path
) -> None:
    """Its command still runs, as its lease allows, but no check reaches it. Later it gets all requests again."""
    with balancer(etcd_server, election_key, tmp_path) as ours:
        connection = http.client.HTTPConnection("127.0.0.1", ours.port, timeout=60)
        connection.request("GET", "/for-ever")
        while (response := connection.getresponse()).status != 200:
            # For a moment the leader answered no check, since it stood still. HAProxy closes the connection after that.
            response.read()
            connection.request("GET", "/for-ever")
        first = Answer.read(response.readline())
        ours.candidates["a"].process.send_signal(signal.SIGSTOP)
        with suppress(ConnectionError, http.client.IncompleteRead):
            until(lambda: not response.readline())
        connection.close()
        assert is_alive(first.pid)
        until(lambda: ours.up() == set())
        assert ours.ask() is None
        ours.candidates["a"].process.send_signal(signal.SIGCONT)
        assert ours.ask_until(lambda answer: answer.name == "a") == first
        ours.check_that_tokens_only_rise()
