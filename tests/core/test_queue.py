from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from etcdleader._election.queue import QueuePosition, Rank, candidate_key, election_prefix, prefix_end
from etcdleader._etcd.api import KeyValue, WatchEvent
from etcdleader._lease.leased_key import LeasedKey

OWN = LeasedKey(b"jobs/b", b"me", create_revision=20, lease_id=0xB)
BEFORE = KeyValue(b"jobs/a", b"other", create_revision=10, mod_revision=10, version=1, lease=0xA)
FIRST = KeyValue(b"jobs/0", b"first", create_revision=5, mod_revision=5, version=1, lease=0x1)
MINE = KeyValue(b"jobs/b", b"me", create_revision=20, mod_revision=20, version=1, lease=0xB)


def deleted(key: bytes, revision: int) -> WatchEvent:
    return WatchEvent("delete", KeyValue(key, mod_revision=revision))


def put(kv: KeyValue, revision: int) -> WatchEvent:
    return WatchEvent("put", kv._replace(mod_revision=revision, version=kv.version + 1))


def test_keys_are_named_as_etcd_go_names_them() -> None:
    """It is lower-case hex without padding, after the name and a slash."""
    assert candidate_key("jobs", 0x0A0B) == b"jobs/a0b"
    assert candidate_key("/a//b", 1) == b"/a//b/1"
    assert election_prefix("größe") == "größe/".encode()
    assert prefix_end(b"jobs/") == b"jobs0"


def test_the_predecessors_deletion_elects_the_next_in_line() -> None:
    place = QueuePosition(revision=20, position=1, predecessor=BEFORE.key)

    after = place.apply(OWN, [deleted(BEFORE.key, 21)])
    assert after.rank is Rank.LEADER
    assert not after.stale


def test_events_that_the_read_has_shown_already_change_nothing() -> None:
    """A lagging member sends them late. An old DELETE of a key that was created again would elect us wrongly."""
    place = QueuePosition(revision=20, position=1, predecessor=BEFORE.key)

    assert place.apply(OWN, [deleted(BEFORE.key, 20), deleted(OWN.key, 3)]) == place


def test_a_deleted_predecessor_that_was_waiting_itself_elects_no_candidate() -> None:
    """It may have left the queue while the leader still leads. Only a read shows that."""
    place = QueuePosition(revision=20, position=2, predecessor=BEFORE.key)

    after = place.apply(OWN, [deleted(BEFORE.key, 21)])
    assert after.stale
    assert after.rank is Rank.WAITING


def test_own_key_and_predecessor_deleted_in_one_revision_elects_no_candidate() -> None:
    """A revision is applied whole, in whatever order its events arrive."""
    place = QueuePosition(revision=20, position=1, predecessor=BEFORE.key)

    for events in ([deleted(BEFORE.key, 21), deleted(OWN.key, 21)], [deleted(OWN.key, 21), deleted(BEFORE.key, 21)]):
        assert place.apply(OWN, events).lost


def test_other_keys_of_the_prefix_change_nothing() -> None:
    place = QueuePosition(revision=20, position=1, predecessor=BEFORE.key)

    assert place.apply(OWN, [put(KeyValue(b"jobs/z", b"new", 22, 22, 1, 9), 22), deleted(b"jobs/y", 23)]) == place


def test_a_put_that_changes_nothing_is_a_request_to_step_down() -> None:
    place = QueuePosition(revision=20, position=0, predecessor=None)

    after = place.apply(OWN, [put(MINE, 21)])
    assert after.asked_to_resign
    assert not after.lost


def test_a_put_that_changes_value_lease_or_creation_is_a_loss() -> None:
    place = QueuePosition(revision=20, position=0, predecessor=None)

    for thief in (MINE._replace(value=b"thief"), MINE._replace(lease=0), MINE._replace(create_revision=21)):
        assert place.apply(OWN, [put(thief, 22)]).lost


def test_a_watch_created_behind_or_at_our_read_leaves_no_gap() -> None:
    place = QueuePosition(revision=20, position=1, predecessor=BEFORE.key)

    assert not place.on_watch_created(20, resumed=False).stale
    assert not place.on_watch_created(7, resumed=False).stale  # a lagging member: it will catch up, through events
    assert place.on_watch_created(21, resumed=False).stale
    assert place.on_watch_created(20, resumed=True).stale


def test_a_read_shows_each_rank() -> None:
    assert QueuePosition.read(OWN, 30, [MINE], 5) == QueuePosition(30, 0, None)
    assert QueuePosition.read(OWN, 30, [MINE, BEFORE], 5) == QueuePosition(30, 1, BEFORE.key)
    assert QueuePosition.read(OWN, 30, [MINE, BEFORE, FIRST], 5) == QueuePosition(30, 4, BEFORE.key)
    assert QueuePosition.read(OWN, 30, [MINE, BEFORE, FIRST], 2) == QueuePosition(30, 2, BEFORE.key)


def test_a_read_without_our_key_or_with_a_changed_one_is_a_loss() -> None:
    assert QueuePosition.read(OWN, 30, [], 1).lost
    assert QueuePosition.read(OWN, 30, [BEFORE], 1).lost
    assert QueuePosition.read(OWN, 30, [MINE._replace(lease=0), BEFORE], 1).lost
    # A foreign key that was put by hand under our key's name is not ours.
    assert QueuePosition.read(OWN, 30, [MINE._replace(value=b"thief")], 1).lost


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[KeyValue], list[list[WatchEvent]]]:
    """Draw a queue that we have just joined, then single deletions and joins, one revision each."""
    size = draw(st.integers(0, 4))
    queue = [KeyValue(f"jobs/{n}".encode(), b"x", n + 1, n + 1, 1, n + 1) for n in range(size)]
    standing = [*queue, MINE]
    revisions: list[list[WatchEvent]] = []
    revision = MINE.create_revision
    for _ in range(draw(st.integers(0, 8))):
        revision += 1
        # Drawn as a number, because a drawing function has a single type for the type checker.
        number = draw(st.integers(0, 2 * len(standing)))
        if number < len(standing):
            gone = standing[number]
            standing = [kv for kv in standing if kv is not gone]
            revisions.append([deleted(gone.key, revision)])
        else:
            new = KeyValue(f"jobs/n{revision}".encode(), b"x", revision, revision, 1, revision)
            standing = [*standing, new]
            revisions.append([WatchEvent("put", new)])
    return queue, revisions


@given(histories())
def test_a_queue_position_that_shows_leader_is_first(history: tuple[list[KeyValue], list[list[WatchEvent]]]) -> None:
    """Compared with the true queue: LEADER and not stale means that no candidate is ahead and our key exists."""
    queue, revisions = history
    place = QueuePosition(MINE.create_revision, len(queue), queue[-1].key if queue else None)
    true = [*queue, MINE]
    for events in revisions:
        for event in events:
            true = [kv for kv in true if kv.key != event.kv.key]
            if event.type == "put":
                true.append(event.kv)
        place = place.apply(OWN, events)
        if place.lost:
            assert MINE not in true
            return
        if place.stale:
            revision = events[-1].kv.mod_revision
            upto = [kv for kv in true if kv.create_revision <= MINE.create_revision]
            place = QueuePosition.read(OWN, revision, upto[::-1][:3], place.position)
        assert (place.rank is Rank.LEADER) == (true[0] is MINE)
        # Further back it does not watch the candidates ahead of its predecessor. So it may be next without a record of
        # it.
        assert place.rank is not Rank.NEXT_IN_LINE or true[1] is MINE


# The own key moves to another lease.

MOVING = OWN.moving(9)
MOVED = MOVING.on_new_lease()


def test_the_put_of_our_own_move_is_no_request_to_step_down() -> None:
    place = QueuePosition(revision=20, position=0, predecessor=None, own_mod_revision=MINE.mod_revision)

    moved = put(MINE._replace(lease=9), 21)
    assert place.apply(MOVING, [moved]) == place
    assert place.apply(MOVING, [moved]).own_mod_revision == 21


def test_a_put_older_than_the_known_state_of_our_key_changes_nothing() -> None:
    """A lagging watch delivers a request to step down that the move has shown already, on the lease from before."""
    place = QueuePosition(revision=20, position=0, predecessor=None, own_mod_revision=25)

    assert place.apply(MOVED, [put(MINE, 22), put(MINE._replace(lease=9), 25)]) == place
    assert place.apply(MOVED, [deleted(OWN.key, 26)]).lost


def test_a_request_to_step_down_is_one_before_and_after_a_move() -> None:
    place = QueuePosition(revision=20, position=0, predecessor=None, own_mod_revision=MINE.mod_revision)
    moved = MINE._replace(lease=9, version=2)

    assert place.apply(MOVING, [put(MINE, 21)]).asked_to_resign
    assert place.apply(MOVED, [put(moved, 22)]).asked_to_resign


def test_a_read_that_shows_the_move_shows_a_request_before_or_after_it_too() -> None:
    """The read shows the last PUT only; the version counts them all."""
    place = QueuePosition(revision=20, position=0, predecessor=None, own_mod_revision=MINE.mod_revision)
    moved = MINE._replace(lease=9, mod_revision=21, version=2)

    assert not place.on_read(MOVING, 30, [moved]).asked_to_resign
    assert place.on_read(MOVING, 30, [moved._replace(mod_revision=22, version=3)]).asked_to_resign


def test_our_own_new_value_is_no_request_to_step_down_and_a_request_beside_it_is_one() -> None:
    place = QueuePosition(revision=20, position=0, predecessor=None, own_mod_revision=MINE.mod_revision)
    updating = OWN.updating(b"new")
    new = MINE._replace(value=b"new", mod_revision=21, version=2)

    for shown in (place.apply(updating, [WatchEvent("put", new)]), place.on_read(updating, 30, [new])):
        assert not shown.asked_to_resign
        assert shown.shows_new_value
        assert not shown.lost
    for kv in (new._replace(mod_revision=22, version=3), MINE._replace(mod_revision=21, version=2)):
        assert place.apply(updating, [WatchEvent("put", kv)]).asked_to_resign
        assert place.on_read(updating, 30, [kv]).asked_to_resign
    updated = updating.updated()
    assert place.on_own_key_updated(21).apply(updated, [WatchEvent("put", new)]) == place
    assert place.on_own_key_updated(21).apply(updated, [put(new, 22)]).asked_to_resign


def test_a_new_value_and_a_move_count_as_one_put_each() -> None:
    own = OWN.updating(b"new").updated().moving(9).on_new_lease().updating(b"newer")
    place = QueuePosition(revision=20, position=0, predecessor=None, own_mod_revision=23)
    kv = MINE._replace(value=b"newer", lease=9, mod_revision=24, version=4)

    assert not place.apply(own, [WatchEvent("put", kv)]).asked_to_resign
    assert place.apply(own, [put(kv, 25)]).asked_to_resign


def test_only_an_earlier_state_of_our_key_may_have_an_earlier_value() -> None:
    own = OWN.updating(b"new").updated()

    assert own.matches(MINE, 21)
    assert not own.matches(MINE, 20)
    assert not own.matches(MINE._replace(lease=1), 21)
    assert not own.matches(MINE._replace(create_revision=19), 21)
    place = QueuePosition(revision=20, position=0, predecessor=None, own_mod_revision=21)
    assert place.apply(own, [put(MINE, 22)]).lost, "another client has put the old value"


def test_the_next_in_line_receives_the_leaders_puts() -> None:
    place = QueuePosition(revision=20, position=1, predecessor=BEFORE.key)
    events = [put(BEFORE, 20), put(BEFORE, 21), put(FIRST, 22), deleted(BEFORE.key, 23)]

    assert [kv.mod_revision for kv in place.leader_puts(events)] == [21]
    assert not replace(place, position=2).leader_puts(events)


def test_a_request_to_step_down_is_reported_once() -> None:
    place = QueuePosition(revision=20, position=0, predecessor=None, own_mod_revision=MINE.mod_revision)

    reported = replace(place.apply(OWN, [put(MINE, 21)]), asked_to_resign=False)
    again = put(MINE, 21).kv
    assert not reported.on_read(OWN, 30, [again]).asked_to_resign
    assert reported.on_read(OWN, 30, [put(again, 22).kv]).asked_to_resign


def test_a_key_on_a_lease_that_it_does_not_move_to_is_lost() -> None:
    place = QueuePosition(revision=20, position=0, predecessor=None, own_mod_revision=MINE.mod_revision)

    assert place.apply(OWN, [put(MINE._replace(lease=9), 21)]).lost
    assert place.apply(MOVED, [put(MINE, 21)]).lost
    assert QueuePosition.read(MOVED, 30, [MINE], 0, MINE.mod_revision).lost


def test_a_read_from_before_the_move_is_no_evidence() -> None:
    assert QueuePosition.read(MOVED, 24, [MINE], 0, own_mod_revision=25) == QueuePosition(24, 0, None, stale=True)
    assert QueuePosition.read(MOVED, 24, [], 0, own_mod_revision=25).stale


def test_a_move_that_finds_no_key_before_ours_elects() -> None:
    place = QueuePosition(revision=20, position=1, predecessor=BEFORE.key)

    assert place.on_own_key_moved(25, first=True) == replace(place, position=0, predecessor=None)
    assert place.on_own_key_moved(25, first=False) == place
    assert replace(place, lost=True).on_own_key_moved(25, first=True).lost


def test_a_predecessor_without_a_lease_blocks_until_it_is_deleted_or_has_one() -> None:
    unleased = BEFORE._replace(lease=0)
    for place in (QueuePosition.joined(20, [MINE, unleased], 2), QueuePosition.read(OWN, 20, [MINE, unleased], 1)):
        assert place.blocker == BEFORE.key
        assert not place.apply(OWN, [deleted(BEFORE.key, 21)]).blocker
        assert not place.apply(OWN, [put(BEFORE, 21)]).blocker
        assert not place.apply(OWN, [put(BEFORE, 21)]).stale
        assert place.apply(OWN, [put(BEFORE, 20)]).blocker
        assert not place.on_own_key_moved(21, first=True).blocker
    for place in (QueuePosition.joined(20, [MINE, BEFORE], 2), QueuePosition.read(OWN, 20, [MINE, BEFORE, FIRST], 2)):
        assert not place.blocker
        assert place.apply(OWN, [put(unleased, 21)]).blocker == BEFORE.key
        assert not place.apply(OWN, [put(unleased._replace(key=b"jobs/z"), 21)]).blocker
    assert not QueuePosition.joined(20, [MINE], 1).blocker
    assert QueuePosition.joined(20, [MINE, BEFORE], 3) == QueuePosition(20, 2, BEFORE.key, own_mod_revision=20)


def test_a_key_without_a_lease_further_ahead_blocks_as_well() -> None:
    unleased = FIRST._replace(lease=0)
    for place in (
        QueuePosition.joined(20, [MINE, BEFORE, unleased], 3),
        QueuePosition.read(OWN, 20, [MINE, BEFORE, unleased], 2),
    ):
        assert (place.predecessor, place.blocker) == (BEFORE.key, FIRST.key)
        assert set(place.watched) == {BEFORE.key, FIRST.key}
        # Another candidate may be ahead, too: only a read shows it.
        for event in (deleted(FIRST.key, 21), put(FIRST, 21)):
            after = place.apply(OWN, [event])
            assert (after.blocker, after.stale) == (None, True)
        assert place.apply(OWN, [put(unleased, 21)]) == place
        assert place.apply(OWN, [put(BEFORE._replace(lease=0), 21)]).blocker == BEFORE.key
        assert place.apply(OWN, [deleted(FIRST.key, 20)]) == place
    assert set(QueuePosition.joined(20, [MINE, BEFORE, FIRST], 3).watched) == {BEFORE.key}
