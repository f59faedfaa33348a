"""Hundreds of elections in each candidate: the checker separates them, and a slice of the faults."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults.checker import check, worst_overlap
from tests.faults.figures import figures, row_results
from tests.faults.frames import WatchFilter
from tests.faults.journal import folded
from tests.faults.loader import load
from tests.faults.network import why_no_namespaces
from tests.faults.report import rows_below, write_report
from tests.faults.run import _with, main
from tests.faults.schedule import PLANS, run_campaign
from tests.faults.timeline import timeline

SLICE = ("C1", "M1", "M3")
SETTINGS = {"lease": 8.0, "renew": 1.0, "retry": 1.0, "margin": 1.0}


def term_lines(
    election: str, token: int, subject: str, begin: float, end: float, *, gone: float | None = None
) -> list[Any]:
    """Return the lines of one term. Lease and token are one number here."""
    name = f"{subject}-1"
    key = f"faults/many/{election}/{token:x}"
    at = {"campaign": "many", "era": 0, "election": election}
    mine = {**at, "run": name, "subject": subject}
    renewed = [begin + 0.5 + number for number in range(int(end - begin))]
    put = {"kind": "put", "key": key, "value": "", "mod": token, "create": token, "lease": token, "register": False}
    delete = {"kind": "delete", "key": key, "mod": token + 1000, "prev_create": token}
    return [
        {**at, **put, "at": begin - 0.1},
        {**mine, "kind": "belief", "token": token, "since": begin},
        {**mine, "kind": "work", "token": token, "key": key, "lease": token, "at": begin},
        *(
            {"campaign": "many", "kind": "keep-alive", "subject": subject, "leases": [token], "at": one}
            for one in renewed
        ),
        {**mine, "kind": "over", "token": token, "last": end},
        {**mine, "kind": "work over", "token": token, "at": end, "late": []},
        {**mine, "kind": "ousted", "token": token, "reason": "resigned"},
        *([{**at, **delete, "at": gone}] if gone is not None else []),
    ]


def fault(row: str, start: float, end: float, tokens: dict[str, int], **facts: Any) -> dict[str, Any]:
    common = {"campaign": "many", "kind": "injection", "row": row, "note": "", "start": start, "end": end}
    usual = {"token": tokens["000"], "keeps": False, "crashed": False, "cuts": [], "deleted": []}
    return {**common, **usual, "tokens": tokens, **facts}


def good() -> list[dict[str, Any]]:
    """Return two elections of two processes, each handed over once. c0 leads both at first, and is killed."""
    return [
        {"campaign": "many", "kind": "settings", **SETTINGS, "elections": ["000", "001"]},
        {"campaign": "many", "kind": "candidate", "subject": "c0", "backend": "asyncio"},
        {"campaign": "many", "kind": "candidate", "subject": "c1", "backend": "trio"},
        *term_lines("000", 2, "c0", 10, 20, gone=20.05),
        *term_lines("001", 3, "c0", 10, 24, gone=24.05),
        *term_lines("000", 5, "c1", 20.1, 30),
        *term_lines("001", 4, "c1", 24.1, 30),
        fault("C1", 19.9, 26, {"000": 2, "001": 3}, crashed=True),
        {"campaign": "many", "kind": "read", "sent": 15, "received": 15.1, "revision": 5,
         "owners": {"000": 2, "001": 3}},
    ]  # fmt: skip


def rules(lines: list[dict[str, Any]]) -> set[str]:
    return {f"{violation.rule} {violation.text.partition(':')[0]}" for violation in check(load(lines)["many"])}


def test_elections_that_overlap_each_other_in_time_and_tokens_are_no_violation() -> None:
    history = load(good())["many"]
    assert check(history) == []
    assert [part.name for part in history.parts] == ["000", "001"]
    assert worst_overlap(history) == pytest.approx(-0.1)


def test_two_leaders_at_once_are_found_in_their_election() -> None:
    lines = good()
    lines[3:3] = term_lines("001", 9, "c1", 13, 14, gone=14.05)
    assert "S1 election 001" in rules(lines)
    assert not [rule for rule in rules(lines) if rule.endswith("000")]


def test_a_token_that_does_not_rise_is_found_in_its_election() -> None:
    lines = good()
    lines += term_lines("000", 1, "c1", 31, 32)
    assert "S2 election 000" in rules(lines)
    assert not [rule for rule in rules(lines) if rule.endswith("001")]


def test_keep_alives_of_one_election_justify_no_term_in_another() -> None:
    lines = [line for line in good() if line["kind"] != "keep-alive" or line["leases"] != [3]]
    lines += [
        {"campaign": "many", "kind": "keep-alive", "subject": "c0", "leases": [2], "at": 10.5 + number}
        for number in range(14)
    ]
    assert rules(lines) == {"S3 election 001"}


def test_a_read_contradicts_only_leaders_of_the_same_election() -> None:
    lines = good()
    lines[-1]["owners"] = {"000": 2}
    assert rules(lines) == {"S3 election 001"}


def test_an_operators_deletion_excuses_the_owner_of_the_key() -> None:
    lines = good()
    for line in lines:
        if line["kind"] == "delete":
            line["at"] -= 1
    lines[-2] = fault("M1", 19, 26, {"000": 2, "001": 3}, deleted=[2])
    assert rules(lines) == {"S3 election 001", "S7 election 001"}


def test_terms_still_valid_count_for_each_election_of_their_process() -> None:
    """One line applies to all that have begun, and are not over."""
    mine = {"campaign": "many", "run": "c0-1", "subject": "c0", "era": 0}
    lines: list[dict[str, Any]] = [
        {"campaign": "many", "kind": "settings", **SETTINGS, "elections": ["000", "001"]},
        {**mine, "kind": "belief", "election": "000", "token": 2, "since": 1.0},
        {**mine, "kind": "still", "last": 1.5},
        {**mine, "kind": "still", "last": 2.0},
        {**mine, "kind": "belief", "election": "001", "token": 3, "since": 2.1},
        {**mine, "kind": "over", "election": "000", "token": 2, "last": 3.0},
        {**mine, "kind": "still", "last": 4.0},
        {**mine, "run": "c1-1", "kind": "still", "last": 9.0},
    ]
    first, second = load(list(folded(lines)))["many"].parts
    assert [(belief.start, belief.end) for belief in first.beliefs] == [(1.0, 3.0)]
    # The last line is from another process, which has its own file. Here it replaced the line before it.
    assert [(belief.start, belief.end) for belief in second.beliefs] == [(2.1, 2.1)]
    assert [belief.end for belief in load(lines)["many"].parts[1].beliefs] == [4.0]


def test_a_crash_counts_in_the_elections_that_the_crashed_process_led() -> None:
    lines = good()
    history = load(lines)["many"]
    crash = next(figure for figure in figures(history) if figure.name.startswith("L1"))
    assert list(crash.values) == pytest.approx([0.2, 4.2])
    assert [(result.row, result.count, dict(result.led_on)) for result in row_results(history)] == [
        ("C1", 1, {"asyncio": 2})
    ]
    lines[-2]["tokens"] = {"000": 2, "001": 4}
    assert len(next(one for one in figures(load(lines)["many"]) if one.name.startswith("L1")).values) == 1


def test_the_report_covers_all_elections_together(tmp_path: Path) -> None:
    outcome = write_report(tmp_path, good(), {})
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert (outcome.violations, outcome.injections) == (0, 1)
    assert "2 elections. Each of 2 processes campaigns in all of them" in text
    assert "Hand-overs to another process: 2, of one election 1 to 1." in text
    assert "4 terms" in text
    assert "many, election 00" in timeline(load(good())["many"], [])


def test_rows_in_many_elections_do_not_count_as_rows_in_one() -> None:
    histories = load(good())
    assert "C1" in rows_below(histories, 1)


def test_requested_rows_are_injected_in_one_campaign_each() -> None:
    assert _with(["A1", "D8"]) == ["main", "auth"]
    assert _with(["A1", "M1"]) == ["main", "many"]
    assert _with(["U2"]) == ["upgrade"]
    assert _with(["A19"]) == ["five"]
    assert _with(None) == ["main", "auth", "memory", "many"]
    assert _with(None, whole=True) == list(PLANS)


def frame(stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([0, 0]) + stream.to_bytes(4, "big") + payload


def test_keep_alives_that_share_or_cross_frames_are_detected_one_by_one() -> None:
    looked_at = WatchFilter()
    messages = [b"\0\0\0\0" + bytes([len(body)]) + body for body in (b"\x08\x07", b"\x08\xac\x02", b"\x08\x09")]
    data = b"".join(messages)
    for cut in range(1, len(data)):
        looked_at.renewed = []
        begin = b"" if looked_at._begun else b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        looked_at.up(begin + frame(3, data[:cut]) + frame(3, data[cut:]))
        assert looked_at.renewed == [7, 300, 9]


@pytest.mark.etcd
def test_no_invariant_breaks_in_any_of_two_hundred_elections_under_a_slice_of_the_faults(
    tmp_path: Path, aborted: threading.Event
) -> None:
    reason = why_no_namespaces()
    if reason is not None:
        pytest.skip(f"no network namespaces: {reason}")
    lines = run_campaign(
        "many", tmp_path / "many", until=time.monotonic() + 90, seed="slice", isolate=True, options={},
        aborted=aborted, rows=SLICE, rounds=1,
    )  # fmt: skip
    history = load(lines)["many"]
    assert [str(violation) for violation in check(history)] == []
    assert history.faults_of_the_suite == []
    assert {injection.row for injection in history.injections} == set(SLICE)
    assert len(history.parts) == 200
    assert all(part.beliefs and part.reads and part.writes for part in history.parts)
    # A third lost their key, and the killed process led in several.
    assert sum(len(part.beliefs) for part in history.parts) > 200 + 66


def test_a_row_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--rows", "D1,D2"])
    assert "invalid choice: 'D1,D2'" in capsys.readouterr().err
