"""Bugs in the deadline of a lease, and in its renewal."""

from __future__ import annotations

from tests.planted.bug import Bug

__all__ = ("BUGS", "COUNTED_FROM_THE_ANSWER")

COUNTED_FROM_THE_ANSWER = Bug(
    "the lease is counted from the response",
    "deadline",
    within="on_response",
    pattern=r"trusted_deadline\.confirm\(sent_at,",
    replacement="trusted_deadline.confirm(now,",
    test="test_a_lease_is_valid_from_the_send_time_however_late_the_response",
)

_CLOCK = (
    Bug(
        "the clock stands still in suspend",
        "clock",
        within="boottime",
        pattern=r"clock_gettime\(\S+\)(?! if)",
        replacement="monotonic()",
        test="test_the_clock_is_the_one_that_counts_suspend",
    ),
    Bug(
        "is_leader() returns a flag that code must clear",
        "clock",
        within="Session.is_valid",
        pattern=r"(is None) and .+",
        replacement=r"\g<1>",
        test="test_a_leader_suspended_past_its_lease_is_not_leader_on_the_first_check",
    ),
)

_DEADLINE = (
    COUNTED_FROM_THE_ANSWER,
    Bug(
        "no margin",
        "deadline",
        within="LeaseDeadline",
        pattern=r"(= \w+ \+ ttl) - margin",
        replacement=r"\g<1>",
        test="test_a_lease_is_valid_until_the_send_time_plus_ttl_minus_margin",
    ),
    Bug(
        "an expired lease counts as deleted by hand",
        "deadline",
        within="loss_reason_at",
        pattern=r"return .+",
        replacement="return seen",
        test="test_a_deletion_received_after_the_expiry_counts_as_an_expired_lease",
    ),
    Bug(
        "a confirmation past the deadline revives the lease",
        "deadline",
        within="confirm",
        pattern=r"if not .+: return False",
        replacement="self._over = False",
        test="test_a_confirmation_received_past_the_deadline_extends_nothing",
    ),
    Bug(
        "a keep-alive without a response leaves its stream open",
        "deadline",
        within="_give_up",
        pattern=r"if sent:",
        replacement="if False:",
        test="test_a_late_response_is_never_credited_to_the_next_keep_alive",
    ),
)

_CONFIRMED_RENEWAL = (
    Bug(
        "a keep-alive alone renews",
        "confirmed renewal",
        within="check_renewal",
        pattern=r"if not \w+:(.|\n)+ else .+",
        replacement="return RenewalResult.CONFIRMED if ttl > 0 else RenewalResult.KEY_LOST",
        test="test_a_lease_whose_revocation_is_committed_and_not_applied",
    ),
    Bug(
        "keep-alives of many elections need no confirmation",
        "confirmed renewal",
        within="check_renewal",
        pattern=r"if not \w+:(.|\n)+ else .+",
        replacement="return RenewalResult.CONFIRMED if ttl > 0 else RenewalResult.KEY_LOST",
        test="test_no_schedule_of_ten_minutes",
    ),
    Bug(
        "a raft term may go back",
        "confirmed renewal",
        within="check_renewal",
        pattern=r" or \w+ < \w+:",
        replacement=":",
        test="test_a_renewal_counts_only_in_the_raft_term_of_its_lease",
    ),
    Bug(
        "the first failed renewal costs the leadership",
        "confirmed renewal",
        within="on_error",
        pattern=r"self\.\w+ = error",
        replacement="self.invalidate(LossReason.EXPIRED)",
        test="test_one_lost_renewal_ends_no_term",
    ),
    Bug(
        "no second attempt at once",
        "confirmed renewal",
        within="_ATTEMPTS",
        pattern="2",
        replacement="1",
        test="test_a_failed_renewal_is_repeated_at_once_and_ends_no_term",
    ),
    Bug(
        "extend() accepts an older confirmation",
        "confirmed renewal",
        within="renew_now",
        pattern=r"= not \w+\.reading",
        replacement="= True",
        test="test_an_extension_is_confirmed_by_a_read_sent_after_the_call",
    ),
    Bug(
        "an extension renews a lost lease",
        "confirmed renewal",
        within="run",
        pattern=r"\S+_still_due\((.+)\)",
        replacement=r"\g<1>",
        test="test_an_extension_that_waited_past_the_deadline_renews_nothing",
    ),
    Bug(
        "a lease is renewed by the response for another one",
        "confirmed renewal",
        within="_attempt",
        pattern=r"(answers)\.get\(ids\[lease\]\)",
        replacement=r"\g<0> or next((one._replace(lease_id=ids[lease]) for one in \g<1>.values()), None)",
        test="test_a_lease_is_not_renewed_by_the_responses_for_others",
    ),
    Bug(
        "a lease that is gone fails its whole round",
        "confirmed renewal",
        within="_attempt",
        pattern=r"(answered)\.append\(.+\)",
        replacement="""\
if answer.ttl <= 0:
    for one in leases:
        one.on_internal_error(unanswered)
\\g<0>""",
        test="test_leases_that_have_ended_end_no_other_of_their_round",
    ),
    Bug(
        "a round holds its leases until it is over for all",
        "confirmed renewal",
        within="_confirm",
        pattern=r"settled\.append\(.+\)",
        replacement="pass",
        test="test_an_extension_does_not_wait_for_a_round_that_is_over_for_its_lease",
    ),
    Bug(
        "the reads of a round wait for each other",
        "confirmed renewal",
        within="_attempt",
        pattern=r"group\.start_soon\((.+?), (.+)\)",
        replacement=r"await \g<1>(\g<2>)",
        test="test_a_slow_read_delays_no_lease_of_another_read",
    ),
    Bug(
        "rounds wait for each other",
        "confirmed renewal",
        within="run",
        pattern=r"left = await self\._attempt\(.+\)",
        replacement='async with vars(self._connection).setdefault("_lock", anyio.Lock()):\n    \\g<0>',
        test="test_a_slow_round_delays_no_other_round",
    ),
    Bug(
        "a keep-alive of a lease whose revocation is not applied yet renews it",
        "confirmed renewal",
        within="check_renewal",
        pattern=r"if not key_is_ours: return \w+\.\w+",
        replacement="",
        test="test_a_lease_whose_revocation_is_committed_and_not_applied",
    ),
    Bug(
        "a keep-alive in the middle of a revocation renews the lease",
        "confirmed renewal",
        within="check_renewal",
        pattern=r"if not key_is_ours: return \w+\.\w+",
        replacement="",
        test="test_a_renewal_in_the_middle_of_a_revocation",
    ),
    Bug(
        "a lease that holds up its stream is sent again at once",
        "confirmed renewal",
        within="run",
        pattern=r"first\.postpone\(\) left = \[.+\]",
        replacement="pass",
        test="test_leases_behind_the_first_unanswered_keep_alive_are_renewed_in_the_second_attempt",
    ),
)

BUGS = (*_CLOCK, *_DEADLINE, *_CONFIRMED_RENEWAL)
