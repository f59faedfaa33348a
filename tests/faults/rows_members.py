"""Faults of members: killed, frozen, cut off from each other, full, compacted, replaced."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from tests.faults.campaign import Campaign
from tests.faults.candidate import Candidate
from tests.faults.cluster import OperatorError, b64
from tests.faults.history import Injection

__all__ = ("ROWS",)

_NONE = "0"
_SILENT = 0.5
"""The fraction of freezes of the cluster leader during which watches deliver no events."""


def corrupts_when_killed(version: str) -> bool:
    """Return whether an etcd killed under load may restart with different data than the others (etcd#13766)."""
    return version in ("3.5.0", "3.5.1", "3.5.2")


def kill_etcd_leader(campaign: Campaign) -> None:
    campaign.settle()
    leader = campaign.cluster.wait_leader()
    with campaign.injection("A1", f"m{leader}, the leader of etcd, is killed", keeps=True):
        campaign.cluster.members[leader].kill()
        campaign.sleep(2.5)
        campaign.cluster.members[leader].restart()


def kill_used_member(campaign: Campaign) -> None:
    holder = campaign.settle()
    used = holder.used_member()
    if campaign.cluster.wait_leader() == used:
        _transfer(campaign, used, (used + 1) % 3)
        campaign.sleep(0.5)
        used = holder.used_member()
    with campaign.injection("A2", f"m{used}, which the leader {holder.name} uses, is killed", keeps=True):
        campaign.cluster.members[used].kill()
        campaign.sleep(2.0)
        campaign.cluster.members[used].restart()


def kill_all_members(campaign: Campaign) -> None:
    campaign.settle()
    seconds = campaign.chance.choice([0.5, 1.5, campaign.lease + 0.5])
    with campaign.injection("A3", f"all members are killed for {seconds:g} s", keeps=seconds < 2) as injection:
        campaign.cluster.kill_all()
        with campaign.cut(injection, *campaign.candidates):
            campaign.sleep(seconds)
        campaign.cluster.start()


def freeze_etcd_leader(campaign: Campaign) -> None:
    campaign.settle()
    leader = campaign.cluster.wait_leader()
    seconds = campaign.chance.choice([3.0, 10.0, 10.0])
    silent = campaign.chance.random() < _SILENT
    note = f"m{leader}, the leader of etcd, is frozen for {seconds:g} s{', and watches are silent' if silent else ''}"
    with campaign.injection("A7", note, keeps=True) as injection:
        if silent:
            # Without its watch a leader would detect only at its next renewal that its lease was revoked.
            for candidate in campaign.candidates:
                candidate.link(drop_watch=True)
        try:
            freeze(campaign, injection, leader, seconds)
        finally:
            if silent:
                for candidate in campaign.candidates:
                    candidate.clear()


def freeze(campaign: Campaign, injection: Injection, member: int, seconds: float) -> None:
    """Freeze a member, which may be the leader of etcd, for a while."""
    with frozen(campaign, injection, member):
        campaign.sleep(seconds)


@contextlib.contextmanager
def frozen(
    campaign: Campaign, injection: Injection, member: int, *, awake: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Freeze a member until the end of the block, and record the keys that are deleted after it has woken up.

    Args:
        campaign: The campaign of the member.
        injection: Receives the tokens of the deleted keys.
        member: Its number.
        awake: Called when the member has just woken up.
    """
    campaign.cluster.members[member].pause()
    try:
        yield
        stood = _standing(campaign, avoid=member)
    finally:
        campaign.cluster.members[member].resume()
    awake()
    # etcd#15247: a leader that wakes up revokes leases that have expired by its own clock. Its successor may have
    # renewed them. Leaders must have moved to other leases by then, and S10 checks that. Hundreds of revocations take
    # seconds. A failed one is repeated after its request has timed out, which takes seven seconds. A short freeze has
    # the same effect, because an earlier leader of etcd may have renewed the expired leases.
    quiet = 9
    gone: set[int] = set()
    quiet_since = woke = time.monotonic()
    while time.monotonic() < min(quiet_since + quiet, woke + 40):
        campaign.sleep(0.2)
        now_gone = stood - _standing(campaign)
        if now_gone - gone:
            gone, quiet_since = now_gone, time.monotonic()
    injection.woken += sorted(gone)


def isolate_leader_with_holder(campaign: Campaign) -> None:
    holder, leader = _holder_on_leader(campaign)
    note = f"the network cuts off m{leader} and {holder.name} from the other members"
    with (
        campaign.injection("A8", note) as injection,
        _isolated(campaign, leader),
        campaign.cut(injection, holder),
    ):
        campaign.wait_until_over(holder, injection.token, campaign.lease + 2)
        campaign.sleep(0.5)


def isolate_leader_and_revoke(campaign: Campaign) -> None:
    holder, leader = _holder_on_leader(campaign)
    note = f"as A8 with {holder.name}, whose lease the other members revoke"
    with (
        campaign.injection("A9", note) as injection,
        _isolated(campaign, leader),
        campaign.cut(injection, holder),
    ):
        injection.deleted.append(injection.token)
        lease = _lease_of(campaign, injection.token, avoid=leader)
        _revoke(campaign, lease, avoid=leader)
        campaign.wait_until_over(holder, injection.token, campaign.lease + 2)
        campaign.sleep(0.3)


def transfer_with_one_way_partition(campaign: Campaign) -> None:
    """Transfer etcd's leadership while its old leader receives nothing from the others: the worst case that was found."""
    holder, leader = _holder_on_leader(campaign)
    target = campaign.chance.choice([number for number in range(3) if number != leader])
    target_id = campaign.cluster.member_id(target)
    with campaign.injection(
        "A10",
        f"m{leader}, which {holder.name} uses, transfers etcd's leadership to m{target} and receives nothing more",
    ) as injection:
        others = [node for node in campaign.cluster.nodes if node != f"m{leader}"]
        try:
            # It cannot confirm data that it does not receive. What it sends still arrives.
            for node in others:
                campaign.network.set_blackhole(node, f"m{leader}", on=True)
            with campaign.cut(injection, holder):
                threading.Thread(target=_hand_over, args=(campaign, leader, target_id), daemon=True).start()
                campaign.sleep(0.4)
                # A term that begins within an election timeout was begun by the transfer, not by an election.
                injection.note += ": done" if campaign.cluster.follows(target, target_id) else ": refused"
                campaign.wait_until_over(holder, injection.token, campaign.lease + 2)
                campaign.sleep(0.3)
        finally:
            campaign.network.heal()


def fill_quota(campaign: Campaign) -> None:
    holder = campaign.settle()
    waiting = [candidate for candidate in campaign.candidates if candidate is not holder]
    newcomer = campaign.chance.choice(waiting)
    with campaign.injection(
        "A13", f"etcd raises the NOSPACE alarm, and {newcomer.name} restarts meanwhile", keeps=True
    ):
        junk = {"key": b64("faults/junk"), "value": b64("x" * 1_000_000)}
        for _ in range(64):
            try:
                campaign.cluster.call("kv/put", junk)
            except OperatorError as error:
                if "space" in str(error):
                    break
        newcomer.kill()
        campaign.died(newcomer)
        campaign.start(newcomer)
        campaign.sleep(2.0)
        campaign.cluster.make_space()


def compact_behind(campaign: Campaign) -> None:
    campaign.settle()
    with campaign.injection(
        "A15", "the operator compacts etcd at its current revision again and again, while connections break", keeps=True
    ):
        for round_ in range(12):
            with contextlib.suppress(OperatorError):
                campaign.cluster.call("kv/compaction", {"revision": campaign.cluster.revision()})
            if round_ % 4 == 1:
                for candidate in campaign.candidates:
                    candidate.link(candidate.used_member(), reset=True)
            campaign.sleep(0.2)


def replace_member(campaign: Campaign) -> None:
    holder = campaign.settle()
    used = holder.used_member()
    with campaign.injection(
        "A17", f"the operator removes m{used}, which {holder.name} uses, from the cluster and adds it again", keeps=True
    ):
        campaign.cluster.replace(used)


# Parts


def _holder_on_leader(campaign: Campaign) -> tuple[Candidate, int]:
    """Let the leading candidate reach the leader of etcd only, and wait until its renewals go there."""
    holder = campaign.settle()
    leader = campaign.cluster.wait_leader()
    campaign.pin(holder, leader)
    campaign.sleep(campaign.options.renew + 2 * campaign.options.retry)
    return campaign.wait_holder(), leader


@contextlib.contextmanager
def _isolated(campaign: Campaign, leader: int) -> Iterator[None]:
    nodes = campaign.cluster.nodes
    others = [node for node in nodes if node != nodes[leader]]
    try:
        for node in others:
            campaign.network.set_blackhole(node, nodes[leader], on=True)
            campaign.network.set_blackhole(nodes[leader], node, on=True)
        yield
    finally:
        campaign.network.heal()


def _transfer(campaign: Campaign, leader: int, target: int) -> None:
    _hand_over(campaign, leader, campaign.cluster.member_id(target))


def _hand_over(campaign: Campaign, leader: int, target_id: str) -> None:
    with contextlib.suppress(OperatorError):
        campaign.cluster.call("maintenance/transfer-leadership", {"targetID": target_id}, member=leader, timeout=3.0)


def _lease_of(campaign: Campaign, token: int, *, avoid: int | None = None) -> str:
    """Return the lease of the key created at this revision. Wait for a leader if there is none."""
    until = time.monotonic() + 6
    while time.monotonic() < until:
        with contextlib.suppress(OperatorError):
            for kv in campaign.standing(avoid=avoid):
                if int(kv["create_revision"]) == token:
                    return str(kv["lease"])
            break
        time.sleep(0.05)
    return _NONE


def _standing(campaign: Campaign, *, avoid: int | None = None) -> set[int]:
    """Return the create_revisions of all keys. Wait for a leader if there is none.

    Raises:
        OperatorError: There is none for too long.
    """
    until = time.monotonic() + 6
    while True:
        try:
            return {int(kv["create_revision"]) for kv in campaign.standing_anywhere(avoid=avoid)}
        except OperatorError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def _revoke(campaign: Campaign, lease: str, *, avoid: int | None = None) -> None:
    with contextlib.suppress(OperatorError):
        campaign.cluster.call("lease/revoke", {"ID": lease}, avoid=avoid)


ROWS = {
    "A1": kill_etcd_leader,
    "A2": kill_used_member,
    "A3": kill_all_members,
    "A7": freeze_etcd_leader,
    "A8": isolate_leader_with_holder,
    "A9": isolate_leader_and_revoke,
    "A10": transfer_with_one_way_partition,
    "A13": fill_quota,
    "A15": compact_behind,
    "A17": replace_member,
}
KILLS = {"A1", "A2", "A3"}
"""The rows that kill members under load."""
NEEDS_NAMESPACES = {"A8", "A9", "A10"}
