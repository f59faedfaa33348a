"""One round of renewals: the keep-alives of its leases go out back to back, then a proposal and reads confirm them.

Each step is sent after the last response of the one before. etcd answers keep-alives without consensus. The proposal makes
the member apply an entry of the raft term in force, so the term in the header of a read after it is no older one. A member
that has caught up by a snapshot would otherwise answer with the term from before it.

The read goes through raft's log as well. A member answers a waiting call before it sets the term of that entry, but after it
has set that of the entry before. A read that only asks for the index could come between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import anyio

from .._etcd.api import (
    NOTHING,
    EtcdApi,
    Header,
    KeepAlive,
    KeepAliveAnswers,
    KeyValue,
    Range,
    RangeResult,
    Txns,
)
from .._runtime.clock import Clock
from .._runtime.events import LightEvent
from .._runtime.tasks import protected
from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdRegressedError, EtcdUnavailableError
from .raft_terms import RaftTerms

__all__ = ("MAX_KEYS_PER_READ", "Renewable", "RenewalConnection", "Round")

MAX_KEYS_PER_READ = 128
"""etcd's own bound on the operations of one transaction (``--max-txn-ops``)."""

_ATTEMPTS = 2
"""In one round. After the last one a lease waits, by its own backoff."""


class RenewalConnection(Txns, Protocol):
    """The connection, as a round of renewals uses it."""

    api: EtcdApi
    raft_terms: RaftTerms

    async def propose(self, key: bytes, *, timeout: float) -> Header:
        """Propose a Txn that changes nothing."""
        ...

    def history_was_replaced(self, raft_term: int) -> None:
        """The cluster is in a lower raft term than the one known before."""
        ...


class Renewable(Protocol):
    """A lease to keep alive, as seen from here."""

    clock: Clock
    """What it goes by."""

    @property
    def lease_id(self) -> int:
        """The lease that the key is on: it may be another one after a while."""
        ...

    @property
    def retry(self) -> float:
        """Bound of one attempt, in seconds."""
        ...

    @property
    def refused(self) -> bool:
        """Whether etcd has refused its last renewal."""
        ...

    def check(self) -> float:
        """Compare the clock with the deadlines and act on what has passed. Returns in how many seconds to look again,
        at the latest."""
        ...

    def spread(self) -> None:
        """Let the next renewal be due some time before it would be, at random: leases that began together are many."""
        ...

    def due_in(self) -> float | None:
        """Seconds until the next renewal is to start, 0 or less when it is to start now; None: never again."""
        ...

    def may_go_along(self) -> bool:
        """Whether it may be renewed now, although it is not due yet, in one round with others."""
        ...

    def keys(self) -> Sequence[bytes]:
        """The keys whose reading confirms it."""
        ...

    def answered(
        self, sent_at: float, answer: KeepAlive, read: Sequence[KeyValue | None], *, read_term: int, known_term: int
    ) -> bool:
        """Take in a keep-alive's answer, and the read after it and after the proposal; False when they confirm nothing.

        Args:
            sent_at: When the keep-alive left.
            answer: Its answer.
            read: What the keys hold.
            read_term: raft_term of the read; 0 if another member than that of the proposal has answered it.
            known_term: The highest raft_term known before the proposal left.
        """
        ...

    def failed(self, error: EtcdLeaderError) -> None:
        """An attempt brought no answer."""
        ...

    def postpone(self) -> None:
        """Two attempts in a row brought no confirmation: wait before the next."""
        ...

    def regressed(self, error: EtcdRegressedError) -> None:
        """The cluster went back in time."""
        ...

    def unattended(self, error: EtcdLeaderError) -> None:
        """End the session: the client's own code has failed."""
        ...


_Answered: TypeAlias = tuple[Renewable, KeepAlive]


@dataclass(slots=True)
class _Evidence:
    """What one attempt has gathered.

    Attributes:
        sent_at: When the keep-alives left, by lease id.
        known_term: The highest raft_term known before the proposal.
        give_up_at: On the loop's clock.
        unconfirmed: The leases that were not renewed.
        member_id: The member that has answered the proposal.
    """

    sent_at: Mapping[int, float]
    known_term: int
    give_up_at: float
    unconfirmed: list[Renewable]
    member_id: int = 0

    def time_left(self) -> float:
        return max(self.give_up_at - anyio.current_time(), 0.001)


class Round:
    """One renewal, of one lease or of many, under way.

    Attributes:
        reading: Its reads have left: what they show may be older than what is asked from now on.
        news: Set when it is over for some of its leases; then another one takes its place.
    """

    __slots__ = (
        "_connection",
        "_elsewhere",
        "_first_unanswered",
        "_leases",
        "_release",
        "_wanted",
        "news",
        "reading",
    )

    def __init__(
        self,
        connection: RenewalConnection,
        leases: Sequence[Renewable],
        *,
        wanted: Callable[[Renewable], bool],
        release: Callable[[Round, Sequence[Renewable]], None],
    ) -> None:
        """Nothing is sent yet.

        Args:
            connection: For all of them.
            leases: To be renewed.
            wanted: Whether a lease is still to be renewed.
            release: Told when the round is over for some of them.
        """
        self._connection = connection
        self._leases = leases
        self._wanted = wanted
        self._release = release
        self._elsewhere = False
        self._first_unanswered: Renewable | None = None
        self.reading = False
        self.news = LightEvent()

    def tell(self) -> None:
        """It is over for some."""
        self.news.set()
        self.news = LightEvent()

    async def run(self) -> None:
        """Renew all, in two attempts at most."""
        try:
            left = self._wanting(self._leases)  # the loop may have been blocked since they were due
            for _ in range(_ATTEMPTS):
                if not left:
                    break
                used = self._connection.api.endpoint
                left = await self._attempt(left)
                # What stood in the way may be the member we speak to, so the next attempt goes to another one, and the
                # second at once: most failures are over with that.
                if left and self._elsewhere:
                    self._connection.api.switch_endpoint(used)
                self.reading = self._elsewhere = False
                if (first := self._first_unanswered) is not None and len(left) > 1:
                    # etcd serves the keep-alives of a stream one after another, so the first one that it did not answer may
                    # hold up those behind it. It waits, and they are sent again without it.
                    first.postpone()
                    left = [lease for lease in left if lease is not first]
            for lease in left:
                lease.postpone()
        finally:
            self._release(self, self._leases)

    def _wanting(self, leases: Sequence[Renewable]) -> Sequence[Renewable]:
        return [lease for lease in leases if self._wanted(lease)]

    async def _attempt(self, leases: Sequence[Renewable]) -> Sequence[Renewable]:
        """Renew once, within the shortest ``retry``; returns those that were not confirmed and still want to be."""
        # etcd closes the stream at the first lease that it refuses: those that it would refuse again go last.
        leases = sorted(leases, key=lambda lease: lease.refused)
        timeout = min(lease.retry for lease in leases)
        give_up_at = anyio.current_time() + timeout
        ids = {lease: lease.lease_id for lease in leases}
        sent_at = {ids[lease]: lease.clock.now() for lease in leases}
        unanswered: EtcdLeaderError = EtcdUnavailableError(f"etcd did not answer a keep-alive within {timeout:g} s")
        self._first_unanswered = None
        answers = KeepAliveAnswers()
        try:
            answers = await self._connection.api.lease_keep_alive(list(sent_at), timeout=timeout)
        except EtcdLeaderError as error:
            unanswered = error
        except Exception as error:  # noqa: BLE001 - a fault of ours: it costs this attempt, and not all leases
            unanswered = EtcdUnavailableError(f"no keep-alive could be sent: {error!r}")
        left: list[Renewable] = []
        answered: list[_Answered] = []
        for lease in leases:
            answer = answers.get(ids[lease])
            if answer is None:
                why = answers.errors.get(ids[lease], unanswered)
                self._elsewhere |= why._elsewhere  # noqa: SLF001 - of this package
                if not isinstance(why, EtcdRefusedError):
                    self._first_unanswered = self._first_unanswered or lease
                lease.failed(why)
                left.append(lease)
            else:
                answered.append((lease, answer))
        self.reading = True
        evidence = _Evidence(sent_at, self._connection.raft_terms.known, give_up_at, left)
        portions = _portions(await self._propose(answered, evidence))
        if len(portions) == 1:
            await self._confirm(portions[0], evidence)  # mostly so, and a task costs more than all else
            return self._wanting(left)
        async with anyio.create_task_group() as group:
            for some in portions:
                group.start_soon(protected(self._confirm), some, evidence)
        return self._wanting(left)

    async def _propose(self, answered: Sequence[_Answered], evidence: _Evidence) -> Sequence[_Answered]:
        """Have one proposal answered, after the keep-alives; returns the leases that a read may confirm now."""
        for first, (lease, _) in enumerate(answered):
            try:
                header = await self._connection.propose(lease.keys()[0], timeout=evidence.time_left())
            except EtcdRefusedError as error:
                # The user may not write this key: that concerns this lease only, and the next key serves as well.
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
                lease.regressed(error)
            return
        self._elsewhere |= error._elsewhere  # noqa: SLF001 - of this package
        for lease in leases:
            lease.failed(error)
            evidence.unconfirmed.append(lease)

    async def _confirm(self, some: Sequence[_Answered], evidence: _Evidence) -> None:
        """One read for some leases."""
        keys = [tuple(lease.keys()) for lease, _ in some]
        operations = [Range(key) for of_one in keys for key in of_one]
        try:
            result = await self._connection.txn((), operations, (NOTHING,), timeout=evidence.time_left())
        except EtcdLeaderError as error:
            if isinstance(error, EtcdRefusedError) and len(some) > 1:
                # One key that may not be read, and etcd refuses them all: that must not cost the others.
                async with anyio.create_task_group() as group:
                    for one in some:
                        group.start_soon(protected(self._confirm), [one], evidence)
                return
            self._fail([lease for lease, _ in some], error, evidence)
            return
        header, known_term = result.header, evidence.known_term
        # Another member than that of the proposal may not have applied an entry of the term in force.
        read_term = header.raft_term if header.member_id == evidence.member_id else 0
        if 0 < read_term < known_term:
            self._connection.history_was_replaced(read_term)
        found, settled = iter(result.results), []
        for (lease, answer), of_one in zip(some, keys, strict=True):
            read = [_only(next(found)) for _ in of_one]
            sent_at = evidence.sent_at[answer.lease_id]
            if lease.answered(sent_at, answer, read, read_term=read_term, known_term=known_term):
                settled.append(lease)
            else:
                self._elsewhere = True
                evidence.unconfirmed.append(lease)
        self._release(self, settled)


def _portions(answered: Sequence[_Answered]) -> list[list[_Answered]]:
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
