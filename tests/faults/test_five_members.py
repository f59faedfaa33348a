"""The parts of the campaign on five members that need no server: a round of its row takes half a minute."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.faults.rows_five import MEMBERS, ROWS, etcd_args, why_not_on
from tests.faults.run import _share, _with
from tests.faults.schedule import IN_WHOLE_RUNS, MUST_HAVE, PLANS, run_campaign


def etcd_with_option(option: str, folder: Path) -> Path:
    """Return a program that refuses every other option than this and those that each etcd has."""
    program = folder / "etcd"
    program.write_text(
        "#!/bin/sh\n"
        'for argument do case $argument in --snapshot-count|--version|[0-9]*) ;; '
        f"{option}) ;; *) exit 2;; esac; done\n"
    )  # fmt: skip
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("spelling", ["--snapshot-catchup-entries", "--experimental-snapshot-catchup-entries"])
def test_the_raft_log_is_compacted_early_by_this_etcds_option(spelling: str, tmp_path: Path) -> None:
    etcd = etcd_with_option(spelling, tmp_path)
    assert etcd_args(etcd) == ("--snapshot-count", "10", spelling, "5")
    assert why_not_on(etcd) == ""


def test_an_etcd_without_such_an_option_is_named_as_the_reason(tmp_path: Path) -> None:
    etcd = etcd_with_option("--no-such-option", tmp_path)
    assert etcd_args(etcd) == ()
    assert "compact" in why_not_on(etcd)


def test_the_campaign_comes_after_the_others_in_whole_runs_and_takes_no_time_from_them() -> None:
    assert "five" not in _with(None)
    assert "five" in _with(None, whole=True)
    assert list(PLANS)[-len(IN_WHOLE_RUNS) :] == list(IN_WHOLE_RUNS)
    assert [_share(name) for name in IN_WHOLE_RUNS] == [0] * len(IN_WHOLE_RUNS)
    # A row in many elections counts for no must-have row.
    assert not set(ROWS) & set(MUST_HAVE)
    assert MEMBERS == 5


def test_without_network_namespaces_there_is_nothing_to_inject(tmp_path: Path, aborted: threading.Event) -> None:
    lines = run_campaign(
        "five", tmp_path / "five", until=time.monotonic() + 1, seed="", isolate=False, options={}, aborted=aborted
    )
    assert lines == []
