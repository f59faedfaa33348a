"""One bidirectional gRPC stream: written in order, read by a thread of its own that hands each message to the loop."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import anyio
import grpc

from .._loop import CallSoon
from ..errors import EtcdLeaderError, EtcdUnavailableError
from .endpoint import Metadata
from .translation import translated

__all__ = ("Stream",)


class Stream:
    """It lives until it breaks or is closed; nothing is delivered after that.

    Attributes:
        metadata: What it was opened with.
        ended: Set when its thread will do nothing more.
    """

    def __init__(
        self,
        method: Any,
        metadata: Metadata,
        endpoint: str,
        call_soon: CallSoon,
        *,
        check: Callable[[Any], EtcdLeaderError | None],
        on_message: Callable[[Any], None],
        on_end: Callable[[EtcdLeaderError], None],
        heard: Callable[[], None],
        name: str,
    ) -> None:
        """Open it.

        Args:
            method: The stub's method.
            metadata: What goes with it.
            endpoint: Who is spoken to, for errors.
            call_soon: The way back to the loop.
            check: Says what is wrong with a message, if anything: then the stream ends with that.
            on_message: Takes each message.
            on_end: Told once, why it ended.
            heard: Called for each message as it comes, in the stream's thread.
            name: Its thread's.

        Raises:
            EtcdUnavailableError: The channel was closed.
        """
        self.metadata = metadata
        self._endpoint = endpoint
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._call_soon = call_soon
        self._check = check
        self._on_message = on_message
        self._on_end = on_end
        self._heard = heard
        self._open = True
        self._inbox: deque[Any] = deque()
        self._called = False
        self.ended = anyio.Event()
        try:
            # Without `hasleader` a member that lost its leader would keep the stream open, and silent.
            self._call: Any = method(iter(self._requests.get, None), metadata=(*metadata, ("hasleader", "true")))
        except ValueError as error:  # as gRPC says that the channel was closed
            raise EtcdUnavailableError(f"{endpoint}: the channel was closed") from error
        threading.Thread(target=self._read, name=name, daemon=True).start()

    def send(self, request: Any) -> None:
        """Send a message after those before it."""
        self._requests.put(request)

    def end(self, error: EtcdLeaderError) -> None:
        """End it; ``on_end`` is told why, once."""
        if self._open:
            self._open = False
            self._requests.put(None)
            if (call := self._call) is not None:
                call.cancel()
            self._on_end(error)

    def _read(self) -> None:
        error: EtcdLeaderError = EtcdUnavailableError("etcd ended the stream")
        _wait_to_be_woken(self._call)
        try:
            for message in self._call:
                self._heard()
                self._inbox.append(message)
                if not self._called:
                    # One way to the loop for all that has come until it looks: waking it costs more than a message.
                    self._called = True
                    self._call_soon(self._deliver)
        except grpc.RpcError as failed:
            error = translated(failed, self._endpoint)
            failed.__traceback__ = None  # it is the call itself, and holds itself by that
        finally:
            self._requests.put(None)
            # Let go of it here and now. Left to the end of the interpreter, its finalizer waits for a lock that one of
            # gRPC's daemon threads may hold, and those do not run any more then: the process would never end.
            self._call = None
            self._call_soon(self.end, error)
            self._call_soon(self.ended.set)

    def _deliver(self) -> None:
        self._called = False  # first, so that what comes from now on calls again
        while self._inbox:
            message = self._inbox.popleft()
            if not self._open:
                return
            try:
                if (wrong := self._check(message)) is not None:
                    self.end(wrong)
                else:
                    self._on_message(message)
            except Exception as error:  # noqa: BLE001 - raised below, where it holds up none of the messages after it
                self._call_soon(_raise, error)


def _wait_to_be_woken(call: Any) -> None:
    """Let this thread sleep until there is something for it.

    gRPC is told of each message and of the end, and still looks for them ten times a second: most of what a program at rest
    would spend. What is reached for here is private. Where it is not there, one day, this thread looks ten times a second.
    """
    condition = getattr(getattr(call, "_state", None), "condition", None)
    if isinstance(condition, threading.Condition):
        reader, wait = threading.get_ident(), condition.wait
        condition.wait = (  # type: ignore[method-assign]
            lambda timeout=None: wait(None if threading.get_ident() == reader else timeout)
        )


def _raise(error: Exception) -> None:
    """In a callback of the loop's own, which tells it as it tells all."""
    raise error
