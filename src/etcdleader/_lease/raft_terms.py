"""The raft terms of an etcd cluster, as its responses show them. Pure.

A lease is trusted only under the raft term that was known before its grant was sent. A leader of etcd from an earlier
term may wake up after a freeze. It then revokes, through its successor, the leases of which it has a record (etcd#15247).
It has no record of leases granted after it lost its leadership. ``docs/safety.md`` has the argument.
"""

from __future__ import annotations

from typing import NamedTuple


class RaftTermAtGrant(NamedTuple):
    """The raft term under which a lease is trusted.

    Attributes:
        history: The number of the cluster's history. A new history begins when the cluster was restored or wiped.
        raft_term: The raft term that was known before the grant was sent; 0 if there was none.
    """

    history: int
    raft_term: int


class RaftTerms:
    """The highest raft term in a cluster's responses.

    The term in a header is a lower bound of the current term. 0 is no term: a member reports 0 after a restart, until it
    has applied an entry.
    """

    __slots__ = ("latest",)

    def __init__(self) -> None:
        self.latest = RaftTermAtGrant(0, 0)
        """The term for a lease whose grant is sent now."""

    @property
    def known(self) -> int:
        """The highest raft term received; 0 if there is none."""
        return self.latest.raft_term

    def received(self, raft_term: int) -> bool:
        """Record the term of a header. Return whether it is later than all earlier ones."""
        if raft_term <= self.latest.raft_term:
            return False
        self.latest = self.latest._replace(raft_term=raft_term)
        return True

    def history_was_replaced(self, raft_term: int) -> None:
        """Start a new history at this term, because the cluster was restored or wiped. No-op if that was done already.

        The deadline of an earlier lease is not extended any more.
        """
        if raft_term < self.known:
            self.latest = RaftTermAtGrant(self.latest.history + 1, raft_term)

    def is_outdated(self, term: RaftTermAtGrant) -> bool:
        """Return whether a lease of this term must be replaced, because etcd has elected another leader since."""
        return term != self.latest

    def comparable_raft_term(self, term: RaftTermAtGrant) -> int:
        """Return a lease's raft term for comparison with other terms; 0 if the lease is from another history."""
        return term.raft_term if term.history == self.latest.history else 0
