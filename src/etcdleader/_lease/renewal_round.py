"""One round of renewals: the keep-alives of its leases go out back to back, then reads confirm them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias

import anyio

from .._etcd.api import EtcdApi, KeepAlive, KeepAliveAnswers, KeyValue, Operation, Range, RangeResult, TxnResult
from .._runtime.clock import Clock
from .._runtime.events import LightEvent
from .._runtime.tasks import protected
from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdRegressedError, EtcdUnavailableError

__all__ = ("MAX_KEYS_PER_READ", "Read", "Renewable", "Round")

MAX_KEYS_PER_READ = 128
"""etcd's own bound on the operations of one transaction (``--max-txn-ops``)."""

_ATTEMPTS = 2
"""In one round. After the last one a lease waits, by its own backoff."""

Read: TypeAlias = Callable[[Sequence[Operation], float], Awaitable[TxnResult]]
"""``await read(operations, timeout)``: in one linearizable transaction."""


class Renewable(Protocol):
    """A lease to keep alive, as seen from here."""

    lease_id: int
    clock: Clock
    """What it goes by."""

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

    def answered(self, sent_at: float, answer: KeepAlive, read: Sequence[KeyValue | None], read_term: int) -> bool:
        """Take in a keep-alive's answer and the read after it; False when they confirm nothing."""
        ...

    def gone(self) -> None:
        """The keep-alive's answer says that etcd has no such lease."""
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
        """It was not looked after for a while, by a fault of ours."""
        ...


class Round:
    """One renewal, of one lease or of many, under way.

    Attributes:
        reading: Its reads have left: what they show may be older than what is asked from now on.
        news: Set when it is over for some of its leases; then another one takes its place.
    """

    __slots__ = (
        "_api",
        "_elsewhere",
        "_first_unanswered",
        "_leases",
        "_read",
        "_release",
        "_wanted",
        "news",
        "reading",
    )

    def __init__(
        self,
        api: EtcdApi,
        read: Read,
        leases: Sequence[Renewable],
        *,
        wanted: Callable[[Renewable], bool],
        release: Callable[[Round, Sequence[Renewable]], None],
    ) -> None:
        """Nothing is sent yet.

        Args:
            api: The connection's.
            read: Its reads, which also find out whether the cluster went back in time.
            leases: To be renewed.
            wanted: Whether a lease is still to be renewed.
            release: Told when the round is over for some of them.
        """
        self._api = api
        self._read = read
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
                used = self._api.endpoint
                left = await self._attempt(left)
                # What stood in the way may be the member we speak to, so the next attempt goes to another one, and the
                # second at once: most failures are over with that.
                if left and self._elsewhere:
                    self._api.switch_endpoint(used)
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
        sent_at = {lease.lease_id: lease.clock.now() for lease in leases}
        unanswered: EtcdLeaderError = EtcdUnavailableError(f"etcd did not answer a keep-alive within {timeout:g} s")
        self._first_unanswered = None
        answers = KeepAliveAnswers()
        try:
            answers = await self._api.lease_keep_alive(list(sent_at), timeout=timeout)
        except EtcdLeaderError as error:
            unanswered = error
        except Exception as error:  # noqa: BLE001 - a fault of ours: it costs this attempt, and not all leases
            unanswered = EtcdUnavailableError(f"no keep-alive could be sent: {error!r}")
        left: list[Renewable] = []
        to_read: list[tuple[Renewable, KeepAlive]] = []
        for lease in leases:
            answer = answers.get(lease.lease_id)
            if answer is None:
                why = answers.errors.get(lease.lease_id, unanswered)
                self._elsewhere |= why._elsewhere  # noqa: SLF001 - of this package
                if not isinstance(why, EtcdRefusedError):
                    self._first_unanswered = self._first_unanswered or lease
                lease.failed(why)
                left.append(lease)
            elif answer.ttl <= 0:
                lease.gone()
            else:
                to_read.append((lease, answer))
        self.reading = True
        portions = _portions(to_read)
        if len(portions) == 1:
            await self._confirm(
                portions[0], sent_at, give_up_at, left
            )  # mostly so, and a task costs more than all else
            return self._wanting(left)
        async with anyio.create_task_group() as group:
            for some in portions:
                group.start_soon(protected(self._confirm), some, sent_at, give_up_at, left)
        return self._wanting(left)

    async def _confirm(
        self,
        some: Sequence[tuple[Renewable, KeepAlive]],
        sent_at: dict[int, float],
        give_up_at: float,
        left: list[Renewable],
    ) -> None:
        """One read for some leases: it must be sent after their keep-alives were answered."""
        keys = [tuple(lease.keys()) for lease, _ in some]
        operations = [Range(key) for of_one in keys for key in of_one]
        try:
            result = await self._read(operations, max(give_up_at - anyio.current_time(), 0.001))
        except EtcdRegressedError as error:
            for lease, _ in some:
                lease.regressed(error)
            return
        except EtcdLeaderError as error:
            if isinstance(error, EtcdRefusedError) and len(some) > 1:
                # One key that may not be read, and etcd refuses them all: that must not cost the others.
                async with anyio.create_task_group() as group:
                    for one in some:
                        group.start_soon(protected(self._confirm), [one], sent_at, give_up_at, left)
                return
            self._elsewhere |= error._elsewhere  # noqa: SLF001 - of this package
            for lease, _ in some:
                lease.failed(error)
                left.append(lease)
            return
        found, settled = iter(result.results), []
        for (lease, answer), of_one in zip(some, keys, strict=True):
            read = [_only(next(found)) for _ in of_one]
            if lease.answered(sent_at[lease.lease_id], answer, read, result.header.raft_term):
                settled.append(lease)
            else:
                self._elsewhere = True
                left.append(lease)
        self._release(self, settled)


def _portions(answered: Sequence[tuple[Renewable, KeepAlive]]) -> list[list[tuple[Renewable, KeepAlive]]]:
    portions: list[list[tuple[Renewable, KeepAlive]]] = []
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
