"""The campaign of ``etcdleader run``: the command runs while this process leads, and its end ends the campaign."""

from __future__ import annotations

import logging
import math
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

import anyio
from anyio.abc import TaskGroup, TaskStatus

from ..._managers.etcd_manager import EtcdLeaderManager
from ..._managers.noop_manager import NoopLeaderManager
from ..._runtime.tasks import ki_protected
from ..._values.exit_codes import ExitCode
from ...errors import EtcdLeaderError, EtcdRefusedError
from ...manager import LeaderManager
from ...metrics import NullMetrics
from ...model import LossReason, Term
from .child import Child, Limits, exit_status
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
_INTERRUPTED = frozenset(
    {-signal.SIGINT, -signal.SIGQUIT, ExitCode.SIGNAL + signal.SIGINT, ExitCode.SIGNAL + signal.SIGQUIT}
)
"""Exit statuses of a command that Ctrl-C or Ctrl-\\ ended, by the signal itself or as a shell reports it."""
_MOST_TRIES = 3
"""The number of endpoints for which ``--nowait`` waits. Each gets ``retry``, the timeout of a request."""
_RELEASE = 0.5
"""Seconds to leave the queue if etcd does not respond or refuses. A key that remains there ends with its lease."""

_logger = logging.getLogger("etcdleader.run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The user's choices on the command line.

    Attributes:
        command: The program and its arguments.
        limits: The time limits of the command.
        restart: Whether to campaign again after the command has ended itself.
        nowait: Whether to end if another candidate leads.
        wait: The seconds to wait for leadership, each time; None for no limit.
        on_elected: The shell command to run after an election, before ``command``.
        on_lost: The shell command to run after a loss of leadership.
        endpoints: The number of configured endpoints.
    """

    command: Sequence[str]
    limits: Limits
    restart: bool = False
    nowait: bool = False
    wait: float | None = None
    on_elected: str | None = None
    on_lost: str | None = None
    endpoints: int = 1


def status_without_leadership(position: int | None, outage: Collection[type[EtcdLeaderError]]) -> ExitCode:
    """Return the exit status of a wrapper that gives up before it leads.

    Args:
        position: The position in the queue, or None before etcd has reported it.
        outage: The kinds of errors since etcd last responded.
    """
    if any(issubclass(kind, EtcdRefusedError) for kind in outage):
        return ExitCode.REFUSED
    return ExitCode.UNAVAILABLE if outage or position is None else ExitCode.NOT_YET


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
        self._leave_at = math.inf
        self._position: int | None = None
        self._failures = 0
        self._trouble: EtcdLeaderError | None = None
        self._leads = self._asked_to_stop = self._terminated = self._cut_short = False
        self._news = anyio.Event()
        self._on_lost: subprocess.Popen[bytes] | None = None
        manager.add_metrics(self)
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
                await self._manager.campaign()
            except (EtcdLeaderError, OSError) as error:
                failure = error  # raised below, outside the exception group
            await self._wait_for_on_lost()
            group.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return ExitCode.BROKEN if self._status is None else self._status

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
            limit = self._manager.config.retry * min(plan.endpoints, _MOST_TRIES)
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
        with anyio.move_on_after(math.inf if status == ExitCode.NOT_YET else _RELEASE) as bound:
            await self._stop(status)
        if bound.cancelled_caught and self._on_lost is None:
            self._abandon(status)

    # Signals

    async def _pass_signals_on(self, group: TaskGroup, *, task_status: TaskStatus[None]) -> None:
        numbers = [number for number in _FORWARDED if number not in self._plan.limits.ignored]
        with anyio.open_signal_receiver(*numbers) as signals:
            task_status.started()
            async for number in signals:
                child = self._child
                if number in _LEAVE or (number in _END and child is None):
                    self._leave_with = ExitCode.SIGNAL + number
                    self._leave_at = min(self._leave_at, anyio.current_time())
                if child is None:
                    if number in _END:
                        group.start_soon(self._stop, ExitCode.SIGNAL + number)
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
        self._leads = True
        self._changed()
        await self._wait_for_on_lost()
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
        await self._supervise(term, child)
        await manager.resign()

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
        async with anyio.create_task_group() as group:
            group.start_soon(ki_protected(self._attend), child)
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
        self._term = None
        self._leads = False
        self._changed()
        resigned = term.loss_reason is LossReason.RESIGNED
        if child is not None and (child.why == "ended" or (self._cut_short and resigned)):
            # If the command has the terminal, Ctrl-C reaches only the command. The user means the wrapper, too.
            interrupted = child.has_terminal and child.status in _INTERRUPTED
            if not self._plan.restart or self._leave_with is not None or interrupted:
                await self._stop(exit_status(child.status))
            return
        reason = (term.loss_reason or LossReason.EXPIRED).value
        _logger.info(
            "%s lost leadership of %r (token %d): %s",
            *(term.identity, term.election, term.token, reason),
            extra=_facts(term, reason=reason),
        )
        if started is not None and self._plan.on_lost is not None:
            self._start_on_lost(self._plan.on_lost, {**command_environment(os.environ, term), _REASON: reason})
        if self._leave_with is not None:
            await self._stop(self._leave_with)
        elif child is not None and child.why is None and resigned:
            await self._stop(ExitCode.BROKEN)  # another process killed the supervisor, so do not campaign again
        elif self._plan.nowait:
            await self._stop(ExitCode.NOT_YET)

    # After a loss

    def _start_on_lost(self, command: str, environment: dict[str, str]) -> None:
        try:
            self._on_lost = subprocess.Popen(  # noqa: S602 - --on-lost is a shell command
                command, shell=True, env=environment, stdin=subprocess.DEVNULL, process_group=0
            )
        except OSError as error:
            _logger.error("--on-lost was not started: %s", error)  # noqa: TRY400 - a traceback adds nothing

    async def _wait_for_on_lost(self) -> None:
        """Wait until ``--on-lost`` has ended. Kill it after the time of a lease, or the grace period after a signal."""
        process = self._on_lost
        if process is None:
            return
        began_at = anyio.current_time()
        with anyio.move_on_after(self._manager.config.lease) as bound:
            while process.poll() is None:
                grace_ends = max(began_at, self._leave_at) + self._plan.limits.grace
                bound.deadline = min(bound.deadline, grace_ends)
                await anyio.sleep(0.02)
        self._on_lost = None
        if process.poll() is None:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.returncode:
            _logger.warning("--on-lost ended with status %d", exit_status(process.returncode))


_REASON = "ETCDLEADER_REASON"


def _facts(term: Term, **more: object) -> dict[str, object]:
    return {"election": term.election, "identity": term.identity, "token": term.token, **more}
