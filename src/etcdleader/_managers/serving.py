"""The part of a manager that runs a term: its work, its callbacks and its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from .._runtime.tasks import call_soon_on
from ..config import Config
from ..errors import EtcdLeaderError
from ..manager import ErrorCallback, LeaderManager, T, TermCallback
from ..model import LossReason, Term
from .callbacks import call, capture_errors, failures_in_term, loss_errors, unrequested_cancellation
from .campaign import Campaign
from .reentrancy import on_behalf_of
from .reporter import Reporter
from .term_scope import TermScope
from .work import check_callable, run_work


class ServingManager(LeaderManager):
    """Runs work and callbacks in the terms of a campaign. ``BaseManager`` adds the campaigns."""

    _config: Config
    _clock: Callable[[], float]
    _reporter: Reporter
    _scope: TermScope | None

    def __init__(self) -> None:
        self._elected_callbacks: list[TermCallback] = []
        self._ousted_callbacks: list[TermCallback] = []
        self._error_callbacks: list[ErrorCallback] = []

    # Callbacks

    def on_elected(self, callback: Callable[[LeaderManager, Term], T]) -> Callable[[LeaderManager, Term], T]:
        check_callable("on_elected", callback, "manager", "term")
        self._elected_callbacks.append(callback)
        return callback

    def on_ousted(self, callback: Callable[[LeaderManager, Term], T]) -> Callable[[LeaderManager, Term], T]:
        check_callable("on_ousted", callback, "manager", "term")
        self._ousted_callbacks.append(callback)
        return callback

    def on_error(
        self, callback: Callable[[LeaderManager, EtcdLeaderError], T]
    ) -> Callable[[LeaderManager, EtcdLeaderError], T]:
        check_callable("on_error", callback, "manager", "error")
        self._error_callbacks.append(callback)
        return callback

    # Serving a term

    async def _serve_term(
        self,
        campaign: Campaign,
        scope: TermScope,
        hold: Callable[[], Awaitable[None]],
        overrun_in: Callable[[], float | None],
    ) -> None:
        """Lead until the term ends for any reason. Then mark its end, cancel its work, wait for it and report.

        The caller releases leadership after that.

        Args:
            campaign: The campaign of the term.
            scope: The scope of the term.
            hold: Monitors the leadership until it is cancelled.
            overrun_in: Returns the seconds until work that still runs is an overrun, or None. The watchdog's thread
                calls it, too.
        """
        self._scope = scope
        guarded = self._watchdog(scope, overrun_in)
        try:
            with guarded:
                try:
                    self._reporter.elected(scope.term)
                    await self._work(campaign, scope, hold)
                except anyio.get_cancelled_exc_class():
                    scope.close(LossReason.STOPPED)
                    raise
                except BaseException:
                    scope.close(LossReason.FAILED)
                    raise
                finally:
                    scope.close(LossReason.FAILED if campaign.failures else LossReason.EXPIRED)
                    await scope.join()
        finally:
            closed_at = scope.closed_at if scope.closed_at is not None else self._clock()
            self._reporter.ousted(scope.term, self._clock() - closed_at)
            await self._run_ousted_callbacks(campaign, scope)

    def _watchdog(self, scope: TermScope, overrun_in: Callable[[], float | None]) -> AbstractContextManager[None]:
        if not self._config.exit_on_overrun:
            return nullcontext()
        from .._runtime.watchdog import watch

        return watch(overrun_in, lambda: f"work for {scope.term.election!r} outlived its lease")

    async def _work(self, campaign: Campaign, scope: TermScope, hold: Callable[[], Awaitable[None]]) -> None:
        def fail(error: BaseException) -> None:
            campaign.fail(error)
            scope.close(LossReason.FAILED)  # at once: the leadership is no longer monitored

        failures = capture_errors(fail)
        if not self._elected_callbacks and campaign.work is None:
            # Without tasks there is no group: ten thousand managers may lead with their work in `leading()` blocks.
            with anyio.CancelScope() as cancel_scope, scope.work(cancel_scope, anyio.current_time()), failures:
                await hold()
            return
        async with anyio.create_task_group() as group:
            with scope.work(group.cancel_scope, anyio.current_time()):
                for callback in list(self._elected_callbacks):
                    group.start_soon(self._call_on_elected, campaign, scope, callback)
                if campaign.work is not None:
                    group.start_soon(self._run_work, campaign, scope, campaign.work)
                with failures:
                    await hold()
        if not scope.closed and anyio.current_time() < group.cancel_scope.deadline:
            campaign.fail(unrequested_cancellation("a task of the term"))

    def _on_exception(
        self, campaign: Campaign, scope: TermScope | None, error: BaseException, *, report: bool = True
    ) -> None:
        """Handle an exception of work or of a callback.

        Args:
            campaign: The campaign.
            scope: The scope of the term in which the code ran; None outside a term.
            error: The exception. If the end of the term has caused it, the campaign continues.
            report: ``on_error`` receives an error that the end of the term has caused.
        """
        if scope is not None and not scope.term.is_valid() and (losses := loss_errors(error)):
            scope.close(LossReason.EXPIRED)  # if the deadline has passed, but the loss was not detected yet
            for loss in losses:
                self._reporter.raised_late(scope.term, loss, report=report)
            return
        campaign.fail(error)
        if self._scope is not None:
            self._scope.request_end(LossReason.FAILED)

    def _failures(self, campaign: Campaign, scope: TermScope | None, *, report: bool = True) -> failures_in_term:
        return failures_in_term(scope, lambda error: self._on_exception(campaign, scope, error, report=report))

    async def _call_on_elected(self, campaign: Campaign, scope: TermScope, callback: TermCallback) -> None:
        with on_behalf_of(scope):
            async with self._failures(campaign, scope):
                await call(callback, self, scope.term)

    async def _run_work(self, campaign: Campaign, scope: TermScope, work: Callable[[Term], Any]) -> None:
        with on_behalf_of(scope):
            async with self._failures(campaign, scope):
                result = await run_work(work, scope.term)
                if scope.term.is_valid():
                    campaign.result = result
                    campaign.stop()
                    scope.request_end(LossReason.RESIGNED)
                else:
                    # The work returned because of the loss, as `while term.is_valid()` does. It was not done.
                    scope.close(LossReason.EXPIRED)

    async def _run_ousted_callbacks(self, campaign: Campaign, scope: TermScope) -> None:
        with anyio.move_on_after(self._config.retry) as bound:
            # They run concurrently: one that hangs does not prevent the calls of the others.
            async with anyio.create_task_group() as group:
                for callback in list(self._ousted_callbacks):
                    group.start_soon(self._call_on_ousted, campaign, scope, callback)
        if bound.cancelled_caught:
            self._reporter.ousted_took_too_long(self._config.retry)
        elif group.cancel_scope.cancel_called:
            campaign.fail(unrequested_cancellation("an on_ousted callback"))

    async def _call_on_ousted(self, campaign: Campaign, scope: TermScope, callback: TermCallback) -> None:
        with on_behalf_of(campaign):
            async with self._failures(campaign, scope):
                await call(callback, self, scope.term)

    def _run_error_callbacks(self, group: TaskGroup, campaign: Campaign, error: EtcdLeaderError) -> None:
        if campaign.loop != anyio.lowlevel.current_token():
            # observe() runs on another thread's loop.
            call_soon_on(campaign.loop, self._run_error_callbacks, group, campaign, error)
            return
        if campaign.contending_done.is_set():
            return  # the group may be closing already
        for callback in list(self._error_callbacks):
            group.start_soon(self._call_on_error, campaign, callback, error)

    async def _call_on_error(self, campaign: Campaign, callback: ErrorCallback, error: EtcdLeaderError) -> None:
        with on_behalf_of(campaign):
            # An error that the loss causes is not passed to on_error again: the callback might raise forever.
            async with self._failures(campaign, self._scope, report=False):
                await call(callback, self, error)

    def _on_released(self, scope: TermScope) -> None:
        """Record that leadership was released."""
        self._scope = None
        scope.released.set()
