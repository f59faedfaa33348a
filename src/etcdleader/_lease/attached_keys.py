"""Keys of the application, attached to a session's lease. They are deleted with it and follow its moves.

They follow in Txns of their own, after the session's own key, so a key that cannot be moved does not delay that one. The
client keeps the old lease alive until they have moved.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import anyio

from .._etcd.api import Compare, LeaseNotFoundError, Put, Range, RangeResult, Txn, TxnResult
from .._runtime.tasks import spawn
from ..errors import EtcdLeaderError, EtcdRefusedError
from .backoff import Backoff
from .connection import Connection
from .listener import LeaseListener

__all__ = ("MAX_ATTACHED", "AttachedKeys")

MAX_ATTACHED = 100
"""Keys on one lease. etcd deletes them in one revision when the lease ends, and watchers receive that as one."""
_MOST = 32
"""Keys in one transaction: values may be large, and etcd takes no request above 1.5 MiB."""


class AttachedKeys:
    """The attached keys of one session, each with the lease that it is on as far as is known."""

    __slots__ = ("_connection", "_lease_id", "_listener", "_ours", "_retry", "_scope", "leases")

    def __init__(self, connection: Connection, listener: LeaseListener, retry: float) -> None:
        self._connection = connection
        self._listener = listener
        self._retry = retry
        self._lease_id = 0
        self._ours: set[int] = set()
        """All leases that keys were put on."""
        self._scope: anyio.CancelScope | None = None
        self.leases: dict[bytes, int] = {}

    def add(self, key: bytes, lease_id: int) -> Callable[[], None]:
        """A transaction that puts ``key`` on this lease is about to leave.

        Returns:
            To be called if etcd refuses it: then the key is where it was.

        Raises:
            ValueError: There are too many.
        """
        before = self.leases.get(key)
        if before is None and len(self.leases) >= MAX_ATTACHED:
            raise ValueError(f"a term may have at most {MAX_ATTACHED} keys attached")
        self.leases[key] = lease_id
        self._ours.add(lease_id)

        def refused() -> None:
            if before is None:
                self.leases.pop(key, None)
            else:
                self.leases[key] = before

        return refused

    def follow(self, lease_id: int) -> None:
        """Move all keys to this lease."""
        self._lease_id = lease_id
        self._ours.add(lease_id)
        if self._scope is None and self._left_behind():
            self._scope = anyio.CancelScope()
            spawn(self._run, "etcdleader attached keys", lambda: None)

    def old_leases(self) -> set[int]:
        """Return the leases that some keys have not left yet."""
        return {lease for lease in self.leases.values() if lease != self._lease_id} if self._lease_id else set()

    def stop(self) -> None:
        """Move no further key: the session is over."""
        if self._scope is not None:
            self._scope.cancel()

    def _left_behind(self) -> list[bytes]:
        return [key for key, lease in self.leases.items() if lease != self._lease_id]

    async def _run(self) -> None:
        assert self._scope is not None
        backoff = Backoff(self._retry, random.uniform)
        with self._scope:
            while keys := self._left_behind():
                try:
                    moved = await self._move(keys[:_MOST])
                except Exception as error:  # noqa: BLE001 - no caller awaits this task
                    self._give_up(keys[0], EtcdRefusedError(f"moving broke: {error!r}"))
                    continue
                if moved:
                    backoff.reset()
                    continue
                await self._keep_old_leases_alive()
                await anyio.sleep(backoff.next())
        self._scope = None

    async def _move(self, keys: Sequence[bytes]) -> bool:
        """Move these keys once. Returns whether anything is known now that was not known before."""
        target, leases = self._lease_id, [self.leases[key] for key in keys]
        moves = [
            Txn([Compare(key, "lease", lease)], [Put(key, lease=target, ignore_value=True)], [Range(key)])
            for key, lease in zip(keys, leases, strict=True)
        ]
        try:
            result = await self._connection.turns.run(lambda: self._connection.txn((), moves, timeout=self._retry))
        except EtcdRefusedError as error:
            if len(keys) > 1:
                # One that the user may not write, and etcd refuses them all.
                return any([await self._move([key]) for key in keys])
            self._give_up(keys[0], error)
            return True
        except LeaseNotFoundError:
            return False  # the session's own key was deleted with that lease, and the session ends
        except EtcdLeaderError as error:
            self._listener.etcd_failed(error)
            return False
        known = False
        for key, answer in zip(keys, result.results, strict=True):
            assert isinstance(answer, TxnResult)
            known |= self._take_in(key, target, answer)
        return known

    def _take_in(self, key: bytes, target: int, answer: TxnResult) -> bool:
        if answer.succeeded:
            self.leases[key] = target
            return True
        found = answer.results[0]
        assert isinstance(found, RangeResult)
        if not found.kvs:
            # Deleted by the application; or its put is still to come, which compares the lease of the session's own key.
            self.leases.pop(key, None)
        elif found.kvs[0].lease in self._ours:
            self.leases[key] = found.kvs[0].lease  # a copy of an earlier transaction was applied
        else:
            self._give_up(key, EtcdRefusedError("it was put on another lease"))
        return True

    def _give_up(self, key: bytes, error: EtcdRefusedError) -> None:
        self.leases.pop(key, None)
        name = key.decode(errors="replace")
        self._listener.etcd_failed(EtcdRefusedError(f"the attached key {name!r} could not follow its term: {error}"))

    async def _keep_old_leases_alive(self) -> None:
        try:
            await self._connection.api.lease_keep_alive(list(self.old_leases()), timeout=self._retry)
        except EtcdLeaderError as error:
            self._listener.etcd_failed(error)
