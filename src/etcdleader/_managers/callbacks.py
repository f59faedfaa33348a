"""How callbacks and work run: in whose name, and where what they raise goes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio

from .._runtime.tasks import cancellation_requested
from ..errors import EtcdLeaderError
from ..manager import LeaderManager

if TYPE_CHECKING:
    from .term_scope import TermScope


async def call(callback: Callable[..., Any], manager: LeaderManager, argument: object) -> None:
    """Call a plain or an async callback, and wait for what it returns if that can be awaited."""
    result = callback(manager, argument)
    if inspect.isawaitable(result):
        await result


def split_cancellation(error: BaseException | None) -> tuple[BaseException | None, BaseException | None]:
    """Return what of an exception is cancellation, and what is not.

    trio's groups may hold both. What remains of one of the user's own stays a group.
    """
    cancelled = anyio.get_cancelled_exc_class()
    if isinstance(error, BaseExceptionGroup):
        cancellation, rest = error.split(cancelled)
        return cancellation, error if cancellation is None else rest
    return (error, None) if isinstance(error, cancelled) else (None, error)


class capture_errors:  # noqa: N801 - it reads as what it does
    """Tell what the block raises, as it was raised, but for cancellation, which goes on: it is no error.

    A cancellation that nobody requested is one: on asyncio, to await a task that other code has cancelled raises CancelledError.
    """

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
        cancellation, failure = split_cancellation(error)
        if cancellation is not None and not cancellation_requested():
            failure, cancellation = failure or _unrequested(cancellation), None
        if failure is not None:
            self._tell(failure)
        if cancellation is None or cancellation is error:
            return cancellation is None
        raise cancellation from None


def loss_errors(error: BaseException) -> list[EtcdLeaderError]:
    """Return the errors that the end of a term causes, if the exception is one or a group of these alone; else nothing."""
    if isinstance(error, BaseExceptionGroup):
        found = [loss_errors(one) for one in error.exceptions]
        return [one for errors in found for one in errors] if all(found) else []
    return [error] if isinstance(error, EtcdLeaderError) and error.caused_by_loss else []


class failures_in_term:  # noqa: N801 - it reads as what it does
    """As ``failures_to``, for code that runs in a term.

    An error that the end of the term causes may come before this process has learned of that end: a target refuses the write
    of a leader that was frozen, and the watch has not delivered the DELETE yet. So etcd is asked before the error is told.
    """

    __slots__ = ("_scope", "_tell")

    def __init__(self, scope: TermScope | None, tell: Callable[[BaseException], None]) -> None:
        """Prepare the block, in the term of ``scope`` if there is one. ``tell`` takes in what the block raises."""
        self._scope = scope
        self._tell = tell

    async def __aenter__(self) -> None:
        """Nothing yet."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        _, failure = split_cancellation(error)
        scope = self._scope
        if failure is not None and scope is not None and scope.term.is_valid() and loss_errors(failure):
            try:
                await scope.confirm()
            except anyio.get_cancelled_exc_class():
                self._tell(failure)  # mostly because the term is over
                raise
        return capture_errors(self._tell).__exit__(kind, error, traceback)


def unrequested_cancellation(what: str) -> EtcdLeaderError:
    """Return the error for a task of ours that other code has cancelled by itself, without the campaign."""
    return EtcdLeaderError(f"{what} was cancelled, but not by etcdleader: to end the campaign, use stop()")


def _unrequested(cancellation: BaseException) -> EtcdLeaderError:
    # The CancelledError itself would vanish in the task group of the campaign's caller.
    error = EtcdLeaderError(
        "a callback or the work raised CancelledError, and no task or scope around it was cancelled: it awaited something "
        "that other code has cancelled; catch CancelledError there"
    )
    error.__cause__ = cancellation
    return error


@dataclass(slots=True)
class _Frame:
    """Somewhere in whose name code runs, for as long as it does."""

    of: object
    active: bool = True


_frames: ContextVar[tuple[_Frame, ...]] = ContextVar("etcdleader_frames", default=())


@contextmanager
def run_in_scope_of(of: object) -> Iterator[None]:
    """The block runs in the name of a term or a campaign. So does what it starts, until the block is left."""
    frame = _Frame(of)
    token = _frames.set((*_frames.get(), frame))
    try:
        yield
    finally:
        frame.active = False
        with suppress(ValueError):  # in another task, where a block was left that began in this one
            _frames.reset(token)


def called_from(of: object) -> bool:
    """Whether this code runs in its name: it is asked, and never waited for, from there."""
    return any(frame.active and frame.of is of for frame in _frames.get())
