"""The doctor's checks. Each reports its findings and what to do about them, and none changes an election.

No check puts a key under the prefix of an election, even for a moment: every key there is in the queue.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .._election.admin import ANY_KEY, connected, gather, read_queue
from .._election.queue import candidate_key, election_prefix, prefix_end
from .._etcd.api import MemberStatus, Put, Range
from .._etcd.error_mapping import InvalidAuthTokenError
from .._etcd.versions import known_defects
from .._lease.shared_connection import SharedConnection
from .._values.addresses import is_loopback, needs_tls
from ..config import MIN_RECOMMENDED_LEASE_SECONDS, Config, EtcdConfig
from ..errors import EtcdLeaderError, EtcdRefusedError
from .findings import Finding, Level, Report
from .proxy_check import check_proxies
from .srv_check import with_members
from .timing_checks import check_pings, check_round_trip, try_watch

_SEE_REFUSALS = "see docs/security.md, 'When something is refused'"


@dataclass(frozen=True, slots=True)
class _Answer:
    """The response of one member."""

    endpoint: str
    status: MemberStatus | None
    error: EtcdLeaderError | None


def check_clock() -> Finding:
    """Check the clock that measures leases."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        what = "this system has no CLOCK_BOOTTIME, so the clock may stop while the machine is suspended"
        advice = "do not suspend machines that lead, and let the target of each write check the token"
        return Finding("clock", "warning", what, advice)
    readings = [time.clock_gettime(time.CLOCK_BOOTTIME) for _ in range(1000)]
    if readings != sorted(readings):
        advice = "the kernel or the hypervisor is broken: run no candidate on this machine"
        return Finding("clock", "problem", "CLOCK_BOOTTIME went backwards", advice)
    slept = readings[-1] - time.clock_gettime(time.CLOCK_MONOTONIC)
    suspended = f" (this machine was suspended for {slept:.0f} s since its start)" if slept > 1 else ""
    return Finding("clock", "ok", f"CLOCK_BOOTTIME exists and runs forwards{suspended}; wall clocks do not matter")


async def check_etcd(
    etcd: EtcdConfig, config: Config, name: str | None, report: Report, *, timeout: float, hold: float
) -> None:
    """Run all checks that send requests to etcd.

    Args:
        etcd: The endpoints and credentials of etcd.
        config: The election's settings, or the defaults.
        name: The election key; None to skip the checks of one election.
        report: Receives each finding.
        timeout: The timeout of each call, in seconds.
        hold: The seconds for which a stream is held open; 0 to skip that check.
    """
    found = await with_members(etcd, report)
    if found is None:
        report(Finding("the rest", "skipped", "no member is known"))
        return
    etcd = found
    answers = await gather(etcd.endpoints, lambda endpoint: _ask(found, endpoint, timeout))
    for answer in answers:
        report(_check_member(answer, alone=len(answers) == 1))
    report(_check_cluster(answers))
    good = [answer.endpoint for answer in answers if answer.error is None]
    if not good:
        report(Finding("the rest", "skipped", "no endpoint answers a read"))
        return
    etcd = _at(etcd, *good)
    await check_proxies(etcd, report, timeout)
    near = all(is_loopback(endpoint) for endpoint in etcd.endpoints)
    report(_check_encryption(etcd, near=near))
    report(await _check_authentication(etcd, timeout, near=near))
    async with connected(etcd, timeout=timeout) as connection:
        if name is None:
            advice = "give NAME to check the permissions and the queue of an election"
            report(Finding("election", "skipped", "no NAME was given", advice))
        else:
            refused = await _refused_actions(connection, name, timeout)
            report(_check_permissions(name, refused))
            if "read" not in refused:
                report(await _check_queue(connection, name, timeout))
        report(await _check_lease(connection, config, timeout))
        report(await check_round_trip(connection.api, config, name, timeout))
        report(await check_pings(connection.api, name, timeout, hold))


def _at(etcd: EtcdConfig, *endpoints: str) -> EtcdConfig:
    """Return the configuration with these endpoints only. TLS stays: one https endpoint requires TLS for all."""

    def with_scheme(endpoint: str) -> str:
        return f"https://{endpoint.removeprefix('https://')}" if needs_tls(endpoint, tls=etcd.tls) else endpoint

    return replace(etcd, endpoints=tuple(map(with_scheme, endpoints)))


async def _ask(etcd: EtcdConfig, endpoint: str, timeout: float) -> _Answer:
    """Request the status of one member and a read, over a separate connection. A read succeeds only with a quorum."""
    status, asked = None, False
    try:
        async with connected(_at(etcd, endpoint), timeout=None) as connection:
            try:
                status = await connection.api.member_status(timeout=timeout)
            except EtcdRefusedError as error:
                if type(error) not in (EtcdRefusedError, InvalidAuthTokenError):
                    raise  # the login or the connection was refused, and not the status request
            asked = True
            await connection.api.range(Range(ANY_KEY, keys_only=True), timeout=timeout)
    except EtcdLeaderError as error:
        # etcd checks permissions after the consensus on the read, so a refusal also proves a quorum.
        return _Answer(endpoint, status, None if asked and isinstance(error, EtcdRefusedError) else error)
    return _Answer(endpoint, status, None)


def _check_member(answer: _Answer, *, alone: bool) -> Finding:
    check, status, error = f"endpoint {answer.endpoint}", answer.status, answer.error
    if status is None and error is None:
        what = "responds; its version is not checked, because etcd reports its status to root only"
        return Finding(check, "ok", what)
    if status is None:
        if isinstance(error, EtcdRefusedError):
            return Finding(check, "problem", str(error), _SEE_REFUSALS)
        # An unreachable member is no problem for the election while another one responds.
        level: Level = "problem" if alone else "warning"
        return Finding(check, level, str(error), "check that the member is running and reachable")
    if error is not None:
        advice = "check the member's log and the network between the members"
        return Finding(check, "problem", f"responds, but cannot read: {error}", advice)
    what = f"etcd {status.version}, member {status.header.member_id:x} of cluster {status.header.cluster_id:x}"
    defects = known_defects(status.version)
    if defects is None:
        return Finding(check, "ok", what)
    return Finding(check, "warning", f"{what}; {defects}", "upgrade etcd")


def _check_cluster(answers: Sequence[_Answer]) -> Finding:
    statuses = [answer.status for answer in answers if answer.status is not None]
    if not statuses:
        if any(answer.error is None for answer in answers):
            return Finding("cluster", "skipped", "etcd reports the status of its members to root only")
        if all(isinstance(answer.error, EtcdRefusedError) for answer in answers):
            return Finding("cluster", "problem", "each endpoint responds, but refuses", _SEE_REFUSALS)
        advice = "check that etcd is running and reachable: without it, leadership ends within one lease"
        return Finding("cluster", "problem", "no endpoint responds", advice)
    clusters = {status.header.cluster_id for status in statuses}
    leaders = {status.leader for status in statuses}
    terms = sorted({status.header.raft_term for status in statuses})
    said = f"leader {', '.join(f'{leader:x}' for leader in sorted(leaders))}, raft term {', '.join(map(str, terms))}"
    if len(clusters) > 1:
        listed = ", ".join(f"{cluster:x}" for cluster in sorted(clusters))
        advice = "set the members of one cluster only: two clusters would elect two leaders"
        return Finding("cluster", "problem", f"the endpoints belong to several clusters: {listed}", advice)
    if 0 in leaders:
        advice = "check the members: more than half must be running and reach each other"
        return Finding("cluster", "problem", f"a member reports that etcd has no leader ({said})", advice)
    if len(leaders) > 1 or len(terms) > 1:
        what = f"members disagree about etcd's leader, as during an election in etcd: {said}"
        advice = "run this again; if this finding stays, check etcd's log and the latency of its disks"
        return Finding("cluster", "warning", what, advice)
    return Finding("cluster", "ok", f"one, with {said}")


def _check_encryption(etcd: EtcdConfig, *, near: bool) -> Finding:
    if etcd.tls:
        return Finding("encryption", "ok", "TLS")
    if near:
        return Finding("encryption", "ok", "none, within this machine")
    return Finding("encryption", "warning", "none", "use https endpoints and ca_cert (docs/security.md)")


async def _check_authentication(etcd: EtcdConfig, timeout: float, *, near: bool) -> Finding:
    """Check that etcd refuses a connection without user and certificate."""
    stranger = replace(etcd, user=None, password=None, password_file=None, cert=None, key=None)
    try:
        async with connected(stranger, timeout=None) as connection:
            await connection.api.range(Range(ANY_KEY, keys_only=True), timeout=timeout)
    except EtcdRefusedError:
        if etcd.user or etcd.cert:
            who = f"user {etcd.user!r}" if etcd.user else "the user of the certificate"
            return Finding("authentication", "ok", f"required; the client is {who}")
        advice = "set etcd.user and etcd.password, or etcd.cert and etcd.key of a user"
        return Finding("authentication", "problem", "required, but no user is set", advice)
    except EtcdLeaderError as error:
        return Finding("authentication", "skipped", f"the check failed: {error}")
    what = "off: etcd accepts every client"
    if near:
        return Finding("authentication", "ok", what)
    advice = "enable it: every client that reaches etcd can lead, and depose a leader. See docs/security.md"
    return Finding("authentication", "warning", what, advice)


async def _refused_actions(connection: SharedConnection, name: str, timeout: float) -> dict[str, EtcdLeaderError]:
    """Try the actions of a candidate. Return the errors, by action.

    etcd checks the permissions for both branches of a transaction, whichever it takes. A transaction without conditions
    always takes its first branch. So etcd checks the put in the other branch, and does not perform it.
    """
    prefix = election_prefix(name)
    key = candidate_key(name, secrets.randbelow(2**63 - 1) + 1)
    tries: dict[str, Callable[[], Any]] = {
        "read": lambda: connection.range(Range(prefix, prefix_end(prefix), limit=1, keys_only=True), timeout=timeout),
        "write": lambda: connection.txn([], [], [Put(key)], timeout=timeout),
        "watch": lambda: try_watch(connection.api, prefix, prefix_end(prefix), timeout=timeout),
    }
    refused: dict[str, EtcdLeaderError] = {}
    for what, attempt in tries.items():
        try:
            await attempt()
        except EtcdLeaderError as error:
            refused[what] = error
    return refused


def _check_permissions(name: str, refused: Mapping[str, EtcdLeaderError]) -> Finding:
    if not refused:
        return Finding("permissions", "ok", f"read, write and watch under {name}/")
    said = "; ".join(f"{what}: {error}" for what, error in refused.items())
    advice = (
        f"etcdctl role grant-permission ROLE readwrite --prefix '{name}/' (docs/security.md). If etcd has no space: "
        "compact, defragment, disarm the alarm"
    )
    return Finding("permissions", "problem", f"refused under {name}/: {said}", advice)


async def _check_queue(connection: SharedConnection, name: str, timeout: float) -> Finding:
    try:
        queue = await read_queue(connection, name, timeout=timeout)
    except EtcdLeaderError as error:
        return Finding("queue", "problem", str(error))
    odd = [candidate for candidate in queue.candidates if candidate.anomalies]
    leader = queue.leader
    said = "there is no leader" if leader is None else f"{leader.identity} leads, {len(queue.candidates) - 1} waiting"
    if not odd:
        return Finding("queue", "ok", said)
    for_ever = any(not candidate.lease_id for candidate in odd)
    keys = "; ".join(f"{each.key.decode(errors='replace')} {', '.join(each.anomalies)}" for each in odd[:5])
    advice = f"etcdleader status {name} shows them. Delete those that no client uses (etcdctl del KEY)"
    return Finding("queue", "problem" if for_ever else "warning", f"{said}; anomalies: {keys}", advice)


async def _check_lease(connection: SharedConnection, config: Config, timeout: float) -> Finding:
    lease_id = secrets.randbelow(2**63 - 1) + 1
    try:
        least = (await connection.lease_grant(1, lease_id, timeout=timeout)).ttl
        await connection.lease_revoke(lease_id, timeout=timeout)
    except EtcdLeaderError as error:
        what = f"a lease cannot be granted and revoked: {error}"
        return Finding("lease", "problem", what, "check that this user may grant leases")
    said = f"etcd grants and revokes leases; for a request of 1 s it grants {least} s"
    if config.lease < least:
        advice = f"set lease to at least {least}s: etcd grants no shorter lease (1.5 times its election timeout)"
        return Finding("lease", "warning", f"{said}, more than lease = {config.lease:g} s", advice)
    if config.lease < MIN_RECOMMENDED_LEASE_SECONDS:
        advice = f"set lease to at least {MIN_RECOMMENDED_LEASE_SECONDS:g}s: a change of etcd's leader can end leadership on a shorter one"
        return Finding("lease", "warning", f"{said}; lease = {config.lease:g} s is short", advice)
    return Finding("lease", "ok", f"{said}, its minimum")
