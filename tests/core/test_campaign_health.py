"""The health of a campaign at any moment at which another thread may read it."""

from __future__ import annotations

from etcdleader import Config
from etcdleader._managers.campaign_health import CampaignHealth
from etcdleader.model import HealthState


def test_a_campaign_that_begins_is_never_reported_as_wedged() -> None:
    """A probe that reads in the middle of the beginning would restart the process, or receive an exception."""
    now = [1000.0]
    read: list[HealthState] = []
    reading = [False]

    def clock() -> float:
        """Another thread reads the health while this one reads the clock."""
        if not reading[0]:
            reading[0] = True
            read.append(health.health(None, position=None, blocked_by=None, renewals_fail=False).state)
            reading[0] = False
        return now[0]

    health = CampaignHealth(Config(), clock)
    for _ in range(2):
        health.campaign_begins()
        health.campaign_ends()
        now[0] += 1000  # longer than a standby may show no activity
    assert set(read) <= {HealthState.NOT_CAMPAIGNING, HealthState.STANDBY}
    assert len(read) == 2
