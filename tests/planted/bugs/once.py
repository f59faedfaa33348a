"""Bugs in work that is done once."""

from __future__ import annotations

from tests.planted.bug import Bug

__all__ = ("BUGS",)

BUGS = (
    Bug(
        "work is recorded as done without the guard of its term",
        "once",
        within="DoneRecord.write",
        pattern=r"recorded, _ = .+",
        replacement=(
            "from .._etcd.api import Put\n"
            "recorded = (await self._connection.txn((), [Put(self._key, value)], timeout=self._retry)).succeeded"
        ),
        test="test_a_leader_whose_key_is_gone_records_nothing",
    ),
    Bug(
        "a failure is recorded as done",
        "once",
        within="Once.__call__",
        pattern=r"await run_work\(self\._work, term\)",
        replacement=(
            "try:\n"
            "    await run_work(self._work, term)\n"
            "except Exception:\n"
            "    if record is not None:\n"
            "        await record.write(term)\n"
            "    raise"
        ),
        test="test_a_failure_is_raised_and_not_recorded_and_the_next_one_tries",
    ),
    Bug(
        "a leader that was elected after the record does the work again",
        "once",
        within="Once.__call__",
        pattern=r"if record is not None and \(done .+: return done",
        replacement="",
        test="test_a_successor_without_the_event_of_the_record_looks_before_it_works",
    ),
    Bug(
        "work that returns a generator counts as done",
        "once",
        within="result_of_plain",
        pattern=r"if inspect\.isgenerator\(result\) or .+:",
        replacement="if False:",
        test="test_work_that_returns_a_generator_is_an_error_and_not_recorded",
    ),
    Bug(
        "waiting candidates leave one after another",
        "once",
        within="DoneRecord._finish",
        pattern=r"self\._campaign\.stop\(\)",
        replacement="pass",
        test="test_the_queue_is_left_at_once_behind_a_leader_that_does_not_end",
    ),
    Bug(
        "a record from before the watch is not seen",
        "once",
        within="may_miss_events",
        pattern=r" or message\.revision > known_revision",
        replacement="",
        test="test_a_record_from_before_the_watch_was_created_is_noticed",
    ),
    Bug(
        "a record without a response is not sent again",
        "once",
        within="DoneRecord._answered",
        pattern=r"if not term\.is_valid\(\):",
        replacement="if True:",
        test="test_a_record_without_an_answer_is_sent_again",
    ),
    Bug(
        "stop() looks as if the work was done",
        "once",
        within="run_once",
        pattern=r"if campaign\.result is None:",
        replacement="if False:",
        test="test_stop_ends_it_with_an_error_at_any_moment",
    ),
    Bug(
        "the permission to record is not checked before the work",
        "once",
        within="DoneRecord.done_by_this_process",
        pattern=r"\[DeleteRange\(self\._key\)\]",
        replacement="()",
        test="test_the_permission_is_checked_before_the_work",
    ),
)
