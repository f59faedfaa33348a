"""The campaign of ``etcdleader run``: the command runs while this process leads, and its end ends the campaign."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
from collections.abc import Callable, Mapping
from typing import NoReturn

import anyio
from anyio.abc import TaskGroup, TaskStatus

from ..._managers.etcd_manager import EtcdLeaderManager
from ..._managers.noop_manager import NoopLeaderManager
from ..._runtime.tasks import ProtectedTaskGroup
from ..._values.exit_codes import ExitCode
from ...errors import EtcdLeaderError, EtcdRefusedError, NotLeaderError
from ...manager import LeaderManager
from ...metrics import NullMetrics
from ...model import LossReason, Term
from .child import Child, exit_status
from .command_end import log_end
from .on_lost import OnLost
from .plan import Plan, status_without_leadership
from .settings import command_environment
from .supervisor import boottime

_FORWARDED = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT),
)
_END = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
"""Signals that end a waiting wrapper."""
_LEAVE = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
"""Signals after which the wrapper does not campaign again. On SIGHUP, many commands only read their settings."""
_SEAT_LOST = frozenset({LossReason.DELETED, LossReason.REVOKED, LossReason.REGRESSED})
"""Losses after which another candidate may already lead."""
_MAX_TRIES = 3
"""The number of endpoints for which ``--nowait`` waits. Each gets ``retry``, the timeout of a request."""
_RELEASE_SECONDS = 0.5
"""Seconds to leave the queue if etcd does not respond or refuses. A key that remains there ends with its lease."""

_HOLD_CHECK_SECONDS = 1.0
"""Seconds between two looks at the clock while leadership is kept: the loop's clock stops in suspend."""

_logger = logging.getLogger("etcdleader.run")


def _abandon(status: int) -> NoReturn:
    """End this process at once."""
    logging.shutdown()
    os._exit(status)


class Runner(NullMetrics):
    """One run of ``etcdleader run``.

    It is a ``Metrics`` object, but counts nothing: the manager calls it at each renewal and each change of position.
    """

    def __init__(
        self,
        manager: EtcdLeaderManager | NoopLeaderManager,
        plan: Plan,
        abandon: Callable[[int], None] = _abandon,
    ) -> None:
        """Prepare a campaign.

        Args:
            manager: The manager that campaigns.
            plan: The user's choices.
            abandon: Ends the process with a status if etcd prevents the campaign from ending.
        """
        self._manager = manager
        self._abandon = abandon
        self._plan = plan
        self._child: Child | None = None
        self._hook: Child | None = None
        self._term: Term | None = None
        self._status: int | None = None
        self._leave_with: int | None = None
        self._held_with: int | None = None
        """The command's exit status, while leadership is kept after its end."""
        self._position: int | None = None
        self._failures = 0
        self._trouble: EtcdLeaderError | None = None
        self._leads = self._asked_to_stop = self._terminated = self._cut_short = self._failed = False
        self._news = anyio.Event()
        self._on_lost = OnLost(manager.config.lease, plan.limits.grace)
        manager.add_metrics(self)
        if plan.done is None:
            manager.on_elected(self._lead)
        manager.on_ousted(self._ousted)

    async def run(self) -> int:
        """Campaign until there is an exit status, and return it.

        Raises:
            EtcdLeaderError: The error that ended the campaign.
            OSError: The command could not be started.
        """
        failure: EtcdLeaderError | OSError | None = None
        async with anyio.create_task_group() as group:
            await group.start(self._pass_signals_on, group)
            group.start_soon(self._give_up)
            try:
                await self._campaign()
            except (EtcdLeaderError, OSError) as error:
                failure = error  # raised below, outside the exception group
            await self._on_lost.wait()
            group.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return ExitCode.BROKEN if self._status is None else self._status

    async def _campaign(self) -> None:
        name = self._plan.done
        if name is None:
            await self._manager.campaign()
            return
        try:
            done_here = await self._manager.run_once(name, self._do)
        except NotLeaderError:
            if self._status is None:  # otherwise this process has stopped the campaign
                raise
            return
        if not done_here:
            _logger.info("%r is done already for %r", name, self._manager.election_key)
        if self._status is None or not self._failed:  # an operator may have put the record while the command failed
            self._status = ExitCode.OK

    async def _do(self, term: Term) -> None:
        """Run the command as the work of ``run_once``: it is done if it ends with 0, without a signal to this process.

        Otherwise resign: ``run_once`` records nothing after the end of the term, and ``_ousted`` ends the campaign.
        """
        await self._lead(self._manager, term)
        self._failed = not self._is_done(self._child)
        if self._failed:
            await self._manager.resign()

    def _is_done(self, child: Child | None) -> bool:
        return child is not None and child.why == "ended" and child.status == 0 and self._leave_with is None

    async def _stop(self, status: int) -> None:
        if self._status is None:
            self._status = status
        await self._manager.stop()

    def _changed(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    # While waiting

    def queued(self, position: int | None) -> None:
        """Store the position in the queue; an event of ``Metrics``."""
        self._position = position
        self._changed()

    def etcd_failed(self, error: EtcdLeaderError) -> None:
        """Count a failed call; an event of ``Metrics``."""
        self._trouble = error
        self._failures += 1
        self._changed()

    async def _give_up(self) -> None:
        """Stop the campaign if the first response or the time limit passes without leadership."""
        plan = self._plan
        at_once = plan.nowait or plan.wait == 0
        limit = math.inf if plan.wait is None else plan.wait
        if at_once:
            limit = self._manager.config.retry * min(plan.endpoints, _MAX_TRIES)
        while True:
            self._failures = 0
            with anyio.move_on_after(limit):
                while not self._leads and not (at_once and self._is_decided()):
                    await self._news.wait()
            if not self._leads:
                await self._end_without_leadership()
                return
            while self._leads:
                await self._news.wait()

    def _is_decided(self) -> bool:
        """Return whether another candidate leads, etcd refuses, or each endpoint has failed. A single failure may pass."""
        outage = self._outage()
        refused = any(issubclass(kind, EtcdRefusedError) for kind in outage)
        down = bool(outage) and self._failures >= max(2, self._plan.endpoints)
        return bool(self._position) or refused or down

    def _outage(self) -> frozenset[type[EtcdLeaderError]]:
        return self._manager._reporter.outage  # noqa: SLF001 - in this package

    async def _end_without_leadership(self) -> None:
        status = status_without_leadership(self._position, self._outage())
        election_key = self._manager.election_key
        if status == ExitCode.NOT_YET:
            _logger.warning("another candidate leads %r", election_key)
        else:
            what = "etcd refuses" if status == ExitCode.REFUSED else "etcd has not responded"
            why = self._trouble or "no call was completed in time"
            _logger.warning("%s, so the leader of %r is unknown: %s", what, election_key, why)
        with anyio.move_on_after(math.inf if status == ExitCode.NOT_YET else _RELEASE_SECONDS) as bound:
            await self._stop(status)
        if bound.cancelled_caught and not self._on_lost.is_running:
            self._abandon(status)

    # Signals

    async def _pass_signals_on(self, group: TaskGroup, *, task_status: TaskStatus[None]) -> None:
        numbers = [number for number in _FORWARDED if number not in self._plan.limits.ignored]
        with anyio.open_signal_receiver(*numbers) as signals:
            task_status.started()
            async for number in signals:
                child = None if self._held_with is not None else self._child
                if number in _LEAVE or (number in _END and child is None):
                    self._leave_with = ExitCode.SIGNAL + number
                    self._on_lost.leave_at = min(self._on_lost.leave_at, anyio.current_time())
                if child is None:
                    if number in _END:
                        status = ExitCode.SIGNAL + number if self._held_with is None else self._held_with
                        group.start_soon(self._stop, status)
                    elif number == signal.SIGTSTP:
                        self._suspend()
                elif number == signal.SIGCONT:
                    child.resume()
                else:
                    self._asked_to_stop |= number == signal.SIGTSTP
                    child.signal(number)
                    if number == signal.SIGTERM:
                        self._terminate_again(child)

    def _terminate_again(self, child: Child) -> None:
        """Start the grace period at the second SIGTERM: the command ignores the first one, or takes too long."""
        if self._terminated:
            self._cut_short = True
            child.end()
        self._terminated = True

    def _command_stopped(self) -> None:
        """Stop this process, too, if the command was stopped for job control.

        Any signal may be for job control: ``top`` and a shell's ``suspend`` respond with SIGSTOP. If this process ran
        on, no process would have the terminal.
        """
        if self._asked_to_stop or os.isatty(0):
            self._asked_to_stop = False
            self._suspend()

    def _suspend(self) -> None:
        """Stop this process, as SIGTSTP does, until another process continues it. Then continue the command."""
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        # Sent to this thread, so that it takes effect before the next line. The kernel ignores it for an orphaned group.
        signal.pthread_kill(threading.get_ident(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)
        if self._child is not None:
            self._child.resume()

    # While leading

    def renewed(self, duration: float, remaining: float) -> None:
        """Send the new deadline to the supervisor; an event of ``Metrics``."""
        del duration, remaining
        for child in (self._child, self._hook):
            if child is not None and self._term is not None:
                child.renewed(boottime() + self._term._remaining())  # noqa: SLF001 - the lease's time, even at the end of the term

    async def _lead(self, manager: LeaderManager, term: Term) -> None:
        won_at = boottime()
        self._leads = True
        self._changed()
        await self._on_lost.wait()
        plan, environment = self._plan, command_environment(os.environ, term)
        if plan.on_elected is not None and self._may_start(term):
            await self._run_on_elected(plan.on_elected, environment, term)
        if not self._may_start(term):
            return
        deadline = boottime() + term.remaining()
        child = self._child = Child(plan.command, environment, deadline, plan.limits, self._command_stopped)
        self._term = term
        self._terminated = self._cut_short = False
        _logger.info("%s leads %r with token %d", term.identity, term.election, term.token, extra=_facts(term))
        try:
            await self._supervise(term, child)
        finally:
            self._log_end(child, won_at)
        if plan.done is None:
            await self._hold(won_at + plan.at_least, child)
            await manager.resign()

    def _log_end(self, child: Child, won_at: float) -> None:
        """Log the end of the command, unless this process exits with its status."""
        ended_itself, requested = child.why == "ended", self._leave_with is not None or child.was_interrupted
        not_done = self._plan.done is not None and not self._is_done(child)
        if self._plan.restart or not_done or not ended_itself:
            again_in = max(0.0, won_at + self._plan.at_least - boottime()) + self._manager.config.retry
            then = f"campaigning again in {again_in:.1f} s" if ended_itself and not requested else ""
            log_end(child, requested=requested, then="it is not recorded as done" if not_done else then)

    async def _hold(self, until: float, child: Child) -> None:
        """Keep leadership until this time, on the clock of ``boottime``. A signal that ends a waiting wrapper ends it."""
        if (left := until - boottime()) <= 0:
            return
        _logger.info("the command has ended; leadership is kept for %.1f s more", left)
        self._held_with = exit_status(child.status)
        while (left := until - boottime()) > 0:  # noqa: ASYNC110 - a clock sends no event
            await anyio.sleep(min(left, _HOLD_CHECK_SECONDS))
        self._held_with = None

    def _may_start(self, term: Term) -> bool:
        return term.is_valid() and self._leave_with is None

    async def _run_on_elected(self, command: str, environment: Mapping[str, str], term: Term) -> None:
        """Run ``--on-elected``, supervised like the command, for at most the time of a lease."""
        self._term = term
        words, deadline = ("/bin/sh", "-c", command), boottime() + term.remaining()
        hook = self._hook = Child(words, environment, deadline, self._plan.limits, None)
        with anyio.move_on_after(self._manager.config.lease):
            await self._supervise(term, hook)
        if hook.status != 0:
            _logger.warning("--on-elected ended with status %d", exit_status(hook.status))

    async def _supervise(self, term: Term, child: Child) -> None:
        async with ProtectedTaskGroup() as group:
            group.start_soon(self._attend, child)
            try:
                await child.over.wait()
            except anyio.get_cancelled_exc_class():
                with anyio.CancelScope(shield=True):
                    await self._bring_to_an_end(term, child)
                raise

    @staticmethod
    async def _attend(child: Child) -> None:
        with anyio.CancelScope(shield=True):
            await child.listen()

    async def _bring_to_an_end(self, term: Term, child: Child) -> None:
        """End the command. Keep the lease, if possible, until all processes of the command have ended."""
        after = self._plan.limits.sigkill_after_deadline
        seat_lost = term.loss_reason in _SEAT_LOST
        child.end(boottime() + after if seat_lost else None)
        while not child.over.is_set():
            with anyio.move_on_after(min(0.1, after / 2)):
                await child.over.wait()
            if not seat_lost and not term._lease_is_valid():  # noqa: SLF001 - the lease's state, however the term ended
                seat_lost = True
                child.end(boottime() + after)
            if child.is_overdue():
                child.kill()

    async def _ousted(self, manager: LeaderManager, term: Term) -> None:
        del manager
        child, self._child = self._child, None
        started, self._hook = child or self._hook, None
        self._term = self._held_with = None
        self._leads = False
        self._changed()
        if self._plan.done is not None and (started is None or self._is_done(child)):
            return  # the work is recorded, or the campaign continues
        resigned = term.loss_reason is LossReason.RESIGNED
        if child is not None and (child.why == "ended" or (self._cut_short and resigned)):
            # Ctrl-C may have reached only the command. The user means the wrapper, too.
            if not self._plan.restart or self._leave_with is not None or child.was_interrupted:
                status = exit_status(child.status)
                await self._stop(self._leave_with if self._plan.done and not status and self._leave_with else status)
            return
        reason = (term.loss_reason or LossReason.EXPIRED).value
        _logger.info(
            "%s lost leadership of %r (token %d): %s",
            *(term.identity, term.election, term.token, reason),
            extra=_facts(term, reason=reason),
        )
        if started is not None and self._plan.on_lost is not None:
            self._on_lost.start(self._plan.on_lost, {**command_environment(os.environ, term), _REASON: reason})
        if self._leave_with is not None:
            await self._stop(self._leave_with)
        elif child is not None and child.why is None and resigned:
            await self._stop(ExitCode.BROKEN)  # another process killed the supervisor, so do not campaign again
        elif self._plan.nowait:
            await self._stop(ExitCode.NOT_YET)


_REASON = "ETCDLEADER_REASON"


def _facts(term: Term, **more: object) -> dict[str, object]:
    return {"election": term.election, "identity": term.identity, "token": term.token, **more}
