"""The blocks that run beside a campaign: ``async with manager`` and ``async with manager.leading()``.

A cancel scope can be left only in the task that entered it. So a block that is left in another task releases its
resources without the scope, and raises an error that names the remedy.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from types import TracebackType
from typing import NoReturn, TypeVar

import anyio
import anyio.lowlevel

from .._runtime.tasks import call_soon_on
from ..errors import EtcdLeaderError, LeadershipLostError, NotLeaderError
from ..model import LossReason, Term
from .callbacks import capture_errors, loss_errors, split_cancellation
from .campaign import Campaign
from .reentrancy import on_behalf_of
from .term_scope import TermScope

M = TypeVar("M")


# Neither block is a generator. The event loop would close a generator that is left in another task, in a third task.
class CampaignBlock(AbstractAsyncContextManager[M, bool | None]):
    """Campaign in a task beside the block, and end the campaign with the block."""

    __slots__ = ("_begin", "_campaign", "_conduct", "_end", "_group", "_manager", "_task")

    def __init__(
        self,
        manager: M,
        begin: Callable[[], Campaign],
        conduct: Callable[[Campaign], Awaitable[None]],
        end: Callable[[Campaign], None],
    ) -> None:
        self._manager = manager
        self._begin = begin
        self._conduct = conduct
        self._end = end

    async def __aenter__(self) -> M:
        self._campaign = self._begin()
        self._task = anyio.get_current_task().id
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._run)
        return self._manager

    async def _run(self) -> None:
        with capture_errors(lambda _: self._group.cancel_scope.cancel()):
            await self._conduct(self._campaign)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if anyio.get_current_task().id != self._task:
            await self._left_elsewhere()
        cancellation, failure = split_cancellation(error)
        failures = [] if failure is None else [failure]  # raised outside the group, so not wrapped in a group
        if cancellation is None:
            self._end(self._campaign)
        caught = False
        try:
            caught = bool(
                await self._group.__aexit__(None if cancellation is None else type(cancellation), cancellation, None)
            )
        finally:
            # Errors are raised even if this block was cancelled from outside: they must not pass silently.
            failure = self._campaign.error()
            if failure is not None:
                # If the block lost its term, or raised the same error, that is no second failure.
                same = (NotLeaderError, type(failure)) if isinstance(failure, EtcdLeaderError) else NotLeaderError
                failures = [failure, *(error for error in failures if not isinstance(error, same))]
            if len(failures) > 1:
                raise BaseExceptionGroup("the campaign and the block failed", failures)
            if failures and failures[0] is not error:
                raise failures[0]
        return caught and not failures

    async def _left_elsewhere(self) -> NoReturn:
        campaign = self._campaign
        if campaign.loop == anyio.lowlevel.current_token():
            self._end(campaign)
            await campaign.finished.wait()
        else:
            call_soon_on(campaign.loop, self._end, campaign)
        raise RuntimeError(
            f"the block `async with manager` was left in another task than the one that entered it: {self._manager!r} has "
            "been stopped. Enter and leave it in one task. In a fixture or a notebook, start manager.campaign() in a task, "
            "and await manager.stop() at the end"
        ) from campaign.error()


class LeadingBlock(AbstractAsyncContextManager[Term, None]):
    """Wait to be elected, then run the block in the term."""

    __slots__ = ("_cancel_scope", "_scope", "_stack", "_task", "_wait_scope")

    def __init__(self, wait_scope: Callable[[], Awaitable[TermScope]]) -> None:
        self._wait_scope = wait_scope

    async def __aenter__(self) -> Term:
        await anyio.lowlevel.checkpoint()
        self._scope = scope = await self._wait_scope()
        # There is no await from here to the block: the block runs in the term that was found valid.
        self._task = anyio.get_current_task().id
        self._cancel_scope = anyio.CancelScope()
        self._cancel_scope.__enter__()
        self._stack = stack = ExitStack()
        stack.enter_context(scope.work(self._cancel_scope, anyio.current_time()))
        stack.enter_context(on_behalf_of(scope))
        return scope.term

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)  # it suppresses no exception
        if anyio.get_current_task().id != self._task:
            self._cancel_scope.deadline = math.inf  # otherwise a timer would be left
            raise RuntimeError(
                "the block `async with manager.leading()` was left in another task than the one that entered it: enter and "
                "leave it in one task. In a fixture or a notebook, use await manager.wait_elected(), and check term.is_valid()"
            )
        caught = self._cancel_scope.__exit__(kind, error, traceback)
        term, lost = self._scope.term, self._cancel_scope.cancelled_caught
        if error is not None and not caught and not (lost := await self._follows_the_loss(error)):
            return
        if lost or not term.is_valid():
            self._scope.close(LossReason.EXPIRED)  # if the deadline has passed, but the loss was not detected yet
            raise LeadershipLostError(term) from (None if caught else error)

    async def _follows_the_loss(self, error: BaseException) -> bool:
        """Return True if the end of the term has caused the error, such as a refused write of a leader that was frozen."""
        if isinstance(error, LeadershipLostError | BaseExceptionGroup) or not loss_errors(error):
            return False
        if self._scope.term.is_valid():
            await self._scope.confirm()
        return not self._scope.term.is_valid()
