"""Which member of a fake etcd leads, and in which raft term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

UNSEEN_LEADER = 0x9F
"""The member id of a leader that is none of the fake's members."""


class Electable(Protocol):
    """What a leadership asks of a member."""

    member_id: int

    @property
    def is_well(self) -> bool:
        """Whether it may be elected."""
        ...

    @property
    def is_running(self) -> bool:
        """Whether it does a leader's work, if it leads."""
        ...


class Leadership:
    """etcd's own leader.

    A leader that is frozen or down still leads in name: nothing is committed until it recovers or another one is
    elected. If no member can be elected, one is that the fake does not show.

    Attributes:
        raft_term: The term in force. A new etcd has 2 once its first leader is elected.
        leader: The member that leads or did last; None stands for one that the fake does not show.
    """

    def __init__(self) -> None:
        self.raft_term = 2
        self.leader: Electable | None = None
        self._lost = False

    @property
    def exists(self) -> bool:
        """Whether anything can be agreed on."""
        return not self._lost and (self.leader is None or self.leader.is_running)

    @property
    def leader_id(self) -> int:
        """What members report as the leader's id; 0 for none."""
        if not self.exists:
            return 0
        return UNSEEN_LEADER if self.leader is None else self.leader.member_id

    def is_of(self, member: Electable) -> bool:
        """Whether this member leads, if only in name."""
        return not self._lost and self.leader is member

    def begin(self, members: Sequence[Electable], raft_term: int) -> None:
        """Start with a term. The last member leads: clients speak to the first one, and so to a follower."""
        self.raft_term, self.leader, self._lost = raft_term, members[-1], False

    def take_for(self, member: Electable) -> None:
        """Let it have been this member that led."""
        self.leader = member

    def lose(self) -> None:
        """Let no member lead."""
        self._lost = True

    def elect(self, members: Sequence[Electable], chosen: Electable | None) -> None:
        """Begin a new term, under another leader where there is one.

        Raises:
            ValueError: The chosen member is not well.
        """
        if chosen is not None and not chosen.is_well:
            raise ValueError(f"{chosen!r} is not well and cannot be elected")
        well = [member for member in members if member.is_well]
        others = [member for member in well if member is not self.leader]
        self.leader = chosen or next(iter(others or well), None)
        self.raft_term += 1
        self._lost = False
