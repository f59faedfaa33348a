"""The version of the member in use, read after each endpoint switch. Until it is known, reads go through raft's log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from .._runtime.events import Event
from .._runtime.tasks import spawn_system_task
from ..errors import EtcdRefusedError
from .versions import survives_cancelled_reads

_ATTEMPT_SECONDS = 5.0
"""Seconds from the first response to the version request, and between two attempts. It is also an attempt's timeout."""
_CHECK_SECONDS = 60.0
"""Seconds between two checks whether another member is in use."""


class VersionMonitor:
    """A task that requests the version of the member in use, after its first response and after each switch.

    During an upgrade, members have different versions.

    Attributes:
        version: The version that was received last; None before.
    """

    def __init__(self, ask: Callable[[float], Awaitable[str]], endpoint: Callable[[], int]) -> None:
        """Send no request yet.

        Args:
            ask: ``await ask(timeout)`` returns the version of the member in use.
            endpoint: Returns the member in use, as a number that rises with each switch.
        """
        self.version: str | None = None
        self._ask = ask
        self._endpoint = endpoint
        self._safe: int | None = None
        self._listener: Callable[[str], None] | None = None
        self._scope: anyio.CancelScope | None = None
        self._closed = False
        self._ended = Event()

    def cancelled_reads_are_safe(self) -> bool:
        """Return whether the member in use is known to survive the cancellation of a read-only transaction.

        Until then, such a transaction goes through raft's log, because cancelling it could crash a member of an older
        etcd.
        """
        return self._safe == self._endpoint()

    def learned(self, endpoint: int, version: str) -> None:
        """Record the version of the member that was in use as ``endpoint``."""
        if survives_cancelled_reads(version):
            self._record_safe(endpoint)

    def _record_safe(self, endpoint: int) -> None:
        if endpoint == self._endpoint():
            self._safe = endpoint

    def subscribe(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with the version when it is received, and when it changes.

        Only the first listener is called, because the version concerns all users of a connection alike.
        """
        if self._listener is None:
            self._listener = listener
            if self.version is not None:
                listener(self.version)

    def answered(self) -> None:
        """Start the monitor: the member in use has responded to a call."""
        if self._scope is None and not self._closed:
            self._scope = anyio.CancelScope()
            spawn_system_task(partial(self._run, self._scope), "etcdleader version", self._ended.set)

    async def _run(self, scope: anyio.CancelScope) -> None:
        asked = -1
        with scope:
            while True:
                await anyio.sleep(_ATTEMPT_SECONDS if asked != self._endpoint() else _CHECK_SECONDS)
                if asked != (endpoint := self._endpoint()):
                    try:
                        version = await self._ask(_ATTEMPT_SECONDS)
                        asked = endpoint
                        self._report(version)
                    except EtcdRefusedError as error:
                        if type(error) is EtcdRefusedError and "etcdserver:" in str(error):
                            # Only 3.4.42, 3.5.28, 3.6.0 and later check permissions here, and all of these are safe.
                            asked = endpoint
                            self._record_safe(endpoint)
                    except Exception:  # noqa: BLE001, S110 - a missing version costs little, whatever the error
                        pass

    def _report(self, version: str) -> None:
        if version != self.version:
            self.version = version
            if self._listener is not None:
                self._listener(version)

    def close(self) -> None:
        """Stop the monitor."""
        self._closed = True
        if self._scope is not None:
            self._scope.cancel()

    async def wait_closed(self) -> None:
        """Wait until the task of the closed monitor has ended."""
        if self._scope is not None:
            await self._ended.wait()
