"""What one member of a fake etcd has applied, and what it therefore reports."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from .._etcd.api import Header
from ..errors import EtcdUnavailableError
from ._cluster import Cluster
from ._lessor import Lessor
from ._store import Revision
from ._watches import Watches

if TYPE_CHECKING:
    from .._etcd.stream import Stream


class State(Enum):
    """What is wrong with a member."""

    UP = "up"
    LAGGING = "lagging"
    DEPOSED = "deposed"
    FROZEN = "frozen"
    DOWN = "down"


class MemberState:
    """A member, as the cluster sees it.

    Attributes:
        member_id: Its id, in each header.
        watches: Those that it serves.
        streams: Those that are open.
    """

    def __init__(self, cluster: Cluster, member_id: int) -> None:
        self.member_id = member_id
        self.watches = Watches()
        self.streams: dict[Stream, None] = {}
        self._cluster = cluster
        self._state = State.UP
        self._revision = 0
        self._raft_term = cluster.raft_term
        self._books: Lessor | None = None
        """The leases as it knew them when it was cut off or frozen as the leader."""
        self._snapshots = 0
        """How often it has caught up by snapshot."""

    def __repr__(self) -> str:
        return f"<FakeMember {self.member_id:x} {self._state.value}>"

    # What the cluster does to it

    def entry_applied(self) -> None:
        """Take over the term of one more entry of raft's log, unless something is wrong."""
        if self.is_well:
            self._raft_term = self._cluster.raft_term

    def applied(self, commit: Revision) -> None:
        """Take in a commit, unless something is wrong."""
        if self.is_well:
            self.watches.notify(commit)

    def start_over(self) -> None:
        """Break all connections and be well, with the cluster's data."""
        self._state, self._books = State.UP, None
        self._raft_term = self._cluster.raft_term
        self._break_streams()

    def catch_up(self) -> None:
        """Serve the watches from the past, up to what it has applied."""
        self.watches.catch_up(self._cluster.store, self.revision)

    def _enter(self, state: State) -> None:
        self._revision, self._state = self.revision, state
        self._cluster.look_at_the_leader()

    def _break_streams(self) -> None:
        for stream in list(self.streams):
            stream.end(EtcdUnavailableError("the stream was broken"))

    # What it is

    @property
    def is_well(self) -> bool:
        """Whether nothing is wrong with it."""
        return self._state is State.UP

    @property
    def is_running(self) -> bool:
        """Whether it does a leader's work, if it leads."""
        return self._state not in (State.FROZEN, State.DOWN)

    @property
    def is_behind(self) -> bool:
        """Whether a watch of it waits for the catch-up loop."""
        return self.watches.behind

    @property
    def frozen(self) -> bool:
        """Whether it receives and sends nothing."""
        return self._state is State.FROZEN

    @property
    def revision(self) -> int:
        """The last revision that it has applied."""
        return self._cluster.store.revision if self.is_well else self._revision

    @property
    def raft_term(self) -> int:
        """The term of the last raft entry that it has applied since it started; 0 before the first.

        It is a lower bound of the term in force, :attr:`FakeEtcd.raft_term`.
        """
        return self._raft_term

    def check_up(self) -> None:
        """Raise what a connection attempt meets.

        Raises:
            EtcdUnavailableError: It is down.
        """
        if self._state is State.DOWN:
            raise EtcdUnavailableError("connection refused")

    def header(self, revision: int | None = None) -> Header:
        """Return what it reports of itself in a response."""
        return Header(
            self._cluster.cluster_id, self.member_id, self.revision if revision is None else revision, self.raft_term
        )
