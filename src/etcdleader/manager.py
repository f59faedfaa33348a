"""The contract of a leader manager."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Self, TypeVar

from anyio import AsyncContextManagerMixin
from anyio.abc import TaskStatus

from .config import Config
from .errors import EtcdLeaderError
from .model import ElectionStatistics, Health, LeaderRecord, LeaderStatus, Term

__all__ = ("ErrorCallback", "LeaderManager", "TermCallback", "Work")

T = TypeVar("T")

TermCallback = Callable[["LeaderManager", Term], Any]
"""``cb(manager, term)``, plain or async; what it returns is awaited if it can be."""
ErrorCallback = Callable[["LeaderManager", EtcdLeaderError], Any]
"""``cb(manager, error)``, plain or async; what it returns is awaited if it can be."""
Work = Callable[[Term], Awaitable[T]]
"""``await work(term)``."""


class LeaderManager(AsyncContextManagerMixin, ABC):
    """Campaigns for one election and runs work only while it leads.

    It is made at any time, at import too: nothing is opened and no loop is needed before the first campaign. One
    campaign runs at a time, and another may follow when it has ended, on another loop too.

    ``async with manager:`` campaigns in the background and stops at the end of the block. Entering does not wait for
    etcd. A campaign that fails cancels the body, and its exception is raised as itself. Enter and leave the block in one
    task: left in another one, it stops the campaign and raises RuntimeError.

    Ctrl-C and cancellation release the seat. No signal handlers are installed.

    ``is_leader()``, ``term``, ``status``, ``statistics()`` and ``health()`` may be called from any thread. ``stop()``,
    ``resign()``, ``extend()``, ``wait_elected()`` and ``leading()`` belong to the event loop of the campaign: awaited on another
    loop, they raise RuntimeError at once. From a thread use ``anyio.from_thread.run(manager.stop, token=token)``, with the
    token that ``anyio.lowlevel.current_token()`` returned on that loop.
    """

    @abstractmethod
    def __asynccontextmanager__(self) -> AbstractAsyncContextManager[Self, bool | None]: ...

    # What is so now: no waiting, no I/O

    @property
    @abstractmethod
    def config(self) -> Config:
        """The settings of this manager."""

    @property
    @abstractmethod
    def election_key(self) -> str:
        """What is campaigned for."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """Who we are in etcd: the id, ``#`` and eight hex digits, fixed for this object in this process."""

    @property
    @abstractmethod
    def status(self) -> LeaderStatus:
        """What happened last. Bookkeeping only: ``is_leader()`` and ``term`` decide."""

    @property
    @abstractmethod
    def term(self) -> Term | None:
        """The current term while it is valid, else None."""

    @abstractmethod
    def is_leader(self) -> bool:
        """Whether this process may believe, right now, that it leads: computed at each call, from any thread.

        Between this answer and what is done upon it a process can stop for any length of time. Only the term's token,
        checked by what is written to, closes that gap.
        """

    @abstractmethod
    def statistics(self) -> ElectionStatistics:
        """What was seen and done so far."""

    @abstractmethod
    def health(self) -> Health:
        """How it fares: no I/O, from any thread, also while the event loop is blocked.

        It is *wedged* when work of a term has not ended half a margin after the end of the lease; when it leads and no
        renewal was tried for ``renew + 2 * retry`` seconds, which only a blocked or broken event loop explains; and
        when it campaigns and nothing at all was heard for two leases. It has *failed* when the campaign ended with an
        error, until another is begun. With election switched off there is no lease to outlive.
        """

    # Campaigning

    @abstractmethod
    async def campaign(self, *, task_status: TaskStatus[None] = ...) -> None:
        """Campaign until stopped or cancelled, term after term. Returns None after ``stop()``.

        ``await tg.start(manager.campaign)`` returns once the candidate stands in the queue, so it waits while etcd is
        down; ``tg.start_soon(manager.campaign)`` does not wait.

        Raises:
            anyio.BusyResourceError: This manager is campaigning already.
            EtcdRegressedError: etcd was wiped or restored; no other error of etcd's ends a campaign.
            EtcdLeaderError: A callback raised asyncio's CancelledError, though nobody had cancelled it.
            Exception: What a callback raised, after the seat was released.
        """

    @abstractmethod
    async def run(self, work: Work[T]) -> T | None:
        """Campaign, and ``await work(term)`` in each term; it is cancelled on loss, and the campaign goes on.

        So it does when the work has seen the loss by itself and returned: it is done only if it returns in its term. And so
        it does when the work raises NotLeaderError or FencedError after the end of its term: ``on_error`` receives that.

        Returns:
            What the work returned, after resigning; None after ``stop()``.

        Raises:
            anyio.BusyResourceError: This manager is campaigning already.
            EtcdLeaderError: The work or a callback raised asyncio's CancelledError, though nobody had cancelled it.
            Exception: What the work or a callback raised, after resigning.
        """

    @abstractmethod
    async def wait_elected(self) -> Term:
        """Wait for a valid term; it may be called before the campaign begins.

        Raises:
            NotLeaderError: The campaign it waited on has ended; its exception, if any, is the cause.
        """

    @abstractmethod
    def leading(self) -> AbstractAsyncContextManager[Term]:
        """Wait to be elected, then run the block in the term: it is cancelled when the term ends.

        Leaving the block does not end the term. Enter and leave it in one task.

        Raises:
            LeadershipLostError: The term ended before the block did, for whatever reason. What the block raised for that
                reason, such as a FencedError, is its cause.
            NotLeaderError: The campaign it waited on has ended.
        """

    @abstractmethod
    async def extend(self, term: Term | None = None) -> Term:
        """Renew the lease now, with confirmation, and return the term.

        Args:
            term: The term that must still be the current one.

        Raises:
            NotLeaderError: We do not lead.
            LeadershipLostError: ``term`` is not the current one, or leadership was lost meanwhile.
            EtcdUnavailableError: etcd did not confirm within ``retry`` seconds; the term stays as it is.
            EtcdRefusedError: etcd refused; the term stays as it is.
        """

    @abstractmethod
    async def resign(self) -> None:
        """Step down, and stand again at the back of the queue after ``retry``; does nothing unless leading.

        Returns after the release. Called from the term's own work or a callback it asks, and does not wait.
        """

    @abstractmethod
    async def stop(self) -> None:
        """End the campaign: cancel the work, wait until it has ended, give the seat back. Returns when it has ended.

        With no campaign running it does nothing, and is not remembered. Called from the term's own work or a callback
        it asks, and does not wait for itself; nor does it in a task that these have started, while they run. Its calls to etcd take at most ``retry`` seconds in all.
        """

    # Callbacks

    @abstractmethod
    def on_elected(self, callback: Callable[[LeaderManager, Term], T]) -> Callable[[LeaderManager, Term], T]:
        """Register ``callback(manager, term)``, to run in each term from now on, in its scope; returns it.

        Async ones run concurrently, beside the renewals, and are cancelled when the term ends. A plain one runs on
        the loop and must return promptly. One that raises ends the campaign with that exception, except for what the end of
        the term causes: see ``run``.
        """

    @abstractmethod
    def on_ousted(self, callback: Callable[[LeaderManager, Term], T]) -> Callable[[LeaderManager, Term], T]:
        """Register ``callback(manager, term)``, to run once per term after its work has ended; returns it.

        They run concurrently, and all of them together may take ``retry`` seconds. One that raises ends the campaign
        with that exception.
        """

    @abstractmethod
    def on_error(
        self, callback: Callable[[LeaderManager, EtcdLeaderError], T]
    ) -> Callable[[LeaderManager, EtcdLeaderError], T]:
        """Register ``callback(manager, error)``, to run on etcd's troubles, once per kind per outage; returns it.

        It also receives each error that work or another callback raised because its term was over.
        """

    # Looking on

    @abstractmethod
    async def leader(self) -> LeaderRecord | None:
        """Who leads, as etcd has it (linearizable). Needs no campaign.

        Raises:
            EtcdUnavailableError: No answer.
            EtcdRefusedError: etcd refused.
        """

    @abstractmethod
    async def candidates(self) -> list[LeaderRecord]:
        """The queue, in order; the first one leads. Needs no campaign.

        Raises:
            EtcdUnavailableError: No answer.
            EtcdRefusedError: etcd refused.
        """

    @abstractmethod
    def observe(self) -> AbstractAsyncContextManager[AsyncIterator[LeaderRecord | None]]:
        """Follow who leads: an async iterator of records, None for nobody. Needs no campaign.

        The first item is the state now. It is always the newest state, never an older one, never a backlog.
        """
