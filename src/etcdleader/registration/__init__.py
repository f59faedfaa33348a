"""Keep a key in etcd while this process lives: an ephemeral key on a confirmed lease.

::

    async with registered(etcd, "workers/10.0.0.1:8000", "idle") as registration:
        ...
        await registration.update("busy")

Others read the keys below ``workers/`` to find the processes that live. When this one stops, its key is deleted at once.
When it is killed, frozen or cut off, etcd deletes the key after the TTL. The candidates of elections use the same code.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

from .._lease.lease_deadline import Timing
from .._managers.connector import check_client, connect
from .._runtime.clock import boottime
from .._values.durations import parse_duration
from .._values.problems import Problem
from ..config import Config, Duration, EtcdConfig
from ..errors import ConfigError
from ._keeper import Keeper

__all__ = ("Registration", "registered")

_SHORTEST, _LONGEST = 1, 9e9
"""The bounds of a TTL in seconds, as for the setting ``lease``."""


class Registration:
    """A key that this process keeps in etcd. ``registered`` creates it.

    It belongs to the event loop of its block. ``key``, ``lease_id`` and ``is_valid()`` can be read from any thread.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def __repr__(self) -> str:
        state = "valid" if self.is_valid() else "not valid"
        return f"<Registration {self.key!r} on lease {self.lease_id:x}, {state}>"

    @property
    def key(self) -> str:
        """The key."""
        return self._keeper.key.decode(errors="replace")

    @property
    def lease_id(self) -> int:
        """The lease that the key is on; 0 while the key is lost. It changes when etcd elects another leader."""
        held = self._keeper.held
        return held.session.lease_id if held is not None and held.is_put else 0

    def is_valid(self) -> bool:
        """Return whether the key is in etcd, with this process's lease.

        It is computed at each call from the clock, the process and the known losses, without I/O. It is False in a forked
        child, while the key is lost, and after the block. It becomes True again when the key was put again.
        """
        held = self._keeper.held
        return held is not None and held.is_valid()

    async def update(self, value: str | bytes) -> None:
        """Change the value of the key. Returns once etcd has it.

        While the key is lost, it waits for the next put, which has the new value. It waits for at most a sixth of the TTL,
        and at most 5 s.

        Args:
            value: The new value. Text is stored as UTF-8.

        Raises:
            EtcdUnavailableError: etcd did not answer. The value may or may not have been put. A later put has it.
            EtcdRefusedError: etcd refused the value, or the permission is missing. The earlier value stays.
            EtcdRegressedError: etcd was wiped or restored.
            RuntimeError: The call was awaited on another event loop than the block's, or after the block.
        """
        await self._keeper.update(_bytes(value))


class registered(AbstractAsyncContextManager[Registration, None]):  # noqa: N801 - it is used like a function
    """Keep a key in etcd while the block runs: ``async with registered(etcd, key, value) as registration:``.

    Entering the block returns once etcd has the key, so it waits while etcd is down. Leaving it revokes the lease, which
    deletes the key. If the key is lost, it is put again with the newest value, after a pause that grows up to a sixth of the
    TTL. The loss is logged. The body is not cancelled: ask ``registration.is_valid()``.

    - The lease was revoked or has expired, or the key was deleted or overwritten on its lease: it is put again.
    - Another client has put the key on its own lease, or without one: that key is not touched. The registration waits
      until it is gone.

    A key that lies below the prefix of an election counts as a candidate there, and could become its leader. Entering the
    block looks for candidates below each prefix of the key that the user may read. It cannot find an election without any
    candidate.

    A block can be left in another task than the one that entered it. All registrations and managers with an equal
    ``EtcdConfig``, or with the same client, share one connection per process and event loop.
    """

    def __init__(
        self,
        etcd: EtcdConfig | Any,
        key: str | bytes,
        value: str | bytes,
        *,
        ttl: Duration = 15,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Send no request yet.

        Args:
            etcd: The way to etcd, as for a manager: an ``EtcdConfig``, an ``etcd3.Etcd3Client``, or an object that
                implements the port, such as ``FakeEtcd``.
            key: The key. Text is stored as UTF-8.
            value: The value.
            ttl: How long the key outlives this process if it is killed. From 1 s to 9e9 s: seconds, a ``timedelta`` or a Go
                duration string. etcd counts it in whole seconds.
            clock: Returns seconds on a clock that never steps. By default CLOCK_BOOTTIME, which counts suspend.

        Raises:
            ConfigError: The TTL is not valid.
            ValueError: The key is empty.
            TypeError: ``etcd`` has none of the above types, or ``key`` or ``value`` is neither text nor bytes.
        """
        check_client(etcd, "etcd")
        self._etcd = etcd
        self._key = _bytes(key)
        if not self._key:
            raise ValueError("the key must not be empty")
        self._value = _bytes(value)
        self._timing = _timing(ttl)
        self._clock = clock or boottime
        self._keeper: Keeper | None = None

    async def __aenter__(self) -> Registration:
        """Return the registration once etcd has the key.

        Raises:
            EtcdRefusedError: The key exists already, on another lease or without one. Or it lies below the prefix of an
                election. Or etcd refused: login, permission or certificate.
            EtcdRegressedError: etcd was wiped or restored while this connection was open.
        """
        if self._keeper is not None:
            raise RuntimeError("the block `async with registered(...)` was entered already: create another one")
        self._keeper = keeper = Keeper(connect(self._etcd), self._key, self._value, self._timing, self._clock)
        try:
            await keeper.enter()
        except BaseException:
            self._keeper = None
            raise
        return Registration(keeper)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await keeper.leave()


def _timing(ttl: Duration) -> Timing:
    try:
        seconds = parse_duration(ttl)
    except ValueError as error:
        raise ConfigError(Problem.of("ttl", ttl, str(error))) from None
    if not _SHORTEST <= seconds <= _LONGEST:
        raise ConfigError(Problem.of("ttl", ttl, f"must be from {_SHORTEST}s to {_LONGEST:g}s"))
    # Two lost responses in a row cost no registration. The margin is the default one.
    return Timing.of(Config(lease=seconds, renew=seconds / 4, retry=min(5.0, seconds / 6)))


def _bytes(text: str | bytes) -> bytes:
    if isinstance(text, str):
        return text.encode()
    if not isinstance(text, bytes):
        raise TypeError(f"must be text or bytes, not {type(text).__name__}")
    return text
