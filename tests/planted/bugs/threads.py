"""Bugs in what threads of the application meet: their work, their waits and their steps."""

from __future__ import annotations

from tests.planted.bug import Bug

__all__ = ("BUGS",)

_THREADS = (
    Bug(
        "an interrupted entry leaves a leading block in which no thread runs",
        "one way out",
        within="HeldBlock.abandon",
        pattern=r"self\._call_soon\(self\._left\.set\)",
        replacement="pass",
        test="test_an_interruption_in_any_line_leaves_nothing_that_holds_leadership",
    ),
    Bug(
        "an interrupted call of work never ends",
        "one way out",
        within="BlockingLeaderManager._serve",
        pattern=r"interrupted = True",
        replacement="requested.clear()",
        test="test_an_interruption_in_any_line_leaves_nothing_that_holds_leadership",
    ),
    Bug(
        "a cancelled thread is not joined",
        "one way out",
        within="run_joined",
        pattern=r"await \w+\.abandon_or_join\(\)",
        replacement="pass",
        test="test_asyncios_own_cancellation_waits_for_the_thread",
    ),
    Bug(
        "the wait for a thread ends at the second cancellation",
        "one way out",
        within="abandon_or_join",
        pattern=r"continue",
        replacement="break",
        test="test_asyncios_own_cancellation_waits_for_the_thread",
    ),
    Bug(
        "a cancelled call begins later in its thread",
        "one way out",
        within="_Call.run",
        pattern=r"if self\._abandoned:",
        replacement="if False:",
        test="test_a_call_that_is_cancelled_before_its_thread_begins_is_not_made",
    ),
    Bug(
        "the end of the term cancels what its thread requests",
        "one way out",
        within="run_joined",
        pattern=r"shield=True",
        replacement="shield=False",
        test="test_from_its_thread_they_request_the_end_and_return",
    ),
    Bug(
        "threads that wait are not woken at the end of the term",
        "scope",
        within="TermScope.close",
        pattern=r" for \w+ in \S+\.copy\(\): \w+\.set\(\)",
        replacement="",
        test="test_it_returns_false_when_the_term_ends_in_all_threads",
    ),
    Bug(
        "a thread that waits does not look at the deadline",
        "scope",
        within="TermScope.wait",
        pattern=r"\w+\.wait\(min\((\w+), .+\)\)",
        replacement=r"ended.wait(\g<1>)",
        test="test_it_notices_a_deadline_that_passed_while_the_loop_was_stopped",
    ),
    Bug(
        "work in threads waits for one of anyio's 40",
        "scope",
        within="run_joined",
        pattern=r"limiter=[\w.]+\(1\)",
        replacement="limiter=None",
        test="test_more_leaders_work_in_threads_than_anyio_lets_run_by_default",
    ),
)

_STEPS = (
    Bug(
        "a request for the release does not wait for steps",
        "one way out",
        within="request_end",
        pattern=r"if self\._steps\.refuse\(\):",
        replacement="if self._steps.refuse() or True:",
        test="test_leadership_is_not_released_while_a_step_runs",
    ),
    Bug(
        "resign() ends the term in the middle of a step",
        "one way out",
        within="resign",
        pattern=r"scope\.request_end\(",
        replacement="scope.close(",
        test="test_leadership_is_not_released_while_a_step_runs",
    ),
    Bug(
        "a step-down request ends the term in the middle of a step",
        "one way out",
        within="_request_resign",
        pattern=r"\.request_end\(",
        replacement=".close(",
        test="test_leadership_is_not_released_while_a_step_runs",
    ),
    Bug(
        "a lost term is released while a step runs",
        "one way out",
        within="TermScope.join",
        pattern=r"while self\._scopes or .+:",
        replacement="while self._scopes:",
        test="test_a_loss_ends_the_term_at_once_and_the_next_candidacy_begins_after_the_step",
    ),
    Bug(
        "a step begins after the request for the release",
        "one way out",
        within="RunningSteps.begin",
        pattern=r"if self\._refuses:",
        replacement="if False:",
        test="test_leadership_is_not_released_while_a_step_runs",
    ),
    Bug(
        "a step begins after the deadline",
        "deadline",
        within="begin_step",
        pattern=r"if self\.term\.is_valid\(\):",
        replacement="if not self.closed:",
        test="test_a_step_receives_the_term_only_while_its_manager_leads",
    ),
    Bug(
        "the lease is renewed for as long as a step runs",
        "overrun",
        within="request_end",
        pattern=r"self\._on_end_requested\(\)",
        replacement="pass",
        test="test_a_step_that_does_not_end_holds_leadership_for_one_more_lease",
    ),
    Bug(
        "stop() in a step waits for the step",
        "one way out",
        within="TermStep.__enter__",
        pattern=r"frame\.__enter__\(\)",
        replacement="pass",
        test="test_inside_a_step_on_the_loop_they_request_and_return",
    ),
    Bug(
        "a step that Ctrl-C interrupts at its beginning holds leadership",
        "one way out",
        within="TermStep.__enter__",
        pattern=r"scope\.end_step\(self\)",
        replacement="pass",
        test="test_a_step_that_is_interrupted_at_its_beginning_or_end_holds_nothing",
    ),
    Bug(
        "a forked child ends its parent's step",
        "fork",
        within="TermStep._end",
        pattern=r"if self\._process == process_id\(\):",
        replacement="if True:",
        test="test_in_a_forked_child_no_step_begins_and_that_of_the_parent_ends_quietly",
    ),
)

_MAIN = (
    Bug(
        "main() does not release at a signal",
        "one way out",
        within="_Signals._handle",
        pattern=r"self\._request\(\)",
        replacement="pass",
        test="test_a_signal_ends_the_work_and_then_the_process_with_its_status",
    ),
    Bug(
        "main() does not wait for steps",
        "one way out",
        within="_stop_campaign",
        pattern=r"\.request_end\(",
        replacement=".close(",
        test="test_a_step_delays_the_end_that_a_signal_requests",
    ),
    Bug(
        "the loop sleeps on when another thread receives the signal",
        "one way out",
        within="woken_by_signals",
        pattern=r"signal\.set_wakeup_fd\(writer\S+, \S+\)",
        replacement="-1",
        test="test_a_signal_that_another_thread_receives_is_handled_at_once",
    ),
    Bug(
        "main() leaves its handlers behind",
        "one way out",
        within="_Signals.__exit__",
        pattern=r"signal\.signal\(\w+, \w+\)",
        replacement="pass",
        test="test_it_returns_what_work_returned_and_restores_the_handlers",
    ),
    Bug(
        "main() handles a signal that was ignored",
        "one way out",
        within="_Signals.__enter__",
        pattern=r"\w+ is not signal\.SIG_IGN and",
        replacement="",
        test="test_a_signal_that_is_ignored_stays_ignored",
    ),
)

_BLOCKING = (
    Bug(
        "leadership is released while a leading block of a thread runs",
        "one way out",
        within="HeldBlock._hold",
        pattern=r"shield=self\._joined",
        replacement="shield=False",
        test="test_leadership_is_not_released_before_a_leading_block_of_a_thread_has_ended",
    ),
    Bug(
        "leadership is released while the work of a blocking run runs",
        "one way out",
        within="_serve",
        pattern=r"shield=True",
        replacement="shield=False",
        test="test_stop_from_another_thread_waits_for_the_work",
    ),
    Bug(
        "work of a thread that Ctrl-C interrupts counts as done",
        "once",
        within="BlockingLeaderManager._serve",
        pattern=r"if not call\.completed:",
        replacement="if False:",
        test="test_interrupted_work_is_not_recorded_as_done",
    ),
    Bug(
        "a forked child frees the loop of its parent",
        "fork",
        within="BackgroundLoop.forked",
        pattern=r"self\._of_parents\.append\(.+\)",
        replacement="",
        test="test_a_forked_child_has_a_loop_and_a_candidacy_of_its_own",
    ),
    Bug(
        "a block that was not left keeps its lease at the end of the process",
        "one way out",
        within="_end_users",
        pattern=r"end\(\)",
        replacement="pass",
        test="test_the_end_of_the_main_thread_releases_leadership_and_ends_the_process",
    ),
)

BUGS = (*_THREADS, *_STEPS, *_MAIN, *_BLOCKING)
