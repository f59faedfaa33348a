"""Bugs in how etcd is spoken to: in how much is asked of it at a time, and in the connection itself."""

from __future__ import annotations

from tests.planted.bug import Bug

__all__ = ("BUGS",)

_SPARING_ETCD = (
    Bug(
        "each lease is renewed by itself",
        "sparing etcd",
        within="_companions",
        pattern="while",
        replacement="while False and",
        test="test_what_is_due_soon_goes_along_with_what_is_due",
    ),
    Bug(
        "what is due at once leaves in one burst",
        "sparing etcd",
        within="_PACE",
        pattern=r"= .+",
        replacement="= 0.0",
        test="test_ten_thousand_leases_that_began_together_do_not_leave_in_one_burst",
    ),
    Bug(
        "leases that began together come due together for ever",
        "sparing etcd",
        within="add",
        pattern=r"if len\(.+:",
        replacement="if False:",
        test="test_ten_thousand_leases_that_began_together_are_spread_over_their_interval",
    ),
    Bug(
        "all candidacies ask at once",
        "sparing etcd",
        within="_AT_A_TIME",
        pattern="64",
        replacement="1_000",
        test="test_no_more_than_so_many_calls_of_candidacies_are_under_way",
    ),
    Bug(
        "a turn that comes too late is lost",
        "sparing etcd",
        within="FairLimiter.acquire",
        pattern=r"\S+\.release\(\)",
        replacement="pass",
        test="test_who_does_not_wait_any_more",
    ),
    Bug(
        "one read that is refused costs all who shared it",
        "sparing etcd",
        within="read",
        pattern=r"if isinstance\(.+:",
        replacement="if False:",
        test="test_a_key_that_may_not_be_read_costs_only_who_wanted_it",
    ),
    Bug(
        "a read that is given up ends the member",
        "sparing etcd",
        within="txn",
        pattern=r"(through_log = )[^\n]+",
        replacement=r"\g<1>False",
        test="test_reads_go_through_the_log_of_an_etcd_that_others_would_end",
    ),
    Bug(
        "nobody asks for the version",
        "sparing etcd",
        within="_call",
        pattern=r"self\._versions\.answered\(\)",
        replacement="pass",
        test="test_reads_leave_the_log_when_the_client_has_learned_that_the_member_survives_them",
    ),
)

_CONNECTION = (
    Bug(
        "what may have been done is asked for again",
        "connection",
        within="_answer",
        pattern=r"if not \S+ or",
        replacement="if",
        test="test_what_may_have_been_done_is_not_asked_again",
    ),
    Bug(
        "a goodbye lets nobody ask again",
        "connection",
        within="_retire",
        pattern=r"\._replace\(.+?\)",
        replacement="",
        test="test_what_a_server_did_not_touch_is_asked_once_more_on_a_new_connection",
    ),
    Bug(
        "a token may be put into tables on the way",
        "connection",
        within="packed",
        pattern=r"= \w+ if secret else",
        replacement="=",
        test="test_a_secret_may_be_put_into_no_table_by_whoever_hands_it_on",
    ),
    Bug(
        "headers are known by heart for ever",
        "connection",
        within="unpack",
        pattern=r"\S+\.clear\(\)",
        replacement="pass",
        test="test_headers_that_are_known_by_heart_mean_something_else_when_the_table_has_moved_on",
    ),
    Bug(
        "a silent watch stream is waited for",
        "connection",
        within="_message_due_at",
        pattern=r"if \S+_by_id",
        replacement="if False",
        test="test_a_leader_with_a_silent_watch_finds_its_deleted_key_through_a_new_stream",
    ),
    Bug(
        "a quiet watch stream is given up without a question",
        "connection",
        within="_look_after_the_stream",
        pattern=r"\S+\.send\(.+\)",
        replacement="pass",
        test="test_a_pair_at_rest_asks_once_in_retry_and_keeps_its_streams",
    ),
    Bug(
        "a resumed watch begins where etcd reports no progress yet",
        "connection",
        within="_ask_for",
        pattern=r"= max\(.+?\) if \S+ else",
        replacement="=",
        test="test_a_resumed_watch_is_not_taken_for_silent_where_nothing_happens",
    ),
    Bug(
        "a watch resumes from what etcd says of its progress",
        "connection",
        within="_received",
        pattern=r"(\S+_silent_streams = 0)",
        replacement="\\g<1>\nfor watch in self._watches:\n    watch.next_revision = message.header.revision + 1",
        test="test_a_silent_stream_is_broken_and_loses_nothing",
    ),
    Bug(
        "a stream speaks on after its end",
        "connection",
        within="_arrived",
        pattern=r"return(?=  #)",
        replacement="pass",
        test="test_a_stream_may_be_closed_by_what_it_brings",
    ),
)

_HOSTILE_PEER = (
    Bug(
        "frames that bring nothing are free",
        "connection",
        within="_waste",
        pattern=r"if \S+_worthless >.+:",
        replacement="if False:",
        test="test_frames_that_bring_nothing_are_counted",
    ),
    Bug(
        "a peer may send more than its window",
        "connection",
        within="_data",
        pattern=r"if self\._inbound < 0:",
        replacement="if False:",
        test="test_data_beyond_a_window_end_the_connection",
    ),
    Bug(
        "answers wait without end for a peer that does not read",
        "connection",
        within="_answer",
        pattern=r"if \S+_answers >.+:",
        replacement="if False:",
        test="test_answers_wait_for_a_peer_that_reads",
    ),
    Bug(
        "all frames that came are processed at once",
        "connection",
        within="receive",
        pattern="if left <= 0:",
        replacement="if False:",
        test="test_no_more_than_so_many_frames_are_processed_at_a_time",
    ),
    Bug(
        "a message may be of any length",
        "connection",
        within="take",
        pattern=r"if size > \S+_most:",
        replacement="if False:",
        test="test_a_message_has_a_limit_that_its_first_bytes_show",
    ),
    Bug(
        "a creation that was not asked for is credited",
        "connection",
        within="_created",
        pattern=r"if not \S+_asked:",
        replacement="if False:",
        test="test_a_creation_that_was_not_asked_for_ends_the_stream",
    ),
)

_OUTAGES = (
    Bug(
        "each failed call makes another connection",
        "sparing etcd",
        within="attempt",
        pattern=r"(_not_before =).+",
        replacement=r"\g<1> now",
        test="test_an_outage_costs_each_endpoint_one_connection_a_second",
    ),
    Bug(
        "a watch that breaks at once is created at full speed",
        "sparing etcd",
        within="_run",
        pattern=r"if self\._useful and .+:",
        replacement="if self._useful:",
        test="test_a_watch_that_is_created_and_then_breaks_is_created_again_once_a_second",
    ),
    Bug(
        "a member that goes away is an outage",
        "connection",
        within="Watches._run",
        pattern=r"moved = .+",
        replacement="moved = False",
        test="test_a_member_that_goes_away_costs_a_watch_a_new_stream",
    ),
    Bug(
        "the only endpoint is kept while it talks",
        "connection",
        within="switch",
        pattern=r"and now < self\._failing_since \+ _PATIENCE",
        replacement="",
        test="test_the_only_endpoint_is_left_though_it_talks",
    ),
    Bug(
        "TLS without HTTP/2 is taken for no TLS",
        "connection",
        within="_with_tls",
        pattern=r'if .+ != "h2":',
        replacement="if False:",
        test="test_a_tls_server_without_http2_is_named_as_that",
    ),
)

BUGS = (*_SPARING_ETCD, *_CONNECTION, *_HOSTILE_PEER, *_OUTAGES)
