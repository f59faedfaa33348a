"""Clusters that lose data: wiped, restored from a snapshot, or restored with a revision above all known ones."""

from __future__ import annotations

import time
from pathlib import Path

from tests.faults.campaign import ELECTION, Campaign
from tests.faults.cluster import b64
from tests.faults.history import Injection

__all__ = ("ROWS",)

_REVISIONS_AHEAD = 12
"""The least number of revisions that the cluster loses, so that candidates can detect the loss."""


def wipe(campaign: Campaign) -> None:
    campaign.settle(everybody=True)  # a candidate without any response yet has no revision to compare
    _run_on(campaign, 1)
    with campaign.injection("A4", "all members are killed, and start again without their data") as injection:
        campaign.cluster.kill_all()
        campaign.cluster.wipe()
        _end_of_an_era(campaign, injection)
    _start_all(campaign)


def restore(campaign: Campaign) -> None:
    campaign.settle(everybody=True)  # a candidate without any response yet has no revision to compare
    snapshot = _snapshot(campaign)
    _run_on(campaign, campaign.cluster.revision())
    with campaign.injection(
        "A5", "all members are killed, and the operator restores them from a snapshot some revisions old"
    ) as injection:
        campaign.cluster.kill_all()
        campaign.cluster.restore(snapshot)
        _end_of_an_era(campaign, injection)
    _start_all(campaign)


def restore_raised(campaign: Campaign) -> None:
    """Restore with raised revisions, by ``--bump-revision --mark-compacted`` from 3.4.27 and 3.5.10 on.

    ``snapshot restore`` lacks these before. There, the operator writes and compacts while no candidate reaches the cluster.
    """
    campaign.settle(everybody=True)  # a candidate without any response yet has no revision to compare
    snapshot = _snapshot(campaign)
    _run_on(campaign, campaign.cluster.revision())
    head = campaign.cluster.revision() + _REVISIONS_AHEAD
    raised_by = head if campaign.cluster.can_raise_revisions() else 0
    with campaign.injection(
        "A6", "the operator restores all members from a snapshot, with revisions above all that a client has received"
    ) as injection:
        with campaign.cut(injection, *campaign.candidates):
            for candidate in campaign.candidates:
                candidate.link(refuse=True)
            campaign.cluster.kill_all()
            campaign.cluster.restore(snapshot, raised_by=raised_by)
            campaign.cluster.start()
            if not raised_by:
                while campaign.cluster.revision() <= head:
                    campaign.cluster.call("kv/put", {"key": b64("faults/raised"), "value": b64("x")})
                campaign.cluster.call("kv/compaction", {"revision": campaign.cluster.revision()})
            elif campaign.cluster.revision() <= head:
                campaign.complain(f"A6: the restored revision is not above {head}")
        for candidate in campaign.candidates:
            candidate.clear()
        campaign.sleep(2 * campaign.options.renew)


def _snapshot(campaign: Campaign) -> Path:
    path = campaign.folder / f"snapshot-{len(campaign.injections)}.db"
    campaign.cluster.snapshot(path)
    return path


def _run_on(campaign: Campaign, since: int) -> None:
    until = time.monotonic() + 10
    while campaign.cluster.revision() < since + _REVISIONS_AHEAD and time.monotonic() < until:
        campaign.sleep(0.2)


def _end_of_an_era(campaign: Campaign, injection: Injection) -> None:
    """Start the cluster, and wait until every candidate has ended, as each must after a regression."""
    campaign.begin_era()
    campaign.cluster.start()
    until = time.monotonic() + campaign.lease + 5
    for candidate in campaign.candidates:
        if not candidate.wait(max(0.1, until - time.monotonic())):
            campaign.complain(f"{injection.row}: {candidate.name} did not notice that {ELECTION} went back in time")
            candidate.kill()
        elif not any(line["kind"] == "regressed" for line in candidate.everything()):
            campaign.complain(f"{injection.row}: {candidate.name} ended, but not by EtcdRegressedError")


def _start_all(campaign: Campaign) -> None:
    for candidate in campaign.candidates:
        campaign.died(candidate)
        campaign.start(candidate)


ROWS = {"A4": wipe, "A5": restore, "A6": restore_raised}
