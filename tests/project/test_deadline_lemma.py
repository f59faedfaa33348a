"""The lemma of the trusted deadline, checked by z3 for all values, and the numbers on the page about safety."""

from __future__ import annotations

import re

import pytest

from etcdleader import Config
from proof.deadline import ASSUMPTIONS, allowed_drift, counterexample, simple_bound_counterexample
from tests.helpers.paths import ROOT

PAGE = (ROOT / "docs" / "safety.md").read_text()


def test_no_member_has_applied_a_revocation_while_a_client_trusts_the_lease() -> None:
    assert counterexample() is None


@pytest.mark.parametrize("assumption", ASSUMPTIONS)
def test_each_assumption_is_needed(assumption: str) -> None:
    assert counterexample(assumption) is not None


def test_a_total_drift_of_margin_by_ttl_is_always_allowed() -> None:
    assert simple_bound_counterexample() is None


@pytest.mark.parametrize("lease", [1, 5, 10, 60, 3600])
def test_the_bound_is_exact_for_a_clock_that_is_too_slow(lease: float) -> None:
    """A little more drift than the page allows has a counterexample."""
    margin = _default_margin(lease)
    values = {"ttl": lease, "margin": margin, "member_drift": 0}
    drift = allowed_drift(lease, margin)
    needs = "the margin covers the drift"
    assert counterexample(needs, **values, client_drift=drift) is None
    assert counterexample(needs, **values, client_drift=drift * 1.001) is not None


def test_the_page_has_the_default_margins_and_the_drift_that_they_allow() -> None:
    rows = re.findall(r"^\| (\d+) s \| ([\d.]+) s \| ([\d.]+) % \|$", PAGE, re.MULTILINE)
    assert len(rows) == 4
    for lease, margin, percent in rows:
        assert float(margin) == _default_margin(float(lease))
        assert f"{100 * allowed_drift(float(lease), float(margin)):.2g}" == percent


def _default_margin(lease: float) -> float:
    return Config(lease=lease, renew=lease / 10, retry=lease / 10).margin
