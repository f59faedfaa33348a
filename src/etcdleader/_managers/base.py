"""The base of all managers: callbacks, campaigns and the one way out of a term.

A campaign runs in a task that is shielded from cancellation. A cancellation requests a stop instead. So all campaigns
end in the same way, whether cancelled, stopped or failed. The end of a term is marked before its work is cancelled.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import Any, Self

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup, TaskStatus

from .._runtime.fork import process_id
from .._runtime.tasks import call_soon_on, ki_protected
from ..config import Config
from ..errors import EtcdLeaderError, NotLeaderError
from ..manager import ErrorCallback, LeaderManager, T, TermCallback, Work
from ..metrics import GuardedMetrics, Metrics, NullMetrics
from ..model import ElectionStatistics, Health, LeaderStatus, LossReason, Term
from .blocks import CampaignBlock, LeadingBlock
from .callbacks import (
    call,
    called_from,
    capture_errors,
    failures_in_term,
    loss_errors,
    run_in_scope_of,
    unrequested_cancellation,
)
from .campaign import Campaign, busy
from .reporter import Reporter
from .term_scope import TermScope


class BaseManager(LeaderManager):
    """A manager without the way in which it becomes leader."""

    def __init__(
        self, config: Config, election_key: str, *, clock: Callable[[], float], metrics: Metrics | None
    ) -> None:
        self._config = config
        self._election_key = election_key
        self._clock = clock
        self._metrics = GuardedMetrics()
        self._elected_callbacks: list[TermCallback] = []
        self._ousted_callbacks: list[TermCallback] = []
        self._error_callbacks: list[ErrorCallback] = []
        self._reset()
        self.add_metrics(metrics or NullMetrics())

    def _reset(self) -> None:
        """Initialize the state. A forked child does so again.

        The child is another candidate: it has a new identity, and no lease, key or term.
        """
        self._process = process_id()
        self._identity = self._draw_identity()
        self._campaign: Campaign | None = None
        self._scope: TermScope | None = None
        self._reporter = Reporter(self._identity, self._config, self._metrics, self._clock)
        self._reporter.on_resign_request = self._request_resign

    def _reset_after_fork(self) -> None:
        if self._process != process_id():
            self._reset()

    @abstractmethod
    def _draw_identity(self) -> str:
        """Return a new identity for this process."""

    @abstractmethod
    async def _contend(self, campaign: Campaign) -> None:
        """Campaign until ``campaign.stopping``; serve each term with ``_serve``."""

    # The current state

    @property
    def config(self) -> Config:
        return self._config

    @property
    def election_key(self) -> str:
        return self._election_key

    @property
    def identity(self) -> str:
        self._reset_after_fork()
        return self._identity

    @property
    def status(self) -> LeaderStatus:
        self._reset_after_fork()
        return self._reporter.status

    @property
    def term(self) -> Term | None:
        self._reset_after_fork()
        scope = self._scope
        return scope.term if scope is not None and scope.term.is_valid() else None

    def is_leader(self) -> bool:
        return self.term is not None

    def statistics(self) -> ElectionStatistics:
        self._reset_after_fork()
        return self._reporter.statistics(self._renewal_age())

    def health(self) -> Health:
        self._reset_after_fork()
        return self._reporter.health(self._scope)

    def _renewal_age(self) -> float | None:
        return None

    def __repr__(self) -> str:
        term = self.term
        led = f" token={term.token} {term.remaining():.1f}s left" if term is not None else ""
        return f"<{type(self).__name__} {self.identity!r} on {self._election_key!r} {self.status.name}{led}>"

    # Callbacks

    def on_elected(self, callback: Callable[[LeaderManager, Term], T]) -> Callable[[LeaderManager, Term], T]:
        self._elected_callbacks.append(callback)
        return callback

    def on_ousted(self, callback: Callable[[LeaderManager, Term], T]) -> Callable[[LeaderManager, Term], T]:
        self._ousted_callbacks.append(callback)
        return callback

    def on_error(
        self, callback: Callable[[LeaderManager, EtcdLeaderError], T]
    ) -> Callable[[LeaderManager, EtcdLeaderError], T]:
        self._error_callbacks.append(callback)
        return callback

    def add_metrics(self, metrics: Metrics) -> None:
        self._metrics.add(metrics, self)

    # Campaigning

    async def campaign(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        await self._run_campaign(self._begin(None), task_status)

    async def run(self, work: Work[T]) -> T | None:
        campaign = self._begin(work)
        await self._run_campaign(campaign, anyio.TASK_STATUS_IGNORED)
        result: T | None = campaign.result
        return result

    def _begin(self, work: Callable[[Term], Awaitable[Any]] | None) -> Campaign:
        self._reset_after_fork()
        if self._campaign is not None:
            raise busy(self._identity, self._election_key)
        self._campaign = Campaign(work, self._reporter.failed)
        self._reporter.campaign_begins()
        return self._campaign

    async def _run_campaign(self, campaign: Campaign, task_status: TaskStatus[None]) -> None:
        cancelled = False
        try:
            async with anyio.create_task_group() as group:
                self._reporter.on_trouble = lambda error: self._run_error_callbacks(group, campaign, error)
                group.start_soon(ki_protected(self._contend_shielded), campaign)
                try:
                    await campaign.joined.wait()
                    if not campaign.failures:
                        task_status.started()
                    await campaign.contending_done.wait()
                except BaseException as interruption:
                    self._stop_campaign(campaign)
                    if cancelled := isinstance(interruption, anyio.get_cancelled_exc_class()):
                        raise
                    # Ctrl-C on trio. Raised again below, outside the group, so that it comes out as itself.
                    campaign.failures.append(interruption)
                # Callbacks for errors may still run. Their time limit is that of on_ousted callbacks.
                group.cancel_scope.deadline = anyio.current_time() + self._config.retry
            if cancelled and not campaign.failures:
                # The group has cancelled itself, because one of its tasks was cancelled.
                campaign.fail(unrequested_cancellation("a task of the campaign"))
        finally:
            self._reporter.campaign_ends()
            self._campaign = None
            campaign.finished.set()
            self._reporter.changed()
            if (error := campaign.error()) is not None:
                raise error

    async def _contend_shielded(self, campaign: Campaign) -> None:
        with anyio.CancelScope(shield=True):
            try:
                with capture_errors(campaign.fail):
                    await self._contend(campaign)
            finally:
                campaign.joined.set()
                campaign.contending_done.set()

    def _stop_campaign(self, campaign: Campaign) -> None:
        if campaign is self._campaign:
            campaign.stop()
            if self._scope is not None:
                self._scope.close(LossReason.STOPPED)

    async def stop(self) -> None:
        self._reset_after_fork()
        campaign, scope = self._campaign, self._scope
        if campaign is not None:
            campaign.check_loop("stop")
            self._stop_campaign(campaign)
            if not self._called_from_inside(campaign, scope):
                await campaign.finished.wait()
                return
        await anyio.lowlevel.checkpoint()

    async def resign(self) -> None:
        self._reset_after_fork()
        campaign, scope = self._campaign, self._scope
        if campaign is not None:
            campaign.check_loop("resign")
        if scope is not None:
            # If the term is ending already, for any reason, this has no effect, and only the release is awaited.
            scope.close(LossReason.RESIGNED)
            if not self._called_from_inside(campaign, scope):
                await scope.released.wait()
                return
        await anyio.lowlevel.checkpoint()

    def _request_resign(self) -> None:
        if self._scope is not None:
            self._scope.close(LossReason.RESIGNED)

    @staticmethod
    def _called_from_inside(campaign: Campaign | None, scope: TermScope | None) -> bool:
        return called_from(campaign) or (scope is not None and not scope.joined and called_from(scope))

    def __asynccontextmanager__(self) -> AbstractAsyncContextManager[Self, bool | None]:
        return CampaignBlock(
            self,
            lambda: self._begin(None),
            lambda campaign: self._run_campaign(campaign, anyio.TASK_STATUS_IGNORED),
            self._stop_campaign,
        )

    # Waiting for a term

    async def wait_elected(self) -> Term:
        await anyio.lowlevel.checkpoint()
        return (await self._wait_scope("wait_elected")).term

    async def _wait_scope(self, call: str) -> TermScope:
        """Wait for a valid term, and return its scope. There is no await between the last check and the return."""
        self._reset_after_fork()
        waited_on = self._campaign
        warned = False
        while True:
            scope, campaign = self._scope, self._campaign
            if campaign is not None:
                campaign.check_loop(call)
            if scope is not None and scope.term.is_valid():
                return scope
            waited_on = waited_on or self._campaign
            if waited_on is not None and self._campaign is not waited_on:
                raise NotLeaderError(
                    f"the campaign of {self._identity} for {self._election_key!r} has ended"
                ) from waited_on.error()
            if self._campaign is None and not warned:
                with anyio.move_on_after(self._config.retry):
                    await self._reporter.wait_changed()
                    continue
                warned = True
                self._reporter.nobody_campaigns(self._config.retry)
            else:
                await self._reporter.wait_changed()

    def leading(self) -> AbstractAsyncContextManager[Term]:
        return LeadingBlock(lambda: self._wait_scope("leading"))

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
        failures = capture_errors(lambda error: self._on_exception(campaign, None, error))
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
        self, campaign: Campaign, scope: TermScope | None, error: BaseException, *, tell: bool = True
    ) -> None:
        """Handle an exception of work or of a callback.

        Args:
            campaign: The campaign.
            scope: The scope of the term in which the code ran; None outside a term.
            error: The exception. If the end of the term has caused it, the campaign continues.
            tell: ``on_error`` receives an error that the end of the term has caused.
        """
        if scope is not None and not scope.term.is_valid() and (losses := loss_errors(error)):
            scope.close(LossReason.EXPIRED)  # if the deadline has passed, but the loss was not detected yet
            for loss in losses:
                self._reporter.raised_late(scope.term, loss, tell=tell)
            return
        campaign.fail(error)
        if self._scope is not None:
            self._scope.close(LossReason.FAILED)

    def _failures(self, campaign: Campaign, scope: TermScope | None, *, tell: bool = True) -> failures_in_term:
        return failures_in_term(scope, lambda error: self._on_exception(campaign, scope, error, tell=tell))

    async def _call_on_elected(self, campaign: Campaign, scope: TermScope, callback: TermCallback) -> None:
        with run_in_scope_of(scope):
            async with self._failures(campaign, scope):
                await call(callback, self, scope.term)

    async def _run_work(self, campaign: Campaign, scope: TermScope, work: Callable[[Term], Awaitable[Any]]) -> None:
        with run_in_scope_of(scope):
            async with self._failures(campaign, scope):
                result = await work(scope.term)
                if scope.term.is_valid():
                    campaign.result = result
                    campaign.stop()
                    scope.close(LossReason.RESIGNED)
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
        with run_in_scope_of(campaign):
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
        with run_in_scope_of(campaign):
            # An error that the loss causes is not passed to on_error again: the callback might raise forever.
            async with self._failures(campaign, self._scope, tell=False):
                await call(callback, self, error)

    def _on_released(self, scope: TermScope) -> None:
        """Record that leadership was released."""
        self._scope = None
        scope.released.set()
