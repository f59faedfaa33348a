"""A stream between a client and one member of a fake etcd: ordered, in both directions."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import anyio

from .._etcd.messages import (
    ALL_WATCHES,
    LeaseKeepAliveRequest,
    WatchCancelRequest,
    WatchCreateRequest,
    WatchProgressRequest,
    WatchResponse,
)
from .._etcd.stream import RpcStream, StreamCallbacks
from .._grpc.framing import Metadata
from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdUnavailableError
from ._calls import kind_of
from ._faults import NO_FAULT, Fault
from ._link import Link
from ._watches import ServerWatch


class _End(NamedTuple):
    error: EtcdLeaderError


class FakeStream(RpcStream):
    """A stream of keep-alives or of watches between one client and one member.

    Each direction keeps its order, so a delayed message delays those behind it. If a message is lost on the watch
    stream, all later ones in its direction are lost too. An ordered stream cannot lose a single message.
    """

    def __init__(
        self, metadata: Metadata, use: StreamCallbacks, link: Link, heard: Callable[[], None], *, watches: bool
    ) -> None:
        super().__init__(metadata, use)
        self.closed = anyio.Event()
        self._link = link
        self._network = link.network
        self._cluster = link.cluster
        self._member = link.member
        self._heard = heard
        self._up: deque[tuple[float, Any, Fault]] = deque()
        self._down: deque[tuple[float, Any]] = deque()
        self._watches: dict[int, ServerWatch] = {}
        self._is_of_watches = watches
        self._silenced = link.network.silenced
        self._deaf = self._mute = False
        """True if the member receives nothing more; true if the client receives nothing more."""
        link.cluster.spawn(self._serve)
        link.cluster.spawn(self._deliver)
        link.member.streams[self] = None

    def send(self, *requests: Any) -> None:
        """Send messages after the earlier ones."""
        now, network = anyio.current_time(), self._network
        for request in requests:
            fault = NO_FAULT
            if not isinstance(request, WatchCancelRequest):
                network.count(kind_of(request))
                fault = network.fault_for(kind_of(request))
            earliest = self._up[-1][0] if self._up else -math.inf
            self._up.append((max(now + network.one_way() + fault.request_delay, earliest), request, fault))
        network.changed.send()

    def _failed(self, error: Exception) -> None:
        self._cluster.failure = error  # raised again when the fake is left
        super()._failed(error)

    def _hang_up(self) -> None:
        self.closed.set()
        self._member.streams.pop(self, None)
        for watch in self._watches.values():
            self._member.watches.close(watch)
        self._watches.clear()
        self._network.changed.send()

    # To the member

    async def _serve(self) -> None:
        while True:
            await self._network.changed.until(lambda: bool(self._up) or not self._open)
            if not self._up:
                return
            at, request, fault = self._up[0]
            held_up = not await self._network.arrival(at)
            self._up.popleft()
            if held_up and not self._open:
                continue
            try:
                await self._receive(request, fault)
            except EtcdLeaderError as error:
                # The server ends the stream. The end arrives after earlier responses, and later requests are ignored.
                self._deaf = True
                self._answer(_End(error))
                self._mute = True
            except Exception as error:  # noqa: BLE001 - a hook's exception is raised again when the fake is left
                self._cluster.failure = error
                self.end(EtcdUnavailableError(f"a hook failed: {error!r}"))

    async def _receive(self, request: Any, fault: Fault) -> None:
        if self._deaf:
            return
        if isinstance(request, LeaseKeepAliveRequest):
            if fault.lose != "request":
                response = await self._link.serve(request, fault)
                if fault.lose != "answer":
                    self._answer(response, fault.answer_delay)
            return
        self._deaf = fault.lose == "request"
        if self._deaf or not self._open:
            return
        if isinstance(request, WatchCreateRequest):
            await self._create(request, fault)
        elif isinstance(request, WatchProgressRequest):
            await self._report_progress(fault)
        elif (watch := self._watches.pop(request.watch_id, None)) is not None:
            self._member.watches.close(watch)
            self._answer(WatchResponse(self._member.header(), request.watch_id, canceled=True))

    async def _create(self, request: WatchCreateRequest, fault: Fault) -> None:
        await self._member.until_awake()
        await self._link.tell_hooks(request, "before")
        if isinstance(fault.error, EtcdRefusedError):
            # As in etcd, the id of a refused watch has no meaning.
            header, reason = self._member.header(), str(fault.error)
            self._answer(WatchResponse(header, 0, created=True, canceled=True, cancel_reason=reason))
            return
        if fault.error is not None:
            raise fault.error
        if not self._open:
            return
        self._mute |= fault.lose == "answer"
        self._watches[request.watch_id] = self._member.watches.open(request, self._answer_from_watch)
        self._answer(WatchResponse(self._member.header(), request.watch_id, created=True), fault.answer_delay)
        self._cluster.changed.send()

    async def _report_progress(self, fault: Fault) -> None:
        """Report the progress of all watches, unless one of them has not caught up, as etcd 3.4.25 and 3.5.8 do."""
        await self._member.until_awake()
        if fault.error is not None:
            raise fault.error
        self._mute |= fault.lose == "answer"
        revision, watches = self._member.revision, self._watches.values()
        if watches and all(watch.synced and watch.request.start_revision <= revision for watch in watches):
            self._answer(WatchResponse(self._member.header(), ALL_WATCHES), fault.answer_delay)

    def _answer_from_watch(self, response: WatchResponse) -> None:
        if response.canceled:
            self._watches.pop(response.watch_id, None)
        self._answer(response)

    # To the client

    def _answer(self, message: Any, delay: float = 0.0) -> None:
        if self._open and not self._mute:
            at = anyio.current_time() + self._network.one_way() + delay
            self._down.append((max(at, self._down[-1][0] if self._down else -math.inf), message))
            self._network.changed.send()

    async def _deliver(self) -> None:
        while self._open:
            # Taken before the state is checked, so that each later change wakes the wait below.
            changed = self._network.changed.next()
            at = self._down[0][0] if self._down and not self._blocked() else math.inf
            if at <= anyio.current_time():
                self._heard()
                message = self._down.popleft()[1]
                if isinstance(message, _End):
                    self.end(message.error)
                else:
                    self._take(message)
                continue
            with anyio.CancelScope(deadline=at):
                await changed.wait()

    def _blocked(self) -> bool:
        if self._network.partitioned:
            return True
        return self._is_of_watches and (self._network.stalled or self._silenced < self._network.silenced)
