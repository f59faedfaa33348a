"""Bugs in the keys that a process registers."""

from __future__ import annotations

from tests.planted.bug import Bug

__all__ = ("BUGS",)

BUGS = (
    Bug(
        "a registration is valid until a loss is noticed, whatever the clock says",
        "registration",
        within="EphemeralKey.is_valid",
        pattern=r"self\.session\.is_valid\(\)",
        replacement="self.session.loss_reason is None",
        test="test_a_registration_is_not_valid_past_its_deadline",
    ),
    Bug(
        "a lost registration is not put again",
        "registration",
        within="Keeper._keep",
        pattern=r"await anyio\.sleep\(backoff\.next\(\)\)",
        replacement="await anyio.sleep_forever()",
        test="test_a_lost_key_is_put_again_with_the_newest_value",
    ),
    Bug(
        "a registration overwrites the key of another client",
        "registration",
        within="EphemeralKey.put",
        pattern=r"\[Compare\(self\._key, \"create\", 0\)\]",
        replacement="()",
        test="test_a_key_of_another_client_is_refused_at_once_and_stays",
    ),
    Bug(
        "a registration takes its own key on an earlier lease for another client's",
        "registration",
        within="_keep_one",
        pattern=r"self\._old_leases \|= ",
        replacement="",
        test="test_the_key_on_an_earlier_lease_of_this_process_is_replaced",
    ),
    Bug(
        "a registration stays on its lease when etcd elects another leader",
        "registration",
        within="EphemeralKey._begin",
        pattern=r"session\.set_near_front\(True\)",
        replacement="pass",
        test="test_the_key_moves_when_etcd_elects_another_leader",
    ),
    Bug(
        "a registration does not see what came before its watch",
        "registration",
        within="may_miss_events",
        pattern=r" or message\.revision > known_revision",
        replacement="",
        test="test_a_deletion_before_the_watch_was_created_is_noticed",
    ),
    Bug(
        "a move puts the value from before an update without a response",
        "registration",
        within="EphemeralKey.on_key_read",
        pattern=r"self\.session\.own = self\.session\.own\.updated\(\)",
        replacement="pass",
        test="test_an_update_that_was_applied_without_an_answer_survives_a_move",
    ),
    Bug(
        "a refused value is put after the next loss",
        "registration",
        within="Keeper.update",
        pattern=r"self\._value = before",
        replacement="pass",
        test="test_a_refused_update_leaves_the_earlier_value",
    ),
    Bug(
        "a value that is too large counts as an overload of etcd and is sent again",
        "registration",
        within="error_from_status",
        pattern=r"for words in _REQUEST_TOO_LARGE",
        replacement="for words in ()",
        test="test_each_etcd_error_maps_to_its_exception",
    ),
    Bug(
        "a registration below an election's prefix becomes a candidate",
        "registration",
        within="Keeper._refuse_election",
        pattern=r"if election is not None:",
        replacement="if False:",
        test="test_a_key_below_an_elections_prefix_is_refused",
    ),
    Bug(
        "a registration whose key is an election's prefix itself becomes a candidate",
        "registration",
        within="prefixes_of",
        pattern=r"len\(key\)",
        replacement='len(key.rstrip(b"/"))',
        test="test_a_key_below_an_elections_prefix_is_refused",
    ),
    Bug(
        "a key with a name in hex that was put again is a candidate",
        "registration",
        within="is_candidate",
        pattern=r"return moved and .+",
        replacement="return moved",
        test="test_names_that_look_like_leases_are_no_election",
    ),
    Bug(
        "a registration comes and goes in a restored etcd",
        "registration",
        within="Keeper._keep",
        pattern=r"await self\._wait_for_revision\(\)",
        replacement="pass",
        test="test_a_restored_etcd_gets_no_key_before_its_revision_has_passed_the_known_one",
    ),
)
