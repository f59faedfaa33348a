"""Bugs planted in what many leases share: their rounds, their stream, their reads."""

from __future__ import annotations

from tests.planted.bug import Bug

__all__ = ("BUGS_MANY", "ONE_FOR_ALL")

ONE_FOR_ALL = """\
            read = [_only(next(found)) for _ in of_one]
            if settled and read[0] is None:
                lease._clock.confirm(sent_at[lease.lease_id], answer.ttl, lease.now())
                settled.append(lease)
                continue
"""

BUGS_MANY = (
    Bug(
        "a lease is renewed by the answer to another one",
        "confirmed renewal",
        "_rounds.py",
        "answer = answers.get(lease.lease_id)",
        "answer = answers.get(lease.lease_id) or next(iter(answers.values()), None)",
        "tests/sim/test_rounds.py::test_a_lease_is_not_renewed_by_the_answers_to_others",
    ),
    Bug(
        "one key that stands confirms all that are read with it",
        "own key",
        "_rounds.py",
        "            read = [_only(next(found)) for _ in of_one]\n",
        ONE_FOR_ALL,
        "tests/sim/test_rounds.py::test_a_key_that_is_gone_is_not_confirmed_by_those_that_stand_in_the_same_read",
    ),
    Bug(
        "in none of many elections a keep-alive needs to be confirmed",
        "confirmed renewal",
        "_core/lease.py",
        "if keep_alive_term != read_term or read_term < highest_term:",
        "if False:",
        "tests/sim/test_many_schedules.py::test_no_schedule_of_ten_minutes",
    ),
    Bug(
        "a lease that is gone takes its round along",
        "confirmed renewal",
        "_rounds.py",
        "            elif answer.ttl <= 0:\n                lease.gone()\n",
        "            elif answer.ttl <= 0:\n                for one in leases:\n                    one.gone()\n",
        "tests/sim/test_rounds.py::test_leases_that_are_gone_take_none_of_their_round_along",
    ),
    Bug(
        "what is due at once leaves in one burst",
        "sparing etcd",
        "_renewals.py",
        "_PACE = 0.005",
        "_PACE = 0.0",
        "tests/sim/test_spread.py::test_ten_thousand_leases_that_began_together_do_not_leave_in_one_burst",
    ),
    Bug(
        "leases that began together come due together for ever",
        "sparing etcd",
        "_renewals.py",
        "        if len(self._leases) > _SPREAD_FROM:\n",
        "        if False:\n",
        "tests/sim/test_spread.py::test_ten_thousand_leases_that_began_together_are_spread_over_their_interval",
    ),
    Bug(
        "the reads of a round wait for each other",
        "confirmed renewal",
        "_rounds.py",
        "                group.start_soon(protected(self._confirm), some, sent_at, give_up_at, left)\n"
        "        return self._wanting(left)\n",
        "                await self._confirm(some, sent_at, give_up_at, left)\n        return self._wanting(left)\n",
        "tests/sim/test_rounds.py::test_a_slow_read_holds_up_no_lease_of_another_read",
    ),
    Bug(
        "rounds wait for each other",
        "confirmed renewal",
        "_rounds.py",
        "                left = await self._attempt(left)\n",
        '                async with vars(self._api).setdefault("_lock", anyio.Lock()):\n'
        "                    left = await self._attempt(left)\n",
        "tests/sim/test_rounds.py::test_a_slow_keep_alive_holds_up_no_lease_of_another_round",
    ),
    Bug(
        "all candidacies ask at once",
        "sparing etcd",
        "_connections.py",
        "_AT_A_TIME = 64",
        "_AT_A_TIME = 1_000",
        "tests/sim/test_turns.py::test_no_more_than_so_many_calls_of_candidacies_are_under_way",
    ),
    Bug(
        "a turn that comes too late is lost",
        "sparing etcd",
        "_turns.py",
        "            if turn.is_set():\n                self._hand_on()\n",
        "            if turn.is_set():\n                pass\n",
        "tests/sim/test_turns.py::test_who_does_not_wait_any_more",
    ),
    Bug(
        "who leaves waits for its turn for ever",
        "one way out",
        "_session.py",
        "if await turns.take(retry):",
        "if await turns.take():",
        "tests/sim/test_turns.py::test_who_stops_does_not_wait_for_the_turns",
    ),
    Bug(
        "one read that is refused costs all who shared it",
        "sparing etcd",
        "_reads.py",
        "if isinstance(batch.error, EtcdRefusedError):",
        "if batch.error is self:",
        "tests/sim/test_reads.py::test_a_key_that_may_not_be_read_costs_only_who_wanted_it",
    ),
    Bug(
        "who comes when the read has left is shown what is older than its call",
        "own key",
        "_reads.py",
        "            self._close(batch, timeout)\n            return True",
        "            return True",
        "tests/sim/test_reads.py::test_who_comes_when_the_read_has_left_gets_a_newer_one",
    ),
)
