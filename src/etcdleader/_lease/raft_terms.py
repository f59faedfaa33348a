"""The raft terms of an etcd cluster, as its responses show them. Pure.

A lease is trusted only under the raft term that was known before its grant was sent. etcd's leader of an earlier term may
wake up after a freeze and revoke the leases that it remembers, through its successor (etcd#15247). It remembers none
that was granted after it had lost its leadership. ``docs/safety.md`` has the argument.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ("LeaseTerm", "RaftTerms")


class LeaseTerm(NamedTuple):
    """The raft term under which a lease is trusted.

    Attributes:
        history: Counts the histories of the cluster: a restored or wiped one begins another.
        raft_term: Known before the grant was sent; 0 if none was.
    """

    history: int
    raft_term: int


class RaftTerms:
    """The highest raft term that a cluster has shown.

    A term in a header is a lower bound of the term in force. 0 is no term: a member reports it after a restart, until it
    applies an entry.
    """

    __slots__ = ("latest",)

    def __init__(self) -> None:
        self.latest = LeaseTerm(0, 0)
        """The term of a lease whose grant is sent now."""

    @property
    def known(self) -> int:
        """The highest raft term received; 0 if none was."""
        return self.latest.raft_term

    def received(self, raft_term: int) -> bool:
        """Take in the term of a header; returns whether it is later than those before."""
        if raft_term <= self.latest.raft_term:
            return False
        self.latest = self.latest._replace(raft_term=raft_term)
        return True

    def history_was_replaced(self, raft_term: int) -> None:
        """Forget the terms known so far, unless that was done: the cluster was restored or wiped, and is in this term.

        No lease from before is trusted any longer than it is.
        """
        if raft_term < self.known:
            self.latest = LeaseTerm(self.latest.history + 1, raft_term)

    def is_outdated(self, term: LeaseTerm) -> bool:
        """Whether a lease of this term must be replaced: etcd has had another leader since."""
        return term != self.latest

    def of(self, term: LeaseTerm) -> int:
        """Return the raft term of a lease as a number to compare with; 0 if it is of another history."""
        return term.raft_term if term.history == self.latest.history else 0
