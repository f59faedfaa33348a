"""Journals become a history."""

from __future__ import annotations

from tests.faults.checker import check
from tests.faults.handmade import belief
from tests.faults.history import Cut, Key, Write
from tests.faults.loader import load


def test_journals_become_a_history() -> None:
    common = {"campaign": "main", "era": 0}
    mine = {**common, "run": "c0-1", "subject": "c0"}
    lines = [
        {"campaign": "main", "kind": "settings", "lease": 8.0, "renew": 1.0, "retry": 1.0, "margin": 1.0},
        {**common, "kind": "put", "key": "e/7", "value": "c0#1", "mod": 2, "create": 2, "lease": 7, "at": 9.9,
         "register": False},
        {**common, "kind": "put", "key": "r", "value": "2:c0:1", "mod": 3, "create": 3, "lease": 0, "at": 10.5,
         "register": True},
        {**common, "kind": "delete", "key": "e/7", "mod": 5, "prev_create": 2, "at": 12.5},
        {**mine, "kind": "belief", "token": 2, "since": 10.0, "at": 10.0},
        {**mine, "kind": "work", "token": 2, "key": "e/7", "lease": 7, "at": 10.0},
        {**mine, "kind": "still", "token": 2, "last": 11.0, "at": 11.0},
        {**mine, "kind": "over", "token": 2, "last": 12.0, "first_false": 12.01, "at": 12.01},
        {**mine, "kind": "work over", "token": 2, "last": 11.9, "late": [], "at": 12.02},
        {**mine, "kind": "ousted", "token": 2, "reason": "resigned", "at": 12.03},
        {**mine, "kind": "belief", "token": 8, "since": 20.0, "at": 20.0},
        {**mine, "kind": "still", "token": 8, "last": 21.0, "at": 21.0},
        {"campaign": "main", "kind": "injection", "row": "C1", "note": "", "start": 20.5, "end": 22.0, "token": 8,
         "keeps": False, "crashed": True, "cuts": [{"subject": "c0", "start": 20.6, "end": 21.0}], "deleted": [],
         "at": 22.0},
    ]  # fmt: skip
    history = load(lines)["main"]
    assert history.beliefs == [belief(2, 10.0, 12.0), belief(8, 20.0, 21.0)]
    assert (history.keys[0, 2].gone_seen, history.keys[0, 2].gone_revision) == (12.5, 5)
    assert history.writes == [Write(revision=3, token=2)]
    assert history.works[0].end == 12.02
    assert history.injections[0].cuts == [Cut(subject="c0", start=20.6, end=21.0)]
    assert check(history) == []


def test_a_key_that_is_absent_after_a_compaction_was_gone_before() -> None:
    lines = [
        {"campaign": "m", "kind": "settings", "lease": 8.0, "renew": 1.0, "retry": 1.0, "margin": 1.0},
        {"campaign": "m", "kind": "put", "key": "e/7", "value": "", "mod": 2, "create": 2, "lease": 7, "at": 1.0,
         "register": False},
        {"campaign": "m", "kind": "put", "key": "e/8", "value": "", "mod": 3, "create": 3, "lease": 8, "at": 1.5,
         "register": False},
        {"campaign": "m", "kind": "state", "revision": 9, "standing": [["e/8", 3, 8]], "at": 4.0},
    ]  # fmt: skip
    keys = load(lines)["m"].keys
    assert (keys[0, 2].gone_seen, keys[0, 3].gone_seen) == (4.0, None)


def test_a_key_whose_creation_was_compacted_is_found_among_the_existing_keys() -> None:
    lines = [
        {"campaign": "m", "kind": "settings", "lease": 8, "renew": 1, "retry": 1, "margin": 1},
        {"campaign": "m", "kind": "state", "revision": 9, "standing": [["e/8", 3, 8]], "at": 4.0},
        {"campaign": "m", "kind": "delete", "key": "e/8", "mod": 11, "prev_create": 3, "at": 6.0},
    ]
    assert load(lines)["m"].keys == {
        (0, 3): Key(token=3, key="e/8", lease=8, put_seen=4.0, gone_seen=6.0, gone_revision=11)
    }


def test_events_after_a_disagreement_of_etcds_members_are_reported_and_not_checked() -> None:
    """A candidate's key is created once. If it is reported with two revisions, two members have different data."""
    at = {"campaign": "m", "kind": "put", "value": "", "register": False}
    lines = [
        {"campaign": "m", "kind": "settings", "lease": 8.0, "renew": 1.0, "retry": 1.0, "margin": 1.0},
        {**at, "key": "e/7", "mod": 2, "create": 2, "lease": 7, "at": 1.0},
        {**at, "key": "e/8", "mod": 4, "create": 4, "lease": 8, "at": 3.0},
        {**at, "key": "e/8", "mod": 5, "create": 5, "lease": 8, "at": 3.1},
    ]  # fmt: skip
    history = load(lines)["m"]
    assert history.corrupted == (3.1, 4)
    assert len(history.faults_of_the_suite) == 1
    history.beliefs = [belief(2, 1, 2.5), belief(3, 2, 2.6, "c1"), belief(4, 3.2, 9), belief(5, 4, 9, "c1")]
    assert [violation.at for violation in check(history) if violation.rule == "S1"] == [2]
    assert load(lines[:3])["m"].corrupted is None
