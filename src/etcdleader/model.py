"""The values of an election: status, term, records, statistics, health. They do no I/O and do not wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, IntEnum
from typing import Any, Protocol

__all__ = ("ElectionStatistics", "Health", "HealthState", "LeaderRecord", "LeaderStatus", "LossReason", "Term")


class LeaderStatus(IntEnum):
    """The last change of a manager. It is informational: only ``is_leader()`` and ``term`` permit to act."""

    INIT = 0
    """Not elected so far."""
    ELECTED = 1
    """Elected. The work of that term has not ended."""
    OUSTED = 2
    """The last term is over and its work has ended. The status stays OUSTED after ``stop()``."""


class LossReason(Enum):
    """Why a term ended."""

    EXPIRED = "expired"
    """No renewal was confirmed before the lease's deadline. The reason is also EXPIRED if another loss is detected after
    the deadline, for example because the event loop was blocked."""
    DELETED = "deleted"
    """Another client deleted the candidate key, overwrote it or detached it from its lease."""
    REVOKED = "revoked"
    """The lease no longer exists in etcd: it was revoked or has expired there. If the watch reports the deletion of the key
    first, the reason is DELETED."""
    RESIGNED = "resigned"
    """``resign()`` was called, an operator requested a step-down, or the work returned."""
    STOPPED = "stopped"
    """``stop()`` was called, or the campaign was cancelled."""
    FAILED = "failed"
    """A callback or the work raised an exception, or the campaign ended with another unexpected error."""
    REGRESSED = "regressed"
    """etcd was wiped or restored from a backup; see ``EtcdRegressedError``."""


class _Transact(Protocol):
    def __call__(self, success: Sequence[Any], failure: Sequence[Any]) -> Awaitable[tuple[bool, list[Any]]]: ...


@dataclass(eq=False, slots=True, kw_only=True)
class Term:
    """One period of leadership. It begins when an election is won, and ends once.

    Managers create terms. Two terms are equal only if they are the same object.

    Attributes:
        token: The fencing token: the create_revision of the candidate key. It increases strictly from leader to leader of
            an election, including leaders in other languages. Targets of writes check it with ``etcdleader.fencing``. 0
            means that election is off, and protects nothing.
        identity: The leader's identity, as stored in etcd.
        election: The election key.
        key: The candidate key in etcd.
        lease_id: The lease that the key is attached to. When etcd elects another leader, the key moves to a new lease.
            The term continues.
        elected_at: The time of the election by the wall clock, in UTC. For display only.
        loss_reason: None while the term lasts, then the reason for its end. A term can be over by the clock a moment before
            this is set, so check ``is_valid()``.
    """

    token: int
    identity: str
    election: str
    key: str
    lease_id: int
    elected_at: datetime
    loss_reason: LossReason | None = None
    _lease_is_valid: Callable[[], bool] = field(repr=False)
    _remaining: Callable[[], float] = field(repr=False)
    _wait: Callable[[float], bool] = field(repr=False)
    _guard: Callable[[], list[Any]] = field(repr=False)
    _transact: _Transact = field(repr=False)
    _attach: Callable[[bytes, bytes], Awaitable[None]] = field(repr=False)

    def is_valid(self) -> bool:
        """Return whether this process leads now.

        It is computed at each call from the clock, the process and the known losses. It needs no I/O and no lock, and can be
        called from any thread. It is False in a forked child. Once it has been False, it is never True again.
        """
        return self.loss_reason is None and self._lease_is_valid()

    def remaining(self) -> float:
        """Return the seconds until the term is over, if no renewal is confirmed. 0 or less: it is over."""
        if not self.is_valid():
            return min(0.0, self._remaining())
        return self._remaining()

    def wait(self, seconds: float) -> bool:
        """Sleep in a thread, for as long as the term lasts.

        It is for work that is a plain function: ``while term.wait(10): ...``. Any number of threads may wait. A thread of a
        process that was frozen returns when the process continues.

        Args:
            seconds: The time to sleep, in seconds. ``math.inf`` waits for the end of the term.

        Returns:
            True after ``seconds``. False as soon as the term is over; at once if it is over already.

        Raises:
            ValueError: ``seconds`` is negative or not a number.
            RuntimeError: An event loop runs in this thread. Use ``await anyio.sleep(seconds)`` there.
        """
        return self._wait(seconds)

    def guard(self) -> list[Any]:
        """Return etcd3 compares that hold exactly while the candidate key of this term exists on its lease.

        With them in a transaction, etcd itself refuses a write that comes too late:
        ``client.transaction(compare=[*term.guard()], success=[...], failure=[...])``, with any etcd3 client of the same
        cluster. They compare create_revision *and* lease, so an overwritten key does not pass. A guard can be built after
        the term, too. It is empty when election is off.

        Build a guard right before its use. When etcd elects another leader, the key moves to a new lease. Then etcd
        refuses a guard from before although the term continues, which is safe. ``transaction()`` builds its own guard.
        """
        return self._guard()

    async def transaction(self, success: Sequence[Any], failure: Sequence[Any] = ()) -> tuple[bool, list[Any]]:
        """Apply ``success`` in one transaction if the term's key still exists, otherwise ``failure``.

        ``failure`` is sent in a second request: a deleted key does not come back. If the key moves to another lease at that
        moment, nothing is applied, and ``success`` is sent again.

        Neither may put a key below the prefix of the election, where every key is a candidate. A key without a lease there
        would block the election for good.

        Args:
            success: etcd3 operations (``etcd3.transactions.Put``, ``Get``, ``Delete``).
            failure: etcd3 operations for the case that the key is gone.

        Returns:
            The same as ``etcd3``'s ``client.transaction``: whether the guard held, and the responses.

        Raises:
            ValueError: A ``Put`` on a key below the prefix of the election. Nothing was sent.
            RuntimeError: The call was awaited on another event loop than the campaign's. Nothing was sent.
            EtcdUnavailableError: etcd did not answer. The transaction may or may not have been applied.
            EtcdRefusedError: etcd refused the transaction.
            EtcdRegressedError: etcd was wiped or restored, and the term is over. The transaction may have been applied.
        """
        return await self._transact(success, failure)

    async def attach(self, key: str | bytes, value: str | bytes) -> None:
        """Put a key on the term's lease. etcd deletes the key with the lease, and the key moves when the lease changes.

        Attaching it again changes its value. An existing key of that name is replaced, even if it has another lease. If etcd
        elects another leader, the key is put on the new lease shortly after the term's own key. If etcd refuses that,
        ``on_error`` receives an ``EtcdRefusedError`` that names the key.

        Args:
            key: The key. It must not lie below the prefix of the election, where every key is a candidate.
            value: The value. Text is stored as UTF-8.

        Raises:
            ValueError: The key lies below the prefix of the election, or 100 other keys are attached.
            RuntimeError: The call was awaited on another event loop than the campaign's. Nothing was sent.
            LeadershipLostError: The term is over.
            EtcdUnavailableError: etcd did not answer. The key may or may not have been put.
            EtcdRefusedError: etcd refused the write.
            ConfigError: Election is off.
        """
        await self._attach(_bytes(key), _bytes(value))


@dataclass(frozen=True, slots=True)
class LeaderRecord:
    """A candidate key as etcd has it, written by any client.

    Attributes:
        identity: The candidate's identity. For a candidate of another library, it is the value of the key, decoded as UTF-8
            with errors replaced.
        token: The create_revision: the candidate's fencing token as leader.
        key: The key.
        lease_id: The lease that the key is attached to. 0 means no lease: the key exists until a client deletes it. The lease
            changes when etcd elects another leader. ``observe()`` does not report such a change, so this id may be outdated.
        advertised: The value that the candidate advertises, such as its address; None if there is none.
    """

    identity: str
    token: int
    key: str
    lease_id: int
    advertised: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ElectionStatistics:
    """The counters of a manager since it was created; in a forked child, since the fork.

    Attributes:
        terms: Elections won.
        losses: Terms ended, by reason.
        renewals: Renewals that were confirmed.
        renewal_failures: Renewals that were not confirmed, with or without a response.
        lease_moves: Moves of the candidate key to a new lease, because etcd had elected another leader.
        last_renewal_age: Seconds since the request of the last confirmed renewal was sent; None when there is no
            lease.
        min_remaining: The smallest number of seconds that were left at a confirmed renewal of a term; None before the
            first.
        queue_position: 0 for the leader, 1 for the next in line, and so on, as last seen; None when not in the queue.
        etcd_errors: All failed calls and broken streams.
        overruns: Terms whose work ignored cancellation past the deadline.
    """

    terms: int = 0
    losses: Mapping[LossReason, int] = field(default_factory=dict)
    renewals: int = 0
    renewal_failures: int = 0
    lease_moves: int = 0
    last_renewal_age: float | None = None
    min_remaining: float | None = None
    queue_position: int | None = None
    etcd_errors: int = 0
    overruns: int = 0


class HealthState(Enum):
    """The health of a manager, in one word."""

    LEADING = "leading"
    """It leads, and its renewals run."""
    STANDBY = "standby"
    """It campaigns but does not lead: it joins the queue, waits in it, or ends the work of a term that is over."""
    WEDGED = "wedged"
    """It cannot continue. Either work of a term still runs after the end
    of the lease, or the event loop is blocked. Only a restart may help."""
    NOT_CAMPAIGNING = "not_campaigning"
    """No campaign was started, or the last one has ended without an error."""
    FAILED = "failed"
    """The campaign has ended with an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The health of a manager at one moment.

    Attributes:
        state: The health in one word.
        reason: The health in one sentence, for people. It contains no secrets. It has the text of our errors only; of other
            exceptions, it has the names.
        since: The approximate start of the state by the wall clock, in UTC. For display only.
        ready: True if it leads, or could take over now: it is in the queue, and its lease is being renewed.
    """

    state: HealthState
    reason: str
    since: datetime
    ready: bool

    @property
    def live(self) -> bool:
        """True if the process should keep running.

        A standby is live. So is a manager that cannot reach etcd, because a restart would not help. A manager that is
        wedged, or whose campaign has failed, does not recover automatically.
        """
        return self.state not in {HealthState.WEDGED, HealthState.FAILED}


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
