"""Bugs in how a candidate joins the queue, in its view of the queue, and in its own key."""

from __future__ import annotations

from tests.planted.bug import Bug

__all__ = ("BUGS", "ONE_FOR_ALL")

ONE_FOR_ALL = Bug(
    "one existing key confirms all keys of the same read",
    "own key",
    within="_confirm",
    pattern=r"(\w+) = \[_only\(.+\]",
    replacement="""\\g<0>
if settled and \\g<1>[0] is None:
    lease.trusted_deadline.confirm(evidence.sent_at[answer.lease_id], answer.ttl, lease.now())
    lease._kept_deadline.confirm(evidence.sent_at[answer.lease_id], answer.ttl, lease.now())
    settled.append(lease)
    continue""",
    test="test_a_key_that_is_gone_is_not_confirmed_by_existing_keys_of_the_same_read",
)

_OWN_KEY = (
    ONE_FOR_ALL,
    Bug(
        "a renewal does not check the key",
        "own key",
        within="check_renewal",
        pattern=r" if not \w+: return \S+",
        replacement="",
        test="test_a_leader_with_a_silent_watch_detects_the_change_by_its_next_renewal",
    ),
    Bug(
        "events of the own key are ignored",
        "own key",
        within="apply",
        pattern=r"return .+lost=True\)",
        replacement="pass",
        test="test_a_leader_with_a_working_watch_detects_the_change_at_once",
    ),
    Bug(
        "a key that was taken off its lease still counts",
        "own key",
        within="matches",
        pattern=r" and \w+\.lease != 0 and .+\)",
        replacement="",
        test="test_a_put_that_changes_value_lease_or_creation_is_a_loss",
    ),
    Bug(
        "our own new value is taken for a step-down request",
        "own key",
        within="puts_by_others",
        pattern=r" - self\.updates",
        replacement="",
        test="test_a_new_value_is_one_put_and_no_request_to_step_down",
    ),
    Bug(
        "our own new value is taken for a step-down request until its response arrives",
        "own key",
        within="puts_by_others",
        pattern=r" - \(kv\.value == self\.new_value\)",
        replacement="",
        test="test_our_own_new_value_is_no_request_to_step_down_and_a_request_beside_it_is_one",
    ),
    Bug(
        "a new value is put twice after a lost answer",
        "own key",
        within="_try_update",
        pattern=r'Compare\(own\.key, "mod", .+\),',
        replacement="",
        test="test_a_lost_answer_is_reported_and_the_next_call_settles_it",
    ),
    Bug(
        "a new value that an event has shown stays open, so a move puts the old one again",
        "move",
        within="on_own_key",
        pattern=r"shows_new_value=.+,",
        replacement="shows_new_value=False,",
        test="test_a_new_value_that_only_an_event_has_shown_moves_with_the_key",
    ),
    Bug(
        "a read from before a new value is taken for the loss of the key",
        "own key",
        within="matches",
        pattern=r" or kv\.mod_revision < mod_revision",
        replacement="",
        test="test_a_renewal_that_read_the_key_before_its_new_value_is_no_loss",
    ),
    Bug(
        "a candidate wins on a lease that is no longer valid",
        "own key",
        within="_has_won",
        pattern=r"if self\.session\.is_valid\(\):",
        replacement="if self.session.loss_reason is None:",
        test="test_a_candidate_on_an_untrusted_lease_that_becomes_next_in_line_moves",
    ),
    Bug(
        "a renewal does not check the predecessor",
        "own key",
        within="on_response",
        pattern=r" if len\(.+: .+\(\)",
        replacement="",
        test="test_a_missed_deletion_of_the_predecessor_is_found_by_the_next_renewal",
    ),
    Bug(
        "a reader that comes after the read was sent gets data older than its call",
        "own key",
        within="_gather",
        pattern=r" \S+\._close\(.+\)",
        replacement="",
        test="test_a_reader_that_comes_after_the_read_was_sent_gets_a_newer_one",
    ),
)

_HAND_OVER = (
    Bug(
        "a waiting candidate ignores the request to queue again",
        "candidacy",
        within="_on_position_changed",
        pattern=r"self\._asked_to_requeue = True",
        replacement="self._asked_to_requeue = False",
        test="test_the_named_one_leads_and_the_rest_keeps_its_order",
    ),
    Bug(
        "a candidate that is asked to queue again leads first",
        "candidacy",
        within="wait_until_first",
        pattern=r"self\._asked_to_requeue or ",
        replacement="",
        test="test_a_candidate_that_is_asked_as_it_wins_queues_again_and_begins_no_term",
    ),
    Bug(
        "a leader resigns although a candidate stays ahead of the named one",
        "candidacy",
        within="clear_way",
        pattern=r"if not between:",
        replacement="if not between or asked or not check_library(between, to):",
        test="test_a_candidate_that_does_not_answer_stays_ahead_and_the_caller_receives_its_name",
    ),
    Bug(
        "candidates are asked before a foreign one is noticed",
        "candidacy",
        within="clear_way",
        pattern=r" check_library\(between, to\)",
        replacement="",
        test="test_a_foreign_candidate_ahead_prevents_it_before_anybody_was_asked",
    ),
    Bug(
        "two candidates of one identity are one",
        "candidacy",
        within="candidates_between",
        pattern=r"if len\(places\) > 1:",
        replacement="if len(places) > 2:",
        test="test_a_candidate_that_cannot_be_next_is_refused_with_the_reason",
    ),
    Bug(
        "candidates that make way do not wait for each other",
        "candidacy",
        within="_let_pass",
        pattern=r" with anyio\.move_on_after\(timeout\): await _wait_until_back\(.+\)",
        replacement="",
        test="test_candidates_that_make_way_join_one_after_the_other",
    ),
)

_CANDIDACY = (
    Bug(
        "an existing lease of the same id is not revoked",
        "candidacy",
        within="Lease.grant",
        pattern=r"await self\.revoke\(.+\)",
        replacement="pass",
        test="test_a_grant_whose_response",
    ),
    Bug(
        "a join without a response is dropped",
        "candidacy",
        within="_try_join",
        pattern=r"return await .+",
        replacement="raise CandidacyOverError(LossReason.EXPIRED) from error",
        test="test_a_join_that_was_applied_though",
    ),
    Bug(
        "a key is put without a lease",
        "candidacy",
        within="join_request",
        pattern=r", lease_id\)",
        replacement=")",
        test="test_a_lost_call_leaves_no_orphan_and_no_leaked_lease",
    ),
)

_TOKEN = (
    Bug(
        "the token is the revision of the store",
        "token",
        within="_adopt",
        pattern=r"_set_create_revision\(.+\)",
        replacement="_set_create_revision(found.header.revision)",
        test="test_the_token_of_a_join_without_a_response_is_the_revision_of_its_key",
    ),
    Bug(
        "a wiped cluster goes unnoticed",
        "token",
        within="check",
        pattern=r" if \w+ < \w+: raise .+\)",
        replacement="",
        test="test_a_regression_of_the_cluster_ends_the_campaign",
    ),
    Bug(
        "the campaign continues after a regression",
        "token",
        within="_run_candidacy",
        pattern=r"if isinstance\(.+:",
        replacement="if False:",
        test="test_a_regression_ends_the_campaign_though_etcd_has_passed_the_known_revision_again",
    ),
    Bug(
        "the guard does not compare the lease",
        "token",
        within="transact",
        pattern=r'Compare\(\w+, "lease", .+?\)',
        replacement="",
        test="test_a_key_taken_off_its_lease_guards_no_write",
    ),
)

_STATE = (
    Bug(
        "a lagging member's old event counts",
        "state",
        within="apply",
        pattern=r" if \S+ <= self.revision: continue",
        replacement="",
        test="test_an_old_deletion_of_a_reused_name_elects_no_candidate",
    ),
    Bug(
        "a gap between the read and the watch goes unnoticed",
        "state",
        within="on_watch_created",
        pattern=r"return .+",
        replacement="return self",
        test="test_a_candidate_that_joined_while_the_leader_left_leads_at_once",
    ),
    Bug(
        "a broken watch resumes after a header's revision",
        "state",
        within="WatchStream._on_events",
        pattern=r"= \S+\.kv\.mod_revision \+",
        replacement="= message.header.revision +",
        test="test_a_broken_watch_resumes_after_its_last_event_even_if_the_header_is_ahead",
    ),
    Bug(
        "a predecessor that waited itself makes its successor leader",
        "state",
        within="apply",
        pattern=r"if \S+ is Rank\.\w+:",
        replacement="if True:",
        test="test_a_deleted_predecessor_that_was_waiting_itself_elects_no_candidate",
    ),
    Bug(
        "a refused creation ends another watch",
        "state",
        within="_on_created",
        pattern=r"if (\w+)\.canceled:",
        replacement=r"if \g<1>.canceled and \g<1>.watch_id not in self._by_id:",
        test="test_a_refused_creation_ends_its_own_watch_and_no_other",
    ),
)

BUGS = (*_OWN_KEY, *_HAND_OVER, *_CANDIDACY, *_TOKEN, *_STATE)
