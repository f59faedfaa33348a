"""A real etcd of three or five members on a :class:`Network`, and its operator."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from etcdleader.testing._etcd_binary import find_etcd, find_etcdctl, find_etcdutl, supports
from etcdleader.testing._etcd_member import EtcdMember, EtcdServerError
from tests.faults.network import Network

__all__ = ("Cluster", "OperatorError", "b64", "unb64")

OPERATOR = "op"
"""The node that the operator and the recorder work from."""
MEMBERS = 3
_START = 30.0
_END = 20.0
_LOG_IN_FOR = ("auth token", "user name is empty", "revision of auth store is old")


class OperatorError(Exception):
    """etcd refused the operator's request, or did not respond."""


class Member(EtcdMember):
    """A member whose HTTP is reached from the operator's node."""

    network: Network
    started_at = 0.0

    def terminate(self) -> None:
        """Send SIGTERM and wait for the end. A leader of etcd transfers its leadership first."""
        process = self._running_process()
        self._killed = True
        process.terminate()
        try:
            process.wait(_END)
        except subprocess.TimeoutExpired:
            raise EtcdServerError(f"{self.name} did not end within {_END:g} s. {self._log_ends()}") from None

    def healthy(self) -> bool:
        """Return whether it serves requests and has a leader."""
        try:
            return bool(self.network.inside(OPERATOR, self._get, "/health")["health"] == "true")
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            return False

    def wait_healthy(self, checkpoint: Callable[[], object] = lambda: None) -> None:
        give_up = time.monotonic() + _START
        while not self.healthy():
            checkpoint()
            if not self.running or time.monotonic() > give_up:
                raise EtcdServerError(f"{self.name} did not come up. {self._log_ends()}")
            time.sleep(0.02)

    def launch(self) -> None:
        self.started_at = time.time()
        super().launch()

    def version(self) -> str:
        return str(self.network.inside(OPERATOR, self._get, "/version")["etcdserver"])

    def cluster_version(self) -> str:
        """Return the version that all members have agreed on."""
        return str(self.network.inside(OPERATOR, self._get, "/version")["etcdcluster"])

    def snapshots_received(self) -> int:
        """Return how many raft snapshots other members have sent it since its start."""
        lines = self.network.inside(OPERATOR, self._read, "/metrics").decode().splitlines()
        name = "etcd_network_snapshot_receive_success{"
        return sum(int(float(line.rpartition(" ")[2])) for line in lines if line.startswith(name))

    def _get(self, path: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._read(path))
        return answer

    def _read(self, path: str) -> bytes:
        connection = http.client.HTTPConnection(self.endpoint, timeout=1.0)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()


class Cluster:
    """The operator uses JSON over HTTP with etcd's own gateway: a call takes a few milliseconds."""

    def __init__(
        self, network: Network, folder: Path, *, members: int = MEMBERS, version: str | None = None,
        extra_args: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._network = network
        self._folder = folder
        self._extra_args = tuple(extra_args)
        self._binary = find_etcd(version=version)
        self.etcdctl = str(find_etcdctl(self._binary))
        # 3.6 took `snapshot restore` out of etcdctl; before 3.5 there is no etcdutl.
        self._restorer = str(find_etcdutl(self._binary) or self.etcdctl)
        self._token = secrets.token_hex(8)
        self.nodes = [f"m{number}" for number in range(members)]
        network.add(OPERATOR)
        addresses = [network.add(node) for node in self.nodes]
        self.clients = [(address, network.port(2379)) for address in addresses]
        peers = [f"http://{address}:{network.port(2380)}" for address in addresses]
        self._peers = peers
        self._initial = ",".join(f"{node}={peer}" for node, peer in zip(self.nodes, peers, strict=True))
        self.members: list[Member] = [self._make(number, "new") for number in range(members)]
        self._login: tuple[str, str] | None = None
        self._auth = ""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill_all()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill_all()

    def start(self) -> None:
        """Start all members and wait until they serve."""
        for member in self.members:
            if not member.running:
                member.launch()
        for member in self.members:
            member.wait_healthy()

    def kill_all(self) -> None:
        """Send SIGKILL to all members."""
        for member in self.members:
            member.kill()

    def healthy(self) -> bool:
        """Return whether every member serves requests and has a leader."""
        return all(member.running and member.healthy() for member in self.members)

    def version(self) -> str:
        """Return the running version."""
        return self.members[0].version()

    # Replacing, wiping, restoring

    def start_on(self, number: int, version: str) -> None:
        """Start a member that has ended, with its data, on another version of etcd."""
        self._binary = find_etcd(version=version)
        self.members[number] = self._make(number, "existing")
        self.members[number].launch()
        self.members[number].wait_healthy()

    def replace(self, number: int) -> None:
        """Remove a member from the cluster, and add it again with no data."""
        members = self.call("cluster/member/list", {})["members"]
        ids = [entry["ID"] for entry in members if entry.get("name") == self.nodes[number]]
        self._patiently("cluster/member/remove", {"ID": ids[0]}, avoid=number)
        self.members[number].kill()
        shutil.rmtree(self.members[number].data_dir, ignore_errors=True)
        self._patiently("cluster/member/add", {"peerURLs": [self._peers[number]]}, avoid=number)
        self.members[number] = self._make(number, "existing")
        self.members[number].launch()
        # It catches up on the log, including the writes that once filled the store, and raises the alarm.
        self.members[number].wait_healthy(self._lower_alarms)

    def _lower_alarms(self) -> None:
        with contextlib.suppress(OperatorError):
            if self.alarms():
                self.make_space()

    def _patiently(self, path: str, body: dict[str, Any], *, avoid: int) -> None:
        """Retry for a while.

        After a change of its connections, etcd is unhealthy for five seconds and refuses any other change.
        """
        for _ in range(32):
            try:
                self.call(path, body, avoid=avoid)
            except OperatorError as error:
                if "unhealthy" not in str(error):
                    raise
                time.sleep(0.25)
            else:
                return
        raise OperatorError(f"{path}: the cluster stays unhealthy")

    def wipe(self) -> None:
        """Remove the data of all members, which must not run."""
        for member in self.members:
            shutil.rmtree(member.data_dir, ignore_errors=True)

    def snapshot(self, path: Path) -> None:
        """Save a snapshot."""
        address, port = self.clients[self.leader() or 0]
        self._operate(self.etcdctl, "--endpoints", f"{address}:{port}", "snapshot", "save", str(path))

    def can_raise_revisions(self) -> bool:
        """Return whether `restore` takes `raised_by`: from 3.4.27 and 3.5.10 on."""
        return "--bump-revision" in self._operate(self._restorer, "snapshot", "restore", "--help")

    def restore(self, path: Path, *, raised_by: int = 0) -> None:
        """Replace the data of all members, which must not run, by a snapshot, its revision raised by that much."""
        self.wipe()
        raised = ("--bump-revision", str(raised_by), "--mark-compacted") if raised_by else ()
        for number, member in enumerate(self.members):
            self._operate(
                self._restorer, "snapshot", "restore", str(path), "--name", self.nodes[number], *raised,
                "--initial-cluster", self._initial, "--initial-cluster-token", self._token,
                "--initial-advertise-peer-urls", self._peers[number], "--data-dir", str(member.data_dir),
            )  # fmt: skip

    def _operate(self, *command: str) -> str:
        done = subprocess.run(
            self._network.command(OPERATOR, command), capture_output=True, text=True, check=False, timeout=30
        )
        if done.returncode:
            raise OperatorError(f"{' '.join(command)}: {done.stderr.strip()[-300:]}")
        return done.stdout

    # The operator

    def make_space(self) -> None:
        """Delete the data that fills the store, and disarm the alarm. Repeat until it succeeds.

        A busy machine may be too slow for one of the steps.

        Raises:
            OperatorError: It stays full.
        """
        for _ in range(20):
            with contextlib.suppress(OperatorError):
                self.call("kv/deleterange", {"key": b64("faults/junk")}, timeout=10)
                self.call("kv/compaction", {"revision": self.revision(), "physical": True}, timeout=10)
            for number in range(len(self.members)):
                with contextlib.suppress(OperatorError):
                    self.call("maintenance/defragment", {}, member=number, timeout=20)
            with contextlib.suppress(OperatorError):
                for alarm in self.alarms():
                    disarm = {"action": "DEACTIVATE", "alarm": alarm["alarm"], "memberID": alarm["memberID"]}
                    self.call("maintenance/alarm", disarm)
                self.call("kv/put", {"key": b64("faults/junk"), "value": ""})
                if not self.alarms():
                    return
            time.sleep(0.5)
        raise OperatorError("the store stays full")

    def alarms(self) -> list[dict[str, Any]]:
        """Return the raised alarms."""
        return list(self.call("maintenance/alarm", {}).get("alarms", ()))

    def call(
        self, path: str, body: dict[str, Any], *, member: int | None = None, avoid: int | None = None,
        timeout: float = 2.0,
    ) -> dict[str, Any]:  # fmt: skip
        """Send a request to ``member``, or to one member after another until one responds.

        Raises:
            OperatorError: There is no response, or it is a refusal.
        """
        numbers = [member] if member is not None else [n for n in range(len(self.members)) if n != avoid]
        error = "no member runs"
        for number in numbers:
            if not self.members[number].running:
                continue
            try:
                status, answer = self._network.inside(OPERATOR, self._post, number, path, body, timeout)
                if any(words in _error(answer) for words in _LOG_IN_FOR):
                    self.log_in(number)
                    status, answer = self._network.inside(OPERATOR, self._post, number, path, body, timeout)
            except (OSError, http.client.HTTPException, ValueError) as failure:
                error = f"{type(failure).__name__}: {failure}"
                continue
            if status == 200:
                return answer
            error = _error(answer)
        raise OperatorError(f"{path}: {error}")

    def log_in(self, number: int) -> None:
        """Get a token for the operator's own user, if there is one."""
        if self._login is not None:
            user, password = self._login
            self._auth = ""
            _, answer = self._network.inside(
                OPERATOR, self._post, number, "auth/authenticate", {"name": user, "password": password}, 2.0
            )
            self._auth = str(answer.get("token", ""))

    def use_login(self, user: str, password: str) -> None:
        """Authenticate as this user when etcd asks for it."""
        self._login = (user, password)

    def _post(self, number: int, path: str, body: dict[str, Any], timeout: float) -> tuple[int, dict[str, Any]]:
        address, port = self.clients[number]
        connection = http.client.HTTPConnection(address, port, timeout=timeout)
        try:
            headers = {"Authorization": self._auth} if self._auth else {}
            connection.request("POST", f"/v3/{path}", json.dumps(body), headers)
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
            return response.status, answer
        finally:
            connection.close()

    def leader(self) -> int | None:
        """Return the number of the raft leader of the highest term, as the members report it."""
        found: tuple[int, int] | None = None
        for number, member in enumerate(self.members):
            if not member.running:
                continue
            with contextlib.suppress(OperatorError):
                status = self.call("maintenance/status", {}, member=number, timeout=0.5)
                if status.get("leader") == status["header"]["member_id"]:
                    found = max(found or (0, 0), (int(status["raftTerm"]), number))
        return found[1] if found else None

    def wait_leader(self, timeout: float = 15.0) -> int:
        """Return the same, and wait until there is one."""
        give_up = time.monotonic() + timeout
        while time.monotonic() < give_up:
            if (number := self.leader()) is not None:
                return number
            time.sleep(0.1)
        raise OperatorError("etcd has no leader")

    def member_id(self, number: int) -> str:
        """Return the member's id, in decimal."""
        return str(self.call("maintenance/status", {}, member=number)["header"]["member_id"])

    def follows(self, number: int, leader_id: str) -> bool:
        """Return whether this member reports that one as the leader."""
        with contextlib.suppress(OperatorError):
            return bool(self.call("maintenance/status", {}, member=number, timeout=0.5).get("leader") == leader_id)
        return False

    def revision(self) -> int:
        """Return the current revision, read linearizably."""
        return int(self.call("kv/range", {"key": b64("revision?")})["header"]["revision"])

    def _make(self, number: int, state: str) -> Member:
        node = self.nodes[number]
        home = self._folder / node
        home.mkdir(parents=True, exist_ok=True)
        address, port = self.clients[number]
        options = {
            "--name": node,
            "--data-dir": str(home / "data"),
            "--listen-client-urls": f"http://{address}:{port}",
            "--advertise-client-urls": f"http://{address}:{port}",
            "--listen-peer-urls": self._peers[number],
            "--initial-advertise-peer-urls": self._peers[number],
            "--initial-cluster": self._initial,
            "--initial-cluster-token": self._token,
            "--initial-cluster-state": state,
            "--log-level": "warn",
        }
        sync = ["--unsafe-no-fsync"] if supports(self._binary, "--unsafe-no-fsync") else []
        argv = [str(self._binary), *(part for pair in options.items() for part in pair), *sync, *self._extra_args]
        member = Member(
            node,
            f"{address}:{port}",
            self._network.command(node, argv),
            data_dir=home / "data",
            log=home / "etcd.log",
            start_timeout=30.0,
        )
        member.network = self._network
        return member


def _error(answer: dict[str, Any]) -> str:
    """Return the error text of a failed call from etcd's JSON gateway: `error` before 3.6, `message` since."""
    return str(answer.get("error") or answer.get("message") or answer)


def b64(text: str) -> str:
    """Encode bytes for etcd's JSON."""
    return base64.b64encode(text.encode()).decode()


def unb64(text: str) -> str:
    """Decode bytes from etcd's JSON."""
    return base64.b64decode(text).decode()
