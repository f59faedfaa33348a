"""Bugs in the raft term under which a lease is trusted, and in the move to another lease."""

from __future__ import annotations

from tests.planted.bug import Bug

__all__ = ("BUGS",)

_TERM = (
    Bug(
        "a renewal under a later raft term extends the trust",
        "raft term",
        within="check_renewal",
        pattern=r"CONFIRMED if \w+ == \w+ else",
        replacement="CONFIRMED if lease_raft_term else",
        test="test_a_renewal_under_a_later_raft_term_extends_nothing",
    ),
    Bug(
        "the term of a lease is that of the response to its grant",
        "raft term",
        within="Lease._grant",
        pattern=r"(self\.raft_term_at_grant, self\.sent_at, self\.ttl) = term,",
        replacement=r"\g<1> = self._connection.raft_terms.latest,",
        test="test_the_raft_term_of_a_lease_is_not_that_of_the_response_to_its_grant",
    ),
    Bug(
        "0 is taken for a term",
        "raft term",
        within="check_renewal",
        pattern=r" or \w+ == 0",
        replacement="",
        test="test_a_renewal_counts_only_in_the_raft_term_of_its_lease",
    ),
    Bug(
        "no proposal before the read",
        "raft term",
        within="RenewalRound._propose",
        pattern=r"header = await .+\(.+\)",
        replacement="header = answered[first][1].header",
        test="test_a_follower_that_caught_up_by_a_snapshot_confirms_nothing_under_its_old_raft_term",
    ),
    Bug(
        "a read from any member confirms a renewal",
        "raft term",
        within="RenewalRound._confirm",
        pattern=r"if \w+\.member_id == \S+ else 0",
        replacement="",
        test="test_a_read_that_another_member_answers_confirms_nothing",
    ),
    Bug(
        "a time to live of 0 counts without a read",
        "raft term",
        within="RenewalRound._attempt",
        pattern=r"(answered)\.append\(.+\)",
        replacement="""\
if answer.ttl <= 0:
    lease.on_internal_error(unanswered)
    continue
\\g<0>""",
        test="test_a_ttl_of_zero_that_the_read_contradicts_ends",
    ),
)

_MOVE = (
    Bug(
        "no move",
        "move",
        within="is_outdated",
        pattern=r"return .+",
        replacement="return False",
        test="test_a_former_leader_of_etcd_that_wakes_up_ends_no_leadership",
    ),
    Bug(
        "no move, and renewals under a later raft term extend the trust",
        "move",
        within="_move_if_outdated",
        pattern=r"self\.start_move\(.+\)",
        replacement="self._lease.raft_term_at_grant = self._connection.raft_terms.latest",
        test="test_a_former_leader_of_etcd_that_wakes_up_ends_no_leadership",
    ),
    Bug(
        "a move does not compare mod_revision",
        "move",
        within="KeyMove.txn",
        pattern=r'Compare\([\w.]+, "mod", .+?\),',
        replacement="",
        test="test_a_request_to_step_down_just_before_the_move_is_not_lost",
    ),
    Bug(
        "a move does not compare the lease",
        "move",
        within="KeyMove.txn",
        pattern=r'Compare\([\w.]+, "(mod|lease)", .+?\),(.|\n)+?"lease", .+?\),',
        replacement="",
        test="test_a_key_that_is_deleted_or_changed_before_the_move_ends_the_term",
    ),
    Bug(
        "the old lease is revoked before the response to the move",
        "move",
        within="KeyMover._send",
        pattern=r"txns = .+",
        replacement="""\
\\g<0>
for key in sent:
    await key._session._lease.revoke(1.0, 1.0)""",
        test="test_the_key_moves_to_another_lease_and_the_term_continues",
    ),
    Bug(
        "the new lease is revoked while the move is unanswered",
        "move",
        within="KeyMove.on_error",
        pattern=r"self\.start_later\(\)",
        replacement="self.on_lease_not_found()",
        test="test_a_move_without_a_response_is_repeated_with_the_same_lease",
    ),
    Bug(
        "renewals extend the deadline while the move is unanswered",
        "move",
        within="LeaseDeadline.confirm",
        pattern=r"if self\._uncapped is None:",
        replacement="if True:",
        test="test_a_cap_shortens_the_trust_at_once_and_nothing_extends_it",
    ),
    Bug(
        "the deadline of a moved key is that of its old lease",
        "move",
        within="on_moved_to",
        pattern=r"trusted_deadline\.replace\(.+\)",
        replacement="trusted_deadline.is_valid(now)",
        test="test_a_leader_leads_by_the_lease_to_which_its_key_has_moved",
    ),
    Bug(
        "a move that a renewal finds done is sent again",
        "move",
        within="KeyMove.succeeded",
        pattern=r"self\.end\(\)",
        replacement="pass",
        test="test_a_move_that_a_renewal_finds_done_is_not_sent_again",
    ),
    Bug(
        "a stop in the middle of a move revokes only the old lease",
        "move",
        within="Session.close",
        pattern=r"leases\.append\(.+\)",
        replacement="pass",
        test="test_an_end_in_the_middle_of_a_move_leaves_no_key_and_no_lease",
    ),
    Bug(
        "a candidate far back ends with the trust in its lease",
        "move",
        within="_session_deadline",
        pattern=r"return .+",
        replacement="return self.trusted_deadline",
        test="test_the_next_in_line_moves_too_and_candidates_behind_it_do_not",
    ),
    Bug(
        "a grant that fails ends the move",
        "move",
        within="KeyMover._grant",
        pattern=r"move\.start_later\(\)",
        replacement="pass",
        test="test_a_grant_that_fails_is_requested_again",
    ),
)

_TROUBLE = (
    Bug(
        "renewals of a kept lease end an outage of moves",
        "move",
        within="Session.on_response",
        pattern=r"if verdict is RenewalResult\.CONFIRMED or .+:",
        replacement="if True:",
        test="test_moves_that_fail_are_one_outage_that_grows_serious",
    ),
    Bug(
        "extend() takes a move that it did not wait for as a failure",
        "move",
        within="renew_now",
        pattern=r"elif self\.lease_id == lease_id:",
        replacement="else:",
        test="test_extend_during_a_move_does_not_fail",
    ),
    Bug(
        "a put on the new lease is always taken for our own move",
        "move",
        within="puts_by_others",
        pattern=r"return .+",
        replacement="return 0 if kv.lease == self.moving_to else kv.version - 1 - self.moves",
        test="test_a_request_to_step_down_between_a_move_and_its_response_is_not_lost",
    ),
)

BUGS = (*_TERM, *_MOVE, *_TROUBLE)
