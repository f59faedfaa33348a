"""Each position in the queue with each input, as a table. Fields that no cell names must stay unchanged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from itertools import product
from typing import Any

import pytest

from etcdleader._election.queue import QueuePosition
from etcdleader._etcd.api import KeyValue, WatchEvent
from etcdleader._lease.leased_key import LeasedKey

OWN = LeasedKey(b"jobs/b", b"me", create_revision=20, lease_id=0xB, new_value=b"new")
"""Our key, while a Txn without a response puts a new value."""
MINE = KeyValue(b"jobs/b", b"me", create_revision=20, mod_revision=20, version=1, lease=0xB)
SEEN = MINE._replace(mod_revision=35, version=2)
"""Our key as a later read shows it: another client has put it once."""
AHEAD = KeyValue(b"jobs/a", b"other", create_revision=10, mod_revision=10, version=1, lease=0xA)
FIRST = KeyValue(b"jobs/0", b"first", create_revision=5, mod_revision=5, version=1, lease=0x1)
READ_AT = 20

Change = dict[str, Any]
Input = Callable[[QueuePosition], QueuePosition]

STATES: dict[str, QueuePosition] = {
    "leader": QueuePosition(READ_AT, 0, None, own_mod_revision=20),
    "next in line": QueuePosition(READ_AT, 1, AHEAD.key, own_mod_revision=20),
    "next in line, blocked": QueuePosition(READ_AT, 1, AHEAD.key, blocker=AHEAD.key, own_mod_revision=20),
    "next in line, asked to resign": QueuePosition(
        READ_AT, 1, AHEAD.key, asked_to_resign=True, requests=1, own_mod_revision=25
    ),
    "waiting": QueuePosition(READ_AT, 3, AHEAD.key, own_mod_revision=20),
    "waiting, blocked by the predecessor": QueuePosition(READ_AT, 3, AHEAD.key, blocker=AHEAD.key, own_mod_revision=20),
    "waiting, blocked further ahead": QueuePosition(READ_AT, 3, AHEAD.key, blocker=FIRST.key, own_mod_revision=20),
    "waiting, stale": QueuePosition(READ_AT, 3, AHEAD.key, stale=True, own_mod_revision=20),
    "waiting, with the new value": QueuePosition(READ_AT, 3, AHEAD.key, shows_new_value=True, own_mod_revision=20),
}


def event(kind: Any, kv: KeyValue, revision: int = 30) -> Input:
    one = WatchEvent(kind, kv._replace(mod_revision=revision, version=kv.version + 1))
    return lambda position: position.apply(OWN, [one])


INPUTS: dict[str, Input] = {
    "our key is deleted": event("delete", MINE),
    "our key is put on another lease": event("put", MINE._replace(lease=0xC)),
    "our key is created again": event("put", MINE._replace(create_revision=30)),
    "another client puts our key without a change": event("put", MINE),
    "our new value is put": event("put", MINE._replace(value=b"new")),
    "the response to the Txn that put our new value": lambda position: position.on_own_key_updated(30),
    "an event of our key from before the read": event("delete", MINE, READ_AT),
    "the predecessor is deleted": event("delete", AHEAD),
    "the predecessor's deletion from before the read": event("delete", AHEAD, READ_AT),
    "the predecessor is put without a lease": event("put", AHEAD._replace(lease=0)),
    "the predecessor is put with a lease": event("put", AHEAD),
    "the first key is deleted": event("delete", FIRST),
    "another key is deleted": event("delete", AHEAD._replace(key=b"jobs/z")),
    "another key is put without a lease": event("put", AHEAD._replace(key=b"jobs/z", lease=0)),
    "a watch is created at the revision of the read": lambda position: position.on_watch_created(
        READ_AT, resumed=False
    ),
    "a watch is created later": lambda position: position.on_watch_created(READ_AT + 1, resumed=False),
    "a watch is resumed": lambda position: position.on_watch_created(READ_AT, resumed=True),
    "our key has moved": lambda position: position.on_own_key_moved(30, first=False),
    "our key has moved, and is the first": lambda position: position.on_own_key_moved(30, first=True),
    "a read shows us alone": lambda position: position.on_read(OWN, 40, [SEEN]),
    "a read shows one key ahead": lambda position: position.on_read(OWN, 40, [SEEN, AHEAD]),
    "a read shows two keys ahead": lambda position: position.on_read(OWN, 40, [SEEN, AHEAD, FIRST]),
    "a read does not show our key": lambda position: position.on_read(OWN, 40, [AHEAD]),
    "a read that is older than our last known PUT": lambda position: position.on_read(OWN, READ_AT - 1, [AHEAD]),
}

KEPT = object()
"""The value of the field before the input."""
LOST: Change = {"lost": True}
STALE: Change = {"stale": True}
SAME: Change = {}
FREED: Change = {"blocker": None}
BLOCKED: Change = {"blocker": AHEAD.key}
SEEN_AT_30: Change = {"own_mod_revision": 30}
FIRST_NOW: Change = {"position": 0, "predecessor": None, "blocker": None}


def of_all(change: Change) -> dict[str, Change]:
    return dict.fromkeys(STATES, change)


def of_ranks(leader: Change, next_in_line: Change, waiting: Change) -> dict[str, Change]:
    by_rank = {"leader": leader, "next in line": next_in_line, "waiting": waiting}
    return {state: by_rank[state.partition(",")[0]] for state in STATES}


def read(**shown: Any) -> dict[str, Change]:
    """Return a row for a read of our key: its request to resign is new in each state that has received none."""
    change = {"revision": 40, "stale": False, "blocker": None, "requests": 1, "own_mod_revision": 35}
    shown = change | {"shows_new_value": False, **shown}
    return {state: shown | {"asked_to_resign": before.requests == 0} for state, before in STATES.items()}


EXPECTED: dict[str, dict[str, Change]] = {
    "our key is deleted": of_all(LOST),
    "our key is put on another lease": of_all(LOST),
    "our key is created again": of_all(LOST),
    "another client puts our key without a change": of_all(
        {"asked_to_resign": True, "requests": 1, "own_mod_revision": 30}
    ),
    "our new value is put": of_all({"shows_new_value": True, "requests": 0, "own_mod_revision": 30}),
    "the response to the Txn that put our new value": of_all(SEEN_AT_30),
    "an event of our key from before the read": of_all(SAME),
    "the predecessor is deleted": of_ranks(SAME, FIRST_NOW, STALE),
    "the predecessor's deletion from before the read": of_all(SAME),
    "the predecessor is put without a lease": of_ranks(SAME, BLOCKED, BLOCKED),
    "the predecessor is put with a lease": of_all(SAME)
    | {"next in line, blocked": FREED, "waiting, blocked by the predecessor": FREED | STALE},
    "the first key is deleted": of_all(SAME) | {"waiting, blocked further ahead": FREED | STALE},
    "another key is deleted": of_all(SAME),
    "another key is put without a lease": of_all(SAME),
    "a watch is created at the revision of the read": of_all(SAME),
    "a watch is created later": of_all(STALE),
    "a watch is resumed": of_all(STALE),
    "our key has moved": of_all(SEEN_AT_30),
    "our key has moved, and is the first": of_all(FIRST_NOW | SEEN_AT_30),
    "a read shows us alone": read(position=0, predecessor=None),
    "a read shows one key ahead": read(position=1, predecessor=AHEAD.key),
    "a read shows two keys ahead": read(position=2, predecessor=AHEAD.key),
    "a read does not show our key": of_all(asdict(QueuePosition(40, 0, None, lost=True)) | {"position": KEPT}),
    "a read that is older than our last known PUT": of_all(
        asdict(QueuePosition(READ_AT - 1, 0, None, stale=True))
        | {"position": KEPT, "requests": KEPT, "own_mod_revision": KEPT}
    ),
}
"""The fields that change, by input and state."""


@pytest.mark.parametrize(("state", "happened"), list(product(STATES, INPUTS)))
def test_each_input_changes_each_position_as_the_table_says(state: str, happened: str) -> None:
    before = STATES[state]
    change = {
        name: asdict(before)[name] if value is KEPT else value for name, value in EXPECTED[happened][state].items()
    }
    # Not by ==, which leaves out the fields that no decision compares.
    assert asdict(INPUTS[happened](before)) == asdict(before) | change


def test_the_table_has_a_row_for_each_input_and_a_cell_for_each_state() -> None:
    assert EXPECTED.keys() == INPUTS.keys()
    assert all(row.keys() == STATES.keys() for row in EXPECTED.values())
