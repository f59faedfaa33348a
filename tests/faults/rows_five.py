"""A fault that requires five members: one that has caught up by a raft snapshot reports an old raft term.

With five members, three elect a leader and agree while the former leader is frozen. So the fourth may need entries that
their logs no longer have. With three members, only the former leader itself can catch up in this way (docs/safety.md).
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from etcdleader.testing._etcd_member import plain_environment
from tests.faults.campaign import Campaign
from tests.faults.cluster import OperatorError, b64
from tests.faults.history import Injection
from tests.faults.many import ManyCampaign
from tests.faults.rows_members import frozen

__all__ = ("MEMBERS", "ROWS", "etcd_args", "why_not_on")

MEMBERS = 5
_ENTRIES = 320
"""More entries than any member keeps in its log. Since 3.6, a member checks only after each hundred whether to compact it."""
_PATIENCE = 15.0
_CUT_OFF = 0.7
"""Seconds for which a woken member receives nothing. Twice a second, etcd's leader checks for expired leases. It revokes
sixteen at a time. The others wait for seven seconds, and then its successor revokes them."""


def etcd_args(etcd: Path) -> tuple[str, ...]:
    """Return the options with which a member compacts its raft log early, or none if this etcd has no such option."""
    for spelling in ("--snapshot-catchup-entries", "--experimental-snapshot-catchup-entries"):
        arguments = ("--snapshot-count", "10", spelling, "5")
        # etcd 3.5 has the option, and leaves it out of its help.
        tried = subprocess.run(
            [etcd, *arguments, "--version"], capture_output=True, check=False, timeout=30, env=plain_environment()
        )
        if tried.returncode == 0:
            return arguments
    return ()


def why_not_on(etcd: Path) -> str:
    """Return why the row would show nothing on this etcd, or an empty string."""
    return "" if etcd_args(etcd) else "no option makes it compact its raft log early (3.5.35 and later have one)"


def wake_behind_a_snapshot(campaign: Campaign) -> None:
    """All candidates use one member. It is paused until it lags, then etcd's leader freezes, and another is elected."""
    assert isinstance(campaign, ManyCampaign)
    campaign.settle(everybody=True)
    if len(campaign.injections) % 2:
        campaign.hand_all_over()
    leader = campaign.cluster.wait_leader()
    lagging = campaign.chance.choice([number for number in range(MEMBERS) if number != leader])
    silent = campaign.chance.choice([True, False])
    for candidate in campaign.candidates:
        campaign.pin(candidate, lagging)
    campaign.sleep(campaign.options.renew + 2 * campaign.options.retry)
    campaign.wait_all_led(campaign.elections)
    _wait_no_old_leases(campaign)
    note = f"m{leader}, the leader of etcd, is frozen for longer than a lease, and all candidates use m{lagging}, which lags"
    with campaign.injection("A19", note, keeps=True) as injection:
        if silent:
            injection.note += ", and watches are silent"
            for candidate in campaign.candidates:
                candidate.link(drop_watch=True)
        _wake(campaign, injection, leader, lagging)
        for candidate in campaign.candidates:
            candidate.clear()


def _wait_no_old_leases(campaign: Campaign) -> None:
    """Wait until the leases from which keys have moved are gone: their end would be an entry of a later raft term."""
    until = time.monotonic() + 2 * campaign.lease
    while len(campaign.cluster.call("lease/leases", {}).get("leases", ())) > len(campaign.standing_anywhere()):
        if time.monotonic() > until:
            raise OperatorError(f"leases without a key after {2 * campaign.lease:g} s")
        campaign.sleep(0.1)


def _wake(campaign: Campaign, injection: Injection, leader: int, lagging: int) -> None:
    members = campaign.cluster.members
    rest = [number for number in range(MEMBERS) if number not in (leader, lagging)]
    raft_term = _raft_term(campaign, leader)
    snapshots = members[lagging].snapshots_received()
    with _lags(campaign, leader, lagging):
        for number in rest:
            campaign.network.set_blackhole(f"m{number}", f"m{leader}", on=True)
        with frozen(campaign, injection, leader, awake=lambda: _receives_nothing_yet(campaign)):
            until = time.monotonic() + campaign.lease + 1
            successor = _wait_successor(campaign, rest, raft_term)
            members[lagging].resume()
            campaign.sleep(until - time.monotonic())
            injection.note += (
                f": m{successor} leads etcd in raft term {_raft_term(campaign, successor)}, m{lagging} reports "
                f"{_raft_term(campaign, lagging)} after {members[lagging].snapshots_received() - snapshots} snapshot"
            )
    if members[lagging].snapshots_received() == snapshots:
        raise OperatorError(f"m{lagging} caught up without a snapshot")


def _receives_nothing_yet(campaign: Campaign) -> None:
    """Delay a woken member's connection to its successor. Until then, the member considers itself etcd's leader."""
    campaign.sleep(_CUT_OFF)
    campaign.network.heal()


@contextlib.contextmanager
def _lags(campaign: Campaign, leader: int, lagging: int) -> Iterator[None]:
    """Pause a member until it is behind the raft log of all others, and keep from it what etcd's leader has sent."""
    nodes, member = campaign.cluster.nodes, campaign.cluster.members[lagging]
    # What waits in the kernel would bring the member up to date when it is resumed.
    campaign.network.set_blackhole(nodes[leader], nodes[lagging], on=True)
    member.pause()
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: _write(campaign, leader), range(_ENTRIES)))
        yield
    finally:
        member.resume()
        campaign.network.heal()


def _write(campaign: Campaign, member: int) -> None:
    campaign.cluster.call("kv/put", {"key": b64("faults/lag"), "value": ""}, member=member)


def _wait_successor(campaign: Campaign, members: Sequence[int], raft_term: int) -> int:
    """Wait until one of these members leads etcd in a later raft term and has applied an entry of it."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        for number in members:
            with contextlib.suppress(OperatorError):
                if _leads(campaign, number) and _raft_term(campaign, number) > raft_term:
                    return number
        campaign.sleep(0.05)
    raise OperatorError(f"no other leader of etcd within {_PATIENCE:g} s")


def _leads(campaign: Campaign, number: int) -> bool:
    """Return whether this member considers itself the leader of etcd."""
    status = campaign.cluster.call("maintenance/status", {}, member=number, timeout=0.5)
    return bool(status.get("leader") == status["header"]["member_id"])


def _raft_term(campaign: Campaign, number: int) -> int:
    """Return the raft term in the headers of this member: that of the last entry which it has applied."""
    return int(campaign.cluster.call("maintenance/status", {}, member=number)["header"].get("raft_term", 0))


ROWS = {"A19": wake_behind_a_snapshot}
