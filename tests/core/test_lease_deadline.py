from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdleader._lease.lease_deadline import LeaseDeadline, RenewalResult, Timing, check_renewal, loss_reason_at
from etcdleader.config import Config
from etcdleader.model import LossReason

moments = st.floats(0, 1e6, allow_nan=False)


def test_a_lease_is_timed_by_the_settings_of_the_same_names() -> None:
    assert Timing.of(Config(lease=40, retry=3, renew=7, margin=2)) == Timing(lease=40, retry=3, renew=7, margin=2)


def test_a_lease_is_valid_until_the_send_time_plus_ttl_minus_margin() -> None:
    """Rule 2: etcd counts from some moment after the request left, so only the send time is safe."""
    clock = LeaseDeadline(sent_at=100, ttl=10, margin=2)

    assert clock.is_valid(107.999)
    assert clock.remaining(100) == 8
    assert not clock.is_valid(108)


def test_a_confirmation_past_the_deadline_extends_nothing() -> None:
    """It may have been sent in time. But the process was stopped in between, and its term had visibly ended."""
    clock = LeaseDeadline(sent_at=0, ttl=10, margin=1)

    assert not clock.confirm(sent_at=8, ttl=10, now=9)
    assert clock.deadline == 9
    assert not clock.is_valid(0)


def test_a_lease_checked_past_its_deadline_is_never_valid_again() -> None:
    clock = LeaseDeadline(sent_at=0, ttl=10, margin=1)
    assert not clock.is_valid(9.5)

    assert not clock.is_valid(5)
    assert clock.remaining(5) <= 0
    assert not clock.confirm(sent_at=5, ttl=10, now=5)


def test_a_confirmation_that_was_overtaken_does_not_shorten_the_lease() -> None:
    clock = LeaseDeadline(sent_at=0, ttl=10, margin=1)

    assert clock.confirm(sent_at=5, ttl=10, now=6)
    assert clock.confirm(sent_at=3, ttl=10, now=7)
    assert clock.deadline == 14
    assert clock.sent_at == 5


@given(
    st.lists(
        st.tuples(
            moments, st.floats(0, 50), st.floats(1, 100), st.sampled_from(["ask", "confirm", "cap", "uncap", "moved"])
        ),
        max_size=30,
    ),
    st.floats(0.1, 5),
)
def test_once_invalid_never_valid_again(steps: list[tuple[float, float, float, str]], margin: float) -> None:
    """This holds for confirmations, moves and checks in any order, while time passes."""
    clock = LeaseDeadline(0, 10, margin)
    now = 0.0
    over = False
    for passed, ago, ttl, step in steps:
        now += passed % 20
        sent_at = now - min(ago, now)
        if step == "cap":
            clock.cap(sent_at + ttl)
        elif step == "uncap":
            clock.uncap()
        else:
            if step == "ask":
                believed = clock.is_valid(now)
            elif step == "confirm":
                believed = clock.confirm(sent_at, ttl, now)
            else:
                believed = clock.replace(sent_at, ttl, now)
            assert not (over and believed)
            over = over or not believed


def test_a_cap_shortens_the_trust_at_once_and_nothing_extends_it() -> None:
    """Rule 8: while it is unknown on which of two leases the key is, the earlier deadline counts."""
    clock = LeaseDeadline(sent_at=0, ttl=10, margin=1)

    clock.cap(7)
    assert clock.deadline == 7
    assert clock.confirm(sent_at=5, ttl=10, now=6)
    assert clock.deadline == 7
    assert not clock.is_valid(7)


def test_a_cap_behind_the_deadline_only_limits_extensions() -> None:
    clock = LeaseDeadline(sent_at=0, ttl=10, margin=1)

    clock.cap(12)
    assert clock.deadline == 9
    assert clock.confirm(sent_at=5, ttl=10, now=6)
    assert clock.deadline == 9


def test_removing_a_cap_restores_the_deadline() -> None:
    clock = LeaseDeadline(sent_at=0, ttl=10, margin=1)

    clock.cap(7)
    clock.cap(6)
    clock.uncap()
    assert clock.deadline == 9
    assert clock.confirm(sent_at=5, ttl=10, now=6)
    assert clock.deadline == 14


def test_a_key_that_has_moved_is_trusted_by_the_new_lease_alone() -> None:
    """This holds even if that one ends sooner."""
    clock = LeaseDeadline(sent_at=0, ttl=10, margin=1)

    clock.cap(8)
    assert clock.replace(sent_at=3, ttl=6, now=4)
    assert clock.deadline == 8
    assert clock.confirm(sent_at=5, ttl=6, now=6)
    assert clock.deadline == 10


def test_a_response_to_a_move_past_the_deadline_revives_nothing() -> None:
    clock = LeaseDeadline(sent_at=0, ttl=10, margin=1)

    clock.cap(7)
    assert not clock.replace(sent_at=5, ttl=10, now=7)
    assert not clock.is_valid(0)


FINE: Mapping[str, int | bool] = {
    "ttl": 10,
    "key_is_ours": True,
    "lease_raft_term": 7,
    "read_raft_term": 7,
    "known_raft_term": 7,
}


@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        ({}, RenewalResult.CONFIRMED),
        ({"known_raft_term": 3}, RenewalResult.CONFIRMED),
        # etcd has elected another leader since. The former leader may still revoke leases in its records.
        ({"read_raft_term": 8}, RenewalResult.KEPT),
        ({"read_raft_term": 8, "known_raft_term": 8}, RenewalResult.KEPT),
        # No term was known when the lease was requested, or it is of another history.
        ({"lease_raft_term": 0}, RenewalResult.KEPT),
        # 0 is no term, so two zeros are not the same term.
        ({"read_raft_term": 0}, RenewalResult.UNCONFIRMED),
        ({"read_raft_term": 0, "lease_raft_term": 0, "known_raft_term": 0}, RenewalResult.UNCONFIRMED),
        # A term that is over, or another history.
        ({"known_raft_term": 8}, RenewalResult.UNCONFIRMED),
        ({"read_raft_term": 6}, RenewalResult.UNCONFIRMED),
        # A leader of an earlier term has no record of a newer lease. Only a read shows that the key is gone.
        ({"ttl": 0}, RenewalResult.UNCONFIRMED),
        ({"ttl": -1}, RenewalResult.UNCONFIRMED),
        ({"ttl": 0, "read_raft_term": 8}, RenewalResult.UNCONFIRMED),
        ({"ttl": 0, "key_is_ours": False}, RenewalResult.KEY_LOST),
        ({"key_is_ours": False}, RenewalResult.KEY_LOST),
        # A linearizable read that does not show the key is conclusive in any term.
        ({"key_is_ours": False, "read_raft_term": 6}, RenewalResult.KEY_LOST),
        ({"key_is_ours": False, "read_raft_term": 0}, RenewalResult.KEY_LOST),
    ],
)
def test_a_renewal_counts_only_in_the_raft_term_of_its_lease_and_with_an_existing_key(
    case: Mapping[str, int | bool], verdict: RenewalResult
) -> None:
    """Rules 3 and 8: etcd answers keep-alives without consensus, and a leader of an earlier term may wake up."""
    arguments = {**FINE, **case}
    assert (
        check_renewal(
            ttl=int(arguments["ttl"]),
            key_is_ours=bool(arguments["key_is_ours"]),
            lease_raft_term=int(arguments["lease_raft_term"]),
            read_raft_term=int(arguments["read_raft_term"]),
            known_raft_term=int(arguments["known_raft_term"]),
        )
        is verdict
    )


@pytest.mark.parametrize("seen", LossReason)
def test_past_the_deadline_the_loss_reason_is_expired(seen: LossReason) -> None:
    """The exceptions are values that are still useful."""
    assert loss_reason_at(seen, 0.001) is seen
    for remaining in (0.0, -1.0):
        expected = seen if seen in {LossReason.FAILED, LossReason.REGRESSED} else LossReason.EXPIRED
        assert loss_reason_at(seen, remaining) is expected
