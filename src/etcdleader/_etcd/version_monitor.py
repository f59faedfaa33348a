"""Learns the version of each member that is used: how reads are sent depends on it, and operators are warned of defects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from .._runtime.events import Event
from .._runtime.tasks import spawn_system_task
from ..errors import EtcdRefusedError
from .versions import survives_given_up_reads

_DELAY = 5.0
"""Seconds from the first answer to the question for etcd's version, between two tries, and the bound of one."""
_REST = 60.0
"""Seconds between two looks at whether there is another member to ask."""


class VersionMonitor:
    """Asks the member in use for its version, some time after its first answer, and again after each switch.

    In the midst of an upgrade members differ.

    Attributes:
        version: That of the member that was asked last; None before.
    """

    def __init__(self, ask: Callable[[float], Awaitable[str]], endpoint: Callable[[], int]) -> None:
        """Ask nothing yet.

        Args:
            ask: ``await ask(timeout)`` returns the version of the member in use.
            endpoint: Returns which member is in use, as a number that rises with each switch.
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
        """Return whether the member in use is known to survive a read-only transaction that its client gives up.

        Until it is known, such a transaction goes through raft's log: a member of an older etcd could end by it.
        """
        return self._safe == self._endpoint()

    def learned(self, endpoint: int, version: str) -> None:
        """Take in the version of the member that was in use as ``endpoint``."""
        if survives_given_up_reads(version):
            self._survives(endpoint)

    def _survives(self, endpoint: int) -> None:
        if endpoint == self._endpoint():
            self._safe = endpoint

    def subscribe(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with the version when it is known, and when it changes.

        The first one only: the version concerns all users of a connection alike, and once is enough.
        """
        if self._listener is None:
            self._listener = listener
            if self.version is not None:
                listener(self.version)

    def answered(self) -> None:
        """The member in use has answered a call."""
        if self._scope is None and not self._closed:
            self._scope = anyio.CancelScope()
            spawn_system_task(partial(self._run, self._scope), "etcdleader version", self._ended.set)

    async def _run(self, scope: anyio.CancelScope) -> None:
        asked = -1
        with scope:
            while True:
                await anyio.sleep(_DELAY if asked != self._endpoint() else _REST)
                if asked != (endpoint := self._endpoint()):
                    try:
                        version = await self._ask(_DELAY)
                        asked = endpoint
                        self._tell(version)
                    except EtcdRefusedError as error:
                        if type(error) is EtcdRefusedError and "etcdserver:" in str(error):
                            # Only 3.4.42, 3.5.28, 3.6.0 and later ask for permission here, and all of these survive.
                            asked = endpoint
                            self._survives(endpoint)
                    except Exception:  # noqa: BLE001, S110 - whatever goes wrong: not to know the version costs little
                        pass

    def _tell(self, version: str) -> None:
        if version != self.version:
            self.version = version
            if self._listener is not None:
                self._listener(version)

    def close(self) -> None:
        """Ask no more."""
        self._closed = True
        if self._scope is not None:
            self._scope.cancel()

    async def wait_closed(self) -> None:
        """Wait until its task has ended, once it was closed."""
        if self._scope is not None:
            await self._ended.wait()
