"""What the doctor looks at. Each check says what it found and what to do about it; none changes anything in an election.

Nothing is put under the prefix of an election, not for a moment: every key there stands in its queue.
"""

from __future__ import annotations

import secrets
import statistics
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
from .._lease.connection import Connection
from .._values.addresses import is_loopback
from ..config import MIN_RECOMMENDED_LEASE, Config, EtcdConfig
from ..errors import EtcdLeaderError, EtcdRefusedError
from .findings import Finding, Level, Report
from .proxy_check import check_proxies

_READS = 20


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one member said."""

    endpoint: str
    status: MemberStatus | None
    error: EtcdLeaderError | None


def check_clock() -> Finding:
    """The clock that leases are measured by."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return Finding(
            "clock",
            "warning",
            "there is no CLOCK_BOOTTIME here: the clock may stand still while the machine sleeps",
            "do not let machines sleep that lead; have what is written to check the token",
        )
    readings = [time.clock_gettime(time.CLOCK_BOOTTIME) for _ in range(1000)]
    if readings != sorted(readings):
        return Finding(
            "clock",
            "problem",
            "CLOCK_BOOTTIME went backwards",
            "the kernel or the hypervisor is broken: do not lead here",
        )
    slept = readings[-1] - time.clock_gettime(time.CLOCK_MONOTONIC)
    return Finding(
        "clock",
        "ok",
        "CLOCK_BOOTTIME is there and runs forwards"
        + (f" (this machine has slept for {slept:.0f} s since it was started)" if slept > 1 else "")
        + "; the wall clock does not matter, nor whether it is that of other machines",
    )


async def check_etcd(
    etcd: EtcdConfig, config: Config, name: str | None, report: Report, *, timeout: float, hold: float
) -> None:
    """Everything that etcd has to be asked for.

    Args:
        etcd: Where it is.
        config: The election's settings, or the defaults.
        name: The election; None: what concerns only one is left out.
        report: Told each finding.
        timeout: Of each call.
        hold: Seconds for which a stream is held open; 0 for not at all.
    """
    answers = await gather(etcd.endpoints, lambda endpoint: _ask(etcd, endpoint, timeout))
    _check_members(answers, report)
    good = [answer.endpoint for answer in answers if answer.error is None]
    if not good:
        report(Finding("the rest", "skipped", "no endpoint can be read from"))
        return
    etcd = _at(etcd, *good)
    await check_proxies(etcd, report, timeout)
    await _check_access(etcd, report, timeout)
    async with connected(etcd, timeout=timeout) as connection:
        if name is None:
            report(
                Finding("election", "skipped", "none was named", "give NAME, to have its permissions and queue checked")
            )
        elif await _check_permissions(connection, name, report, timeout):
            await _check_queue(connection, name, report, timeout)
        await _check_lease(connection, config, report, timeout)
        await _check_round_trip(connection.api, config, name, report, timeout)
        await _check_pings(connection.api, name, report, timeout, hold)


def _at(etcd: EtcdConfig, *endpoints: str) -> EtcdConfig:
    """The same, at these endpoints only, with TLS as before: one https among the endpoints means TLS for all."""
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
    """One member, over a connection of its own; whether it can read tells whether it has a quorum behind it."""
    status, asked = None, False
    try:
        async with _opened(_at(etcd, endpoint)) as api:
            try:
                status = await api.member_status(timeout=timeout)
            except EtcdRefusedError as error:
                if type(error) not in (EtcdRefusedError, InvalidAuthTokenError):
                    raise  # it refuses the password or the connection, and not the question
            asked = True
            await api.range(Range(ANY_KEY, keys_only=True), timeout=timeout)
    except EtcdLeaderError as error:
        # A permission is refused only after the read was agreed upon: here that will do.
        return _Answer(endpoint, status, None if asked and isinstance(error, EtcdRefusedError) else error)
    return _Answer(endpoint, status, None)


def _check_members(answers: list[_Answer], report: Report) -> None:
    for answer in answers:
        check = f"endpoint {answer.endpoint}"
        if answer.status is None and answer.error is None:
            what = "answers; its version is not checked, since etcd tells its status to root only"
            report(Finding(check, "ok", what))
        elif answer.status is None:
            refused = isinstance(answer.error, EtcdRefusedError)
            advice = (
                "see docs/security.md, 'When something is refused'" if refused else "is it up, and the way to it open?"
            )
            # While another one answers, the election goes on.
            level: Level = "problem" if refused or len(answers) == 1 else "warning"
            report(Finding(check, level, str(answer.error), advice))
        elif answer.error is not None:
            advice = "look at its log and at the network between the members"
            report(Finding(check, "problem", f"answers, but cannot read: {answer.error}", advice))
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
        report(Finding("cluster", "skipped", "etcd tells the status of its members to root only"))
    elif all(isinstance(answer.error, EtcdRefusedError) for answer in answers):
        advice = "see docs/security.md, 'When something is refused'"
        report(Finding("cluster", "problem", "each endpoint answers, and refuses", advice))
    else:
        report(Finding("cluster", "problem", "no endpoint answers", "nobody can lead, or will within one lease"))


def _check_cluster(statuses: list[MemberStatus], report: Report) -> None:
    clusters = {status.header.cluster_id for status in statuses}
    leaders = {status.leader for status in statuses}
    terms = sorted({status.header.raft_term for status in statuses})
    said = f"leader {', '.join(f'{leader:x}' for leader in sorted(leaders))}, raft term {', '.join(map(str, terms))}"
    if len(clusters) > 1:
        listed = ", ".join(f"{cluster:x}" for cluster in sorted(clusters))
        advice = "two clusters mean two leaders: name the members of one only"
        report(Finding("cluster", "problem", f"the endpoints belong to several clusters: {listed}", advice))
    elif 0 in leaders:
        advice = "more than half of the members must be up and reach each other"
        report(Finding("cluster", "problem", f"a member knows no leader of etcd ({said})", advice))
    elif len(leaders) > 1 or len(terms) > 1:
        advice = "run this again; if it stays so, look at etcd's log and at the latency of its disks"
        report(
            Finding("cluster", "warning", f"the members are not of one mind, as when a leader changes: {said}", advice)
        )
    else:
        report(Finding("cluster", "ok", f"one, with {said}"))


async def _check_access(etcd: EtcdConfig, report: Report, timeout: float) -> None:
    """Who is let in: found out by knocking without user and certificate."""
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
            report(Finding("authentication", "ok", f"etcd asks who it is; we are {who}"))
        else:
            advice = "set etcd.user and password, or cert and key of a user"
            report(Finding("authentication", "problem", "etcd asks who it is, and no user is set", advice))
    except EtcdLeaderError as error:
        report(Finding("authentication", "skipped", f"whether etcd asks who it is cannot be told: {error}"))
    else:
        advice = "" if near else "whoever reaches etcd can lead, and depose: see docs/security.md"
        report(Finding("authentication", serious, "off: etcd asks nobody who it is", advice))


async def _check_permissions(connection: Connection, name: str, report: Report, timeout: float) -> bool:
    """Whether a candidate may do what it has to; returns whether the queue may be read.

    etcd checks the permissions for both branches of a transaction, whichever will be taken. A transaction without
    conditions never fails, so the put in its other branch is checked and not done.
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
            f"etcdctl role grant-permission ROLE readwrite --prefix '{name}/' (docs/security.md); or, with no space: "
            "compact, defragment, disarm the alarm"
        )
        report(Finding("permissions", "problem", f"not under {name}/: {said}", advice))
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


async def _check_queue(connection: Connection, name: str, report: Report, timeout: float) -> None:
    try:
        queue = await read_queue(connection, name, timeout=timeout)
    except EtcdLeaderError as error:
        report(Finding("queue", "problem", str(error)))
        return
    odd = [candidate for candidate in queue.candidates if candidate.anomalies]
    leader = queue.leader
    said = "nobody leads" if leader is None else f"{leader.identity} leads, {len(queue.candidates) - 1} waiting"
    if not odd:
        report(Finding("queue", "ok", said))
        return
    for_ever = any(not candidate.lease_id for candidate in odd)
    keys = "; ".join(f"{each.key.decode(errors='replace')} {', '.join(each.anomalies)}" for each in odd[:5])
    advice = f"etcdleader status {name} shows them; delete those that nobody stands behind (etcdctl del KEY)"
    report(Finding("queue", "problem" if for_ever else "warning", f"{said}; odd keys: {keys}", advice))


async def _check_lease(connection: Connection, config: Config, report: Report, timeout: float) -> None:
    lease_id = secrets.randbelow(2**63 - 1) + 1
    try:
        least = (await connection.lease_grant(1, lease_id, timeout=timeout)).ttl
        await connection.lease_revoke(lease_id, timeout=timeout)
    except EtcdLeaderError as error:
        report(Finding("lease", "problem", f"cannot be had and given back: {error}", "may this user grant leases?"))
        return
    said = f"etcd grants and revokes; asked for 1 s it grants {least} s"
    if config.lease < least:
        advice = f"set lease = {least}s: etcd will not grant less (1.5 of its election timeout)"
        report(Finding("lease", "warning", f"{said}, more than lease = {config.lease:g} s", advice))
    elif config.lease < MIN_RECOMMENDED_LEASE:
        advice = f"each change of etcd's own leader can cost a lease below {MIN_RECOMMENDED_LEASE:g} s"
        report(Finding("lease", "warning", f"{said}; lease = {config.lease:g} s is short", advice))
    else:
        report(Finding("lease", "ok", f"{said}, its least"))


async def _check_round_trip(api: EtcdApi, config: Config, name: str | None, report: Report, timeout: float) -> None:
    key = ANY_KEY if name is None else election_prefix(name)
    times: list[float] = []
    for _ in range(_READS):
        began_at = time.monotonic()
        try:
            await api.range(Range(key, keys_only=True), timeout=timeout)
        except EtcdRefusedError:
            pass  # only after the read was agreed upon
        except EtcdLeaderError as error:
            report(
                Finding("round trip", "problem", f"read {len(times) + 1} of {_READS} failed: {error}", "look at etcd")
            )
            return
        times.append(time.monotonic() - began_at)
    # A renewal is three of them, one after the other: a keep-alive, a proposal and a read.
    middle, longest = 3 * statistics.median(times), 3 * max(times)
    needed = config.renew + 2 * config.retry + config.margin
    said = (
        f"a renewal takes about {middle * 1000:.1f} ms, {longest * 1000:.1f} ms at worst; each attempt has retry = "
        f"{config.retry:g} s; renew + 2 * retry + margin = {needed:g} s of lease = {config.lease:g} s"
    )
    if longest > config.retry:
        report(Finding("lease budget", "problem", said, "raise retry above it, and lease so that the sum fits"))
    elif longest > config.retry / 2 or middle > config.retry / 10:
        report(Finding("lease budget", "warning", said, "retry is near what a renewal takes: raise it, and lease"))
    else:
        report(Finding("lease budget", "ok", said))


async def _check_pings(api: EtcdApi, name: str | None, report: Report, timeout: float, hold: float) -> None:
    rule = (
        "idle connections are pinged every 10 s; etcd hangs up on who pings more often than its "
        "--grpc-keepalive-min-time (5 s by default)"
    )
    if not hold:
        report(
            Finding("pings", "skipped", rule, "--hold 60s holds a stream open for so long, and sees whether it stays")
        )
        return
    broken: list[EtcdLeaderError] = []
    over = anyio.Event()

    def sink(message: WatchMessage) -> None:
        if isinstance(message, WatchBroken | WatchCanceled):
            broken.append(message.error)
            over.set()

    prefix = ANY_KEY if name is None else election_prefix(name)
    handle = api.watch(prefix, sink=sink, timeout=timeout)
    try:
        with anyio.move_on_after(hold):
            await over.wait()
    finally:
        handle.close()
    if broken and isinstance(broken[0], EtcdRefusedError):
        report(Finding("pings", "skipped", f"no stream can be held open: {broken[0]}"))
    elif broken:
        advice = (
            "set --grpc-keepalive-min-time below 10 s; look for a proxy that cuts off what is idle; was etcd restarted?"
        )
        report(Finding("pings", "problem", f"the stream broke within {hold:g} s: {broken[0]}", advice))
    else:
        report(Finding("pings", "ok", f"a stream stood for {hold:g} s; {rule}"))
