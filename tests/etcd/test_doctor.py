"""`etcdleader doctor` finds what is wrong, says what to do, and leaves no trace."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from etcdleader.etcd3 import etcd3
from etcdleader.testing import EtcdServer
from tests.helpers.terminal import PATIENCE, Terminal, run

CANARY = "canary-91c4-doctor"
SETTINGS = """
[leader]
enabled = true
lease = "30s"
renew = "5s"
election_key = "{election}"
[etcd]
endpoints = {endpoints}
"""
OPTIONS = ["--heartbeat-interval=20", "--election-timeout=200", "--bcrypt-cost=4"]
CHECKS = ("settings", "clock", "cluster", "encryption", "authentication", "permissions", "queue", "lease", "pings")


class Doctor:
    """The command in a folder with settings."""

    def __init__(self, folder: Path, election: str, *endpoints: str) -> None:
        self.folder, self.election = folder, election
        self.settings = SETTINGS.format(election=election, endpoints=json.dumps(endpoints))
        self.variables: dict[str, str] = {}
        self.code: int | None = None

    def examine(self, *arguments: str) -> dict[str, tuple[str, str, str]]:
        """Level, what and advice, by check."""
        (self.folder / "settings.toml").write_text(self.settings)
        done = run("doctor", "--json", *arguments, folder=self.folder, variables=self.variables)
        assert CANARY not in done.stdout + done.stderr
        assert done.stderr == ""
        self.code = done.returncode
        report = json.loads(done.stdout)
        assert report["ok"] == (done.returncode == 0)
        assert done.returncode in {0, 1}
        found = {each["check"]: (each["level"], each["what"], each["advice"]) for each in report["findings"]}
        assert all(advice for level, _, advice in found.values() if level in {"warning", "problem"}), found
        return found


@pytest.fixture
def doctor(etcd_server: EtcdServer, election_key: str, tmp_path: Path) -> Doctor:
    return Doctor(tmp_path, election_key, *etcd_server.endpoints)


@pytest.fixture
def operator(etcd_server: EtcdServer) -> Iterator[Any]:
    with closing(client_of(etcd_server)) as client:
        yield client


def client_of(server: EtcdServer) -> Any:
    host, _, port = server.endpoints[0].rpartition(":")
    return etcd3.client(host, int(port))


def test_without_problems_each_check_reports_success(doctor: Doctor) -> None:
    found = doctor.examine("--hold", "1s")
    assert doctor.code == 0
    assert {check: found[check][0] for check in CHECKS} == dict.fromkeys(CHECKS, "ok")
    assert "lease = 30s" in found["settings"][1]
    assert "settings.toml" in found["settings"][1]
    assert "CLOCK_BOOTTIME exists" in found["clock"][1]
    assert "it grants 2 s" in found["lease"][1]  # etcd's own least at its default settings
    assert "a stream stayed open for 1 s" in found["pings"][1]
    assert found["lease budget"][0] in {"ok", "warning"}  # on a slow machine a read may take long


def test_it_writes_nothing_and_leaves_no_lease(election_key: str, tmp_path: Path) -> None:
    """Each key under the prefix would stand in the queue. Every write, of whatever key, would raise the revision."""
    # A separate etcd: in the shared one the leases of other tests run out.
    with EtcdServer() as server, closing(client_of(server)) as operator:
        doctor = Doctor(tmp_path, election_key, *server.endpoints)

        def leases() -> str:
            command = [str(server.etcdctl), "--endpoints", server.endpoints[0], "lease", "list"]
            environment = {**os.environ, "ETCDCTL_API": "3"}
            return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout

        operator.put(f"{doctor.election}-elsewhere", "")
        before, revision = leases(), operator.get_response("nothing").header.revision
        assert doctor.examine()["permissions"][0] == "ok"
        assert operator.get_response("nothing").header.revision == revision
        assert leases() == before


def test_for_people_it_is_lines_with_what_to_do_below(doctor: Doctor) -> None:
    (doctor.folder / "settings.toml").write_text(doctor.settings.replace('"30s"', '"16s"'))
    done = run("doctor", folder=doctor.folder)
    assert done.returncode == 0
    assert "ok      cluster: one" in done.stdout
    assert "-> upgrade etcd" in done.stdout or "known defects" not in done.stdout
    assert done.stdout.splitlines()[-1].startswith("no problems, ")
    assert "\x1b" not in done.stdout
    with Terminal("doctor", folder=doctor.folder) as terminal:
        assert terminal.end() == 0
    assert "\x1b[32mok" in terminal.raw


def test_a_key_that_blocks_the_election_is_a_problem(doctor: Doctor, operator: Any) -> None:
    operator.put(f"{doctor.election}/stray", "by hand")
    level, what, _ = doctor.examine()["queue"]
    operator.delete(f"{doctor.election}/stray")
    assert (doctor.code, level) == (1, "problem")
    assert f"{doctor.election}/stray has no lease" in what


def test_settings_that_are_wrong_are_problems_and_etcd_is_examined_all_the_same(doctor: Doctor) -> None:
    doctor.settings = doctor.settings.replace("renew =", "rennew =").replace('"30s"', '"5s"')
    found = doctor.examine()
    assert doctor.code == 1
    assert found["settings"][0] == "problem"
    assert found["cluster"][0] == "ok"


def test_an_operators_machine_needs_no_settings(doctor: Doctor, etcd_server: EtcdServer) -> None:
    doctor.settings = ""
    found = doctor.examine("--endpoint", etcd_server.endpoints[0])
    assert doctor.code == 0
    assert found["settings"][0] == "skipped"
    assert found["election"][0] == "skipped"
    assert found["cluster"][0] == "ok"


def test_a_lease_that_etcd_would_lengthen_or_could_lose_is_a_warning(doctor: Doctor) -> None:
    for lease, words in (("1500ms", "more than lease = 1.5 s"), ("4s", "is short")):
        settings = doctor.settings
        doctor.settings = settings.replace('"30s"', f'"{lease}"').replace('"5s"', '"500ms"\nretry = "200ms"')
        level, what, _ = doctor.examine()["lease"]
        doctor.settings = settings
        assert level == "warning"
        assert words in what


def test_a_retry_that_no_renewal_fits_into_is_a_problem(doctor: Doctor) -> None:
    doctor.settings = doctor.settings.replace("renew =", 'retry = "1us"\nrenew =')
    level, what, advice = doctor.examine()["lease budget"]
    assert (doctor.code, level) == (1, "problem")
    assert "a renewal takes about" in what
    assert "raise retry" in advice


# Endpoints


def test_an_endpoint_that_is_down_is_a_warning_and_counts_if_requested(doctor: Doctor, tmp_path: Path) -> None:
    doctor.settings = doctor.settings.replace("endpoints = [", 'endpoints = ["127.0.0.1:1", ')
    found = doctor.examine()
    assert doctor.code == 0
    assert found["endpoint 127.0.0.1:1"][0] == "warning"
    assert found["permissions"][0] == "ok"
    doctor.examine("--strict")
    assert doctor.code == 1


def test_etcd_alone_is_examined_without_an_election(doctor: Doctor) -> None:
    """An operator's settings may have nothing but etcd."""
    doctor.settings = "[etcd]" + doctor.settings.partition("[etcd]")[2]
    found = doctor.examine()
    assert doctor.code == 0, found
    assert found["settings"][:2] == ("skipped", "there is no [leader] table; the checks use the defaults")
    assert found["lease"][0] == "ok"


def test_a_section_that_was_named_and_is_not_there_is_a_problem(doctor: Doctor, etcd_server: EtcdServer) -> None:
    """Also with an endpoint: what was to be judged is not."""
    for options in ((), ("--endpoint", etcd_server.endpoints[0])):
        level, what, _ = doctor.examine("--section", "leeder", *options)["settings"]
        assert (doctor.code, level) == (1, "problem")
        assert "there is no [leeder] section" in what


def test_a_table_with_a_misspelled_name_is_a_problem(doctor: Doctor) -> None:
    doctor.settings = doctor.settings.replace("[leader]", "[leeder]")
    level, what, _ = doctor.examine()["settings"]
    assert (doctor.code, level) == (1, "problem")
    assert "did you mean [leeder] in settings.toml?" in what


def test_without_any_endpoint_it_lists_the_checks_not_done(tmp_path: Path) -> None:
    doctor = Doctor(tmp_path, "jobs", "127.0.0.1:1")
    found = doctor.examine()
    assert doctor.code == 1
    assert found["endpoint 127.0.0.1:1"][0] == "problem"
    assert found["the rest"][0] == "skipped"


def test_members_of_two_clusters_are_a_problem(doctor: Doctor, etcd_server: EtcdServer, tmp_path: Path) -> None:
    """Two clusters mean two leaders."""
    with EtcdServer() as other:
        doctor = Doctor(tmp_path, "jobs", *etcd_server.endpoints, *other.endpoints)
        level, what, _ = doctor.examine()["cluster"]
    assert (doctor.code, level) == (1, "problem")
    assert "several clusters" in what


@contextmanager
def grpc_proxy(server: EtcdServer) -> Iterator[str]:
    """etcd's grpc-proxy before a server, and where it listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    command = [server.members[0]._command[0], "grpc-proxy", "start", "--listen-addr", endpoint]
    command += ["--advertise-client-url", endpoint]  # 3.5.35 asks itself there, and ends if nothing answers
    with subprocess.Popen(
        [*command, "--endpoints", server.endpoints[0]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            ends_at = time.monotonic() + PATIENCE
            while True:
                # It accepts connections before it answers on them.
                connection = http.client.HTTPConnection(endpoint, timeout=PATIENCE)
                with closing(connection), suppress(OSError, http.client.HTTPException):
                    connection.request("GET", "/health")
                    connection.getresponse().read()
                    break
                assert time.monotonic() < ends_at, "the proxy does not come up"
                time.sleep(0.02)
            yield endpoint
        finally:
            process.kill()


def test_the_grpc_proxy_of_etcd_is_a_problem(doctor: Doctor, etcd_server: EtcdServer) -> None:
    """It answers keep-alives by itself, and each of the other checks finds what etcd has behind it."""
    with grpc_proxy(etcd_server) as endpoint:
        level, what, advice = doctor.examine("--endpoint", endpoint)["proxy"]
    assert (doctor.code, level) == (1, "problem")
    assert endpoint in what
    assert advice == "set the members of the cluster as endpoints"
    assert doctor.examine()["proxy"][0] == "ok"


def test_a_member_without_a_quorum_is_a_problem_though_it_answers(tmp_path: Path) -> None:
    with EtcdServer(members=3) as server:
        doctor = Doctor(tmp_path, "jobs", server.endpoints[0])
        for member in server.members[1:]:
            member.kill()
        found = doctor.examine("--timeout", "3s")
    assert doctor.code == 1
    assert found[f"endpoint {server_endpoint(doctor)}"][0] == "problem"
    assert "cannot read" in found[f"endpoint {server_endpoint(doctor)}"][1]


def server_endpoint(doctor: Doctor) -> str:
    return doctor.settings.partition('endpoints = ["')[2].partition('"')[0]


def has_watchers(endpoint: str) -> bool:
    """Return whether etcd has created a watch that stands."""
    with urlopen(f"http://{endpoint}/metrics", timeout=PATIENCE) as answer:
        metrics = answer.read().decode()
    (count,) = re.findall(r"^etcd_debugging_mvcc_watcher_total (\d+)$", metrics, re.MULTILINE)
    return int(count) > 0


def test_a_stream_that_breaks_while_held_is_a_problem(tmp_path: Path) -> None:
    """A proxy closes idle connections. Here the death of the member does it."""
    with EtcdServer() as server:
        doctor = Doctor(tmp_path, "jobs", *server.endpoints)
        (tmp_path / "settings.toml").write_text(doctor.settings)
        with Terminal("doctor", "--hold", "60s", folder=tmp_path) as terminal:
            terminal.read_until("lease budget")  # the one before
            while not has_watchers(server.endpoints[0]):
                time.sleep(0.01)
            server.members[0].kill()
            terminal.read_until("problem pings: the stream broke within 60 s")
            assert terminal.end() == 1


# Authentication


class Guarded:
    """An etcd with users, and what a role of the election may do."""

    def __init__(self, server: EtcdServer) -> None:
        self._server = server
        self("user", "add", "root:root")
        self("user", "grant-role", "root", "root")
        self("user", "add", f"jobs:{CANARY}")
        self("role", "add", "jobs")
        self("user", "grant-role", "jobs", "jobs")
        self("auth", "enable")

    def __call__(self, *arguments: str) -> None:
        environment = {"ETCDCTL_API": "3", "ETCDCTL_USER": "root:root", "ETCDCTL_ENDPOINTS": self._server.endpoints[0]}
        command = [str(self._server.etcdctl), *arguments]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, **environment})

    def permit(self, kind: str, election: str) -> None:
        self("role", "grant-permission", "jobs", kind, "--prefix", f"{election}/")


@pytest.fixture(scope="module")
def guarded_server() -> Iterator[tuple[EtcdServer, Guarded]]:
    with EtcdServer(extra_args=OPTIONS) as server:
        yield server, Guarded(server)


@pytest.fixture
def guarded(guarded_server: tuple[EtcdServer, Guarded], election_key: str, tmp_path: Path) -> tuple[Doctor, Guarded]:
    server, guard = guarded_server
    doctor = Doctor(tmp_path, election_key, *server.endpoints)
    doctor.variables = {"ETCDLEADER_ETCD__USER": "jobs", "ETCDLEADER_ETCD__PASSWORD": CANARY}
    return doctor, guard


def test_permissions_that_suffice_are_found_to(guarded: tuple[Doctor, Guarded]) -> None:
    doctor, guard = guarded
    guard.permit("readwrite", doctor.election)
    found = doctor.examine()
    assert doctor.code == 0, found
    assert found["permissions"][0] == "ok"
    assert "etcd.password = ***" in found["settings"][1]
    assert "the client is user 'jobs'" in found["authentication"][1]


@pytest.mark.parametrize(("kind", "missing"), [("read", ["write"]), ("write", ["read", "watch"])])
def test_each_permission_that_is_missing_is_named(
    guarded: tuple[Doctor, Guarded], kind: str, missing: list[str]
) -> None:
    """The write is tried without writing, so this also shows that etcd checks what it would not do."""
    doctor, guard = guarded
    guard.permit(kind, doctor.election)
    level, what, advice = doctor.examine()["permissions"]
    assert (doctor.code, level) == (1, "problem")
    assert [word for word in ("read", "write", "watch") if f"{word}: " in what] == missing
    assert f"--prefix '{doctor.election}/'" in advice


def test_a_wrong_password_is_a_problem_and_is_not_shown(guarded: tuple[Doctor, Guarded]) -> None:
    doctor, _ = guarded
    doctor.variables["ETCDLEADER_ETCD__PASSWORD"] = f"{CANARY}-wrong"
    found = doctor.examine()
    assert doctor.code == 1
    level, what, _ = found[f"endpoint {server_endpoint(doctor)}"]
    assert level == "problem"
    assert "user 'jobs' cannot log in" in what
    assert found["cluster"][:2] == ("problem", "each endpoint responds, but refuses")


def test_a_missing_user_is_a_problem(guarded: tuple[Doctor, Guarded]) -> None:
    doctor, _ = guarded
    doctor.variables = {}
    assert doctor.examine()["authentication"][0] == "problem"
    assert doctor.code == 1


@pytest.mark.parametrize("command", [["status"], ["step-down"], ["step-down", "--force", "--yes"]])
def test_what_etcd_refuses_has_an_exit_code_of_its_own(guarded: tuple[Doctor, Guarded], command: list[str]) -> None:
    doctor, _ = guarded
    (doctor.folder / "settings.toml").write_text(doctor.settings)
    done = run(command[0], doctor.election, *command[1:], folder=doctor.folder, variables=doctor.variables)
    assert (done.returncode, done.stdout) == (77, "")
    assert "permission denied" in done.stderr
    assert CANARY not in done.stderr


def test_a_command_that_is_not_to_wait_is_not_run_when_etcd_refuses(guarded: tuple[Doctor, Guarded]) -> None:
    doctor, _ = guarded
    (doctor.folder / "settings.toml").write_text(doctor.settings)
    words = ["--election", doctor.election, "--nowait", "--", "echo", "ran"]
    done = run("run", *words, folder=doctor.folder, variables=doctor.variables)
    assert (done.returncode, done.stdout) == (77, "")
    assert "permission denied" in done.stderr
    assert CANARY not in done.stderr
