"""A slice of the fault suite that is part of every test run; ``make faults`` runs all of it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.faults.checker import check, worst_overlap
from tests.faults.frames import WatchFilter
from tests.faults.loader import load
from tests.faults.network import why_no_namespaces
from tests.faults.planted import BUGS, Bug, own_package
from tests.faults.schedule import MUST_HAVE, PLANS, run_campaign
from tests.planted.change import plant

SLICE = ("A1", "A10", "B9", "C6", "C8", "C13", "D1")


@pytest.mark.etcd
def test_no_invariant_breaks_under_a_slice_of_the_faults(tmp_path: Path, aborted: threading.Event) -> None:
    """Three members and candidates on asyncio and on trio, in network namespaces."""
    reason = why_no_namespaces()
    if reason is not None:
        pytest.skip(f"no network namespaces: {reason}")
    lines = run_campaign(
        "main", tmp_path / "main", until=time.monotonic() + 90, seed="slice", isolate=True, options={},
        aborted=aborted, rows=SLICE, rounds=1, candidates=3,
    )  # fmt: skip
    history = load(lines)["main"]
    assert [str(violation) for violation in check(history)] == []
    assert worst_overlap(history) <= 0
    assert history.faults_of_the_suite == []
    assert {injection.row for injection in history.injections} == set(SLICE)
    assert len(history.beliefs) > 3
    assert len(history.writes) > 10


def test_every_row_of_the_must_have_set_is_in_some_campaign() -> None:
    assert set(MUST_HAVE) - {row for plan in PLANS.values() for row in plan} == set()


def frame(stream: int, payload: bytes, *, kind: int = 0, flags: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def test_the_filter_drops_data_of_watch_streams_only() -> None:
    watch_request, keep_alive = b"\0\0\0\0\4\x0a\2\x0a\0", b"\0\0\0\0\2\x08\7"
    looked_at = WatchFilter()
    sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(1, watch_request) + frame(3, keep_alive)
    for byte in sent + frame(5, watch_request, flags=1):
        looked_at.up(bytes([byte]))
    assert looked_at.renewed == [7]
    on_watch, on_unary = frame(1, b"event"), frame(5, b"answer")
    headers = frame(1, b"headers", kind=1)
    assert looked_at.down(on_watch + on_unary, drop=False) == on_watch + on_unary
    received = looked_at.down(headers + on_watch + on_unary[:7], drop=True)
    received += looked_at.down(on_unary[7:], drop=True)
    assert received == headers + on_unary


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_each_planted_bug_still_fits_the_code(bug: Bug, tmp_path: Path) -> None:
    """Finding them takes a real cluster and a minute each: ``python -m tests.faults.planted``."""
    plant(own_package(), tmp_path, *bug.changes)
