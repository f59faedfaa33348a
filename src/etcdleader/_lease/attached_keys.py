"""The application's keys on a session's lease. etcd deletes them with the lease, and they follow its moves.

They follow in separate Txns, after the session's own key has moved. So a key that cannot be moved does not delay the
session's key. The client keeps the old lease alive until the attached keys have moved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio

from .._etcd.api import Compare, LeaseNotFoundError, Put, Range, RangeResult, Txn, TxnResult
from .._runtime.tasks import spawn_system_task
from ..errors import EtcdLeaderError, EtcdRefusedError
from .backoff import Backoff
from .lease_listener import LeaseListener
from .shared_connection import SharedConnection

MAX_ATTACHED = 100
"""Keys on one lease. When the lease ends, etcd deletes them in one revision, which watchers receive as one."""
_MAX_KEYS_PER_TXN = 32
"""Keys in one transaction. Values may be large, and etcd refuses requests above 1.5 MiB."""


class AttachedKeys:
    """The attached keys of one session, each with the last known lease that it is on."""

    __slots__ = ("_connection", "_lease_id", "_listener", "_ours", "_retry", "_scope", "leases")

    def __init__(self, connection: SharedConnection, listener: LeaseListener, retry: float) -> None:
        self._connection = connection
        self._listener = listener
        self._retry = retry
        self._lease_id = 0
        self._ours: set[int] = set()
        """All our leases on which keys were put."""
        self._scope: anyio.CancelScope | None = None
        self.leases: dict[bytes, int] = {}

    def add(self, key: bytes, lease_id: int) -> Callable[[], None]:
        """Record that a transaction which puts ``key`` on this lease is about to be sent.

        Returns:
            A function to call if etcd refuses the transaction. It restores the previous record of the key.

        Raises:
            ValueError: The term has ``MAX_ATTACHED`` other keys already.
        """
        before = self.leases.get(key)
        if before is None and len(self.leases) >= MAX_ATTACHED:
            raise ValueError(
                f"the term already has {MAX_ATTACHED} attached keys, which is the maximum: attach fewer keys"
            )
        self.leases[key] = lease_id
        self._ours.add(lease_id)

        def refused() -> None:
            if before is None:
                self.leases.pop(key, None)
            else:
                self.leases[key] = before

        return refused

    def follow(self, lease_id: int) -> None:
        """Move all attached keys to this lease."""
        self._lease_id = lease_id
        self._ours.add(lease_id)
        if self._scope is None and self._left_behind():
            self._scope = anyio.CancelScope()
            spawn_system_task(self._run, "etcdleader attached keys", lambda: None)

    def old_leases(self) -> set[int]:
        """Return the previous leases that still have attached keys."""
        return {lease for lease in self.leases.values() if lease != self._lease_id} if self._lease_id else set()

    def stop(self) -> None:
        """Stop moving keys, because the session has ended."""
        if self._scope is not None:
            self._scope.cancel()

    def _left_behind(self) -> list[bytes]:
        return [key for key, lease in self.leases.items() if lease != self._lease_id]

    async def _run(self) -> None:
        assert self._scope is not None
        backoff = Backoff(self._retry, self._connection.uniform)
        with self._scope:
            while keys := self._left_behind():
                try:
                    moved = await self._move(keys[:_MAX_KEYS_PER_TXN])
                except Exception as error:  # noqa: BLE001 - no caller awaits this task
                    self._give_up(keys[0], EtcdRefusedError(f"its move failed unexpectedly: {error!r}"))
                    continue
                if moved:
                    backoff.reset()
                    continue
                await self._keep_old_leases_alive()
                await anyio.sleep(backoff.next())
        self._scope = None

    async def _move(self, keys: Sequence[bytes]) -> bool:
        """Try once to move these keys. Return whether the attempt has changed the record of any key."""
        target, leases = self._lease_id, [self.leases[key] for key in keys]
        moves = [
            Txn([Compare(key, "lease", lease)], [Put(key, lease=target, ignore_value=True)], [Range(key)])
            for key, lease in zip(keys, leases, strict=True)
        ]
        try:
            result = await self._connection.call_limiter.run(
                lambda: self._connection.txn((), moves, timeout=self._retry)
            )
        except EtcdRefusedError as error:
            if len(keys) > 1:
                # etcd refuses the whole Txn if the user may not write one of its keys, so send each key alone.
                return any([await self._move([key]) for key in keys])
            self._give_up(keys[0], error)
            return True
        except LeaseNotFoundError:
            return False  # the session's own key was deleted with that lease, so the session ends
        except EtcdLeaderError as error:
            self._listener.etcd_failed(error)
            return False
        known = False
        for key, answer in zip(keys, result.results, strict=True):
            assert isinstance(answer, TxnResult)
            known |= self._on_response(key, target, answer)
        return known

    def _on_response(self, key: bytes, target: int, answer: TxnResult) -> bool:
        if answer.succeeded:
            self.leases[key] = target
            return True
        found = answer.results[0]
        assert isinstance(found, RangeResult)
        if not found.kvs:
            # The application has deleted the key, or its put has not been applied yet. A later put cannot attach the key to
            # the old lease: it compares the lease of the session's own key.
            self.leases.pop(key, None)
        elif found.kvs[0].lease in self._ours:
            self.leases[key] = found.kvs[0].lease  # etcd has applied a copy of an earlier Txn
        else:
            self._give_up(key, EtcdRefusedError("another client has put it on another lease"))
        return True

    def _give_up(self, key: bytes, error: EtcdRefusedError) -> None:
        self.leases.pop(key, None)
        name = key.decode(errors="replace")
        self._listener.etcd_failed(
            EtcdRefusedError(
                f"attached key {name!r} was not moved to the term's new lease, and is no longer kept: {error}"
            )
        )

    async def _keep_old_leases_alive(self) -> None:
        try:
            await self._connection.api.lease_keep_alive(list(self.old_leases()), timeout=self._retry)
        except EtcdLeaderError as error:
            self._listener.etcd_failed(error)
