"""One round of renewals: keep-alives for its leases, back to back, then a proposal and reads that confirm them.

Each step is sent after the last response of the step before. etcd responds to keep-alives without consensus. The proposal
makes the member apply an entry of the current raft term. So the header of a later read shows no older term. Without the
proposal, a member that has caught up by a snapshot would report the term from before the snapshot.

The read goes through raft's log as well. When a member applies an entry, it responds to the waiting call, and sets the term of
that entry afterwards. A read that only requests raft's index could be answered between the two. A read in the log comes
later: by then, the member has set the term of the entry before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import anyio

from .._etcd.api import (
    EMPTY_TXN,
    EtcdApi,
    Header,
    KeepAlive,
    KeepAliveResponses,
    KeyValue,
    Range,
    RangeResult,
    Txns,
)
from .._runtime.clock import Clock
from .._runtime.events import Event
from .._runtime.tasks import ProtectedTaskGroup
from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdRegressedError, EtcdUnavailableError
from .raft_terms import RaftTerms

MAX_KEYS_PER_READ = 128
"""etcd's limit on the operations of one Txn (``--max-txn-ops``)."""

_ATTEMPTS = 2
"""Attempts in one round. After the last one, each lease waits for its own back-off."""

KeysRead = Sequence[KeyValue | None]
"""The keys of one lease as a read showed them, in the order of the request; None for a key that does not exist."""


class RenewalConnection(Txns, Protocol):
    """The part of a connection that a round of renewals uses."""

    api: EtcdApi
    raft_terms: RaftTerms

    async def propose(self, key: bytes, *, timeout: float) -> Header:
        """Propose a Txn that changes nothing."""
        ...

    def history_was_replaced(self, raft_term: int) -> None:
        """Start a new history, because the cluster is in a lower raft term than one known before."""
        ...


class Renewable(Protocol):
    """A lease that the renewals keep alive."""

    clock: Clock
    """The clock for all times of the lease."""

    @property
    def lease_id(self) -> int:
        """The lease that the key is on. It changes when the key moves."""
        ...

    @property
    def retry(self) -> float:
        """The timeout of one attempt, in seconds."""
        ...

    @property
    def refused(self) -> bool:
        """True if etcd has refused the last renewal."""
        ...

    def check(self) -> float:
        """Compare the clock with the deadlines, and act on those that have passed.

        Returns:
            The seconds within which to check again.
        """
        ...

    def add_jitter(self) -> None:
        """Let the next renewal be due earlier by a random time, because many leases may start together."""
        ...

    def due_in(self) -> float | None:
        """Return the seconds until the next renewal; 0 or less if it is due, None if there will be none."""
        ...

    def can_renew_early(self) -> bool:
        """Return whether the lease may be renewed before it is due, in one round with others."""
        ...

    def keys(self) -> Sequence[bytes]:
        """Return the keys to read, beginning with the key that confirms the renewal."""
        ...

    def on_response(
        self, sent_at: float, answer: KeepAlive, read: KeysRead, *, read_raft_term: int, known_raft_term: int
    ) -> bool:
        """Process the responses to a keep-alive and to the read after it. Return False if the lease must be renewed again.

        Args:
            sent_at: The time when the keep-alive was sent.
            answer: The response to the keep-alive.
            read: The keys as the read showed them; None for a key that does not exist.
            read_raft_term: The raft_term of the read; 0 if another member has responded to the proposal.
            known_raft_term: The highest raft_term known before the proposal was sent.
        """
        ...

    def on_error(self, error: EtcdLeaderError) -> None:
        """Receive the error of a failed attempt."""
        ...

    def postpone(self) -> None:
        """Wait for the back-off before the next attempt, because this round has not confirmed the lease."""
        ...

    def on_regression(self, error: EtcdRegressedError) -> None:
        """End the session, because the cluster's revision went back."""
        ...

    def on_internal_error(self, error: EtcdLeaderError) -> None:
        """End the session, because the client's own code has failed."""
        ...


_Answered: TypeAlias = tuple[Renewable, KeepAlive]


@dataclass(slots=True)
class _Evidence:
    """The data that one attempt has collected.

    Attributes:
        sent_at: The time when each keep-alive was sent, by lease id.
        known_raft_term: The highest raft_term known before the proposal was sent.
        give_up_at: The end of the attempt, in seconds on the event loop's clock.
        unconfirmed: The leases that were not renewed.
        is_last: True if no other attempt follows in this round.
        member_id: The member that has responded to the proposal.
    """

    sent_at: Mapping[int, float]
    known_raft_term: int
    give_up_at: float
    unconfirmed: list[Renewable]
    is_last: bool
    member_id: int = 0

    def time_left(self) -> float:
        return max(self.give_up_at - anyio.current_time(), 0.001)


class RenewalRound:
    """One renewal of one or more leases, in progress.

    Attributes:
        reading: True if the reads were sent. They may show a state that is older than a request made from now on.
        changed: Set when the round has ended for some of its leases. A new event then replaces it.
    """

    __slots__ = (
        "_connection",
        "_first_unanswered",
        "_is_to_be_renewed",
        "_leases",
        "_release",
        "_retry_other_endpoint",
        "changed",
        "reading",
    )

    def __init__(
        self,
        connection: RenewalConnection,
        leases: Sequence[Renewable],
        *,
        wanted: Callable[[Renewable], bool],
        release: Callable[[RenewalRound, Sequence[Renewable]], None],
    ) -> None:
        """Send no request yet.

        Args:
            connection: The connection for all requests.
            leases: The leases to renew.
            wanted: Returns whether a lease must still be renewed.
            release: Called when the round has ended for some leases.
        """
        self._connection = connection
        self._leases = leases
        self._is_to_be_renewed = wanted
        self._release = release
        self._retry_other_endpoint = False
        self._first_unanswered: Renewable | None = None
        self.reading = False
        self.changed = Event()

    def notify(self) -> None:
        """Wake the tasks that wait for ``changed``."""
        self.changed.set()
        self.changed = Event()

    async def run(self) -> None:
        """Renew all leases, in at most two attempts."""
        try:
            left = self._still_due(self._leases)  # the event loop may have been blocked since they were due
            for attempt in range(1, _ATTEMPTS + 1):
                if not left:
                    break
                used = self._connection.api.endpoint_number
                left = await self._attempt(left, is_last=attempt == _ATTEMPTS)
                # The cause may be the current member, so the next attempt goes to another endpoint. The second attempt
                # starts at once, because it succeeds after most failures.
                if left and self._retry_other_endpoint:
                    self._connection.api.report_endpoint_failure(used)
                self.reading = self._retry_other_endpoint = False
                if (first := self._first_unanswered) is not None and len(left) > 1:
                    # etcd processes the keep-alives of a stream one after another. So the first one without a response may
                    # delay those behind it. They are sent again without that one, which waits.
                    first.postpone()
                    left = [lease for lease in left if lease is not first]
            for lease in left:
                lease.postpone()
        finally:
            self._release(self, self._leases)

    def _still_due(self, leases: Sequence[Renewable]) -> Sequence[Renewable]:
        return [lease for lease in leases if self._is_to_be_renewed(lease)]

    async def _attempt(self, leases: Sequence[Renewable], *, is_last: bool) -> Sequence[Renewable]:
        """Try once to renew the leases, within the shortest ``retry``. Return those that must be renewed still."""
        # etcd closes the stream at the first lease that it refuses. So leases that it may refuse again are sent last.
        leases = sorted(leases, key=lambda lease: lease.refused)
        timeout = min(lease.retry for lease in leases)
        give_up_at = anyio.current_time() + timeout
        ids = {lease: lease.lease_id for lease in leases}
        sent_at = {ids[lease]: lease.clock.now() for lease in leases}
        unanswered: EtcdLeaderError = EtcdUnavailableError(f"etcd did not answer a keep-alive within {timeout:g} s")
        self._first_unanswered = None
        answers = KeepAliveResponses()
        try:
            answers = await self._connection.api.lease_keep_alive(list(sent_at), timeout=timeout)
        except EtcdLeaderError as error:
            unanswered = error
        except Exception as error:  # noqa: BLE001 - an error in our code costs this attempt only, and not all leases
            unanswered = EtcdUnavailableError(f"sending keep-alives failed unexpectedly: {error!r}")
        left: list[Renewable] = []
        answered: list[_Answered] = []
        for lease in leases:
            answer = answers.get(ids[lease])
            if answer is None:
                why = answers.errors.get(ids[lease], unanswered)
                self._retry_other_endpoint |= why.retry_other_endpoint
                if not isinstance(why, EtcdRefusedError):
                    self._first_unanswered = self._first_unanswered or lease
                lease.on_error(why)
                left.append(lease)
            else:
                answered.append((lease, answer))
        self.reading = True
        evidence = _Evidence(sent_at, self._connection.raft_terms.known, give_up_at, left, is_last)
        portions = _batches(await self._propose(answered, evidence))
        if len(portions) == 1:
            await self._confirm(portions[0], evidence)  # the usual case: a task would cost more than all the rest
            return self._still_due(left)
        async with ProtectedTaskGroup() as group:
            for some in portions:
                group.start_soon(self._confirm, some, evidence)
        return self._still_due(left)

    async def _propose(self, answered: Sequence[_Answered], evidence: _Evidence) -> Sequence[_Answered]:
        """Send a proposal after the keep-alives. Return the leases that a read may confirm now."""
        for first, (lease, _) in enumerate(answered):
            try:
                header = await self._connection.propose(lease.keys()[0], timeout=evidence.time_left())
            except EtcdRefusedError as error:
                # The user may not write this key. That concerns this lease only, so propose with the next lease's key.
                self._fail([lease], error, evidence)
            except EtcdLeaderError as error:
                self._fail([one for one, _ in answered[first:]], error, evidence)
                return ()
            else:
                evidence.member_id = header.member_id
                return answered[first:]
        return ()

    def _fail(self, leases: Sequence[Renewable], error: EtcdLeaderError, evidence: _Evidence) -> None:
        if isinstance(error, EtcdRegressedError):
            for lease in leases:
                lease.on_regression(error)
            return
        self._retry_other_endpoint |= error.retry_other_endpoint
        for lease in leases:
            lease.on_error(error)
            evidence.unconfirmed.append(lease)

    async def _confirm(self, some: Sequence[_Answered], evidence: _Evidence) -> None:
        """Confirm some leases by one read."""
        keys = [tuple(lease.keys()) for lease, _ in some]
        operations = [Range(key) for of_one in keys for key in of_one]
        try:
            result = await self._connection.txn((), operations, (EMPTY_TXN,), timeout=evidence.time_left())
        except EtcdLeaderError as error:
            if isinstance(error, EtcdRefusedError) and len(some) > 1:
                # etcd refuses the whole Txn if the user may not read one of its keys. The other leases must not fail.
                async with ProtectedTaskGroup() as group:
                    for one in some:
                        group.start_soon(self._confirm, [one], evidence)
                return
            self._fail([lease for lease, _ in some], error, evidence)
            return
        header, known_raft_term = result.header, evidence.known_raft_term
        if header.member_id != evidence.member_id and not evidence.is_last:
            # The client has switched endpoints since the proposal, as it does when a member announces its end. No call has
            # failed, and the new member is as good as any. So there is nothing to report before the next attempt.
            evidence.unconfirmed.extend(lease for lease, _ in some)
            return
        # A member other than that of the proposal may not have applied an entry of the current term.
        read_raft_term = header.raft_term if header.member_id == evidence.member_id else 0
        if 0 < read_raft_term < known_raft_term:
            self._connection.history_was_replaced(read_raft_term)
        found, settled = iter(result.results), []
        for (lease, answer), of_one in zip(some, keys, strict=True):
            read = [_only(next(found)) for _ in of_one]
            sent_at = evidence.sent_at[answer.lease_id]
            if lease.on_response(sent_at, answer, read, read_raft_term=read_raft_term, known_raft_term=known_raft_term):
                settled.append(lease)
            else:
                self._retry_other_endpoint = True
                evidence.unconfirmed.append(lease)
        self._release(self, settled)


def _batches(answered: Sequence[_Answered]) -> list[list[_Answered]]:
    portions: list[list[_Answered]] = []
    size = 0
    for lease, answer in answered:
        wanted = len(lease.keys())
        if not portions or size + wanted > MAX_KEYS_PER_READ:
            portions.append([])
            size = 0
        portions[-1].append((lease, answer))
        size += wanted
    return portions


def _only(result: object) -> KeyValue | None:
    assert isinstance(result, RangeResult)
    return result.kvs[0] if result.kvs else None
