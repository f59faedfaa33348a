"""Keys that move to new leases, because etcd has elected another leader.

Those of one connection go together: the grants side by side, then one transaction for all of them, with one inside it for
each key. So ten thousand keys cost ten thousand grants and some two hundred transactions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from .._etcd.api import Compare, LeaseNotFoundError, Operation, Txn, TxnResult
from .._runtime.events import LightEvent
from .._runtime.limiter import Turns
from .._runtime.tasks import protected, spawn
from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdRegressedError, EtcdUnavailableError
from .deadlines import Agenda

__all__ = ("Movable", "Moves")

_MOST = 64
"""Keys in one transaction. etcd allows 128 operations (``--max-txn-ops``), those inside counted one above the other."""
_TOGETHER = 0.1
"""Seconds by which a move may come too early, to go along with others."""
_CLOSING = 1.0


class Movable(Protocol):
    """The move of one key, as seen from here."""

    @property
    def retry(self) -> float:
        """Bound of one call, in seconds."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be sent any more."""
        ...

    async def grant(self) -> bool:
        """Have the lease granted to which the key moves. False: not this time."""
        ...

    def txn(self) -> Txn:
        """Return the transaction. It leaves now."""
        ...

    def answered(self, result: TxnResult) -> None:
        """Take in what etcd has answered."""
        ...

    def lease_gone(self) -> None:
        """etcd does not have the lease to which the key moves."""
        ...

    def failed(self, error: EtcdLeaderError) -> None:
        """There is no answer."""
        ...

    def start_later(self) -> None:
        """Its lease was not granted: try again, after a pause."""
        ...

    def regressed(self, error: EtcdRegressedError) -> None:
        """The cluster went back in time."""
        ...


class _Connection(Protocol):
    turns: Turns

    async def txn(
        self,
        compare: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
        *,
        timeout: float,
    ) -> TxnResult: ...


class Moves:
    """The moves of one connection, in a task that begins with the first of them."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._agenda: Agenda[Movable] = Agenda()
        self._under_way: dict[Movable, None] = {}
        self._wake = LightEvent()
        self._scope: anyio.CancelScope | None = None
        self._ended = LightEvent()

    def schedule(self, key: Movable, after: float) -> None:
        """Move ``key`` in so many seconds. If its move is under way, nothing changes."""
        if key in self._under_way:
            return
        self._agenda.put(key, anyio.current_time() + after)
        self._wake.set()
        if self._scope is None:
            self._scope = anyio.CancelScope()
            spawn(self._run, "etcdleader moves", self._ended.set)

    def discard(self, key: Movable) -> None:
        """Begin no move of ``key`` any more."""
        self._agenda.drop(key)

    async def aclose(self) -> None:
        """End the moves."""
        if self._scope is not None:
            self._scope.cancel()
            await self._ended.wait_for(_CLOSING)

    async def _run(self) -> None:
        assert self._scope is not None
        with self._scope:
            async with anyio.create_task_group() as group:
                while True:
                    self._wake = LightEvent()
                    pause = self._start_what_is_due(group)
                    await (self._wake.wait() if pause is None else self._wake.wait_for(pause))

    def _start_what_is_due(self, group: TaskGroup) -> float | None:
        """Return in how many seconds to come back; None: at the next one."""
        now = anyio.current_time()
        while (next_at := self._agenda.next()) is not None and next_at <= now:
            due: list[Movable] = []
            while len(due) < _MOST and (key := self._agenda.pop(now + _TOGETHER)) is not None:
                due.append(key)
            self._under_way |= dict.fromkeys(due)
            group.start_soon(protected(self._move), due)
        return None if next_at is None else next_at - now

    async def _move(self, keys: Sequence[Movable]) -> None:
        # What an answer asks for comes after the move: until then it is under way.
        answers: dict[Movable, TxnResult | Exception] = {}
        granted: list[Movable] = []
        try:
            if granted := await self._granted([key for key in keys if not key.is_over]):
                answers = await self._send(granted)
        except Exception as error:  # noqa: BLE001 - no caller awaits this task: the keys receive the error
            answers = dict.fromkeys(keys, error)
        finally:
            for key in keys:
                self._under_way.pop(key, None)
        for key, answer in answers.items():
            _take_in(key, answer)
        for key in keys:
            if key not in granted and key not in answers:
                key.start_later()

    async def _granted(self, keys: Sequence[Movable]) -> list[Movable]:
        granted: list[Movable] = []

        async def grant(key: Movable) -> None:
            if await key.grant():
                granted.append(key)

        if len(keys) <= 1:
            for key in keys:
                await grant(key)
            return granted
        async with anyio.create_task_group() as group:
            for key in keys:
                group.start_soon(protected(grant), key)
        return granted

    async def _send(self, keys: Sequence[Movable]) -> dict[Movable, TxnResult | Exception]:
        """Send one transaction for all of them."""
        sent: list[Movable] = []

        async def send() -> TxnResult:
            # Their turn may have taken a while: for some, a renewal has found the move done.
            sent[:] = [key for key in keys if not key.is_over]
            txns = [key.txn() for key in sent]
            timeout = min(key.retry for key in keys)
            if len(txns) == 1:
                return await self._connection.txn(*txns[0], timeout=timeout)
            return await self._connection.txn((), txns, timeout=timeout)

        try:
            result = await self._connection.turns.ask(send)
        except (LeaseNotFoundError, EtcdRefusedError) as error:
            if len(sent) == 1:
                return {sent[0]: error}
            # One of them, and etcd refuses them all: that must not cost the others.
            answers: dict[Movable, TxnResult | Exception] = {}
            for key in sent:
                answers |= await self._send([key])
            return answers
        except EtcdLeaderError as error:
            return dict.fromkeys(sent, error)
        results = [result] if len(sent) == 1 else result.results
        return {key: one for key, one in zip(sent, results, strict=True) if isinstance(one, TxnResult)}


def _take_in(key: Movable, answer: TxnResult | Exception) -> None:
    match answer:
        case TxnResult():
            key.answered(answer)
        case LeaseNotFoundError():
            key.lease_gone()
        case EtcdRegressedError():
            key.regressed(answer)
        case EtcdLeaderError():
            key.failed(answer)
        case _:
            key.failed(EtcdUnavailableError(f"moving broke: {answer!r}"))
