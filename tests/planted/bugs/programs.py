"""Bugs in what programs of any kind use: functions, settings, metrics, and the leader that was received last."""

from __future__ import annotations

from tests.planted.bug import Bug

__all__ = ("BUGS",)

BUGS = (
    Bug(
        "work that cannot be called is accepted",
        "programs",
        within="BaseManager.run",
        pattern=r'check_callable\("run", work, "term"\)',
        replacement="pass",
        test="test_work_is_checked_before_the_campaign_begins",
    ),
    Bug(
        "callbacks that cannot be called are accepted",
        "programs",
        within="on_elected",
        pattern=r"check_callable\(.+\)",
        replacement="pass",
        test="test_callbacks_are_checked_at_registration",
    ),
    Bug(
        "the end of the campaign cancels a thread's wait without a reason",
        "programs",
        within="BlockingLeaderManager._ending_with_the_campaign",
        pattern=r"raise NotLeaderError\(ended\) from .+",
        replacement="raise",
        test="test_the_end_of_the_campaign_ends_a_wait",
    ),
    Bug(
        "a leader that has left is still known",
        "programs",
        within="Reporter.leader_left",
        pattern=r"self\.leader_seen\(None\)",
        replacement="pass",
        test="test_a_leader_counts_itself_as_known_until_it_has_left",
    ),
    Bug(
        "the value that a leader puts is not known",
        "programs",
        within="QueuePosition.leader_puts",
        pattern=r"return \[kv for .+\]",
        replacement="return ()",
        test="test_candidates_know_the_leader_and_what_it_advertises",
    ),
    Bug(
        "metrics that are added twice count twice",
        "programs",
        within="GuardedMetrics.add",
        pattern=r"if not any\(.+\):",
        replacement="if True:",
        test="test_what_is_added_twice_counts_once",
    ),
    Bug(
        "a cast of dynaconf is taken as text",
        "programs",
        within="cast_in",
        pattern=r"return word",
        replacement="return None",
        test="test_a_cast_is_refused_with_the_way_to_have_it",
    ),
    Bug(
        "the table of an environment is passed over",
        "programs",
        within="_refuse_environment",
        pattern=r"self\.unreadable\.append\(",
        replacement="str(",
        test="test_an_environment_is_refused_with_the_way_to_read_it",
    ),
)
