"""The event loop in a background thread that serves the threads of this process, and its end with the process."""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 - before the registration, see _at_threading_exit
import math
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, TypeVar

from anyio.from_thread import BlockingPortal, BlockingPortalProvider

from .events import is_loop_thread
from .fork import AtFork, on_fork, process_id

T = TypeVar("T")

SIGNAL_CHECK_SECONDS = 1.0
"""The longest wait of a thread. Python calls signal handlers between two bytecodes. A signal that arrives just before a wait
is handled at its end, so Ctrl-C would be lost in a wait without a limit."""


class _LastBlockEnded(Exception):  # noqa: N818 - no error, and never raised
    pass


class BackgroundLoop:
    """One asyncio loop in a daemon thread, for all threads of a process. It runs while ``with loop as portal`` blocks do.

    A forked child has no such thread, so it starts its own loop when it first needs one.
    """

    def __init__(self) -> None:
        self._of_parents: list[BlockingPortalProvider] = []
        """The loops of parent processes. Freeing one would stop it, and wait for a thread that this process lacks."""
        self._reset()

    def _reset(self) -> None:
        self._provider = BlockingPortalProvider("asyncio")
        self._process = process_id()
        self._users: dict[int, Callable[[], object]] = {}
        """The functions that end what runs on the loop, by the number of their user."""
        self._last_user = self._blocks = 0
        self._lock = threading.Lock()
        self._ending: threading.Thread | None = None
        self._process_ends = threading.Event()

    def forked(self) -> None:
        """Leave the parent's loop, in a forked child."""
        self._of_parents.append(self._provider)
        self._reset()

    def __enter__(self) -> BlockingPortal:
        portal = self._provider.__enter__()
        with self._lock:
            self._blocks += 1
        return portal

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if not self._blocks:
                return  # the block began in the parent process
            self._blocks -= 1
        if not sys.is_finalizing():  # otherwise the loop's thread does not run any more
            # The exception cancels what is left when the last block ends: tasks whose threads were interrupted.
            self._provider.__exit__(_LastBlockEnded, _LastBlockEnded(), None)

    def end_with_process(self, end: Callable[[], object]) -> Callable[[], None]:
        """Call ``end`` when the main thread has ended, unless the returned function was called before.

        Then Python joins the threads of ``concurrent.futures``, and after them all others that are no daemons. ``end`` is
        called before that, so it may end what such a thread waits for. It is called in another thread.
        """
        with self._lock:
            self._last_user += 1
            number, users = self._last_user, self._users
            users[number] = end
            if self._ending is None:
                _at_threading_exit(self._process_ends.set)
                self._ending = threading.Thread(target=self._end_users, name="etcdleader end", daemon=True)
                self._ending.start()
                atexit.register(self._join, self._ending)

        def forget() -> None:
            users.pop(number, None)

        return forget

    def _end_users(self) -> None:
        self._process_ends.wait()
        for end in list(self._users.values()):
            with suppress(Exception):  # the others must end as well
                end()

    def _join(self, ending: threading.Thread) -> None:
        # Daemon threads stop with the interpreter, so it waits here. A forked child has no such thread.
        if ending is self._ending:
            ending.join()


def _at_threading_exit(function: Callable[[], object]) -> None:
    """Call ``function`` when the main thread has ended, before Python joins any thread.

    The function registered last is called first. The import of ``concurrent.futures.thread`` registers the one that joins
    the threads of executors.
    """
    register = getattr(threading, "_register_atexit", None)  # private, but concurrent.futures has no other way either
    if register is not None:
        with suppress(RuntimeError):  # the main thread has ended already
            register(function)
            return
        function()
        return

    def wait() -> None:
        threading.main_thread().join()
        function()

    threading.Thread(target=wait, name="etcdleader main thread", daemon=True).start()


background_loop = BackgroundLoop()
"""The loop of this process. It is the only state here."""
on_fork(AtFork.BACKGROUND_LOOP, background_loop.forked)


def wait_for(future: Future[T], timeout: float | None, what: str) -> T:
    """Return a future's result. On a timeout or an interruption, cancel it.

    Args:
        future: The result of a task on the loop.
        timeout: In seconds; None: wait forever.
        what: The call, for the error.

    Raises:
        TimeoutError: The timeout has passed first.
    """
    try:
        done = _done_within(future, timeout)
    except BaseException:
        future.cancel()  # Ctrl-C; a future that is done ignores it
        raise
    if not done and future.cancel():
        raise TimeoutError(f"{what} took longer than {timeout:g} s")
    return future.result()


def result_of(future: Future[T]) -> T:
    """Wait for a future without a limit, and return its result."""
    _done_within(future, None)
    return future.result()


def _done_within(future: Future[Any], timeout: float | None) -> bool:
    """Wait until the future is done, for at most ``timeout`` seconds. Return whether it is done."""
    end = math.inf if timeout is None else time.monotonic() + timeout
    while not future.done():
        if (left := end - time.monotonic()) <= 0:
            return False
        with suppress(TimeoutError, CancelledError):
            future.exception(min(left, SIGNAL_CHECK_SECONDS))
    return True


def refuse_event_loop(what: str) -> None:
    """Refuse a blocking call in a thread whose event loop it would block.

    Raises:
        RuntimeError: An event loop runs in this thread.
    """
    if is_loop_thread():
        raise RuntimeError(
            f"an event loop runs in this thread, and {what} would block it: await the manager's own {what} there"
        )


def checked_timeout(timeout: Any) -> float | None:
    """Return a timeout in seconds, or None.

    Raises:
        ValueError: It is negative or not a number.
    """
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"timeout = {timeout!r}: seconds, 0 or more, or None to wait without a limit")
    return None if timeout is None or timeout > threading.TIMEOUT_MAX else float(timeout)
