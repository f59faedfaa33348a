"""The base of all managers: campaigns, and waiting for their terms.

A campaign runs in a task that is shielded from cancellation. A cancellation requests a stop instead. So all campaigns
end in the same way, whether cancelled, stopped or failed. The end of a term is marked before its work is cancelled.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, overload

import anyio
import anyio.lowlevel
from anyio.abc import TaskStatus

from .._runtime.fork import AtFork, on_fork, process_id
from .._runtime.tasks import ProtectedTaskGroup
from ..config import Config, validate_advertised
from ..errors import HandOverError, LeadershipLostError, NotLeaderError
from ..manager import Step, T
from ..metrics import GuardedMetrics, Metrics
from ..model import ElectionStatistics, Health, LeaderRecord, LeaderStatus, LossReason, Term
from .blocks import CampaignBlock, LeadingBlock
from .callbacks import capture_errors, unrequested_cancellation
from .campaign import Campaign, busy
from .once import Once, validate_name
from .placeholders import with_host_and_pid
from .reentrancy import runs_on_behalf_of
from .reporter import Reporter
from .serving import ServingManager
from .steps import TermStep
from .term_scope import TermScope
from .work import check_callable

_resetting = threading.RLock()
"""Held while a manager is reset. Other threads wait, so that they use none of the state that the reset replaces."""


def _forked() -> None:
    global _resetting  # noqa: PLW0603 - one per process
    _resetting = threading.RLock()  # a thread that no longer exists may have held it


on_fork(AtFork.MANAGERS, _forked)


class BaseManager(ServingManager):
    """The common part of all managers. Subclasses implement ``_contend``."""

    def __init__(
        self, config: Config, election_key: str, *, clock: Callable[[], float], metrics: Metrics | None
    ) -> None:
        super().__init__()
        self._config = config
        self._election_key = election_key
        self._clock = clock
        self._metrics = GuardedMetrics()
        self._blocks: list[CampaignBlock[Self]] = []
        """The blocks ``async with manager`` that were entered: one, or more if a forked child enters one in its parent's."""
        self._process = self._process_of_reset = process_id()
        self._reset()
        if metrics is not None:
            self.add_metrics(metrics)

    def _reset(self) -> None:
        """Initialize the state. Called again in a forked child.

        The child is another candidate: it has a new identity, and no lease, key or term.
        """
        self._identity = self._draw_identity()
        advertise = self._config.advertise
        self._advertised = None if advertise is None else with_host_and_pid(advertise)
        self._campaign: Campaign | None = None
        self._scope: TermScope | None = None
        self._reporter = Reporter(self._identity, self._config, self._metrics, self._clock)

    def _reset_after_fork(self) -> None:
        process = process_id()
        if self._process != process:
            # Another thread may be the first to use the manager in this process, such as one that collects metrics.
            with _resetting:
                # The reset calls metrics, which may read the manager.
                if process not in (self._process, self._process_of_reset):
                    self._process_of_reset = process
                    self._reset()
                    self._process = process

    @abstractmethod
    def _draw_identity(self) -> str:
        """Return a new identity for this process."""

    @abstractmethod
    async def _clear_way(self, to: str) -> int | None:
        """Let this candidate be the next in line. Return the token of the leader that the last read has shown."""

    async def _update_value(self) -> None:
        """Put the advertised value on the candidate key, if there is one."""

    @abstractmethod
    async def _contend(self, campaign: Campaign) -> None:
        """Campaign until ``campaign.stopping``; serve each term with ``_serve_term``."""

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

    @property
    def known_leader(self) -> LeaderRecord | None:
        self._reset_after_fork()
        return self._reporter.known_leader[0]

    @property
    def known_leader_at(self) -> datetime | None:
        self._reset_after_fork()
        received_at = self._reporter.known_leader[1]
        return None if received_at is None else datetime.fromtimestamp(received_at, UTC)

    @property
    def advertised(self) -> str | None:
        self._reset_after_fork()
        return self._advertised

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

    def add_metrics(self, metrics: Metrics) -> None:
        self._metrics.add(metrics, self)

    # Campaigning

    async def campaign(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        await self._run_campaign(self._begin(None), task_status)

    @overload
    async def run(self, work: Callable[[Term], Awaitable[T]]) -> T | None: ...

    @overload
    async def run(self, work: Callable[[Term], T]) -> T | None: ...

    async def run(self, work: Callable[[Term], Any]) -> Any:
        check_callable("run", work, "term")
        campaign = self._begin(work)
        await self._run_campaign(campaign, anyio.TASK_STATUS_IGNORED)
        return campaign.result

    async def run_once(self, name: str, work: Callable[[Term], Any]) -> bool:
        validate_name(name)
        check_callable("run_once", work, "term")
        campaign = self._begin(Once(name, work))
        await self._run_campaign(campaign, anyio.TASK_STATUS_IGNORED)
        if campaign.result is None:
            raise NotLeaderError(f"{self._identity} was stopped before {name!r} was done for {self._election_key!r}")
        return bool(campaign.result)

    @overload
    def main(self, work: Callable[[Term], Awaitable[T]], *, backend: str = "asyncio") -> T | None: ...

    @overload
    def main(self, work: Callable[[Term], T], *, backend: str = "asyncio") -> T | None: ...

    def main(self, work: Callable[[Term], Any], *, backend: str = "asyncio") -> Any:
        from .main_program import run_main

        check_callable("main", work, "term")
        return run_main(lambda: self.run(work), self._request_stop, backend)

    def _request_stop(self) -> None:
        if self._campaign is not None:
            self._stop_campaign(self._campaign)

    def _begin(self, work: Callable[[Term], Any] | None) -> Campaign:
        self._reset_after_fork()
        if self._campaign is not None:
            raise busy(self._identity, self._election_key)
        self._campaign = Campaign(work, self._reporter.failed)
        self._reporter.campaign_begins()
        return self._campaign

    async def _run_campaign(self, campaign: Campaign, task_status: TaskStatus[None]) -> None:
        cancelled = False
        try:
            async with ProtectedTaskGroup() as group:
                self._reporter.on_resign_request = self._request_resign
                self._reporter.on_error = lambda error: self._run_error_callbacks(group.user_tasks, campaign, error)
                group.start_soon(self._contend_shielded, campaign)
                try:
                    await campaign.queued.wait()
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
                # This replaces a cancellation in flight, so that a failure during the end does not pass silently. The caller's
                # asyncio task then has this exception, and its Task.cancelled() is False.
                raise error

    async def _contend_shielded(self, campaign: Campaign) -> None:
        with anyio.CancelScope(shield=True):
            try:
                with capture_errors(campaign.fail):
                    await self._contend(campaign)
            finally:
                campaign.queued.set()
                campaign.contending_done.set()

    def _stop_campaign(self, campaign: Campaign) -> None:
        if campaign is self._campaign:
            campaign.stop()
            if self._scope is not None:
                self._scope.request_end(LossReason.STOPPED)

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

    async def resign(self, *, to: str | None = None) -> None:
        self._reset_after_fork()
        campaign, scope = self._campaign, self._scope
        if campaign is not None:
            campaign.check_loop("resign")
        if scope is not None:
            if to is not None and scope.term.is_valid():
                await self._hand_over(scope, to)
            # If the term is ending already, for any reason, this has no effect, and only the release is awaited.
            scope.request_end(LossReason.RESIGNED)
            if not self._called_from_inside(campaign, scope):
                await scope.released.wait()
                return
        await anyio.lowlevel.checkpoint()

    async def _hand_over(self, scope: TermScope, to: str) -> None:
        """Let the named candidate be the next in line, and request the end of the term before another hand-over begins."""
        term = scope.term
        async with scope.hand_over:
            if scope.successor == to:
                return
            if not term.is_valid():
                raise LeadershipLostError(term)
            if scope.successor is not None:  # a step delays the end of the term
                raise HandOverError(f"{self._identity!r} is handing {self._election_key!r} over to {scope.successor!r}")
            leader = await self._clear_way(to)
            if leader != term.token or not term.is_valid():
                raise LeadershipLostError(term)
            scope.successor = to
            scope.request_end(LossReason.RESIGNED)

    async def advertise(self, value: str | None) -> None:
        self._reset_after_fork()
        if value is not None:
            validate_advertised(value)
            value = with_host_and_pid(value)
        if self._campaign is not None:
            self._campaign.check_loop("advertise", "manager", "value")
        self._advertised = value
        await anyio.lowlevel.checkpoint()
        await self._update_value()

    def _request_resign(self) -> None:
        if self._scope is not None:
            self._scope.request_end(LossReason.RESIGNED)

    def step(self) -> Step:
        return TermStep(self._current_scope)

    def _current_scope(self) -> TermScope | None:
        self._reset_after_fork()
        return self._scope

    def _is_inside(self) -> bool:
        """Return whether this code runs in the campaign's work or in a step. It must not wait for the end of either."""
        return self._called_from_inside(self._campaign, self._scope)

    @staticmethod
    def _called_from_inside(campaign: Campaign | None, scope: TermScope | None) -> bool:
        return runs_on_behalf_of(campaign) or (scope is not None and not scope.work_ended and runs_on_behalf_of(scope))

    async def __aenter__(self) -> Self:
        block = CampaignBlock(
            self,
            lambda: self._begin(None),
            lambda campaign: self._run_campaign(campaign, anyio.TASK_STATUS_IGNORED),
            self._stop_campaign,
        )
        await block.__aenter__()
        self._blocks.append(block)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._blocks.pop().__aexit__(kind, error, traceback)

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
                self._reporter.no_campaign(self._config.retry)
            else:
                await self._reporter.wait_changed()

    def leading(self) -> AbstractAsyncContextManager[Term]:
        return LeadingBlock(lambda: self._wait_scope("leading"))
