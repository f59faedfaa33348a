"""The upgrade of an etcd under its leaders, and the report of each step."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from etcdleader.testing._etcd_builder import built_etcd
from tests.faults.checker import check, worst_overlap
from tests.faults.handmade import good
from tests.faults.history import GO, Belief, History, Injection
from tests.faults.loader import load
from tests.faults.network import why_no_namespaces
from tests.faults.rows_versions import MIDDLE, NEWEST, OLDEST, in_order, starts_on, versions_missing
from tests.faults.schedule import run_campaign
from tests.faults.steps import steps, table


def built(*, version: str) -> Path | None:
    return built_etcd(version)


@pytest.mark.etcd
def test_an_upgrade_of_one_member_at_a_time_ends_no_leadership(tmp_path: Path, aborted: threading.Event) -> None:
    """The step from 3.6 to 3.7. `make faults` does all steps, and with three hundred elections in each process."""
    if reason := why_no_namespaces():
        pytest.skip(f"no network namespaces: {reason}")
    if reason := versions_missing(built):
        pytest.skip(f"no versions to upgrade between: {reason}")
    if (named := os.environ.get("ETCD_TEST_VERSION") or NEWEST) != NEWEST:
        pytest.skip(f"the versions are the same whichever is named: a run on {named} shows nothing new")
    lines = run_campaign(
        "upgrade", tmp_path / "upgrade", until=time.monotonic(), seed="slice", isolate=True, options={},
        aborted=aborted, rows=["U2"], candidates=2, go=False,
    )  # fmt: skip
    history = load(lines)["upgrade"]
    assert [str(violation) for violation in check(history)] == []
    assert worst_overlap(history) <= 0
    assert history.faults_of_the_suite == []
    assert [injection.note.partition(": now ")[2] for injection in history.injections] == [
        f"{NEWEST}, {MIDDLE}, {MIDDLE}", f"{NEWEST}, {NEWEST}, {MIDDLE}", f"{NEWEST}, {NEWEST}, {NEWEST}",
    ]  # fmt: skip
    assert {work.reason for work in history.works} <= {"resigned", "stopped"}
    done = steps(history)
    assert [(step.led, step.kept) for step in done] == [(1, 1)] * 3
    assert all(step.unrenewed is not None and step.unrenewed < history.lease - history.margin for step in done)


def test_the_rows_come_in_order_once_for_each_member() -> None:
    assert list(in_order(["U3", "U2"])) == ["U2", "U2", "U2", "U3", "U3", "U3"]
    assert [starts_on(rows) for rows in (["U1", "U2", "U3"], ["U2"], ["U3"])] == [OLDEST, MIDDLE, NEWEST]


@pytest.mark.parametrize("binary", ["", "/usr/bin/etcd"])
def test_unavailable_versions_are_named(binary: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCD_BINARY", binary)
    assert not binary or "ETCD_BINARY" in versions_missing(lambda version: version)
    monkeypatch.delenv("ETCD_BINARY")
    assert versions_missing(lambda version: version) == ""
    assert versions_missing(lambda version: None) == f"etcd {OLDEST} is not built yet (make etcds)"


def upgraded() -> History:
    """Replace the first leader's member while it leads, then the second one's."""
    history = good()
    history.injections = [
        Injection(row="U1", note="m0", start=12, end=16, token=2, keeps=True),
        Injection(row="U1", note="m1", start=22, end=26, token=3, keeps=True),
    ]
    history.renewals = {
        ("c0-1", 2): [10.0, 11.0, 13.5, 14.5, 15.5, 16.5],
        ("c1-1", 3): [20.1, 21.1, 22.1, 23.1, 24.1, 25.1, 26.1],
    }
    history.backends = {"c0": "asyncio", "c1": GO}
    return history


def test_a_step_shows_the_longest_time_between_two_renewals_and_the_leader() -> None:
    first, second = steps(upgraded())
    assert [step.unrenewed for step in (first, second)] == [pytest.approx(2.5), pytest.approx(1.0)]
    assert [step.led_by for step in (first, second)] == ["c0, asyncio", "c1, go"]
    assert [(step.led, step.kept, step.seconds) for step in (first, second)] == [(1, 1, 4), (1, 1, 4)]


def test_a_step_that_cost_leadership_is_marked_and_counts_to_the_end_of_the_term() -> None:
    history = upgraded()
    history.beliefs[1] = replace(history.beliefs[1], end=24.5)
    history.renewals["c1-1", 3] = [20.1, 21.1]
    step = steps(history)[1]
    assert (step.led, step.kept) == (1, 0)
    assert step.unrenewed == pytest.approx(3.4)


def test_steps_of_many_elections_are_counted_together() -> None:
    whole, lost = upgraded(), upgraded()
    lost.beliefs[0] = replace(lost.beliefs[0], end=14)
    lost.renewals["c0-1", 2] = [10.0]
    whole.parts = [upgraded(), lost]
    first, second = steps(whole)
    assert (first.led, first.kept) == (2, 1)
    assert first.unrenewed == pytest.approx(4.0)
    assert (second.led, second.kept, second.led_by) == (2, 2, "")


def test_the_table_exists_only_if_renewals_were_recorded() -> None:
    assert "| U1 | m0 | c0, asyncio | 4.0 | 2.50 s | 1 of 1 |" in list(table(upgraded()))
    assert list(table(good())) == []


def test_a_go_client_may_lead_longer_than_its_newest_keep_alive_justifies() -> None:
    """It counts its lease from the response, and keeps no margin. All other rules hold for it."""
    history = good()
    history.keep_alives["c1", 3] = [20.7, 21.7]
    assert {violation.rule for violation in check(history)} == {"S3"}
    history.backends["c1"] = GO
    assert check(history) == []
    history.beliefs.append(Belief(run="c2-1", subject="c2", token=4, start=29, end=31))
    assert "S1" in {violation.rule for violation in check(history)}
