"""What an election is about: status, term, records, numbers. Values only; nothing here waits or talks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, IntEnum
from typing import Any, Protocol

__all__ = ("ElectionStatistics", "Health", "HealthState", "LeaderRecord", "LeaderStatus", "LossReason", "Term")


class LeaderStatus(IntEnum):
    """What happened last. It is bookkeeping: ``is_leader()`` and ``term`` decide who may act."""

    INIT = 0
    """Never elected yet."""
    ELECTED = 1
    """Elected, and the end of that term has not been worked through yet."""
    OUSTED = 2
    """Was elected once; that term is over and its work has ended. It stays so after ``stop()``."""


class LossReason(Enum):
    """Why a term ended."""

    EXPIRED = "expired"
    """The lease was not renewed, with confirmation, before its deadline; or the deadline had passed when another loss was
    seen, such as after the event loop was blocked."""
    DELETED = "deleted"
    """The candidate key was deleted, overwritten or taken off its lease by someone else."""
    REVOKED = "revoked"
    """etcd has the lease no more: it was revoked, or it ran out there. Where the watch is first to tell, it is the key's
    deletion that it tells of, and the reason is DELETED."""
    RESIGNED = "resigned"
    """``resign()`` was called, an operator asked for it, or the work returned."""
    STOPPED = "stopped"
    """``stop()`` was called, or the campaign was cancelled."""
    FAILED = "failed"
    """A callback or the work raised, or the campaign ended with another unexpected error."""
    REGRESSED = "regressed"
    """etcd was wiped or restored from a backup; see ``EtcdRegressedError``."""


class _Transact(Protocol):
    def __call__(self, success: Sequence[Any], failure: Sequence[Any]) -> Awaitable[tuple[bool, list[Any]]]: ...


@dataclass(eq=False, slots=True, kw_only=True)
class Term:
    """One period of leadership: it begins with an election won and ends once, for good.

    Terms are made by managers. Two terms are equal only if they are the same object.

    Attributes:
        token: The fencing token: the create_revision of the candidate key. It rises strictly from leader to leader of
            an election, in whatever language they are written; ``etcdleader.fencing`` is for those who receive it. 0 means
            that election is off, and protects nothing.
        identity: Who leads, as stored in etcd.
        election: The election key that was campaigned for.
        key: The candidate key in etcd.
        lease_id: The lease that the key is attached to. It changes when etcd elects another leader: then the key moves to a
            new lease, and the term goes on.
        elected_at: When it was won, by the wall clock, in UTC. For display only.
        loss_reason: None while the term lasts; then why it ended. A term can be over by the clock a moment before
            this is set, so ask ``is_valid()``.
    """

    token: int
    identity: str
    election: str
    key: str
    lease_id: int
    elected_at: datetime
    loss_reason: LossReason | None = None
    _believed: Callable[[], bool] = field(repr=False)
    _remaining: Callable[[], float] = field(repr=False)
    _guard: Callable[[], list[Any]] = field(repr=False)
    _transact: _Transact = field(repr=False)
    _attach: Callable[[bytes, bytes], Awaitable[None]] = field(repr=False)

    def is_valid(self) -> bool:
        """Whether this process may believe, right now, that it leads.

        Computed at each call from the clock, the process and the known losses; no I/O and no lock, from any thread.
        False in a forked child. Once it has been False it never is True again.
        """
        return self.loss_reason is None and self._believed()

    def remaining(self) -> float:
        """Seconds until this process must stop believing, if nothing renews the lease. 0 or less: it is over."""
        if not self.is_valid():
            return min(0.0, self._remaining())
        return self._remaining()

    def guard(self) -> list[Any]:
        """The conditions that hold exactly while the candidate key of this term stands, as etcd3 compares.

        Put them into a transaction, and a write that comes too late is refused by etcd itself:
        ``client.transaction(compare=[*term.guard()], success=[...], failure=[...])``, with any etcd3 client of the
        same cluster. They compare create_revision *and* lease, so a key that was overwritten does not pass. They can
        be asked for after the term, too. Empty when election is off.

        Build a guard right before its use. When etcd elects another leader, the key moves to a new lease, and a guard from
        before is refused although the term goes on; that is safe. ``transaction()`` builds its own.
        """
        return self._guard()

    async def transaction(self, success: Sequence[Any], failure: Sequence[Any] = ()) -> tuple[bool, list[Any]]:
        """Do ``success`` if the term's key still stands, in one step, without blocking the loop; else ``failure``.

        ``failure`` follows in a request of its own: a key that is gone does not come back. If the key moves to another lease
        at that moment, nothing is done, and ``success`` is sent once more.

        Args:
            success: etcd3 operations (``etcd3.transactions.Put``, ``Get``, ``Delete``).
            failure: The same, for the case that the key is gone.

        Neither may put a key below the prefix of the election, where every key is a candidate: one without a lease would
        block the election for good.

        Returns:
            What ``etcd3``'s ``client.transaction`` returns: whether the guard held, and the responses.

        Raises:
            ValueError: A ``Put`` on a key below the prefix of the election. Nothing is done.
            EtcdUnavailableError: No answer; the transaction may or may not have been applied.
            EtcdRefusedError: etcd refused it.
            EtcdRegressedError: etcd was wiped or restored; the term is over. The transaction may have been applied.
        """
        return await self._transact(success, failure)

    async def attach(self, key: str | bytes, value: str | bytes) -> None:
        """Put a key on the lease of the term: it goes when the term's lease goes, and moves when that moves.

        To attach it again puts another value. A key that stood under that name is replaced, on whatever lease it was. If
        etcd elects another leader, the key is put on the new lease shortly after the term's own key. If that cannot be
        done, ``on_error`` receives an ``EtcdRefusedError`` that names the key.

        Args:
            key: Not below the prefix of the election, where every key is a candidate.
            value: Text is stored as UTF-8.

        Raises:
            ValueError: The key lies below the prefix of the election, or 100 others are attached.
            LeadershipLostError: The term is over.
            EtcdUnavailableError: No answer; the key may or may not have been put.
            EtcdRefusedError: etcd refused it.
            ConfigError: Election is off.
        """
        await self._attach(_bytes(key), _bytes(value))


@dataclass(frozen=True, slots=True)
class LeaderRecord:
    """A candidate's key as it stands in etcd, whoever wrote it.

    Attributes:
        identity: The value, decoded as UTF-8 with errors replaced.
        token: Its create_revision: the fencing token it has, or will have, as leader.
        key: The key.
        lease_id: The lease it is attached to; 0 when there is none, so that it never goes away by itself. The lease changes
            when etcd elects another leader. ``observe()`` does not report a mere move, so it may be that of a lease before.
    """

    identity: str
    token: int
    key: str
    lease_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ElectionStatistics:
    """What one manager has seen and done since it was made (in a forked child: since the fork).

    Attributes:
        terms: Elections won.
        losses: Terms ended, by reason.
        renewals: Renewals that were confirmed.
        renewal_failures: Renewals that were not: no answer, or no confirmation.
        lease_moves: Moves of the candidate key to a new lease, because etcd had elected another leader.
        last_renewal_age: Seconds since the request of the last confirmed renewal was sent; None when there is no
            lease.
        closest_call: The smallest number of seconds that were left at a confirmed renewal of a term; None before the
            first.
        queue_position: 0 for the leader, 1 for the next in line, and so on, as last seen; None when not in the queue.
        etcd_errors: Failed calls and broken streams, every one.
        overruns: Terms whose work ignored cancellation past the deadline.
    """

    terms: int = 0
    losses: Mapping[LossReason, int] = field(default_factory=dict)
    renewals: int = 0
    renewal_failures: int = 0
    lease_moves: int = 0
    last_renewal_age: float | None = None
    closest_call: float | None = None
    queue_position: int | None = None
    etcd_errors: int = 0
    overruns: int = 0


class HealthState(Enum):
    """How a manager fares."""

    LEADING = "leading"
    """It leads, and its renewals run."""
    STANDING_BY = "standing by"
    """It campaigns and does not lead: it joins, waits its turn, or ends the work of a term that is over."""
    WEDGED = "wedged"
    """It is stuck, and nothing but a restart may help: work of a term goes on past the end of the lease, or nothing was
    heard from the event loop for so long that it must be blocked."""
    NOT_CAMPAIGNING = "not campaigning"
    """No campaign was begun, or it has ended as it should."""
    FAILED = "failed"
    """The campaign has ended with an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a manager fares, at one moment.

    Attributes:
        state: In one word.
        reason: In one sentence, for people. It has no secrets, and of errors that are not ours only the names.
        since: About when that began, by the wall clock, in UTC. For display only.
        ready: It leads, or could take over now: it stands in the queue and its lease is being renewed.
    """

    state: HealthState
    reason: str
    since: datetime
    ready: bool

    @property
    def live(self) -> bool:
        """Whether to let it run. A standby is as it should be, and so is one that cannot reach etcd: a restart would
        not help it. One that is wedged, or whose campaign has failed, does not come back by itself."""
        return self.state not in {HealthState.WEDGED, HealthState.FAILED}


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
