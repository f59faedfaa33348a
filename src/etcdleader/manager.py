"""The contract of a leader manager."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from anyio.abc import TaskStatus

from .config import Config
from .errors import EtcdLeaderError
from .metrics import Metrics
from .model import ElectionStatistics, Health, LeaderStatus, Term
from .observation import ElectionObserver

__all__ = ("ErrorCallback", "LeaderManager", "Step", "TermCallback", "Work")

T = TypeVar("T")

TermCallback = Callable[["LeaderManager", Term], Any]
"""``callback(manager, term)``, plain or async. If it returns an awaitable, that is awaited."""
ErrorCallback = Callable[["LeaderManager", EtcdLeaderError], Any]
"""``callback(manager, error)``, plain or async. If it returns an awaitable, that is awaited."""
Work = Callable[[Term], Awaitable[T]] | Callable[[Term], T]
"""``work(term)``: an async function, or a plain one, which runs in its own worker thread."""


class Step(AbstractContextManager[Term | None, None], AbstractAsyncContextManager[Term | None, None]):
    """A block in which leadership is not released: see ``LeaderManager.step()``. Each object serves one block at a time."""


class LeaderManager(ElectionObserver):
    """Campaigns in one election, and runs work only while it leads.

    A manager can be created at any time, including at import. It opens nothing and needs no event loop before the first
    campaign. One campaign runs at a time. Another one may follow, even on another event loop.

    ``async with manager:`` campaigns in the background and stops at the end of the block. Entering the block does not wait
    for etcd. A campaign that fails cancels the body and raises its own exception. Enter and leave the block in one task. If
    another task leaves it, the campaign is stopped and RuntimeError is raised.

    Ctrl-C and cancellation release leadership. Only ``main()`` installs signal handlers.

    ``is_leader()``, ``step()``, ``term``, ``status``, ``known_leader``, ``statistics()`` and ``health()`` can be called from any thread. ``stop()``,
    ``resign()``, ``advertise()``, ``extend()``, ``wait_elected()`` and ``leading()`` belong to the campaign's event loop, and so do a term's
    ``transaction()`` and ``attach()``. On another loop they raise RuntimeError at once. In a thread, call ``anyio.from_thread.run(manager.stop, token=token)``. The token is the one
    that ``anyio.lowlevel.current_token()`` returned on the campaign's loop.
    """

    @abstractmethod
    async def __aenter__(self) -> Self:
        """Campaign in the background.

        Raises:
            BusyResourceError: A campaign is running already.
        """

    @abstractmethod
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Stop the campaign. If it has failed, raise its error."""

    # The current state: no waiting, no I/O

    @property
    @abstractmethod
    def config(self) -> Config:
        """The settings of this manager."""

    @property
    @abstractmethod
    def election_key(self) -> str:
        """The name of the election."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """The candidate's name in etcd: the id, ``#`` and eight hex digits, fixed for this object in this process."""

    @property
    @abstractmethod
    def status(self) -> LeaderStatus:
        """The last reported status. It is informational: only ``is_leader()`` and ``term`` permit to act."""

    @property
    @abstractmethod
    def term(self) -> Term | None:
        """The current term while it is valid, otherwise None."""

    @abstractmethod
    def is_leader(self) -> bool:
        """Return whether this process leads now. It is computed at each call, and can be called from any thread.

        It is the way to ask. To act, use ``step()``: it prevents that leadership is given away in the middle.

        A process can stop for any length of time between this check and the action that follows it. Only the term's token,
        checked by the target of the write, closes that gap.
        """

    @property
    @abstractmethod
    def advertised(self) -> str | None:
        """The text that this candidate advertises: that of the last ``advertise()``, otherwise that of the setting.

        ``{host}`` and ``{pid}`` are replaced in it.
        """

    @abstractmethod
    def statistics(self) -> ElectionStatistics:
        """Return the counters since this manager was created."""

    @abstractmethod
    def health(self) -> Health:
        """Return the health of this manager: no I/O, from any thread, even while the event loop is blocked.

        The manager is *wedged* in three cases:

        - Work of a term has not ended half a margin after the end of the lease.
        - It leads and has tried no renewal for ``renew + 2 * retry`` seconds: the event loop is blocked or broken.
        - It campaigns and has shown no activity for two leases.

        It has *failed* if the campaign ended with an error, until the next campaign begins. With election switched off no
        lease can end, so the first case does not occur.
        """

    # Campaigning

    @abstractmethod
    async def campaign(self, *, task_status: TaskStatus[None] = ...) -> None:
        """Campaign until stopped or cancelled, term after term. Returns None after ``stop()``.

        ``await tg.start(manager.campaign)`` returns once the candidate is queued, so it waits while etcd is down.
        ``tg.start_soon(manager.campaign)`` does not wait.

        Raises:
            anyio.BusyResourceError: This manager is already campaigning.
            EtcdRegressedError: etcd was wiped or restored. No other error from etcd ends a campaign.
            EtcdLeaderError: A callback raised asyncio's CancelledError without a cancellation request.
            Exception: The exception that a callback raised, after the release of leadership.
        """

    @overload
    async def run(self, work: Callable[[Term], Awaitable[T]]) -> T | None: ...

    @overload
    async def run(self, work: Callable[[Term], T]) -> T | None: ...

    @abstractmethod
    async def run(self, work: Callable[[Term], Any]) -> Any:
        """Campaign, and run ``work(term)`` in each term. A loss cancels the work, and the campaign continues.

        An async function runs on the event loop. A plain function runs in its own worker thread. No cancellation
        reaches a thread: the function must return soon after ``term.wait(seconds)`` or ``term.is_valid()`` has returned
        False. Leadership is released after it has returned. If it returns an awaitable, that is awaited on the event loop.
        The thread has a copy of the context variables. In it, ``anyio.from_thread.run(manager.stop)`` requests the end.

        The work is done only if it returns while its term is valid. If it returns after a loss, the campaign continues. It
        also continues if the work raises NotLeaderError or FencedError after the end of its term; ``on_error`` receives
        that error. If this process has not detected that end, the manager waits for etcd to confirm the term, for at most ``retry``.

        Returns:
            The result of the work, after resigning. None after ``stop()``.

        Raises:
            TypeError: ``work`` cannot be called with one argument, or is not a function but a coroutine object.
            anyio.BusyResourceError: This manager is already campaigning.
            EtcdLeaderError: The work or a callback raised asyncio's CancelledError without a cancellation request.
            Exception: The exception that the work or a callback raised, after resigning.
        """

    @overload
    def main(self, work: Callable[[Term], Awaitable[T]], *, backend: str = ...) -> T | None: ...

    @overload
    def main(self, work: Callable[[Term], T], *, backend: str = ...) -> T | None: ...

    @abstractmethod
    def main(self, work: Callable[[Term], Any], *, backend: str = "asyncio") -> Any:
        """Be the whole program: run ``run(work)`` on a new event loop, until it returns or a signal arrives.

        The first SIGTERM or SIGINT requests ``stop()``. The work ends, leadership is released, and the process exits with
        128 plus the number of the signal. A second signal ends the process at once, with the same status and without a
        release. The handlers of before are restored at the end. A signal that is ignored stays ignored, as under nohup.

        Args:
            work: As for ``run``: an async function, or a plain one, which runs in its own worker thread.
            backend: The event loop: "asyncio" or "trio".

        Returns:
            The result of the work, after resigning. None after ``stop()``.

        Raises:
            SystemExit: A signal was received. The work has ended, and leadership was released.
            RuntimeError: An event loop runs in this thread: use ``await run(work)``. Or this is not the main thread: use
                ``anyio.run(manager.run, work)``.
            TypeError: ``work`` cannot be called with one argument, or is not a function but a coroutine object.
            Exception: The exceptions of ``run``.
        """

    @abstractmethod
    async def run_once(self, name: str, work: Work[Any]) -> bool:
        """Campaign, and have ``work(term)`` done once by one of the candidates, for all of them and for all time.

        The first leader does it. When the work has returned, its term's guarded transaction records that in etcd. All
        others wait, and return when the record exists. A process that starts later returns at once. A failure is not
        recorded: the exception is raised here, and the next candidate does the work. So does the successor of a leader
        that was killed or lost its leadership.

        Between the end of the work and the record, a leader can be killed. The next one then repeats the work, so the work
        must be able to run twice. Never do two processes run it at the same time, as in ``run``.

        The record is the key ``<election key>@done/<name>``, and stays in etcd. To have the work done again, delete it:
        ``etcdctl del jobs@done/v42``. The user needs readwrite for the prefix ``<election key>@done/``.

        With election switched off, there is no record: each call does the work and returns True.

        Args:
            name: The name of the work in this election, such as a release. Text without control characters.
            work: As for ``run``. Its result is not used.

        Returns:
            True if this process did the work. False if it was done before, or elsewhere.

        Raises:
            ValueError: The name is not valid.
            NotLeaderError: ``stop()`` was called before the work was done.
            EtcdRefusedError: The user may not read or write the record. The work did not begin, or is not recorded.
            anyio.BusyResourceError: This manager is already campaigning.
            Exception: As for ``run``.
        """

    @abstractmethod
    async def wait_elected(self) -> Term:
        """Wait for a valid term and return it. The campaign may begin later.

        Raises:
            NotLeaderError: The campaign has ended. Its exception, if any, is the cause.
        """

    @abstractmethod
    def leading(self) -> AbstractAsyncContextManager[Term]:
        """Wait to be elected, then run the block in the term. The block is cancelled when the term ends.

        Leaving the block does not end the term. Enter and leave it in one task.

        Raises:
            LeadershipLostError: The term ended before the block did. If the block raised an error that the end of the term
                causes, such as a FencedError, that error is the cause.
            NotLeaderError: The campaign has ended.
        """

    @abstractmethod
    def step(self) -> Step:
        """Return a block in which leadership is not released: ``with manager.step() as term:``, in any thread.

        The block receives the current term, or None unless this process leads. ``resign()``, ``stop()``, a step-down
        request, a failure and the end of the work wait until all steps have ended. Until then the term stays valid, and
        its work continues. A step that begins after such a request receives None. Called in the block, ``resign()`` and
        ``stop()`` request the end and return.

        From the request on, the lease is renewed for at most one further ``lease``. If the block has not ended by then,
        the term is over at the deadline, and the block is an overrun.

        A loss of leadership ends the term at once: ``term.is_valid()`` is False, and nothing cancels the block. The next
        candidacy begins after the block.

        On an event loop, use ``async with``, or do not block in ``with``: the loop must renew the lease meanwhile.
        """

    @abstractmethod
    async def extend(self, term: Term | None = None) -> Term:
        """Renew the lease now, with confirmation, and return the term.

        Args:
            term: The term that must still be the current one.

        Raises:
            NotLeaderError: This manager does not lead.
            LeadershipLostError: ``term`` is not the current term, or leadership was lost during the renewal.
            EtcdUnavailableError: etcd did not confirm within ``retry`` seconds. The term continues.
            EtcdRefusedError: etcd refused the renewal. The term continues.
        """

    @abstractmethod
    async def resign(self, *, to: str | None = None) -> None:
        """Give up leadership, and join the back of the queue after ``retry`` seconds. Does nothing unless leading.

        Waits for the end of steps and of the work, and returns after the release. Called from the term's own work or from a callback, it requests the release and returns.

        With ``to``, leadership is handed over. The candidates between this one and the named one are asked, one after the
        other, to queue again behind it. Then this one resigns. The candidates behind the named one keep their order. If the
        named candidate ends after the last check, the one behind it leads. Of several hand-overs of one term, one runs at a
        time, and the first one that succeeds counts.

        Args:
            to: The identity of the candidate that leads next. None: the next in line.

        Raises:
            HandOverError: The named candidate cannot be the next leader. It is not in the queue, it leads already, or two
                candidates have its identity. Or a candidate in front of it is of another library, or has not answered
                within ``retry``; ``ahead`` names it. Or a step delays an earlier hand-over to another candidate. This
                manager still leads. Candidates that had answered before have queued again.
            LeadershipLostError: Leadership was lost before the hand-over, or was handed over to another candidate.
            EtcdUnavailableError: etcd did not answer. This manager still leads.
            EtcdRefusedError: etcd refused a request. This manager still leads.
        """

    @abstractmethod
    async def advertise(self, value: str | None) -> None:
        """Advertise a text, such as the address of this process, as ``LeaderRecord.advertised``. None removes it.

        While the candidate is in the queue, it returns once etcd has the text. Otherwise, the text is used when the candidate
        joins. A forked child begins with the setting ``advertise`` again. Every user of etcd with read permission for the queue can read the text.

        ``{host}`` and ``{pid}`` in the text are replaced, as in the setting ``advertise``. Any other brace right before a word
        is an error. Other braces are a part of the text, so it may be a JSON object.

        Raises:
            ConfigError: The text is empty, contains control characters or another ``{name}``, or has more than 1024 bytes in
                UTF-8. The text from before stays.
            EtcdUnavailableError: etcd did not confirm the text within ``retry``. etcd may have it, now or later. Call this
                again; at the latest, the next candidacy uses the text.
            EtcdRefusedError: etcd refused the write. The next candidacy uses the text.
        """

    @abstractmethod
    async def stop(self) -> None:
        """End the campaign: cancel the work, wait until the work has ended, release leadership. Return when all is done.

        If no campaign is running, it does nothing, and a later campaign is unaffected. Called from the term's own work or
        from a callback, it requests the end and returns. The same holds in tasks that these have started, while they run.
        Its calls to etcd take at most ``retry`` seconds in all.
        """

    # Callbacks

    @abstractmethod
    def on_elected(self, callback: Callable[[LeaderManager, Term], T]) -> Callable[[LeaderManager, Term], T]:
        """Register ``callback(manager, term)`` for each later term, and return it. It runs in the term's scope.

        Async callbacks run concurrently, beside the renewals, and are cancelled when the term ends. A plain callback runs on
        the event loop and must return promptly. A callback that raises ends the campaign with that exception. Errors that
        the end of the term causes are excepted, as in ``run``.

        Raises:
            TypeError: ``callback`` cannot be called with two arguments.
        """

    @abstractmethod
    def on_ousted(self, callback: Callable[[LeaderManager, Term], T]) -> Callable[[LeaderManager, Term], T]:
        """Register ``callback(manager, term)``, to run once per term after its work has ended, and return it.

        The callbacks run concurrently, and may take ``retry`` seconds in all. A callback that raises ends the campaign with
        that exception.

        Raises:
            TypeError: ``callback`` cannot be called with two arguments.
        """

    @abstractmethod
    def on_error(
        self, callback: Callable[[LeaderManager, EtcdLeaderError], T]
    ) -> Callable[[LeaderManager, EtcdLeaderError], T]:
        """Register ``callback(manager, error)`` for errors from etcd, once per kind and outage, and return it.

        It also receives each overrun, and each error that work or another callback raised because its term was over.
        """

    @abstractmethod
    def add_metrics(self, metrics: Metrics) -> None:
        """Report each later event to ``metrics``, too. Call it before the campaign: earlier events are not repeated.

        A second call with the same object has no effect.

        Raises:
            TypeError: ``metrics`` is not an object with the methods of ``Metrics``.
            Exception: The exception that ``metrics.bind(manager)`` raised. Nothing is added then.
        """
