from __future__ import annotations

from etcdleader._lease.raft_terms import RaftTermAtGrant, RaftTerms


def known(*terms: int) -> RaftTerms:
    found = RaftTerms()
    for term in terms:
        found.received(term)
    return found


def test_the_term_of_a_lease_is_the_highest_that_was_received_before_its_grant() -> None:
    terms = known(4, 6, 5)

    assert terms.latest == RaftTermAtGrant(0, 6)
    assert terms.received(7)
    assert not terms.received(7)
    assert terms.latest == RaftTermAtGrant(0, 7)


def test_zero_is_no_term() -> None:
    """A member reports it after a restart, until it applies an entry."""
    terms = known(0)

    assert terms.latest.raft_term == 0
    assert not terms.received(0)
    assert not known(3).received(0)


def test_a_later_term_outdates_earlier_leases_and_a_lower_one_none() -> None:
    terms = known(4)
    lease = terms.latest

    terms.received(3)
    assert not terms.is_outdated(lease)
    terms.received(5)
    assert terms.is_outdated(lease)
    assert terms.comparable_raft_term(lease) == 4


def test_a_lease_that_was_granted_before_any_term_was_known_is_outdated_by_the_first() -> None:
    terms = known()
    lease = terms.latest

    assert not terms.is_outdated(lease)
    terms.received(2)
    assert terms.is_outdated(lease)


def test_another_history_outdates_every_lease_even_one_of_the_same_term() -> None:
    terms = known(2, 5)
    lease = terms.latest

    terms.history_was_replaced(3)
    assert terms.known == 3
    assert terms.is_outdated(lease)
    assert terms.comparable_raft_term(lease) == 0
    for term in (4, 5):
        terms.received(term)
    assert terms.comparable_raft_term(lease) == 0
    assert terms.is_outdated(lease)


def test_a_replaced_history_is_not_replaced_again_by_a_concurrent_read() -> None:
    terms = known(5)

    terms.history_was_replaced(2)
    lease = terms.latest
    terms.history_was_replaced(2)
    assert not terms.is_outdated(lease)
