"""The state of one campaign: its work, its requested end, its result and its failures."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import anyio
import anyio.lowlevel

from .._runtime.events import Event
from ..model import Term


def busy(identity: str, election_key: str) -> anyio.BusyResourceError:
    """Return the error for a second concurrent campaign of a manager."""
    error = anyio.BusyResourceError("campaigning with")
    # anyio's text does not name the resource.
    error.args = (f"{identity} is campaigning for {election_key!r} already: stop that first, or make another manager",)
    return error


class Campaign:
    """A campaign, from the call of ``campaign()`` or ``run()`` to its end.

    Attributes:
        loop: The event loop of the campaign.
        work: The argument of ``run``; None for other campaigns.
        stopping: True once the end was requested.
        result: The result of the work.
        failures: The exceptions of callbacks and work.
        queued: Set when the candidate is in the queue for the first time, or the campaign ends.
        contending_done: Set when only callbacks for errors still run.
        finished: Set when the campaign has ended.
    """

    __slots__ = (
        "_interruptible",
        "_on_failure",
        "contending_done",
        "failures",
        "finished",
        "loop",
        "queued",
        "result",
        "stopping",
        "work",
    )

    def __init__(self, work: Callable[[Term], Any] | None, on_failure: Callable[[BaseException], None]) -> None:
        self.loop = anyio.lowlevel.current_token()
        self.work = work
        self.stopping = False
        self.result: Any = None
        self.failures: list[BaseException] = []
        self.queued = Event()
        self.contending_done = Event()
        self.finished = Event()
        self._on_failure = on_failure
        self._interruptible: anyio.CancelScope | None = None

    def stop(self) -> None:
        """Request the end of the campaign: interrupt its wait, and start no other candidacy."""
        self.stopping = True
        if self._interruptible is not None:
            self._interruptible.cancel()

    def fail(self, error: BaseException) -> None:
        """Request the end of the campaign, with this exception."""
        self.failures.append(error)
        self._on_failure(error)
        self.stop()

    def interruptible(self) -> AbstractContextManager[None]:
        """Return a block whose waits are cancelled when the end of the campaign is requested."""
        return _Interruptible(self)

    def check_loop(self, call: str, of: str = "manager", *arguments: str) -> None:
        """Refuse a call that waits for the campaign on another event loop, where it would never be woken.

        Args:
            call: The name of the method.
            of: The object of the method, by its name in the error.
            arguments: The names of the method's arguments.

        Raises:
            RuntimeError: The current event loop is not the campaign's.
        """
        if self.loop != anyio.lowlevel.current_token():
            given = ", ".join((f"{of}.{call}", *arguments, "token=token"))
            raise RuntimeError(
                f"{call}() was awaited on another event loop than the one that the manager campaigns on. From a thread, use "
                f"anyio.from_thread.run({given}). The token is what anyio.lowlevel.current_token() returned on that loop. "
                f"On asyncio, asyncio.run_coroutine_threadsafe({of}.{call}({', '.join(arguments)}), loop) works, too"
            )

    def error(self) -> BaseException | None:
        """Return the exception that ends the campaign, or None. Several exceptions are returned as a group."""
        if len(self.failures) > 1:
            return BaseExceptionGroup("several callbacks of one campaign failed", self.failures)
        return self.failures[0] if self.failures else None


class _Interruptible(AbstractContextManager[None]):
    __slots__ = ("_campaign", "_scope")

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign
        self._scope = anyio.CancelScope()

    def __enter__(self) -> None:
        campaign, scope = self._campaign, self._scope
        scope.__enter__()
        campaign._interruptible = scope  # noqa: SLF001 - a part of it
        if campaign.stopping:
            scope.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._campaign._interruptible = None  # noqa: SLF001 - a part of it
        return self._scope.__exit__(kind, error, traceback)
