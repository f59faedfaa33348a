"""``etcdleader run`` on a real etcd: which command runs, which candidate waits or gives up, and what a loss does."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import grpc
import pytest

from etcdleader.etcd3 import etcd3
from etcdleader.testing import EtcdServer
from tests.etcd.wrapped_commands import LEASE, Trace, Wrapper, is_alive, tracing, until, wrapped

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")

LONG = ("--lease=60s", "--renew=500ms", "--retry=2s")
"""A lease that does not run out while a test runs: if the key is gone, it was released, for which there is `retry`."""


class Etcd:
    """An operator of an election, with the key to change and the output to read."""

    def __init__(self, server: EtcdServer, election_key: str) -> None:
        host, _, port = server.endpoints[0].rpartition(":")
        self.client = etcd3.client(host, int(port), timeout=30)
        self.prefix = f"{election_key}/"

    def candidates(self) -> list[str]:
        return [value.decode().partition("#")[0] for value, _ in self.client.get_prefix(self.prefix)]

    def leader(self) -> tuple[str, int, str, int]:
        """Key, token, identity, lease."""
        value, about = next(iter(self.client.get_prefix(self.prefix, sort_order="ascend", sort_target="create")))
        return about.key.decode(), about.create_revision, value.decode(), about.lease_id

    def ask_to_step_down(self) -> bool:
        """Put a value that changes nothing on the leader's key. Return whether the leader gave up the key meanwhile."""
        try:
            key, *_ = self.leader()
        except StopIteration:
            return True
        request = etcd3.etcdrpc.PutRequest(key=key.encode(), ignore_value=True, ignore_lease=True)
        try:
            self.client.kvstub.Put(request, timeout=30)
        except grpc.RpcError as error:
            if "key not found" not in str(error):
                raise
            return True
        return False


@pytest.fixture
def etcd(etcd_server: EtcdServer, election_key: str) -> Etcd:
    return Etcd(etcd_server, election_key)


def output(wrapper: Wrapper) -> str:
    assert wrapper.process.stdout is not None
    return str(wrapper.process.stdout.readline().strip())


def next_line_of_log(wrapper: Wrapper) -> str:
    assert wrapper.process.stderr is not None
    line = ""
    while not line.startswith("etcdleader: "):  # the command's shell may have something to say, too
        line = wrapper.process.stderr.readline()
        assert line
    return line.strip()


def test_the_command_receives_its_term_and_leadership_is_kept_until_it_has_ended(
    etcd_server: EtcdServer, election_key: str, etcd: Etcd
) -> None:
    """All processes of the command, including those in the background; then leadership is released at once."""
    script = (
        'echo "$ETCDLEADER_KEY $ETCDLEADER_TOKEN $ETCDLEADER_IDENTITY $ETCDLEADER_LEASE_ID"; '
        "setsid sh -c 'trap \"sleep 0.5; echo done; exit\" TERM; echo up; while :; do sleep 0.01; done' & read x; exit 3"
    )
    with wrapped(
        *("a", etcd_server.endpoints[0], election_key, "sh", "-c", script),
        options=(*LONG, "--grace=60s"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as a:
        key, token, identity, lease = output(a).split()
        assert (key, int(token), identity, int(lease)) == etcd.leader()
        assert output(a) == "up"
        assert a.process.stdin is not None
        a.process.stdin.close()
        a.process.stdin = None
        assert output(a) == "done"
        assert a.process.wait(timeout=60) == 3
        assert etcd.candidates() == []


def test_sigterm_ends_the_command_then_releases_leadership(
    etcd_server: EtcdServer, election_key: str, etcd: Etcd
) -> None:
    words = ("sh", "-c", "echo up; exec sleep 1000")
    with wrapped("a", etcd_server.endpoints[0], election_key, *words, options=LONG, stdout=subprocess.PIPE) as a:
        assert output(a) == "up"
        assert etcd.candidates() == ["a"]
        a.process.send_signal(signal.SIGTERM)
        assert a.process.wait(timeout=60) == 128 + signal.SIGTERM
        assert etcd.candidates() == []


def test_a_candidate_without_wait_or_at_its_timeout_or_ended_by_a_signal_leaves_the_queue(
    etcd_server: EtcdServer, election_key: str, etcd: Etcd
) -> None:
    endpoint = etcd_server.endpoints[0]
    words = ("sh", "-c", "echo up; exec sleep 1000")
    with wrapped("a", endpoint, election_key, *words, options=LONG, stdout=subprocess.PIPE) as a:
        assert output(a) == "up"
        with (
            wrapped(
                # It waits for etcd's first response for as long as `retry`, and on a slow machine that comes late.
                *("b", endpoint, election_key, "echo", "ran"),
                options=(*LONG, "--nowait", "--retry=10s"),
                stdout=subprocess.PIPE,
            ) as b,
            wrapped(
                "c", endpoint, election_key, "echo", "ran", options=(*LONG, "--wait=1s"), stdout=subprocess.PIPE
            ) as c,
            wrapped("d", endpoint, election_key, "echo", "ran", options=LONG, stdout=subprocess.PIPE) as d,
        ):
            until(lambda: "d" in etcd.candidates())
            d.process.send_signal(signal.SIGTERM)
            # On a slow machine, a second may pass before etcd's first response: then the leader is unknown (69).
            for each, statuses in ((b, {75}), (c, {75, 69}), (d, {128 + signal.SIGTERM})):
                assert each.process.wait(timeout=60) in statuses
                assert output(each) == ""
            assert etcd.candidates() == ["a"]


def test_without_a_response_a_candidate_that_does_not_wait_reports_it(election_key: str) -> None:
    with wrapped("a", "127.0.0.1:1", election_key, "true", options=(*LEASE, "--nowait")) as a:
        assert a.process.wait(timeout=60) == 69


def test_with_restart_it_campaigns_again_when_the_command_has_ended(
    etcd_server: EtcdServer, election_key: str, etcd: Etcd, tmp_path: Path
) -> None:
    """By itself, or because an operator killed it; two commands run in turn, and never together."""
    trace = Trace(tmp_path / "trace")
    with (
        wrapped(
            *("a", etcd_server.endpoints[0], election_key, *tracing(trace, "a", "ignoring")),
            options=(*LEASE, "--restart"),
        ),
        wrapped(
            *("b", etcd_server.endpoints[0], election_key, *tracing(trace, "b", "ignoring")),
            options=(*LEASE, "--restart"),
        ),
    ):
        until(lambda: sorted(etcd.candidates()) == ["a", "b"])
        seen = 0
        names = set()
        for _ in range(4):
            until(lambda: bool(trace.lines()) and trace.lines()[-1].token > seen)  # noqa: B023 - called at once
            newest = trace.lines()[-1]
            seen = newest.token
            names.add(newest.name)
            os.kill(newest.pid, signal.SIGKILL)
        assert names == {"a", "b"}
        trace.check_that_no_two_ran_at_once()


def test_a_leader_requested_to_step_down_ends_its_command_and_rejoins(
    etcd_server: EtcdServer, election_key: str, etcd: Etcd, tmp_path: Path
) -> None:
    """With the whole grace, since the lease is renewed meanwhile; and what is for a loss is done."""
    cleaned, lost = tmp_path / "cleaned", tmp_path / "lost"
    script = f"trap 'sleep 0.5; echo >\"{cleaned}\"; exit' TERM; echo up; while :; do sleep 0.01; done"
    options = (*LONG, "--grace=60s", "--on-lost", f'echo "$ETCDLEADER_TOKEN $ETCDLEADER_REASON" >"{lost}"')
    words = ("sh", "-c", script)
    with wrapped("a", etcd_server.endpoints[0], election_key, *words, options=options, stdout=subprocess.PIPE) as a:
        assert output(a) == "up"
        token = etcd.leader()[1]
        # Again and again: a leader that has just been elected may not look at its key yet.
        until(lambda: cleaned.exists() or etcd.ask_to_step_down())
        assert output(a) == "up"
        assert lost.read_text().split() == [str(token), "resigned"]
        assert etcd.leader()[1] > token
        lines: list[str] = []
        while len(lines) < 3:  # where half a second was too short for a call, that is said in between
            lines += [line] if re.search(" leads | lost leadership ", line := next_line_of_log(a)) else []
    assert [re.sub(r"#\w+|\d+", "", line) for line in lines] == [
        f"etcdleader: a leads {re.sub(r'[0-9]+', '', repr(election_key))} with token ",
        f"etcdleader: a lost leadership of {re.sub(r'[0-9]+', '', repr(election_key))} (token ): resigned",
        f"etcdleader: a leads {re.sub(r'[0-9]+', '', repr(election_key))} with token ",
    ]


def test_the_command_for_an_election_has_ended_before_the_command_starts(
    etcd_server: EtcdServer, election_key: str, tmp_path: Path
) -> None:
    """In each term, with its variables. Its failure is logged and prevents nothing."""
    trace = tmp_path / "trace"
    trace.touch()
    hook = f'sleep 0.1; echo "elected $ETCDLEADER_TOKEN" >>"{trace}"; sleep 1000 & exit 3'
    words = ("sh", "-c", f'echo "runs $ETCDLEADER_TOKEN" >>"{trace}"')
    options = (*LONG, "--grace=100ms", "--restart", "--on-elected", hook)
    with wrapped("a", etcd_server.endpoints[0], election_key, *words, options=options) as a:
        while "--on-elected" not in (line := next_line_of_log(a)):
            pass  # on a busy machine, etcd may have been late before
        assert line == "etcdleader: warning: --on-elected ended with status 3"
        until(lambda: len(trace.read_text().splitlines()) >= 4)
    lines = [line.split() for line in trace.read_text().splitlines()]
    assert [what for what, _ in lines[:4]] == ["elected", "runs"] * 2
    assert [token for _, token in lines[:3:2]] == [token for _, token in lines[1:4:2]]


def test_a_command_for_an_election_is_ended_with_the_leadership(
    etcd_server: EtcdServer, election_key: str, etcd: Etcd, tmp_path: Path
) -> None:
    """It acts for the leader, so it must not outlive the leadership. What is for a loss is done after it."""
    trace = tmp_path / "trace"
    trace.touch()
    hook = f"trap '' TERM; while :; do echo \"alive $ETCDLEADER_TOKEN\" >>'{trace}'; sleep 0.01; done"
    on_lost = f"echo \"lost $ETCDLEADER_TOKEN\" >>'{trace}'"
    options = (*LONG, "--grace=200ms", "--on-elected", hook, "--on-lost", on_lost)
    with wrapped("a", etcd_server.endpoints[0], election_key, "false", options=options) as a:
        until(lambda: bool(trace.read_text()))
        until(lambda: "lost" in trace.read_text() or etcd.ask_to_step_down())
        until(lambda: "lost" in trace.read_text())
        a.process.send_signal(signal.SIGTERM)
        assert a.process.wait(timeout=60) == 128 + signal.SIGTERM
    lines = trace.read_text().splitlines()
    token = lines[0].split()[1]
    assert f"lost {token}" in lines
    assert f"alive {token}" not in lines[lines.index(f"lost {token}") :]


def test_a_signal_gives_the_command_for_a_loss_the_grace(
    etcd_server: EtcdServer, election_key: str, etcd: Etcd, tmp_path: Path
) -> None:
    """Without a signal it may take as long as a lease, and a service manager would not wait so long."""
    begun = tmp_path / "begun"
    options = ("--lease=10m", "--renew=500ms", "--retry=2s", "--grace=200ms")
    words = ("sh", "-c", "echo up; exec sleep 1000")
    on_lost = ("--on-lost", f"echo >'{begun}'; sleep 1000")
    with wrapped(
        *("a", etcd_server.endpoints[0], election_key, *words), options=(*options, *on_lost), stdout=subprocess.PIPE
    ) as a:
        assert output(a) == "up"
        until(lambda: begun.exists() or etcd.ask_to_step_down())
        until(begun.exists)
        a.process.send_signal(signal.SIGTERM)
        assert a.process.wait(timeout=60) == 128 + signal.SIGTERM
        assert etcd.candidates() == []


def test_a_wait_of_nothing_leads_where_no_candidate_does(etcd_server: EtcdServer, election_key: str) -> None:
    """The first answer decides, and it takes a round trip."""
    words = ("sh", "-c", "echo ran; exit 3")
    with wrapped(
        *("a", etcd_server.endpoints[0], election_key, *words),
        options=("--lease=2m", "--renew=5s", "--retry=30s", "--wait=0s"),  # the response may take long
        stdout=subprocess.PIPE,
    ) as a:
        assert a.process.wait(timeout=60) == 3
        assert output(a) == "ran"


def test_a_wait_without_etcd_reports_that_etcd_does_not_respond(election_key: str) -> None:
    with wrapped("a", "127.0.0.1:1", election_key, "true", options=(*LEASE, "--wait=1s")) as a:
        assert a.process.wait(timeout=60) == 69
        assert a.process.stderr is not None
        said = a.process.stderr.read()
    assert "etcd has not responded" in said
    assert "leads" not in said


def test_an_etcd_that_lost_its_history_ends_it_with_a_status_of_its_own(election_key: str, tmp_path: Path) -> None:
    """And without a traceback. What is to be done at a loss is done before."""
    lost = tmp_path / "lost"
    options = (*LONG, "--on-lost", f'sleep 0.5; echo "$ETCDLEADER_REASON" >"{lost}"')
    with EtcdServer() as server:
        etcd = Etcd(server, election_key)
        for number in range(50):
            etcd.client.put("filler", str(number))
        words = ("sh", "-c", "echo up; exec sleep 1000")
        with wrapped("a", server.endpoints[0], election_key, *words, options=options, stdout=subprocess.PIPE) as a:
            assert output(a) == "up"
            etcd.client.close()
            (member,) = server.members
            member.kill()
            shutil.rmtree(member.data_dir)
            member.restart()
            assert a.process.wait(timeout=60) == 76
            assert lost.read_text() in {"regressed\n", "revoked\n"}
            assert a.process.stderr is not None
            said = a.process.stderr.read()
    assert "EtcdRegressedError" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("how", ["key deleted", "lease revoked"])
def test_leadership_taken_away_ends_a_command_that_ignores_sigterm_at_once(
    etcd_server: EtcdServer, election_key: str, etcd: Etcd, tmp_path: Path, how: str
) -> None:
    """Whatever its grace: another candidate may lead already. Here there is none, and the wrapper leads again."""
    trace = Trace(tmp_path / "trace")
    words = tracing(trace, "a", "daemon")
    with wrapped("a", etcd_server.endpoints[0], election_key, *words, options=(*LONG, "--grace=10m")):
        until(lambda: bool(trace.lines()))
        old = trace.lines()[-1]
        key, _, _, lease = etcd.leader()
        if how == "key deleted":
            etcd.client.delete(key)
        else:
            etcd.client.revoke_lease(lease)
        until(lambda: trace.lines()[-1].token > old.token)
        assert not any(is_alive(line.pid) for line in trace.lines() if line.token == old.token)
        trace.check_that_no_two_ran_at_once()
