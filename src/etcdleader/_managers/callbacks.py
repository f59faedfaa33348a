"""Run callbacks and work in their term or campaign, and handle their exceptions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio

from .._runtime.tasks import cancellation_requested
from ..errors import EtcdLeaderError
from ..manager import LeaderManager

if TYPE_CHECKING:
    from .term_scope import TermScope


async def call(callback: Callable[..., Any], manager: LeaderManager, argument: object) -> None:
    """Call a plain or an async callback. If it returns an awaitable, await that."""
    result = callback(manager, argument)
    if inspect.isawaitable(result):
        await result


def split_cancellation(error: BaseException | None) -> tuple[BaseException | None, BaseException | None]:
    """Split an exception into its cancellation and the rest. Either may be None.

    trio's exception groups may contain both. The rest of a user's own group is still a group.
    """
    cancelled = anyio.get_cancelled_exc_class()
    if isinstance(error, BaseExceptionGroup):
        cancellation, rest = error.split(cancelled)
        return cancellation, error if cancellation is None else rest
    return (error, None) if isinstance(error, cancelled) else (None, error)


class capture_errors:  # noqa: N801 - it reads as what it does
    """Pass an exception of the block to ``report``, unchanged. A cancellation is no error, and is raised again.

    A cancellation that was not requested is an error. On asyncio, it arises if the block awaits a task that other code
    has cancelled: that raises CancelledError.
    """

    # No generator, to save memory: every campaign is in such a block while it runs.
    __slots__ = ("_report",)

    def __init__(self, report: Callable[[BaseException], None]) -> None:
        self._report = report

    def __enter__(self) -> None:
        """Do nothing. ``__exit__`` does the work."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if error is None or isinstance(error, GeneratorExit):
            return False
        cancellation, failure = split_cancellation(error)
        if cancellation is not None and not cancellation_requested():
            failure, cancellation = failure or _unrequested(cancellation), None
        if failure is not None:
            self._report(failure)
        if cancellation is None or cancellation is error:
            return cancellation is None
        raise cancellation from None


def loss_errors(error: BaseException) -> list[EtcdLeaderError]:
    """Return the errors that the end of a term causes, if the exception is such an error or a group of only these.

    Otherwise, return an empty list.
    """
    if isinstance(error, BaseExceptionGroup):
        found = [loss_errors(one) for one in error.exceptions]
        return [one for errors in found for one in errors] if all(found) else []
    return [error] if isinstance(error, EtcdLeaderError) and error.caused_by_loss else []


class failures_in_term:  # noqa: N801 - it reads as what it does
    """Do the same as ``capture_errors``, for code that runs in a term.

    An error that the end of the term causes may come before this process has detected that end. For example, a target
    refuses the write of a leader that was frozen, and the watch has not delivered the DELETE yet. So such an error is
    passed on only after etcd has confirmed the term, or ``retry`` has passed.
    """

    __slots__ = ("_report", "_scope")

    def __init__(self, scope: TermScope | None, report: Callable[[BaseException], None]) -> None:
        """Prepare the block.

        Args:
            scope: The scope of the term that the block runs in; None outside a term.
            report: Receives an exception of the block.
        """
        self._scope = scope
        self._report = report

    async def __aenter__(self) -> None:
        """Do nothing. ``__aexit__`` does the work."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        _, failure = split_cancellation(error)
        scope = self._scope
        if failure is not None and scope is not None and scope.term.is_valid() and loss_errors(failure):
            try:
                await scope.confirm()
            except anyio.get_cancelled_exc_class():
                self._report(failure)  # mostly because the term is over
                raise
        return capture_errors(self._report).__exit__(kind, error, traceback)


def unrequested_cancellation(what: str) -> EtcdLeaderError:
    """Return the error for the case that other code cancelled one of our tasks, but not the campaign."""
    return EtcdLeaderError(f"{what} was cancelled, but not by etcdleader: to end the campaign, use stop()")


def _unrequested(cancellation: BaseException) -> EtcdLeaderError:
    # The task group of the campaign's caller would suppress the CancelledError itself.
    error = EtcdLeaderError(
        "a callback or the work raised CancelledError, but no task or scope around it was cancelled. It awaited a task "
        "or future that other code has cancelled: catch CancelledError there"
    )
    error.__cause__ = cancellation
    return error
