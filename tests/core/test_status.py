"""The allowed transitions of the status."""

from __future__ import annotations

import itertools
import time
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import pytest

from etcdleader import Config, EtcdLeaderError, EtcdRefusedError, EtcdUnavailableError, Term
from etcdleader._managers.reporter import Reporter
from etcdleader.metrics import GuardedMetrics
from etcdleader.model import LeaderStatus, LossReason

INIT, ELECTED, OUSTED = LeaderStatus
HOOKS = [each.name for each in fields(Reporter) if each.name.startswith("on_")]
"""The hooks of one campaign."""


def unused(*_: object, **__: object) -> Any:
    raise AssertionError("nothing here asks for the lease")


TERM = Term(
    token=7,
    identity="a#1",
    election="jobs",
    key="jobs/1",
    lease_id=1,
    elected_at=datetime.now(UTC),
    loss_reason=LossReason.RESIGNED,
    _lease_is_valid=unused,
    _remaining=unused,
    _wait=lambda seconds: True,
    _guard=unused,
    _transact=unused,
    _attach=unused,
)


@pytest.mark.parametrize(("before", "after"), list(itertools.product(LeaderStatus, [ELECTED, OUSTED])))
def test_a_term_begins_only_without_a_term_and_ends_only_with_one(before: LeaderStatus, after: LeaderStatus) -> None:
    """These are two terms at once, or the end of a term that never began.

    Without an error, a broken manager would go unnoticed.
    """
    reporter = Reporter("a#1", Config(), GuardedMetrics(), time.monotonic)
    reporter.status = before

    def report() -> None:
        if after is ELECTED:
            reporter.elected(TERM)
        else:
            reporter.ousted(TERM, 0.0)

    if (before, after) in {(INIT, ELECTED), (OUSTED, ELECTED), (ELECTED, OUSTED)}:
        report()
        assert reporter.status is after
    else:
        with pytest.raises(RuntimeError, match=f"is {before.name} cannot become {after.name}"):
            report()
        assert reporter.status is before


def test_errors_after_a_campaign_reach_no_callback_of_it() -> None:
    """A connection may report an error while it closes. The task group of the callbacks has ended by then."""
    reported: list[EtcdLeaderError] = []
    reporter = Reporter("a#1", Config(), GuardedMetrics(), time.monotonic)
    reporter.campaign_begins()
    reporter.on_error = reported.append
    reporter.etcd_failed(first := EtcdUnavailableError("no response"))
    assert reported == [first]
    reporter.campaign_ends()
    reporter.etcd_failed(EtcdRefusedError("permission denied"))
    assert reported == [first]


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_of_a_campaign_is_reset_at_its_end(hook: str) -> None:
    reporter = Reporter("a#1", Config(), GuardedMetrics(), time.monotonic)
    default = getattr(reporter, hook)
    reporter.campaign_begins()
    setattr(reporter, hook, unused)
    reporter.campaign_ends()
    assert getattr(reporter, hook) is default
