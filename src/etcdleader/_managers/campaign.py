"""One campaign: what was asked of it, and how it ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import anyio
import anyio.lowlevel

from .._runtime.events import Event
from ..model import Term


def busy(identity: str, election_key: str) -> anyio.BusyResourceError:
    """Return the error for a second campaign of a manager."""
    error = anyio.BusyResourceError("campaigning with")
    # anyio's own text names no resource.
    error.args = (f"{identity} is campaigning for {election_key!r} already: stop that first, or make another manager",)
    return error


class Campaign:
    """From ``campaign()`` to its end.

    Attributes:
        loop: The event loop that it runs on.
        work: What ``run`` was given.
        stopping: It is to end.
        result: What the work returned.
        failures: What callbacks and work raised.
        joined: Set when the candidate stands in the queue for the first time, or the campaign ends.
        contending_done: Set when nothing of it runs any more but callbacks for errors.
        finished: Set when it has ended.
    """

    __slots__ = (
        "_interruptible",
        "_on_failure",
        "contending_done",
        "failures",
        "finished",
        "joined",
        "loop",
        "result",
        "stopping",
        "work",
    )

    def __init__(
        self, work: Callable[[Term], Awaitable[Any]] | None, on_failure: Callable[[BaseException], None]
    ) -> None:
        self.loop = anyio.lowlevel.current_token()
        self.work = work
        self.stopping = False
        self.result: Any = None
        self.failures: list[BaseException] = []
        self.joined = Event()
        self.contending_done = Event()
        self.finished = Event()
        self._on_failure = on_failure
        self._interruptible: anyio.CancelScope | None = None

    def stop(self) -> None:
        """End it: what it waits for is interrupted, and nothing is begun any more."""
        self.stopping = True
        if self._interruptible is not None:
            self._interruptible.cancel()

    def fail(self, error: BaseException) -> None:
        """End it with this exception."""
        self.failures.append(error)
        self._on_failure(error)
        self.stop()

    def interruptible(self) -> AbstractContextManager[None]:
        """What is awaited in the block ends at once when the campaign is to end."""
        return _Interruptible(self)

    def check_loop(self, call: str, of: str = "manager", *arguments: str) -> None:
        """Refuse a call that waits for the campaign on another event loop: what it waits for would never wake it.

        Args:
            call: The name of the method.
            of: What the method belongs to, as the caller calls it.
            arguments: Those of the call.

        Raises:
            RuntimeError: Another loop runs here.
        """
        if self.loop != anyio.lowlevel.current_token():
            given = ", ".join((f"{of}.{call}", *arguments, "token=token"))
            raise RuntimeError(
                f"{call}() was awaited on another event loop than the one that the manager campaigns on. From a thread, use "
                f"anyio.from_thread.run({given}), with the token that anyio.lowlevel.current_token() returned on that loop; "
                f"or, on asyncio, asyncio.run_coroutine_threadsafe({of}.{call}({', '.join(arguments)}), loop)"
            )

    def error(self) -> BaseException | None:
        """What it ends with: one exception as itself, several as a group."""
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
