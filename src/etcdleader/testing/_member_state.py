"""The state of one member of a fake etcd: its fault, and the revision and term that it has applied."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from .._etcd.api import Header
from ..errors import EtcdUnavailableError
from ._cluster import Cluster
from ._lessor import Lessor
from ._store import Commit
from ._watches import Watches

if TYPE_CHECKING:
    from .._etcd.stream import RpcStream


class State(Enum):
    """A member's fault; ``UP`` is none."""

    UP = "up"
    LAGGING = "lagging"
    DEPOSED = "deposed"
    FROZEN = "frozen"
    DOWN = "down"


class MemberState:
    """A member, as the cluster uses it.

    Attributes:
        member_id: Its id, in each header.
        watches: The watches that it serves.
        streams: The open streams.
    """

    def __init__(self, cluster: Cluster, member_id: int) -> None:
        self.member_id = member_id
        self.watches = Watches(self.header)
        self.streams: dict[RpcStream, None] = {}
        self._cluster = cluster
        self._state = State.UP
        self._revision = 0
        self._raft_term = cluster.raft_term
        self._stale_lessor: Lessor | None = None
        """Its leases at the moment when it was cut off or frozen as the leader."""
        self._snapshots = 0
        """The number of times that it has caught up by snapshot."""

    def __repr__(self) -> str:
        return f"<FakeMember {self.member_id:x} {self._state.value}>"

    # Called by the cluster

    def entry_applied(self) -> None:
        """Apply one more entry of raft's log and adopt its term, unless the member has a fault."""
        if self.is_well:
            self._raft_term = self._cluster.raft_term

    def applied(self, commit: Commit) -> None:
        """Apply a commit, unless the member has a fault."""
        if self.is_well:
            self.watches.notify(commit)

    def start_over(self) -> None:
        """Break all connections and recover, with the cluster's data."""
        self._state, self._stale_lessor = State.UP, None
        self._raft_term = self._cluster.raft_term
        self._break_streams()

    def catch_up(self) -> None:
        """Serve the watches that began in the past, up to the revision that this member has applied."""
        self.watches.catch_up(self._cluster.store)

    def _enter(self, state: State) -> None:
        self._revision, self._state = self.revision, state
        self._cluster.look_at_the_leader()

    def _break_streams(self) -> None:
        for stream in list(self.streams):
            stream.end(EtcdUnavailableError("the stream was broken"))

    # State

    @property
    def is_well(self) -> bool:
        """True if the member has no fault."""
        return self._state is State.UP

    @property
    def is_running(self) -> bool:
        """True if the member can do a leader's work while it leads."""
        return self._state not in (State.FROZEN, State.DOWN)

    @property
    def is_behind(self) -> bool:
        """True if a watch of this member waits for the catch-up loop."""
        return self.watches.behind

    @property
    def frozen(self) -> bool:
        """True if the member processes and sends nothing."""
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
        """Raise the error of a connection attempt if the member is down.

        Raises:
            EtcdUnavailableError: The member is down.
        """
        if self._state is State.DOWN:
            raise EtcdUnavailableError("connection refused")

    def header(self, revision: int | None = None) -> Header:
        """Return the header of a response, at its own revision or the given one."""
        return Header(
            self._cluster.cluster_id, self.member_id, self.revision if revision is None else revision, self.raft_term
        )
