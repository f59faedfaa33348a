"""The history of a campaign, as the checker and the figures use it."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = (
    "GO",
    "Belief",
    "Cut",
    "History",
    "Injection",
    "Key",
    "Overtrust",
    "Read",
    "Stop",
    "Work",
    "Write",
)

GO = "go"
"""The backend of a candidate that is a program on etcd's own Go client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """An interval in which ``is_leader()`` returned True: at both ends, and at each call between them.

    Attributes:
        era: The number of the cluster's life. A wiped cluster begins a new era, and tokens start again from low numbers.
        run: A run of the candidate: its name, a dash, and a number.
        subject: The candidate.
    """

    run: str
    subject: str
    token: int
    start: float
    end: float
    era: int = 0


@dataclass(slots=True, kw_only=True)
class Key:
    """A candidate key as etcd had it.

    Attributes:
        lease: The lease that it was put on first.
        leases: All leases that it was on, and when each was seen first.
        gone_seen: The first moment at which it was known to be gone.
    """

    token: int
    key: str
    lease: int
    leases: dict[int, float] = field(default_factory=dict)
    put_seen: float = 0.0
    gone_seen: float | None = None
    gone_revision: int | None = None
    era: int = 0

    def __post_init__(self) -> None:
        self.leases.setdefault(self.lease, self.put_seen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A linearizable read of the first key at some moment between the two timestamps. 0 means no key."""

    sent: float
    received: float
    revision: int
    owner: int
    era: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A write to the register that etcd accepted."""

    revision: int
    token: int
    era: int = 0


@dataclass(slots=True, kw_only=True)
class Work:
    """The work of one term. ``late`` holds the first and the last step that found its term over."""

    run: str
    token: int
    key: str
    lease: int
    start: float
    end: float | None = None
    late: tuple[float, ...] = ()
    ousted: int = 0
    reason: str | None = None
    era: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A time in which no quorum could confirm a request of this candidate."""

    subject: str
    start: float
    end: float


@dataclass(slots=True, kw_only=True)
class Injection:
    """A fault.

    Attributes:
        token: The leader's token when the fault began, or 0. In a campaign of many elections, that of the fault's election.
        tokens: In a campaign of many elections: the leader's token in each when the fault began.
        keeps: True if the fault should cost no leadership.
        crashed: True if the leading process was killed or stopped at ``start``.
        deleted: The tokens whose key or lease the operator took away.
        woken: The tokens whose keys were deleted when a member of etcd woke up.
    """

    row: str
    note: str
    start: float
    end: float
    token: int = 0
    keeps: bool = False
    crashed: bool = False
    cuts: list[Cut] = field(default_factory=list)
    deleted: list[int] = field(default_factory=list)
    woken: list[int] = field(default_factory=list)
    tokens: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A call of ``stop()`` that has returned."""

    run: str
    asked: float
    done: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Overtrust:
    """A moment at which a process trusted its lease for longer than etcd keeps it."""

    run: str
    token: int
    at: float
    trusted: float
    left: float
    era: int = 0


@dataclass(slots=True, kw_only=True)
class History:
    """The whole history of a campaign, and its candidates' settings.

    Attributes:
        backends: Each candidate's backend.
        keep_alives: When the keep-alives of each candidate's leases passed its proxy on their way to a member, in order.
        renewals: When the confirmed renewals of each process and token were sent, if that is recorded.
        revocations: When etcd received the first request to revoke each lease. Only the simulator records it.
        overtrusted: Only the simulator can compare each moment of trust with etcd's own lease.
        stuck: What should have happened after all faults had ended. Only the simulator records it.
        tail: The shortest time for which a belief may outlast a key that an operator took away. Faults at the same time
            may delay its detection until the deadline.
        slowest: The slowest rate of a candidate's clock.
        parts: In a campaign of many elections: the history of each. The rest of this history belongs to no single election.
        of_many: True if it is one of these parts.
        corrupted: When, and from which revision on, etcd's members disagreed about their data. This happens to etcd 3.5.0
            to 3.5.2 if a member is killed at work (etcd#13766). Later events show nothing.
        unfenced: How often a list that nothing guards was written to, and how often of that too late.
    """

    lease: float
    renew: float
    retry: float
    margin: float
    name: str = ""
    beliefs: list[Belief] = field(default_factory=list)
    keys: dict[tuple[int, int], Key] = field(default_factory=dict)
    reads: list[Read] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    works: list[Work] = field(default_factory=list)
    injections: list[Injection] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    revocations: dict[int, float] = field(default_factory=dict)
    overtrusted: list[Overtrust] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    tail: float = 0.0
    slowest: float = 1.0
    died: dict[str, float] = field(default_factory=dict)
    believing_children: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    backends: dict[str, str] = field(default_factory=dict)
    keep_alives: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    renewals: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    refused_writes: int = 0
    unfenced: tuple[int, int] = (0, 0)
    faults_of_the_suite: list[str] = field(default_factory=list)
    parts: list[History] = field(default_factory=list)
    of_many: bool = False
    corrupted: tuple[float, int] | None = None

    @property
    def longest_trust(self) -> float:
        """The seconds from a request to the end of the trust that it gives, at most."""
        return (self.lease - self.margin) / self.slowest
