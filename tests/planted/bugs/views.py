"""Bugs in the views of an election, and in the fence against late writes."""

from __future__ import annotations

from tests.planted.bug import Bug

__all__ = ("BUGS",)

_OBSERVING = (
    Bug(
        "a watch that etcd refuses is created again at full speed",
        "sparing etcd",
        within="WatchedRange.draw_pause",
        pattern=r"return .+",
        replacement="return 0.0",
        test="test_the_pauses_after_refusals_grow_up_to_retry_and_end_with_a_watch_that_lasts",
    ),
    Bug(
        "a watch that etcd creates and cancels is created again at full speed",
        "sparing etcd",
        within="WatchedRange._cancelled",
        pattern=r"lasted = .+",
        replacement="lasted = self._created_at < math.inf",
        test="test_a_creation_alone_ends_no_pauses",
    ),
    Bug(
        "the failure of a closed watch stays",
        "observing",
        within="WatchedRange.close",
        pattern=r"self\._recover\(\)",
        replacement="pass",
        test="test_closing_ends_the_watch_and_the_failure",
    ),
    Bug(
        "a change during a read is taken as part of the read",
        "observing",
        within="Observer._received",
        pattern=r"\S+ or (\S+ is None)",
        replacement=r"\g<1>",
        test="test_a_change_while_the_response_is_in_flight_is_reported_at_once",
    ),
    Bug(
        "changes before the watch was created are not read",
        "observing",
        within="Observer._received",
        pattern=r"\S+ = max\(.+, \w+\.revision\)",
        replacement="pass",
        test="test_a_change_before_the_watch_is_created_is_reported_once_it_is",
    ),
    Bug(
        "a timeout around the next item drops a change",
        "observing",
        within="_try_read",
        pattern=r"(if \w+ is None:) \S+ = True",
        replacement=r"\g<1> pass",
        test="test_a_timeout_around_the_next_item_loses_nothing",
    ),
)

_FENCING = (
    Bug(
        "the gate drops the highest token that it admitted",
        "fencing",
        within="check",
        pattern=r" \S+ = \(epoch, token\)",
        replacement="",
        test="test_a_lower_token_is_refused_and_the_error_names_both_tokens",
    ),
    Bug(
        "the gate admits the next writer while one still writes",
        "fencing",
        within="passing",
        pattern=r"with \S+: (\S+\(.+\)) yield",
        replacement=r"\g<1>\nyield",
        test="test_no_check_passes_the_gate_while_a_writer_writes",
    ),
)

_VIEWS = (
    Bug(
        "an outage is reported at each attempt",
        "views",
        within="Outages.take",
        pattern=r"self\.kinds \|= \{kind\}",
        replacement="pass",
        test="test_an_outage_is_reported_per_outage_and_not_per_attempt",
    ),
    Bug(
        "a response ends an outage while renewals fail",
        "views",
        within="TRANSITIONS",
        pattern=r"(ANSWERED: \(FINE, FINE), FAILING",
        replacement=r"\g<1>, FINE",
        test="test_a_response_does_not_end_an_outage_in_which_renewals_fail",
    ),
    Bug(
        "an outage is over while a watch is missing",
        "views",
        within="TRANSITIONS",
        pattern=r"(RENEWED: \(FINE, FINE, FINE, FINE), BLIND",
        replacement=r"\g<1>, FINE",
        test="test_nothing_ends_an_outage_while_a_watch_is_missing",
    ),
    Bug(
        "the loss is reported before its reason is known",
        "views",
        within="ousted",
        pattern=r"= \S+ or",
        replacement="=",
        test="test_statistics_count_the_losses_by_reason",
    ),
    Bug(
        "the least remaining time is the latest one",
        "views",
        within="renewed",
        pattern=r" if \S+ is None else min\(.+\)",
        replacement="",
        test="test_statistics_have_the_age_of_the_last_renewal_and_the_minimum_remaining_time",
    ),
)

BUGS = (*_OBSERVING, *_FENCING, *_VIEWS)
