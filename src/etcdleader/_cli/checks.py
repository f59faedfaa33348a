"""The doctor's checks. Each reports its findings and what to do about them, and none changes an election.

No check puts a key under the prefix of an election, even for a moment: every key there is in the queue.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import anyio

from .._election.admin import ANY_KEY, connected, gather, open_api, read_queue
from .._election.queue import candidate_key, election_prefix, prefix_end
from .._etcd.api import EtcdApi, MemberStatus, Put, Range, WatchBroken, WatchCanceled, WatchMessage
from .._etcd.error_mapping import InvalidAuthTokenError
from .._etcd.versions import known_defects
from .._lease.shared_connection import SharedConnection
from .._values.addresses import is_loopback
from ..config import MIN_RECOMMENDED_LEASE, Config, EtcdConfig
from ..errors import EtcdLeaderError, EtcdRefusedError
from .findings import Finding, Level, Report
from .proxy_check import check_proxies
from .timing_checks import check_pings, check_round_trip


@dataclass(frozen=True, slots=True)
class _Answer:
    """The response of one member."""

    endpoint: str
    status: MemberStatus | None
    error: EtcdLeaderError | None


def check_clock() -> Finding:
    """Check the clock that measures leases."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return Finding(
            "clock",
            "warning",
            "this system has no CLOCK_BOOTTIME, so the clock may stop while the machine is suspended",
            "do not suspend machines that lead, and let the target of each write check the token",
        )
    readings = [time.clock_gettime(time.CLOCK_BOOTTIME) for _ in range(1000)]
    if readings != sorted(readings):
        return Finding(
            "clock",
            "problem",
            "CLOCK_BOOTTIME went backwards",
            "the kernel or the hypervisor is broken: run no candidate on this machine",
        )
    slept = readings[-1] - time.clock_gettime(time.CLOCK_MONOTONIC)
    return Finding(
        "clock",
        "ok",
        "CLOCK_BOOTTIME exists and runs forwards"
        + (f" (this machine was suspended for {slept:.0f} s since its start)" if slept > 1 else "")
        + "; wall clocks do not matter",
    )


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
    answers = await gather(etcd.endpoints, lambda endpoint: _ask(etcd, endpoint, timeout))
    _check_members(answers, report)
    good = [answer.endpoint for answer in answers if answer.error is None]
    if not good:
        report(Finding("the rest", "skipped", "no endpoint answers a read"))
        return
    etcd = _at(etcd, *good)
    await check_proxies(etcd, report, timeout)
    await _check_access(etcd, report, timeout)
    async with connected(etcd, timeout=timeout) as connection:
        if name is None:
            report(
                Finding(
                    "election",
                    "skipped",
                    "no NAME was given",
                    "give NAME to check the permissions and the queue of an election",
                )
            )
        elif await _check_permissions(connection, name, report, timeout):
            await _check_queue(connection, name, report, timeout)
        await _check_lease(connection, config, report, timeout)
        await check_round_trip(connection.api, config, name, report, timeout)
        await check_pings(connection.api, name, report, timeout, hold)


def _at(etcd: EtcdConfig, *endpoints: str) -> EtcdConfig:
    """Return the configuration with these endpoints only. TLS stays: one https endpoint requires TLS for all."""
    scheme = "https://" if etcd.tls else ""
    return replace(etcd, endpoints=tuple(scheme + endpoint.removeprefix("https://") for endpoint in endpoints))


@asynccontextmanager
async def _opened(etcd: EtcdConfig) -> AsyncIterator[EtcdApi]:
    api = open_api(etcd)
    try:
        yield api
    finally:
        with anyio.CancelScope(shield=True):
            await api.aclose()


async def _ask(etcd: EtcdConfig, endpoint: str, timeout: float) -> _Answer:
    """Request the status of one member and a read, over a separate connection. A read succeeds only with a quorum."""
    status, asked = None, False
    try:
        async with _opened(_at(etcd, endpoint)) as api:
            try:
                status = await api.member_status(timeout=timeout)
            except EtcdRefusedError as error:
                if type(error) not in (EtcdRefusedError, InvalidAuthTokenError):
                    raise  # the login or the connection was refused, and not the status request
            asked = True
            await api.range(Range(ANY_KEY, keys_only=True), timeout=timeout)
    except EtcdLeaderError as error:
        # etcd checks permissions after the consensus on the read, so a refusal also proves a quorum.
        return _Answer(endpoint, status, None if asked and isinstance(error, EtcdRefusedError) else error)
    return _Answer(endpoint, status, None)


def _check_members(answers: list[_Answer], report: Report) -> None:
    for answer in answers:
        check = f"endpoint {answer.endpoint}"
        if answer.status is None and answer.error is None:
            what = "responds; its version is not checked, because etcd reports its status to root only"
            report(Finding(check, "ok", what))
        elif answer.status is None:
            refused = isinstance(answer.error, EtcdRefusedError)
            advice = (
                "see docs/security.md, 'When something is refused'"
                if refused
                else "check that the member is running and reachable"
            )
            # An unreachable member is no problem for the election while another one responds.
            level: Level = "problem" if refused or len(answers) == 1 else "warning"
            report(Finding(check, level, str(answer.error), advice))
        elif answer.error is not None:
            advice = "check the member's log and the network between the members"
            report(Finding(check, "problem", f"responds, but cannot read: {answer.error}", advice))
        else:
            header = answer.status.header
            what = f"etcd {answer.status.version}, member {header.member_id:x} of cluster {header.cluster_id:x}"
            defects = known_defects(answer.status.version)
            if defects is None:
                report(Finding(check, "ok", what))
            else:
                report(Finding(check, "warning", f"{what}; {defects}", "upgrade etcd"))
    statuses = [answer.status for answer in answers if answer.status is not None]
    if statuses:
        _check_cluster(statuses, report)
    elif any(answer.error is None for answer in answers):
        report(Finding("cluster", "skipped", "etcd reports the status of its members to root only"))
    elif all(isinstance(answer.error, EtcdRefusedError) for answer in answers):
        advice = "see docs/security.md, 'When something is refused'"
        report(Finding("cluster", "problem", "each endpoint responds, but refuses", advice))
    else:
        report(
            Finding(
                "cluster",
                "problem",
                "no endpoint responds",
                "check that etcd is running and reachable: without it, leadership ends within one lease",
            )
        )


def _check_cluster(statuses: list[MemberStatus], report: Report) -> None:
    clusters = {status.header.cluster_id for status in statuses}
    leaders = {status.leader for status in statuses}
    terms = sorted({status.header.raft_term for status in statuses})
    said = f"leader {', '.join(f'{leader:x}' for leader in sorted(leaders))}, raft term {', '.join(map(str, terms))}"
    if len(clusters) > 1:
        listed = ", ".join(f"{cluster:x}" for cluster in sorted(clusters))
        advice = "set the members of one cluster only: two clusters would elect two leaders"
        report(Finding("cluster", "problem", f"the endpoints belong to several clusters: {listed}", advice))
    elif 0 in leaders:
        advice = "check the members: more than half must be running and reach each other"
        report(Finding("cluster", "problem", f"a member reports that etcd has no leader ({said})", advice))
    elif len(leaders) > 1 or len(terms) > 1:
        advice = "run this again; if this finding stays, check etcd's log and the latency of its disks"
        report(
            Finding(
                "cluster",
                "warning",
                f"members disagree about etcd's leader, as during an election in etcd: {said}",
                advice,
            )
        )
    else:
        report(Finding("cluster", "ok", f"one, with {said}"))


async def _check_access(etcd: EtcdConfig, report: Report, timeout: float) -> None:
    """Check encryption and authentication, by a connection without user and certificate."""
    near = all(is_loopback(endpoint) for endpoint in etcd.endpoints)
    serious: Level = "ok" if near else "warning"
    if etcd.tls:
        report(Finding("encryption", "ok", "TLS"))
    else:
        advice = "" if near else "use https endpoints and ca_cert (docs/security.md)"
        report(Finding("encryption", serious, "none" + (", within this machine" if near else ""), advice))
    stranger = replace(etcd, user=None, password=None, cert=None, key=None)
    who = f"user {etcd.user!r}" if etcd.user else "the user of the certificate" if etcd.cert else "no user"
    try:
        async with _opened(stranger) as api:
            await api.range(Range(ANY_KEY, keys_only=True), timeout=timeout)
    except EtcdRefusedError:
        if etcd.user or etcd.cert:
            report(Finding("authentication", "ok", f"required; the client is {who}"))
        else:
            advice = "set etcd.user and etcd.password, or etcd.cert and etcd.key of a user"
            report(Finding("authentication", "problem", "required, but no user is set", advice))
    except EtcdLeaderError as error:
        report(Finding("authentication", "skipped", f"the check failed: {error}"))
    else:
        advice = (
            ""
            if near
            else "enable it: every client that reaches etcd can lead, and depose a leader. See docs/security.md"
        )
        report(Finding("authentication", serious, "off: etcd accepts every client", advice))


async def _check_permissions(connection: SharedConnection, name: str, report: Report, timeout: float) -> bool:
    """Check the permissions that a candidate needs. Return whether the queue may be read.

    etcd checks the permissions for both branches of a transaction, whichever it takes. A transaction without conditions
    always takes its first branch. So etcd checks the put in the other branch, and does not perform it.
    """
    prefix = election_prefix(name)
    key = candidate_key(name, secrets.randbelow(2**63 - 1) + 1)
    tries: dict[str, Callable[[], Any]] = {
        "read": lambda: connection.range(Range(prefix, prefix_end(prefix), limit=1, keys_only=True), timeout=timeout),
        "write": lambda: connection.txn([], [], [Put(key)], timeout=timeout),
        "watch": lambda: _watch(connection.api, prefix, timeout),
    }
    refused: dict[str, EtcdLeaderError] = {}
    for what, attempt in tries.items():
        try:
            await attempt()
        except EtcdLeaderError as error:
            refused[what] = error
    if refused:
        said = "; ".join(f"{what}: {error}" for what, error in refused.items())
        advice = (
            f"etcdctl role grant-permission ROLE readwrite --prefix '{name}/' (docs/security.md). If etcd has no space: "
            "compact, defragment, disarm the alarm"
        )
        report(Finding("permissions", "problem", f"refused under {name}/: {said}", advice))
    else:
        report(Finding("permissions", "ok", f"read, write and watch under {name}/"))
    return "read" not in refused


async def _watch(api: EtcdApi, prefix: bytes, timeout: float) -> None:
    over = anyio.Event()
    errors: list[EtcdLeaderError] = []

    def sink(message: WatchMessage) -> None:
        if isinstance(message, WatchCanceled | WatchBroken):
            errors.append(message.error)
        over.set()

    handle = api.watch(prefix, prefix_end(prefix), sink=sink, timeout=timeout)
    try:
        with anyio.move_on_after(timeout):
            await over.wait()
    finally:
        handle.close()
    if errors:
        raise errors[0]


async def _check_queue(connection: SharedConnection, name: str, report: Report, timeout: float) -> None:
    try:
        queue = await read_queue(connection, name, timeout=timeout)
    except EtcdLeaderError as error:
        report(Finding("queue", "problem", str(error)))
        return
    odd = [candidate for candidate in queue.candidates if candidate.anomalies]
    leader = queue.leader
    said = "there is no leader" if leader is None else f"{leader.identity} leads, {len(queue.candidates) - 1} waiting"
    if not odd:
        report(Finding("queue", "ok", said))
        return
    for_ever = any(not candidate.lease_id for candidate in odd)
    keys = "; ".join(f"{each.key.decode(errors='replace')} {', '.join(each.anomalies)}" for each in odd[:5])
    advice = f"etcdleader status {name} shows them. Delete those that no client uses (etcdctl del KEY)"
    report(Finding("queue", "problem" if for_ever else "warning", f"{said}; anomalies: {keys}", advice))


async def _check_lease(connection: SharedConnection, config: Config, report: Report, timeout: float) -> None:
    lease_id = secrets.randbelow(2**63 - 1) + 1
    try:
        least = (await connection.lease_grant(1, lease_id, timeout=timeout)).ttl
        await connection.lease_revoke(lease_id, timeout=timeout)
    except EtcdLeaderError as error:
        report(
            Finding(
                "lease",
                "problem",
                f"a lease cannot be granted and revoked: {error}",
                "check that this user may grant leases",
            )
        )
        return
    said = f"etcd grants and revokes leases; for a request of 1 s it grants {least} s"
    if config.lease < least:
        advice = f"set lease to at least {least}s: etcd grants no shorter lease (1.5 times its election timeout)"
        report(Finding("lease", "warning", f"{said}, more than lease = {config.lease:g} s", advice))
    elif config.lease < MIN_RECOMMENDED_LEASE:
        advice = f"set lease to at least {MIN_RECOMMENDED_LEASE:g}s: a change of etcd's leader can end leadership on a shorter one"
        report(Finding("lease", "warning", f"{said}; lease = {config.lease:g} s is short", advice))
    else:
        report(Finding("lease", "ok", f"{said}, its minimum"))
