"""All watches of a connection on one stream. A broken stream is replaced, and its watches continue where they were.

The response to a creation does not identify its request, so responses are credited in order. If one does not arrive in
time, the stream ends. A broken watch continues from the revision after the last *complete* one that it received. Two
other revisions are not used:

- The revision in a response header. It is ahead of the events while etcd is catching up, and 2,000 events were once lost.
- A revision that another call has shown.

If a stream receives no message, the client sends a progress request. If etcd does not respond, the client opens a new
stream. The first new stream uses the same endpoint, which may still respond to other calls. If the new stream receives
nothing either, the next one uses another endpoint. The response to a progress request proves only that the stream works.

Since 3.4.25 and 3.5.8, etcd responds to a progress request only on two conditions:

- All watches of the stream have caught up.
- The member has reached the start revision of each watch.

There is no response while a start revision is in the future, which may last for days. So a broken watch is created again
at the last revision that it received. Events that it receives twice are dropped.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.lowlevel

from .._runtime.events import Event
from .._runtime.min_counter import MinCounter
from .._runtime.tasks import spawn_system_task
from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdUnavailableError
from .api import WatchBroken, WatchCanceled, WatchCreated, WatchEvents, WatchMessage, WatchSink
from .error_mapping import GoingAwayError, InvalidAuthTokenError, error_from_cancel_reason
from .messages import ALL_WATCHES, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchResponse
from .stream import RpcStream

_FIRST_PAUSE_SECONDS = 0.05
_MAX_PAUSE_SECONDS = 1.0
_STEADY_AFTER_SECONDS = 5.0
"""Seconds for which a stream must last before its break counts as the first one again."""
_IDLE_SECONDS = 30.0
"""Seconds without a message after which a proxy may cut a stream for that alone."""
_TIMER_ERROR_SECONDS = 0.001
"""Seconds by which a timer may be too early, because floating-point sums are rounded."""
_EARLY_SHARE = 0.01
"""The part of the idle timeout by which a progress request may be too early. The response to the previous one arrived a
moment after it, and a timer for each of the two would wake the process twice."""
_MAX_PATIENCE_FACTOR = 32
"""The maximum factor of the idle timeout. Each further unresponsive stream in a row doubles the timeout, because a proxy
may not forward progress requests."""


class _UnresponsiveStreamError(EtcdUnavailableError):
    """The error of a stream that received no message, though a response was due. The next stream uses the same endpoint."""

    retry_other_endpoint = False


@dataclass(eq=False)
class _Watch:
    """One watch, which is also its own handle."""

    key: bytes
    range_end: bytes
    next_revision: int
    sink: WatchSink
    timeout: float
    owner: WatchStream
    server_id: int | None = None
    create_waits_since: float = 0.0
    created: bool = False
    closed: bool = False

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.owner.remove(self)

    def deliver(self, message: WatchMessage) -> None:
        if not self.closed:
            self.sink(message)


class WatchStream:
    """The watch stream of a connection, opened on demand."""

    def __init__(
        self,
        open_stream: Callable[[Callable[[Any], None], Callable[[EtcdLeaderError], None], float], Awaitable[RpcStream]],
        refused: Callable[[], None],
        outdated: Callable[[], bool] = lambda: False,
    ) -> None:
        self._open_stream = open_stream
        self._refused = refused
        self._outdated = outdated
        self._watches: dict[_Watch, None] = {}
        self._timeouts = MinCounter()
        self._by_id: dict[int, _Watch] = {}
        self._pending_creates: deque[_Watch] = deque()
        self._stream: RpcStream | None = None
        self._error: EtcdLeaderError | None = None
        self._changed = Event()
        self._next_check_at = math.inf
        """The time at which the task next checks the stream without being woken."""
        self._idle_since = -math.inf
        """The time of the last message, or of the progress request after it."""
        self._progress_requested = False
        self._unresponsive_streams = 0
        """The number of unresponsive streams in a row."""
        self._running = False
        self._closed = False
        self._useful = self._was_idle = False
        self._opened_at = math.inf
        self._last_id = 0

    def add(self, key: bytes, range_end: bytes, start_revision: int, sink: WatchSink, timeout: float) -> _Watch:
        """Add a watch. Its messages are delivered later."""
        watch = _Watch(key, range_end, start_revision, sink, timeout, self)
        self._watches[watch] = None
        self._timeouts.add(timeout)
        if self._stream is not None:
            self._create(watch, self._stream)
            if watch.create_waits_since + timeout < self._next_check_at:
                self._wake()
        if not self._running:
            self._running = True
            spawn_system_task(self._run, "etcdleader watches", lambda: None)
        return watch

    def remove(self, watch: _Watch) -> None:
        """Remove a watch, and cancel it in etcd."""
        self._drop(watch)
        if watch.server_id is not None and self._stream is not None:
            self._cancel_on_server(watch.server_id, self._stream)

    def _drop(self, watch: _Watch) -> None:
        if watch in self._watches:
            del self._watches[watch]
            self._timeouts.remove(watch.timeout)

    def break_(self, error: EtcdLeaderError) -> None:
        """End the stream. The task opens another one."""
        if self._stream is not None:
            self._stream.end(error)

    @property
    def stream(self) -> RpcStream | None:
        """The stream, while it is open."""
        return self._stream

    def close(self) -> None:
        """End all watches, without a message to their sinks."""
        self._closed = True
        for watch in list(self._watches):
            watch.closed = True
            self._drop(watch)
        self.break_(EtcdUnavailableError("the connection was closed"))
        self._wake()

    # The task that keeps a stream open while there are watches

    async def _run(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        try:
            while self._watches:
                error = await self._follow()
                if self._useful and anyio.current_time() >= self._opened_at + _STEADY_AFTER_SECONDS:
                    pause = _FIRST_PAUSE_SECONDS
                # These are not errors yet: a failure of the new login or the next stream is reported.
                moved = self._useful and (isinstance(error, GoingAwayError) or self._was_idle)
                silently = moved or isinstance(error, InvalidAuthTokenError | _UnresponsiveStreamError)
                for watch in [] if silently else list(self._watches):
                    with suppress(Exception):  # no caller awaits this: a sink that fails ends the next stream
                        watch.deliver(WatchBroken(error))
                if not self._closed:
                    await anyio.sleep(pause)
                    pause = min(2 * pause, _MAX_PAUSE_SECONDS)
        finally:
            self._running = False

    async def _follow(self) -> EtcdLeaderError:
        """Open a stream and monitor it until it breaks. Return the error that broke it."""
        self._useful = False
        self._error = None
        timeout = self._timeouts.min(math.inf)
        try:
            with anyio.fail_after(timeout):
                self._stream = await self._open_stream(self._on_response, self._on_end, timeout)
        except TimeoutError:
            return EtcdUnavailableError(f"no watch stream within {timeout:g} s")
        except EtcdLeaderError as error:
            return error
        except Exception as error:  # noqa: BLE001 - no caller awaits this task; the watches receive the error
            return EtcdUnavailableError(f"no watch stream could be opened: {error!r}")
        self._progress_requested = False
        self._opened_at = anyio.current_time()
        for watch in self._watches:
            self._create(watch, self._stream)
        # A stream without watches stays open for the next watch. It ends with the connection.
        while (end := self._ended_with()) is None:
            self._changed = Event()
            self._next_check_at = self._response_due_at()
            if math.isinf(self._next_check_at):
                await self._changed.wait()
            else:
                await self._changed.wait_for(max(0.0, self._next_check_at - anyio.current_time()))
            if not self._changed.is_set():
                await anyio.lowlevel.checkpoint()  # first process what arrived while the event loop was blocked
                self._check_stream()
        return end

    def _ended_with(self) -> EtcdLeaderError | None:
        return self._error

    def _response_due_at(self) -> float:
        if self._pending_creates:
            return self._pending_creates[0].create_waits_since + self._pending_creates[0].timeout
        return self._idle_since + self._idle_timeout() if self._by_id else math.inf

    def _idle_timeout(self) -> float:
        """Return the seconds without a message before the progress request, and again after it."""
        return self._timeouts.min(math.inf) * min(1 << max(self._unresponsive_streams - 1, 0), _MAX_PATIENCE_FACTOR)

    def _check_stream(self) -> None:
        now, due_at = anyio.current_time(), self._response_due_at()
        if self._stream is None or math.isinf(due_at):
            return
        slack = (
            _TIMER_ERROR_SECONDS
            if self._pending_creates or self._progress_requested
            else max(_TIMER_ERROR_SECONDS, self._idle_timeout() * _EARLY_SHARE)
        )
        if now < due_at - slack:
            return
        if self._pending_creates:
            self.break_(EtcdUnavailableError("etcd did not create a watch in time"))
        elif not self._progress_requested:
            self._progress_requested, self._idle_since = True, now
            self._stream.send(WatchProgressRequest())
        else:
            text = f"no watch message, and no response to a progress request within {self._idle_timeout():g} s"
            self._unresponsive_streams += 1
            # A single one may be caused by the stream, or by a watch that is catching up.
            self.break_(
                EtcdUnavailableError(text) if self._unresponsive_streams % 2 == 0 else _UnresponsiveStreamError(text)
            )

    def _wake(self) -> None:
        self._changed.set()

    # The stream

    def _create(self, watch: _Watch, stream: RpcStream) -> None:
        watch.server_id = None
        watch.create_waits_since = anyio.current_time()
        self._pending_creates.append(watch)
        self._last_id += 1
        start = max(watch.next_revision - 1, 1) if watch.created else watch.next_revision
        stream.send(WatchCreateRequest(watch.key, watch.range_end, start, self._last_id))

    @staticmethod
    def _cancel_on_server(server_id: int, stream: RpcStream) -> None:
        stream.send(WatchCancelRequest(server_id))

    def _on_end(self, error: EtcdLeaderError) -> None:
        idle_for = anyio.current_time() - self._idle_since
        self._was_idle = (
            idle_for >= _IDLE_SECONDS and not self._progress_requested and type(error) is EtcdUnavailableError
        )
        self._stream = None
        self._error = error
        self._by_id.clear()
        self._pending_creates.clear()
        if isinstance(error, InvalidAuthTokenError):
            self._refused()
        self._wake()

    def _on_response(self, message: WatchResponse) -> None:
        self._idle_since, self._progress_requested = anyio.current_time(), False
        if message.watch_id == ALL_WATCHES and not message.created:
            self._unresponsive_streams = 0
        elif message.created:
            self._on_created(message)
        elif message.canceled:
            watch = self._by_id.pop(message.watch_id, None)
            if watch is not None:
                self._on_canceled(watch, message)
        elif (watch := self._by_id.get(message.watch_id)) is not None:
            self._on_events(watch, message)

    def _on_created(self, message: WatchResponse) -> None:
        if not self._pending_creates:
            self.break_(EtcdUnavailableError("etcd reported the creation of a watch that was not requested"))
            return
        if message.watch_id in self._by_id and not message.canceled:
            self.break_(EtcdUnavailableError(f"etcd created watch {message.watch_id} twice on one stream"))
            return
        self._useful = True
        watch = self._pending_creates.popleft()
        if self._pending_creates:
            # Hundreds of watches may have been requested at once. While responses arrive, etcd is processing them, and a new
            # stream would only make etcd start again.
            first = self._pending_creates[0]
            first.create_waits_since = anyio.current_time()
            if first.create_waits_since + first.timeout < self._next_check_at:
                self._wake()
        if message.canceled:
            # Refused. Its watch_id has no meaning: etcd 3.5 sends the id of another watch.
            self._on_canceled(watch, message)
            return
        if watch.closed:
            assert self._stream is not None
            self._cancel_on_server(message.watch_id, self._stream)
            return
        self._by_id[message.watch_id] = watch
        watch.server_id = message.watch_id
        if not watch.next_revision:
            watch.next_revision = message.header.revision + 1
        resumed, watch.created = watch.created, True
        watch.deliver(WatchCreated(watch.next_revision - 1, resumed=resumed))

    def _on_canceled(self, watch: _Watch, message: WatchResponse) -> None:
        if not message.compact_revision:
            error = error_from_cancel_reason(message.cancel_reason)
            # etcd 3.5.1 reports a stale token as a denied permission too.
            outdated = isinstance(error, EtcdRefusedError) and self._outdated()
            if outdated or isinstance(error, InvalidAuthTokenError):
                # The watch is not the cause: try again with a new login.
                if not outdated:
                    self._refused()
                self.break_(InvalidAuthTokenError(str(error)))
                return
        else:
            error = EtcdUnavailableError(f"revision {watch.next_revision} was compacted")
        watch.deliver(WatchCanceled(error, message.compact_revision))
        watch.closed = True
        self._drop(watch)

    @staticmethod
    def _on_events(watch: _Watch, message: WatchResponse) -> None:
        events = tuple([one for one in message.events if one.kv.mod_revision >= watch.next_revision])
        if events:
            watch.deliver(WatchEvents(events))
            watch.next_revision = events[-1].kv.mod_revision + 1  # not before: events that fail are received again
