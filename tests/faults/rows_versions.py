"""The rolling upgrade of a cluster, from 3.5 to 3.6 to 3.7, and the downgrade to 3.6. Each injection replaces one member.
The first one of each row stays down for longer than a lease, so that no leader can wait for it to come back.

The steps are those of docs/operating.md:

- SIGTERM goes to one member at a time.
- 3.6 takes a raft snapshot on each member before 3.7 starts on its data.
- The downgrade is enabled before the first member is replaced.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence

from etcdleader.testing import EtcdServerError
from etcdleader.testing._etcd_binary import find_etcd
from tests.faults.campaign import Campaign
from tests.faults.candidate import Candidate
from tests.faults.cluster import OperatorError, b64
from tests.faults.history import Injection
from tests.faults.many import ManyCampaign
from tests.versions.listed import LISTED

__all__ = ("ETCD_ARGS", "MIDDLE", "NEWEST", "OLDEST", "ROUTE", "ROWS", "in_order", "starts_on", "versions_missing")

SNAPSHOT_COUNT = 100
"""Writes after which a member takes a raft snapshot. 3.5 takes its first after 100000, 3.6 after 10000."""
ETCD_ARGS = ("--snapshot-count", str(SNAPSHOT_COUNT))
OLDEST, MIDDLE, NEWEST = (
    [entry.version for entry in LISTED if entry.version.startswith(minor)][-1] for minor in ("3.5.", "3.6.", "3.7.")
)
ROUTE = f"{OLDEST}, {MIDDLE}, {NEWEST}, and back to {MIDDLE}"
_PATIENCE = 20.0
"""Seconds for a snapshot, or for the monitor that compares the versions of all members every five seconds."""


def upgrade_to_3_6(campaign: Campaign) -> None:
    _replace_next(campaign, "U1", OLDEST, MIDDLE)


def upgrade_to_3_7(campaign: Campaign) -> None:
    """3.7 cannot replay entries that 3.5 wrote to the raft log. After a snapshot it need not."""
    if _number_on(campaign, MIDDLE) == 3:
        _wait_until_cluster_is_on(campaign, MIDDLE)
        _take_snapshots(campaign)
    _replace_next(campaign, "U2", MIDDLE, NEWEST)


def downgrade_to_3_6(campaign: Campaign) -> None:
    if _number_on(campaign, NEWEST) == 3:
        _wait_until_cluster_is_on(campaign, NEWEST)
        _enable_downgrade(campaign, MIDDLE)
    _replace_next(campaign, "U3", NEWEST, MIDDLE)


ROWS = {"U1": upgrade_to_3_6, "U2": upgrade_to_3_7, "U3": downgrade_to_3_6}
_FROM = {"U1": OLDEST, "U2": MIDDLE, "U3": NEWEST}


def in_order(rows: Sequence[str]) -> Iterator[str]:
    """Return each row once for each member."""
    return (row for row in ROWS if row in rows for _ in range(3))


def starts_on(rows: Sequence[str]) -> str:
    """Return the version that the members start on, for these rows."""
    return next(_FROM[row] for row in ROWS if row in rows)


def versions_missing(find: Callable[..., object] = find_etcd) -> str:
    """Return why the versions cannot be had, or an empty string. They are built unless ``find`` only searches."""
    if os.environ.get("ETCD_BINARY"):
        return "ETCD_BINARY names one etcd for all"
    for version in (OLDEST, MIDDLE, NEWEST):
        try:
            found = find(version=version)
        except EtcdServerError as error:
            return str(error).partition("\n")[0]
        if found is None:
            return f"etcd {version} is not built yet (make etcds)"
    return ""


def _replace_next(campaign: Campaign, row: str, old: str, new: str) -> None:
    """Replace the first member that is still on the old version.

    Raises:
        OperatorError: There is none: an earlier step failed.
    """
    on_old = [number for number, member in enumerate(campaign.cluster.members) if member.version() == old]
    if not on_old:
        raise OperatorError(f"no member is on {old}")
    number = on_old[0]
    holder = _next_leader(campaign)
    leads = "the leader of etcd" if campaign.cluster.wait_leader() == number else "a follower"
    used = holder.used_member() == number
    down = campaign.lease + 1 if len(on_old) == len(campaign.cluster.members) else 0
    uses = f" and the endpoint of {holder.name}" if used else ""
    note = f"the operator replaces m{number}, {leads}{uses}, from {old} to {new}"
    note += f", which is down for {down:g} s" if down else ""
    with campaign.injection(row, note, keeps=True) as injection:
        campaign.cluster.members[number].terminate()
        campaign.sleep(down)
        campaign.cluster.start_on(number, new)
        injection.note += f": now {', '.join(member.version() for member in campaign.cluster.members)}"
        # A failed renewal is retried, and the row waits until the one after it has succeeded.
        campaign.sleep(campaign.options.renew + 2 * campaign.options.retry)
    if lost := _lost(campaign, injection):
        campaign.complain(f"{row}: {lost} leaderships were lost: {injection.note}")


def _lost(campaign: Campaign, injection: Injection) -> int:
    """Return the number of leaders at the beginning that no longer lead with the same token."""
    holder = campaign.holder()
    before = injection.tokens or {"": injection.token}
    after = campaign.tokens() or {"": holder.token if holder else 0}
    return sum(after.get(name) != token for name, token in before.items())


def _next_leader(campaign: Campaign) -> Candidate:
    """Let leadership change to each backend in turn: asyncio, trio, and etcd's Go client if it is there."""
    holder = campaign.settle(everybody=True)
    if not campaign.injections:
        return holder
    if isinstance(campaign, ManyCampaign):
        if len(campaign.injections) % 3 == 0:
            campaign.hand_all_over()
        return campaign.settle(everybody=True)
    backends = list(dict.fromkeys(candidate.backend for candidate in campaign.candidates))
    wanted = backends[len(campaign.injections) % len(backends)]
    for _ in campaign.candidates:
        if holder.backend == wanted:
            break
        token = holder.token
        holder.send_command("resign")
        holder = campaign.wait_holder(above=token)
    return campaign.settle(everybody=True)


def _number_on(campaign: Campaign, version: str) -> int:
    return sum(member.version() == version for member in campaign.cluster.members)


def _wait_until_cluster_is_on(campaign: Campaign, version: str) -> None:
    """Wait until all members have agreed on the version's minor version."""
    minor = f"{version.rpartition('.')[0]}.0"
    _wait(campaign, f"a cluster version of {minor}", lambda: campaign.cluster.members[0].cluster_version() == minor)


def _take_snapshots(campaign: Campaign) -> None:
    """Write until each member has taken a raft snapshot since it was started."""
    started = [member.started_at for member in campaign.cluster.members]

    def taken() -> bool:
        for _ in range(SNAPSHOT_COUNT // 4):
            campaign.cluster.call("kv/put", {"key": b64("faults/snapshot"), "value": ""})
        newest = [_newest_snapshot(campaign, number) for number in range(len(started))]
        return all(snapshot > start for snapshot, start in zip(newest, started, strict=True))

    _wait(campaign, "a raft snapshot of each member", taken)


def _newest_snapshot(campaign: Campaign, number: int) -> float:
    snapshots = (campaign.cluster.members[number].data_dir / "member" / "snap").glob("*.snap")
    return max((path.stat().st_mtime for path in snapshots), default=0.0)


def _enable_downgrade(campaign: Campaign, version: str) -> None:
    """Enable it, and wait until every member stores its data in the older version's form."""
    minor = version.rpartition(".")[0]
    for action in ("VALIDATE", "ENABLE"):
        campaign.cluster.call("maintenance/downgrade", {"action": action, "version": minor}, timeout=10)

    def ready() -> bool:
        every = range(len(campaign.cluster.members))
        answers = [campaign.cluster.call("maintenance/status", {}, member=number) for number in every]
        return all(answer.get("storageVersion") == f"{minor}.0" for answer in answers)

    _wait(campaign, f"data in the form of {minor}", ready)


def _wait(campaign: Campaign, what: str, holds: Callable[[], bool]) -> None:
    until = time.monotonic() + _PATIENCE
    while not holds():
        if time.monotonic() > until:
            raise OperatorError(f"no {what} within {_PATIENCE:g} s")
        campaign.sleep(0.2)
