"""The leader of a fake etcd, and its raft term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

UNSEEN_LEADER = 0x9F
"""The member id of a leader that is not one of the fake's members."""


class Electable(Protocol):
    """A member, as an election uses it."""

    member_id: int

    @property
    def is_well(self) -> bool:
        """True if the member has no fault, so that it may be elected."""
        ...

    @property
    def is_running(self) -> bool:
        """True if the member can do a leader's work while it leads."""
        ...


class RaftLeadership:
    """etcd's own leader.

    A leader that is frozen or down remains the leader: nothing is committed until it recovers or another member is
    elected. If no member can be elected, a member outside the fake becomes the leader.

    Attributes:
        raft_term: The term in force. A new etcd has 2 once its first leader is elected.
        leader: The present or last leader; None stands for a member outside the fake.
    """

    def __init__(self) -> None:
        self.raft_term = 2
        self.leader: Electable | None = None
        self._lost = False

    @property
    def exists(self) -> bool:
        """True while a leader can commit entries."""
        return not self._lost and (self.leader is None or self.leader.is_running)

    @property
    def leader_id(self) -> int:
        """The leader's id, as members report it; 0 if there is no leader."""
        if not self.exists:
            return 0
        return UNSEEN_LEADER if self.leader is None else self.leader.member_id

    def is_of(self, member: Electable) -> bool:
        """Return whether this member is the leader, even if it is frozen or down."""
        return not self._lost and self.leader is member

    def begin(self, members: Sequence[Electable], raft_term: int) -> None:
        """Start with a term. The last member leads, because clients use the first one, which is then a follower."""
        self.raft_term, self.leader, self._lost = raft_term, members[-1], False

    def take_for(self, member: Electable) -> None:
        """Make this member the present leader, without an election."""
        self.leader = member

    def lose(self) -> None:
        """Depose the leader."""
        self._lost = True

    def elect(self, members: Sequence[Electable], chosen: Electable | None) -> None:
        """Begin a new term, under another leader if another member can be elected.

        Raises:
            ValueError: The chosen member has a fault.
        """
        if chosen is not None and not chosen.is_well:
            raise ValueError(f"{chosen!r} is not well and cannot be elected")
        well = [member for member in members if member.is_well]
        others = [member for member in well if member is not self.leader]
        self.leader = chosen or next(iter(others or well), None)
        self.raft_term += 1
        self._lost = False
