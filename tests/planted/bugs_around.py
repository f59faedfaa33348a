"""Bugs planted around the election: in what others see of it, in what keeps late writes out, in how etcd is treated."""

from __future__ import annotations

from tests.planted.bug import Bug

__all__ = ("BUGS_AROUND",)

BUGS_AROUND = (
    # observing
    Bug(
        "a change during a read is thought to be in it",
        "observing",
        "_observer.py",
        "if self._reading or self._leader is None or",
        "if self._leader is None or",
        "tests/sim/test_observe.py::test_a_change_while_the_answer_is_under_way_is_told_at_once",
    ),
    Bug(
        "what happened before the watch stood is not asked for",
        "observing",
        "_observer.py",
        "            self._suspect = max(self._suspect, message.revision)",
        "            pass",
        "tests/sim/test_observe.py::test_a_change_before_the_watch_stands_is_told_when_it_does",
    ),
    Bug(
        "a timeout around the next item forgets that something changed",
        "observing",
        "_observer.py",
        "            if result is None:\n                self._stale = True",
        "            if result is None:\n                pass",
        "tests/sim/test_observe.py::test_a_timeout_around_the_next_item_loses_nothing",
    ),
    # fencing
    Bug(
        "the gate forgets what it let through",
        "fencing",
        "fencing.py",
        "            self._highest = (epoch, token)",
        "            pass",
        "tests/test_fencing.py::test_a_lower_token_is_refused_and_the_error_says_which_and_by_what",
    ),
    Bug(
        "the gate opens for the next one while a writer still writes",
        "fencing",
        "fencing.py",
        "        with self._lock:\n            self.check(token, epoch=epoch)\n            yield",
        "        self.check(token, epoch=epoch)\n        yield",
        "tests/test_fencing.py::test_nobody_passes_while_a_writer_writes",
    ),
    # views
    Bug(
        "an outage is told at each try",
        "views",
        "_announcer.py",
        "            self._renewals_fail = True\n            _logger.warning(",
        "            _logger.warning(",
        "tests/sim/test_views.py::test_an_outage_is_told_per_outage_and_not_per_try",
    ),
    Bug(
        "the loss is told before it is known why",
        "views",
        "_announcer.py",
        "        reason = term.loss_reason or LossReason.EXPIRED\n",
        "        reason = LossReason.EXPIRED\n",
        "tests/sim/test_views.py::test_statistics_tell_the_losses_by_reason",
    ),
    Bug(
        "the closest call is the latest one",
        "views",
        "_announcer.py",
        "remaining if counts.closest_call is None else min(counts.closest_call, remaining)",
        "remaining",
        "tests/sim/test_views.py::test_statistics_tell_the_age_of_the_last_renewal_and_the_closest_call",
    ),
    # sparing etcd
    Bug(
        "each lease is renewed by itself",
        "sparing etcd",
        "_renewals.py",
        "        while len(found) < most and len(left) < most and",
        "        while False and",
        "tests/sim/test_many.py::test_what_is_due_soon_goes_along_with_what_is_due",
    ),
    Bug(
        "a round holds its leases until it is over for all",
        "confirmed renewal",
        "_rounds.py",
        "                settled.append(lease)\n",
        "                pass\n",
        "tests/sim/test_rounds.py::test_an_extension_does_not_wait_for_a_round_that_is_over_for_its_lease",
    ),
    Bug(
        "an extension renews what is lost",
        "confirmed renewal",
        "_rounds.py",
        "left = self._wanting(self._leases)",
        "left = self._leases",
        "tests/sim/test_rounds.py::test_an_extension_that_waited_past_the_deadline_renews_nothing",
    ),
    Bug(
        "a read that is given up ends the member",
        "sparing etcd",
        "_etcd/gateway.py",
        "by_consensus=reads and self._survives != self._number",
        "by_consensus=False",
        "tests/etcd/test_versions.py::test_reads_go_through_the_log_of_an_etcd_that_others_would_end",
    ),
    # the connection
    Bug(
        "what may have been done is asked for again",
        "connection",
        "_etcd/endpoint.py",
        "if not status.untouched or again or self._left:",
        "if again or self._left:",
        "tests/core/test_http2_calls.py::test_what_may_have_been_done_is_not_asked_again",
    ),
    Bug(
        "a goodbye lets nobody ask again",
        "connection",
        "_etcd/http2.py",
        "                self._end(number, stream, why._replace(untouched=not stream.headers))\n",
        "                self._end(number, stream, why)\n",
        "tests/core/test_http2_calls.py::test_what_a_server_did_not_touch_is_asked_once_more_on_a_new_connection",
    ),
    Bug(
        "a token may be put into tables on the way",
        "connection",
        "_etcd/headers.py",
        "    kind = 0x10 if secret else 0x00\n",
        "    kind = 0x00\n",
        "tests/core/test_frames.py::test_a_secret_may_be_put_into_no_table_by_whoever_hands_it_on",
    ),
    Bug(
        "headers are known by heart for ever",
        "connection",
        "_etcd/headers.py",
        "            self._unpacked.clear()\n",
        "            pass\n",
        "tests/core/test_frames.py::test_headers_that_are_known_by_heart_mean_something_else_when_the_table_has_moved_on",
    ),
    Bug(
        "a stream speaks on after its end",
        "connection",
        "_etcd/http2.py",
        "                return  # left by what it was told\n",
        "                pass\n",
        "tests/core/test_http2.py::test_a_stream_may_be_closed_by_what_it_brings",
    ),
)
