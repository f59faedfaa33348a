"""Bugs in a term: in the bounds of its work, in the causes of its end, and in the order in which it ends."""

from __future__ import annotations

from tests.planted.bug import Bug

__all__ = ("BUGS",)

_SCOPE = (
    Bug(
        "a scope's deadline is not updated when the clocks drift",
        "scope",
        within="_compare_clocks",
        pattern=r"if \w+:",
        replacement="if False:",
        test="test_all_leaders_detect_a_suspend_of_the_machine_within_a_tick",
    ),
    Bug(
        "the clock is not checked while the loop sleeps",
        "scope",
        within="Leadership",
        pattern=r" \S+\(self\._on_tick\)",
        replacement="",
        test="test_the_ticker_cancels_the_work_although_the_loops_clock_did_not_advance",
    ),
    Bug(
        "no loop deadline behind the ticker",
        "scope",
        within="_backstop",
        pattern=r"return .+",
        replacement="return math.inf",
        test="test_the_loops_deadline_cancels_the_work_if_the_ticker_does_not_run",
    ),
    Bug(
        "the work is not cancelled at the end of its term",
        "scope",
        within="TermScope.close",
        pattern=r" for \w+ in list\(.+\): \w+\.cancel\(\)",
        replacement="",
        test="test_a_leader_without_responses_from_etcd_stops_a_margin_before_the_lease_ends",
    ),
)

_OVERRUN = (
    Bug(
        "an overrun is not reported",
        "overrun",
        within="_on_tick",
        pattern=r" \S+\.overrun\(.+\)",
        replacement="",
        test="test_an_overrun_is_reported_once_everywhere_and_the_lease_is_not_released",
    ),
    Bug(
        "renewals continue for as long as the work runs",
        "overrun",
        within="limit_renewals",
        pattern=r"self\._schedule\.end_at\(.+\)",
        replacement="pass",
        test="test_renewals_end_one_lease_after_the_cancellation",
    ),
    Bug(
        "the watchdog acts when leadership has passed on",
        "overrun",
        within="run",
        pattern=r"(if \w+ <=) 0:",
        replacement=r"\g<1> -5:",
        test="test_a_process_whose_work_does_not_end",
    ),
    Bug(
        "the watchdog waits for the reader of stderr",
        "overrun",
        within="_report",
        pattern=r"if select\..+:",
        replacement="if True:",
        test="test_a_process_ends_whatever_its_stderr_is",
    ),
    Bug(
        "an error on stderr keeps the process alive",
        "overrun",
        within="_exit",
        pattern=r"try: (.+) finally: (.+)",
        replacement=r"\g<1>; \g<2>",
        test="test_a_process_ends_whatever_its_stderr_is",
    ),
)

_ONE_WAY_OUT = (
    Bug(
        "leadership is released before the work has ended",
        "one way out",
        within="_serve_term",
        pattern=r"await (\w+)\.join\(\)",
        replacement=r"\g<1>.work_ended = True",
        test="test_leadership_is_not_released_before_a_leading_block_has_ended",
    ),
    Bug(
        "the lease is not renewed while the work cleans up",
        "one way out",
        within="limit_renewals",
        pattern=r"\((\S+\(\)) \+ .+\)",
        replacement=r"(\g<1>)",
        test="test_each_end_of_a_campaign_releases_last",
    ),
    Bug(
        "the end of a campaign releases nothing",
        "one way out",
        within="Session.close",
        pattern=r"if not .+is_forked:",
        replacement="if False:",
        test="test_each_end_of_a_campaign_releases_last",
    ),
    Bug(
        "stop() waits for etcd for long",
        "one way out",
        within="revoke",
        pattern=r"(max\(.+\) \+) (\w+)",
        replacement=r"\g<1> 9 * \g<2>",
        test="test_stop_is_bounded_if_etcd_does_not_respond",
    ),
    Bug(
        "the release waits for a slot without a limit",
        "one way out",
        within="revoke",
        pattern=r"\.acquire\([\w.]+\)",
        replacement=".acquire()",
        test="test_stop_does_not_wait_for_callers_with_longer_timeouts",
    ),
    Bug(
        "the status changes after the callbacks",
        "one way out",
        within="_serve_term",
        pattern=r"(\S+\.ousted\(.+\)) (await .+\))",
        replacement=r"\g<2>\n\g<1>",
        test="test_each_end_of_a_campaign_releases_last",
    ),
    Bug(
        "stop() called from the work waits for itself",
        "one way out",
        within="_called_from_inside",
        pattern=r"return .+",
        replacement="return False",
        test="test_stop_and_resign_in_on_ousted_return_at_once",
    ),
    Bug(
        "an external cancellation is taken for the library's own",
        "one way out",
        within="capture_errors",
        pattern=r"(cancellation is not None and) not \w+\(\)",
        replacement=r"\g<1> False",
        test="test_a_cancelled_error_in_the_work_or_in_on_elected_ends_the_campaign_once_as_an_error",
    ),
    Bug(
        "a write that is refused after the term ends the campaign",
        "one way out",
        within="_on_exception",
        pattern=r"(if .+ and) not \S+\.is_valid\(\)",
        replacement=r"\g<1> False",
        test="test_the_candidate_queues_again_and_the_error_is_reported",
    ),
    Bug(
        "a write that is refused in the term counts as a loss",
        "one way out",
        within="_on_exception",
        pattern=r"and not \S+\.is_valid\(\)",
        replacement="",
        test="test_the_same_errors_during_a_term_end_the_campaign",
    ),
    Bug(
        "two hand-overs at once clear the way for both",
        "one way out",
        within="_hand_over",
        pattern=r"async with \w+\.hand_over:",
        replacement="if True:",
        test="test_of_two_hand_overs_at_once_the_first_one_counts",
    ),
    Bug(
        "a hand-over overtakes an earlier one that a step delays",
        "one way out",
        within="_hand_over",
        pattern=r"if \w+\.successor is not None:",
        replacement="if False:",
        test="test_a_second_hand_over_while_a_step_delays_the_first_one_is_refused",
    ),
    Bug(
        "a write that is refused before the event of the loss ends the campaign",
        "one way out",
        within="failures_in_term",
        pattern=r"await \w+\.confirm\(\)",
        replacement="pass",
        test="test_a_refusal_received_before_the_event_of_the_loss_counts_as_a_loss",
    ),
    Bug(
        "a task of the term that other code cancels ends the term alone",
        "one way out",
        within="_work",
        pattern=r"if not \S+\.closed and .+:",
        replacement="if False:",
        test="test_a_cancelled_error_in_the_work_or_in_on_elected_ends_the_campaign_once_as_an_error",
    ),
)

_FORK = (
    Bug(
        "a forked child leads like its parent",
        "fork",
        within="process_id",
        pattern=r"return .+",
        replacement="return 0, 0",
        test="test_a_forked_child_is_another_candidate",
    ),
)

BUGS = (*_SCOPE, *_OVERRUN, *_ONE_WAY_OUT, *_FORK)
