"""The checker, on handmade histories: each invariant finds its violation, and only that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.faults.checker import CHECKS, check, worst_overlap
from tests.faults.figures import figures, row_results
from tests.faults.handmade import belief, good, injection, seen, work
from tests.faults.history import Cut, History, Overtrust, Read, Write
from tests.faults.timeline import timeline


def rules(history: History) -> set[str]:
    return {violation.rule for violation in check(history)}


def test_a_good_history_has_no_violation() -> None:
    assert check(good()) == []
    assert worst_overlap(good()) == pytest.approx(-0.1)


def test_s1_two_leaders_at_once() -> None:
    history = good()
    history.beliefs[1] = belief(3, 19.9, 30, "c1")
    assert "S1" in rules(history)
    assert worst_overlap(history) == pytest.approx(0.1)


def test_s1_detects_an_overlap_across_a_short_term_in_between() -> None:
    """The longest belief of all lower tokens counts, not only that of the token just before."""
    history = good()
    history.beliefs = [belief(2, 10, 40), belief(3, 11, 12, "c1"), belief(4, 39, 41, "c2")]
    texts = [violation.text for violation in check(history) if violation.rule == "S1"]
    assert len(texts) == 2
    assert worst_overlap(history) == pytest.approx(29)


def test_s1_holds_across_a_wiped_cluster_whose_tokens_begin_again() -> None:
    history = good()
    history.beliefs.append(belief(2, 29, 35, "c2", era=1))
    assert "S1" in rules(history)
    history.beliefs[-1] = belief(2, 30.5, 35, "c2", era=1)
    assert "S1" not in rules(history)


def test_s2_a_token_that_does_not_rise_in_the_order_of_winning() -> None:
    history = good()
    history.beliefs.append(belief(1, 31, 32, "c2"))
    assert "S2" in rules(history)


def test_s2_a_win_at_the_moment_of_an_operators_deletion_is_excused() -> None:
    """Two leases are revoked in a row.

    The second one's successor may have begun before the second one detected its win.
    """
    history = good()
    history.beliefs += [belief(4, 30.3, 30.5, "c2"), belief(5, 30.2, 35, "c3")]
    history.keys |= {(0, 3): seen(3, 9.95, 30.05), (0, 4): seen(4, 10, 30.1), (0, 5): seen(5, 10, None)}
    history.keep_alives |= {
        ("c2", 4): [10.7 + number for number in range(20)],
        ("c3", 5): [10.7 + number for number in range(24)],
    }
    assert "S2" in rules(history)
    history.injections = [injection("D1", 30, 31, deleted=[3, 4], token=3)]
    assert rules(history) == set()
    history.beliefs[-2] = belief(4, 32.5, 32.6, "c2")  # by an earlier read
    assert "S2" in rules(history)
    history.beliefs[-2] = belief(4, 30.3, 30.5, "c2")
    history.keys[0, 4].gone_seen = 30.4  # it won while its key existed, and so before its successor could
    assert "S2" in rules(history)


def test_s2_a_token_of_two_candidates() -> None:
    history = good()
    history.beliefs.append(belief(3, 31, 32, "c2"))
    assert "S2" in rules(history)


@pytest.mark.parametrize("changes", [{"token": 7}, {"lease": 9}, {"key": "e/9"}])
def test_s2_a_token_that_is_not_that_of_a_key_on_our_lease(changes: dict[str, object]) -> None:
    history = good()
    history.works[1] = replace(history.works[1], **changes)  # type: ignore[arg-type]
    assert rules(history) == {"S2"}


def test_s3_a_term_that_outlasts_its_key() -> None:
    history = good()
    history.keys[0, 2].gone_seen = 19.9
    history.works[0].reason = "expired"
    assert rules(history) == {"S3"}


def test_s3_an_operators_deletion_may_be_detected_a_moment_late() -> None:
    history = good()
    history.keys[0, 2].gone_seen = 18.0
    history.works[0].reason = "deleted"
    history.injections = [injection("D1", 17.9, 18.5, deleted=[2], token=2)]
    assert rules(history) == set()
    history.keys[0, 2].gone_seen = 16.0
    assert rules(history) == {"S3"}


def test_s3_a_term_may_rest_on_the_keep_alives_of_the_lease_that_its_key_has_moved_to() -> None:
    history = good()
    history.keep_alives["c0", 77] = history.keep_alives.pop(("c0", 2))
    assert rules(history) == {"S3"}
    history.keys[0, 2].leases[77] = 12.0
    assert rules(history) == set()


def test_s2_a_term_may_begin_on_a_lease_that_its_key_has_moved_to() -> None:
    history = good()
    history.keys[0, 2].leases[77] = 10.0
    history.works[0].lease = 77
    assert rules(history) == set()
    history.works[0].lease = 78
    assert rules(history) == {"S2"}


def test_s10_a_key_deleted_when_a_former_leader_of_etcd_wakes_up() -> None:
    """It is a leader's key. A waiting candidate may lose its place, and an operator may do the same."""
    history = good()
    history.keys[0, 2].gone_seen = history.beliefs[0].end
    history.works[0].reason = "deleted"
    history.injections = [injection("A7", 16, 19.5, woken=[2], token=2)]
    assert rules(history) == {"S10"}
    history.works[0].reason = "expired"
    assert rules(history) == set()
    history.works[0].reason = "deleted"
    history.injections[0].deleted = [2]
    assert rules(history) == set()
    history.injections = [injection("A7", 16, 19.5, woken=[99], token=2)]
    assert rules(history) == set()


@pytest.mark.parametrize(
    "read",
    [
        Read(sent=19, received=19.1, revision=9, owner=3),
        Read(sent=19, received=19.1, revision=9, owner=0),
        Read(sent=20.2, received=20.3, revision=9, owner=2),
        Read(sent=20.2, received=20.3, revision=2, owner=2),
    ],
    ids=["another one owns it", "there is no leader", "the one before owns it", "the key is not there yet"],
)
def test_s3_a_term_that_a_linearizable_read_contradicts(read: Read) -> None:
    history = good()
    history.reads.append(read)
    assert rules(history) == {"S3"}


def test_s3_a_term_that_was_extended_while_it_was_cut_off() -> None:
    """A request sent before the cut justifies a lease less a margin, not more."""
    history = good()
    history.injections = [injection("A8", 12, 22, cuts=[Cut(subject="c0", start=12, end=22)])]
    assert rules(history) == {"S3"}
    history.injections = [injection("A8", 13.1, 22, cuts=[Cut(subject="c0", start=13.1, end=22)])]
    assert rules(history) == set()
    history.injections = [injection("B1", 11, 15, cuts=[Cut(subject="c0", start=11, end=15)])]
    assert rules(history) == set()


def test_s3_a_term_that_its_newest_keep_alive_cannot_justify() -> None:
    history = good()
    history.keep_alives["c0", 2] = [10.5, 12.9]
    assert rules(history) == {"S3"}
    history.keep_alives["c0", 2] = [10.5, 13.1]
    assert rules(history) == set()


def test_s3_a_term_that_rests_on_the_keep_alives_of_another_lease() -> None:
    history = good()
    history.keep_alives["c0", 7] = history.keep_alives.pop(("c0", 2))
    assert rules(history) == {"S3"}


def test_s4_a_write_accepted_after_one_with_a_higher_token() -> None:
    history = good()
    history.writes.append(Write(revision=13, token=2))
    assert rules(history) == {"S4"}


def test_s4_a_write_accepted_after_its_key_was_gone() -> None:
    history = good()
    history.writes.insert(2, Write(revision=10, token=2))
    assert rules(history) == {"S4"}


def test_s5_two_works_of_one_manager_at_once() -> None:
    history = good()
    history.works[1].run = "c0-1"
    history.works[1].start = 20.0
    assert "S5" in rules(history)


@pytest.mark.parametrize("times", [0, 2])
def test_s5_a_term_whose_end_was_not_reported_once(times: int) -> None:
    history = good()
    history.works[0].ousted = times
    assert rules(history) == {"S5"}


def test_s5_the_last_term_of_a_dead_process_may_be_unreported() -> None:
    history = good()
    history.works[1].ousted = 0
    history.died = {"c1-1": 30.0}
    assert rules(history) == set()


def test_s5_work_that_continues_after_its_term() -> None:
    history = good()
    history.works[0].late = (18.0, 18.1)
    assert rules(history) == set()
    history.works[0].late = (18.0, 19.5)
    assert rules(history) == {"S5"}


def test_s5_a_child_that_is_leader() -> None:
    history = good()
    history.believing_children = ["c0-1"]
    assert rules(history) == {"S5"}


def test_s6_true_after_false() -> None:
    history = good()
    history.beliefs[0:1] = [belief(2, 10, 15), belief(2, 15.5, 20)]
    assert rules(history) == {"S6"}


@pytest.mark.parametrize("reason", ["resigned", "stopped", "failed"])
def test_s7_leadership_released_while_the_work_runs(reason: str) -> None:
    history = good()
    history.works[0].reason = reason
    history.works[0].end = 20.06
    assert rules(history) == {"S7"}


def test_s7_leadership_that_expired_was_not_released() -> None:
    history = good()
    history.works[0].reason = "expired"
    history.works[0].end = 20.06
    assert rules(history) == set()


def test_s8_keys_and_leases_left_behind() -> None:
    history = good()
    history.leftovers = ["lease 77"]
    assert rules(history) == {"S8"}


def test_s9_a_secret_in_a_log() -> None:
    history = good()
    history.secrets = ["c0-1.log"]
    assert rules(history) == {"S9"}


def test_s3_a_lease_is_trusted_for_longer_than_etcd_keeps_it() -> None:
    history = good()
    history.overtrusted = [Overtrust(run="c0-1", token=2, at=15, trusted=6.5, left=6)]
    assert rules(history) == {"S3"}
    history.injections = [injection("D2", 14, 14, deleted=[2])]
    assert rules(history) == set(), "an operator revoked the lease"


def test_s3_a_slow_clock_may_trust_for_longer() -> None:
    """The last keep-alive was sent at 19.5, and the lease is trusted for 7 s by the candidate's clock."""
    history = good()
    history.beliefs = [belief(2, 10, 27)]
    history.keys, history.works, history.reads = {(0, 2): seen(2, 9.9, 27.1)}, [work(2, 10, 27)], []
    assert rules(history) == {"S3"}
    history.slowest = 0.9
    assert rules(history) == set()


def test_s7_a_recorded_revocation_decides_when_the_release_was() -> None:
    """A lease that expires while work ignores its cancellation is not released."""
    history = good()
    history.works[0].end = 20.08
    assert rules(history) == {"S7"}
    history.revocations = {2: 20.09}
    assert rules(history) == set()
    history.revocations = {2: 20.07}
    assert rules(history) == {"S7"}


def test_l7_a_process_is_stuck() -> None:
    history = good()
    history.stuck = ["0 leaders after all faults have ended"]
    assert rules(history) == {"L7"}


def test_every_invariant_is_shown_to_be_broken_by_a_test_here() -> None:
    names = {check.__name__[:2].upper() for check in CHECKS}
    tested = {name[5:7].upper() for name in globals() if name.startswith(("test_s", "test_l"))}
    assert names == tested


def test_figures_and_timeline_show_what_happened() -> None:
    history = good()
    history.name = "main"
    history.injections = [
        injection("stop", 19.9, 20.2, token=2),
        injection("A1", 25, 26, token=3, keeps=True),
        injection("A2", 29, 31, token=3, keeps=True),
    ]
    released = next(figure for figure in figures(history) if figure.name.startswith("L4"))
    assert list(released.values) == pytest.approx([0.09])
    history.backends = {"c0": "asyncio", "c1": "trio"}
    results = row_results(history)
    assert {result.row: (result.kept, result.expected) for result in results} == {
        "stop": (0, 0), "A1": (1, 1), "A2": (0, 1),
    }  # fmt: skip
    assert [dict(result.led_on) for result in results] == [{"trio": 1}, {"trio": 1}, {"asyncio": 1}]
    history.beliefs[1] = belief(3, 19.9, 30, "c1")
    svg = timeline(history, check(history))
    for word in ("c0-1, token 2", "c1-1, token 3", "A1 at", ">S1<", "key 3"):
        assert word in svg
