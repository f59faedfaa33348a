"""The task that keeps one registration: it puts the key, waits until the key is lost, and puts it again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import anyio
import anyio.lowlevel

from .._etcd.api import KeyValue, Range
from .._lease.backoff import Backoff
from .._lease.lease import Lease
from .._lease.lease_deadline import Timing
from .._lease.shared_connection import SharedConnection
from .._runtime.clock import Clock
from .._runtime.events import Event
from .._runtime.tasks import spawn_system_task
from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdRegressedError, EtcdUnavailableError
from ._election_above import find_election_above
from ._ephemeral_key import EphemeralKey
from ._reports import Reports


class Keeper:
    """Keeps one key in etcd, from ``enter`` to ``leave``.

    The task belongs to the loop and not to the caller's task. So a block can be left in another task.

    Attributes:
        key: The key.
        held: The key of the current lease, or the one that was lost last; None before the first put.
    """

    def __init__(
        self,
        connect: AbstractAsyncContextManager[SharedConnection],
        key: bytes,
        value: bytes,
        timing: Timing,
        clock: Callable[[], float],
    ) -> None:
        self.key = key
        self.held: EphemeralKey | None = None
        self._value = value
        self._timing = timing
        self._clock = Clock(clock)
        self._connect = connect
        self._reports = Reports(key, timing.lease, self._fail)
        self._loop = anyio.lowlevel.current_token()
        self._changed = Event()
        self._error: BaseException | None = None
        self._scope = anyio.CancelScope()
        self._connection: SharedConnection
        self._ended = Event()
        self._updates = anyio.Lock()
        self._old_leases: set[int] = set()
        """Leases that may still exist in etcd, because their revocation may not have reached it."""

    @property
    def _name(self) -> str:
        return repr(self.key.decode(errors="replace"))

    @property
    def is_put(self) -> bool:
        """True while the key is in etcd, as far as it is known."""
        return self.held is not None and self.held.is_put

    # The block

    async def enter(self) -> None:
        """Return once etcd has the key; see ``registered``."""
        self._connection = await self._connect.__aenter__()
        spawn_system_task(self._run, "etcdleader registration", self._on_end)
        try:
            while not self._ended.is_set() and not self.is_put:
                await self._changed.wait()
        except BaseException:
            await self.leave()
            raise
        if self._ended.is_set():
            await self.leave()
            raise self._error or EtcdUnavailableError(f"the task that puts {self._name} was cancelled")

    async def leave(self) -> None:
        """Release the key. Return when the task has ended."""
        self._scope.cancel()
        with anyio.CancelScope(shield=True):
            await self._ended.wait()
        await self._connect.__aexit__(None, None, None)

    def _on_end(self) -> None:
        self._ended.set()
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = Event()

    def _fail(self, error: BaseException) -> None:
        """End the task while the block is being entered."""
        self._error = self._error or error
        self._scope.cancel()

    # Update

    async def update(self, value: bytes) -> None:
        """Change the value; see ``Registration.update``."""
        await anyio.lowlevel.checkpoint()
        self._check_loop()
        async with self._updates:
            before, self._value = self._value, value
            try:
                await self._update(value, anyio.current_time() + self._timing.retry)
            except EtcdRefusedError:
                self._value = before
                raise

    async def _update(self, value: bytes, give_up_at: float) -> None:
        backoff = Backoff(self._timing.retry, self._connection.uniform)
        while not self._ended.is_set():
            changed, held = self._changed, self.held
            left = give_up_at - anyio.current_time()
            if held is not None and held.is_put:
                try:
                    await held.update(value)
                except EtcdUnavailableError as error:
                    # A connection that has just broken fails at once. The same update is sent again on the next one.
                    if anyio.current_time() + (pause := backoff.next()) >= give_up_at:
                        raise
                    self._reports.etcd_failed(error)
                    await anyio.sleep(pause)
                    continue
                if held.is_put:
                    return
            elif left <= 0:
                raise EtcdUnavailableError(f"{self._name} is lost at the moment. It is put again, with the new value")
            else:
                await changed.wait_for(left)
        raise RuntimeError(f"the registration of {self._name} has ended")

    def _check_loop(self) -> None:
        if self._loop != anyio.lowlevel.current_token():
            raise RuntimeError(
                "update() was awaited on another event loop than the one of the block. From a thread, use "
                "anyio.from_thread.run(registration.update, value, token=token). The token is what "
                "anyio.lowlevel.current_token() returned on that loop"
            )

    # The task

    async def _run(self) -> None:
        with self._scope:
            try:
                await self._refuse_election()
                await self._keep()
            except Exception as error:  # noqa: BLE001 - the caller that enters the block receives it
                self._fail(error)

    async def _refuse_election(self) -> None:
        election = await find_election_above(self._connection, self.key, self._timing.retry, self._reports.etcd_failed)
        if election is not None:
            raise EtcdRefusedError(
                f"{self._name} lies below the prefix {election + '/'!r} of an election, where every key is a candidate. No "
                "candidate behind it could be elected: use another key"
            )

    async def _keep(self) -> None:
        """Put the key, and put it again after each loss, until cancelled. Before the first put, raise errors."""
        backoff = Backoff(self._timing.retry, self._connection.uniform)
        while True:
            try:
                if await self._keep_one() >= self._timing.retry:
                    backoff.reset()
            except Exception as error:
                if self.held is None:
                    raise
                self._reports.failed(error)
                if isinstance(error, EtcdRegressedError):
                    await self._wait_for_revision()
            await anyio.sleep(backoff.next())

    async def _keep_one(self) -> float:
        """Put the key once, and keep it until it is lost. Return for how many seconds etcd had it."""
        held = EphemeralKey(self._connection, self.key, self._timing, clock=self._clock, reports=self._reports)
        lasted = 0.0
        try:
            taken = await held.put(lambda: self._value)
            if held.is_put:
                put_at = anyio.current_time()
                self._begin(held)
                self._reports.lost(await held.wait_until_lost())
                lasted = anyio.current_time() - put_at
        finally:
            self._old_leases |= await held.release()
            self._reports.released()
        if isinstance(held.session.error, EtcdRegressedError):
            raise held.session.error
        if taken is not None:
            await self._wait_until_free(taken)
        return lasted

    async def _wait_for_revision(self) -> None:
        """Wait until the revision of a restored etcd has passed the last known one.

        Before that, no renewal is confirmed. Each put would be taken back at once, and watches of the key would show it come
        and go.
        """
        backoff = Backoff(self._timing.retry, self._connection.uniform)
        while True:
            try:
                await self._connection.range(Range(self.key), timeout=self._timing.retry)
            except EtcdLeaderError as error:
                self._reports.etcd_failed(error)
            else:
                return
            await anyio.sleep(backoff.next())

    def _begin(self, held: EphemeralKey) -> None:
        again, self.held = self.held is not None, held
        self._old_leases.clear()
        self._reports.on_refused = None
        self._reports.registered(held.session.lease_id, again=again)
        self._wake()

    async def _wait_until_free(self, taken: KeyValue) -> None:
        """Wait until no other client has the key. Revoke the lease if it is one of this process's earlier ones.

        Raises:
            EtcdRefusedError: Another client has the key while the block is being entered.
        """
        retry, kv = self._timing.retry, taken
        backoff = Backoff(retry, self._connection.uniform)
        while kv.lease not in self._old_leases:
            if self.held is None:
                where = f"on lease {kv.lease:x}" if kv.lease else "without a lease"
                raise EtcdRefusedError(
                    f"{self._name} exists already, {where}: another client has put it. A process that was killed leaves its "
                    "key until its TTL has passed. Use a key for each process, or try again later"
                )
            self._reports.taken(kv)
            await anyio.sleep(backoff.next())
            try:
                found = (await self._connection.range(Range(self.key), timeout=retry)).kvs
            except EtcdLeaderError as error:
                self._reports.etcd_failed(error)
                continue
            self._reports.answered()
            if not found:
                return
            kv = found[0]
        with anyio.move_on_after(retry):
            await Lease.known(self._connection, self._reports.etcd_failed, kv.lease).revoke(retry, retry)
