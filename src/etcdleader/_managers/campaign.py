"""One campaign: what was asked of it, and how it ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import anyio

from .._runtime.events import LightEvent
from ..model import Term

__all__ = ("Campaign", "failures_to", "is_inside", "within")


class Campaign:
    """From ``campaign()`` to its end.

    Attributes:
        work: What ``run`` was given.
        stopping: It is to end.
        result: What the work returned.
        failures: What callbacks and work raised.
        standing: Set when the candidate stands in the queue for the first time, or the campaign ends.
        over: Set when nothing of it runs any more but callbacks for errors.
        finished: Set when it has ended.
    """

    __slots__ = (
        "_interruptible",
        "_on_failure",
        "failures",
        "finished",
        "over",
        "result",
        "standing",
        "stopping",
        "work",
    )

    def __init__(
        self, work: Callable[[Term], Awaitable[Any]] | None, on_failure: Callable[[BaseException], None]
    ) -> None:
        self.work = work
        self.stopping = False
        self.result: Any = None
        self.failures: list[BaseException] = []
        self.standing = LightEvent()
        self.over = LightEvent()
        self.finished = LightEvent()
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


class failures_to:  # noqa: N801 - it reads as what it does
    """Tell what the block raises, as it was raised, but for cancellation, which goes on: it is no error."""

    # No generator: every campaign is in such a block for as long as it runs.
    __slots__ = ("_tell",)

    def __init__(self, tell: Callable[[BaseException], None]) -> None:
        self._tell = tell

    def __enter__(self) -> None:
        """Nothing yet."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if error is None or isinstance(error, GeneratorExit):
            return False
        cancelled = anyio.get_cancelled_exc_class()
        failure: BaseException | None = error
        cancellation: BaseException | None = None
        if isinstance(error, BaseExceptionGroup):
            # trio's groups may hold both; what remains of one of the user's own stays a group.
            cancellation, rest = error.split(cancelled)
            failure = error if cancellation is None else rest
        elif isinstance(error, cancelled):
            cancellation, failure = error, None
        if failure is not None:
            self._tell(failure)
        if cancellation is None or cancellation is error:
            return cancellation is None
        raise cancellation from None


@dataclass(slots=True)
class _Frame:
    """Somewhere in whose name code runs, for as long as it does."""

    of: object
    active: bool = True


_frames: ContextVar[tuple[_Frame, ...]] = ContextVar("etcdleader_frames", default=())


@contextmanager
def within(of: object) -> Iterator[None]:
    """The block runs in the name of a term or a campaign. So does what it starts, until the block is left."""
    frame = _Frame(of)
    token = _frames.set((*_frames.get(), frame))
    try:
        yield
    finally:
        frame.active = False
        _frames.reset(token)


def is_inside(of: object) -> bool:
    """Whether this code runs in its name: it is asked, and never waited for, from there."""
    return any(frame.active and frame.of is of for frame in _frames.get())
