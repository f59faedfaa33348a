"""The moves of keys to new leases, after etcd has elected another leader.

The keys of one connection move together. Each lease is granted by a separate call. Then one Txn moves all keys whose
leases were granted meanwhile. It contains one nested Txn for each key. So ten thousand keys cost ten thousand grants and
about two hundred Txns.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

import anyio

from .._etcd.api import LeaseNotFoundError, Txn, TxnResult, Txns
from .._runtime.events import Event
from .._runtime.limiter import FairLimiter
from .._runtime.tasks import ProtectedTaskGroup, spawn_system_task
from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdRegressedError, EtcdUnavailableError
from .timer_queue import TimerQueue

_MAX_KEYS_PER_TXN = 64
"""Keys in one Txn. etcd allows 128 operations (``--max-txn-ops``) in the outer Txn and any one nested Txn together."""
_EARLY_SECONDS = 0.1
"""Seconds by which a move may start early, to share a Txn with others."""
_GATHER_SECONDS = 0.02
"""Seconds for which a key waits for others after its lease was granted."""
_RESTART_SECONDS = 1.0
_CLOSE_TIMEOUT_SECONDS = 1.0


class PendingMove(Protocol):
    """The move of one key, as the connection's mover uses it."""

    @property
    def retry(self) -> float:
        """The timeout of one call, in seconds."""
        ...

    @property
    def is_over(self) -> bool:
        """True if the move must send no further request."""
        ...

    @property
    def is_granted(self) -> bool:
        """True if etcd has granted the new lease."""
        ...

    async def grant(self) -> bool:
        """Request a grant of the new lease. Return False if this attempt failed."""
        ...

    def txn(self) -> Txn:
        """Return the Txn that moves the key. The caller sends it now."""
        ...

    def on_response(self, result: TxnResult) -> None:
        """Process etcd's response to the Txn."""
        ...

    def on_lease_not_found(self) -> None:
        """Replace the new lease, which no longer exists in etcd."""
        ...

    def on_error(self, error: EtcdLeaderError) -> None:
        """Receive the error of a Txn without a usable response, and schedule the Txn again."""
        ...

    def start_later(self) -> None:
        """Schedule the next attempt after a pause, because the lease was not granted."""
        ...

    def on_regression(self, error: EtcdRegressedError) -> None:
        """End the session, because the cluster's revision went back."""
        ...

    def on_internal_error(self, error: EtcdLeaderError) -> None:
        """End the session, because the client's own code has failed during the move."""
        ...


class _Connection(Txns, Protocol):
    call_limiter: FairLimiter


class KeyMover:
    """The moves of one connection, in a task that starts with the first move."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._scheduled: TimerQueue[PendingMove] = TimerQueue()
        self._in_progress: dict[PendingMove, None] = {}
        self._wake = Event()
        self._scope: anyio.CancelScope | None = None
        self._ended = Event()

    def schedule(self, move: PendingMove, after: float) -> None:
        """Start ``move`` after ``after`` seconds, unless it is in progress."""
        if move in self._in_progress:
            return
        self._scheduled.set(move, anyio.current_time() + after)
        self._wake.set()
        if self._scope is None:
            self._scope = anyio.CancelScope()
            spawn_system_task(self._run, "etcdleader moves", self._ended.set)

    def discard(self, move: PendingMove) -> None:
        """Cancel ``move`` if it is scheduled. A move in progress continues."""
        self._scheduled.discard(move)

    async def aclose(self) -> None:
        """Cancel all moves, and wait until their task has ended."""
        if self._scope is not None:
            self._scope.cancel()
            await self._ended.wait_for(_CLOSE_TIMEOUT_SECONDS)

    async def _run(self) -> None:
        assert self._scope is not None
        with self._scope:
            while True:
                try:
                    async with ProtectedTaskGroup() as group:
                        await self._start(group)
                except Exception:  # noqa: BLE001 - no caller awaits this task, and the other keys must move
                    await anyio.sleep(_RESTART_SECONDS)

    async def _start(self, group: ProtectedTaskGroup) -> None:
        while True:
            self._wake = Event()
            pause = self._start_due(group)
            await (self._wake.wait() if pause is None else self._wake.wait_for(pause))

    def _start_due(self, group: ProtectedTaskGroup) -> float | None:
        """Start the due moves. Return the seconds until the next one is due, or None if none is scheduled."""
        now = anyio.current_time()
        granted: dict[float, list[PendingMove]] = {}
        while (next_at := self._scheduled.next()) is not None and next_at <= now:
            count = 0
            while count < _MAX_KEYS_PER_TXN and (move := self._scheduled.pop(now + _EARLY_SECONDS)) is not None:
                count += 1
                if move.is_over:
                    continue
                self._in_progress[move] = None
                if move.is_granted:
                    # One Txn for each timeout, so that no key waits longer than its own timeout.
                    granted.setdefault(move.retry, []).append(move)
                else:
                    group.start_soon(self._grant, move)
        for together in granted.values():
            for first in range(0, len(together), _MAX_KEYS_PER_TXN):
                group.start_soon(self._move, together[first : first + _MAX_KEYS_PER_TXN])
        return None if next_at is None else next_at - now

    async def _grant(self, move: PendingMove) -> None:
        """Request the grant of one lease in a task for this key only, so that a slow grant delays no other key."""
        granted = False
        try:
            granted = await move.grant()
        except Exception as error:  # noqa: BLE001 - no caller awaits this task
            self._on_result(move, error)
        finally:
            self._in_progress.pop(move, None)
        if granted:
            self.schedule(move, _GATHER_SECONDS)
        else:
            move.start_later()

    async def _move(self, moves: Sequence[PendingMove]) -> None:
        answers: dict[PendingMove, TxnResult | Exception] = {}
        try:
            answers = await self._send(moves)
        except Exception as error:  # noqa: BLE001 - no caller awaits this task: the keys receive the error
            answers = dict.fromkeys(moves, error)
        finally:
            # This precedes the processing of the answers, because each may schedule the next attempt.
            for move in moves:
                self._in_progress.pop(move, None)
        for move, answer in answers.items():
            self._on_result(move, answer)

    async def _send(self, moves: Sequence[PendingMove]) -> dict[PendingMove, TxnResult | Exception]:
        """Send one Txn that moves all these keys. Return the response or the error for each key."""
        sent: list[PendingMove] = []

        async def send() -> TxnResult | None:
            # While the call waited for a slot, the read of a renewal may have shown that some keys have moved.
            sent[:] = [move for move in moves if not move.is_over]
            txns = [move.txn() for move in sent]
            if len(txns) == 1:
                return await self._connection.txn(*txns[0], timeout=moves[0].retry)
            return await self._connection.txn((), txns, timeout=moves[0].retry) if txns else None

        try:
            result = await self._connection.call_limiter.run(send)
        except (LeaseNotFoundError, EtcdRefusedError) as error:
            if len(sent) == 1:
                return {sent[0]: error}
            # etcd refuses the whole Txn because of one key, so each key is sent again alone.
            answers: dict[PendingMove, TxnResult | Exception] = {}

            async def send_alone(move: PendingMove) -> None:
                answers.update(await self._send([move]))

            async with ProtectedTaskGroup() as group:
                for move in sent:
                    group.start_soon(send_alone, move)
            return answers
        except EtcdLeaderError as error:
            return dict.fromkeys(sent, error)
        if result is None:
            return {}
        results = [result] if len(sent) == 1 else result.results
        return {move: one for move, one in zip(sent, results, strict=True) if isinstance(one, TxnResult)}

    def _on_result(self, move: PendingMove, answer: TxnResult | Exception) -> None:
        try:
            match answer:
                case TxnResult():
                    move.on_response(answer)
                case LeaseNotFoundError():
                    move.on_lease_not_found()
                case EtcdRegressedError():
                    move.on_regression(answer)
                case EtcdLeaderError():
                    move.on_error(answer)
                case _:
                    move.on_internal_error(
                        EtcdUnavailableError(f"moving the key to another lease failed unexpectedly: {answer!r}")
                    )
        except Exception as error:  # noqa: BLE001 - it must not end the moves of other keys
            with suppress(Exception):
                move.on_internal_error(
                    EtcdUnavailableError(f"moving the key to another lease failed unexpectedly: {error!r}")
                )
