"""A stream between a client and one member of a fake etcd: ordered, in both directions."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import anyio

from .._etcd.api import WatchCanceled, WatchCreated, WatchEvents, WatchMessage
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
from ._calls import Call, arguments_of, kind_of
from ._cluster import Cluster
from ._faults import NO_FAULT, Fault, FaultyNetwork
from ._member import FakeMember
from ._watches import ServerWatch


class _End(NamedTuple):
    error: EtcdLeaderError


class FakeStream(RpcStream):
    """A stream of keep-alives or of watches between one client and one member.

    Each direction keeps its order, so a delayed message delays those behind it. If a message is lost on the watch
    stream, all later ones in its direction are lost too. An ordered stream cannot lose a single message.
    """

    def __init__(
        self,
        metadata: Metadata,
        use: StreamCallbacks,
        client: str,
        network: FaultyNetwork,
        cluster: Cluster,
        member: FakeMember,
        heard: Callable[[], None],
        *,
        watches: bool,
    ) -> None:
        super().__init__(metadata, use)
        self.ended = anyio.Event()
        self._client = client
        self._network = network
        self._cluster = cluster
        self._member = member
        self._heard = heard
        self._up: deque[tuple[float, Any, Fault]] = deque()
        self._down: deque[tuple[float, Any]] = deque()
        self._watches: dict[int, ServerWatch] = {}
        self._is_of_watches = watches
        self._silenced = network.silenced
        self._deaf = self._mute = False
        """True if the member receives nothing more; true if the client receives nothing more."""
        cluster.spawn(self._serve)
        cluster.spawn(self._deliver)
        member.streams[self] = None

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
        self.ended.set()
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
                self._answer(_End(error), 0.0)
                self._mute = True
            except Exception as error:  # noqa: BLE001 - a hook's exception is raised again when the fake is left
                self._cluster.failure = error
                self.end(EtcdUnavailableError(f"a hook failed: {error!r}"))

    async def _receive(self, request: Any, fault: Fault) -> None:
        if isinstance(request, LeaseKeepAliveRequest):
            if not self._deaf:
                await self._keep_alive(request, fault)
            return
        self._deaf |= fault.lose == "request"
        if self._deaf or not self._open:
            return
        if isinstance(request, WatchCreateRequest):
            await self._create(request, fault)
        elif isinstance(request, WatchProgressRequest):
            await self._report_progress(fault)
        else:
            self._cancel(request.watch_id)

    async def _keep_alive(self, request: LeaseKeepAliveRequest, fault: Fault) -> None:
        if fault.lose == "request":
            return
        self._member.check_up()
        await self._tell_hooks(request, "before")
        if fault.error is not None and not fault.applied:
            raise fault.error
        response = await self._member.keep_alive(request.lease_id)
        await self._tell_hooks(request, "after")
        if fault.error is not None:
            raise fault.error
        if fault.lose != "answer":
            self._answer(response, fault.answer_delay)

    async def _create(self, request: WatchCreateRequest, fault: Fault) -> None:
        await self._member.until_awake()
        await self._tell_hooks(request, "before")
        if isinstance(fault.error, EtcdRefusedError):
            # As in etcd, the id of a refused watch has no meaning.
            header, reason = self._member.header(), str(fault.error)
            self._answer(WatchResponse(header, 0, created=True, canceled=True, cancel_reason=reason), 0.0)
            return
        if fault.error is not None:
            raise fault.error
        if not self._open:
            return
        self._mute |= fault.lose == "answer"
        delay = fault.answer_delay

        def send(message: WatchMessage) -> None:
            nonlocal delay
            late, delay = delay, 0.0  # the created response may be delayed, and delays the later messages
            self._answer(self._response(request.watch_id, message), late)

        watches = self._member.watches
        self._watches[request.watch_id] = watches.open(
            request.key, request.range_end, request.start_revision, send, revision=self._member.revision
        )
        self._cluster.changed.send()

    async def _report_progress(self, fault: Fault) -> None:
        """Report the progress of all watches, unless one of them has not caught up, as etcd 3.4.25 and 3.5.8 do."""
        await self._member.until_awake()
        if fault.error is not None:
            raise fault.error
        self._mute |= fault.lose == "answer"
        revision, watches = self._member.revision, self._watches.values()
        if watches and all(watch.synced and watch.start_revision <= revision for watch in watches):
            self._answer(WatchResponse(self._member.header(), ALL_WATCHES), fault.answer_delay)

    def _cancel(self, watch_id: int) -> None:
        if (watch := self._watches.pop(watch_id, None)) is not None:
            self._member.watches.close(watch)
            self._answer(WatchResponse(self._member.header(), watch_id, canceled=True), 0.0)

    def _response(self, watch_id: int, message: WatchMessage) -> WatchResponse:
        if isinstance(message, WatchCreated):
            return WatchResponse(self._member.header(message.revision), watch_id, created=True)
        if isinstance(message, WatchEvents):
            return WatchResponse(self._member.header(), watch_id, events=message.events)
        assert isinstance(message, WatchCanceled)
        self._watches.pop(watch_id, None)
        return WatchResponse(
            self._member.header(),
            watch_id,
            canceled=True,
            compact_revision=message.compact_revision,
            cancel_reason=str(message.error),
        )

    async def _tell_hooks(self, request: Any, stage: Any) -> None:
        await self._cluster.tell_hooks(Call(self._client, kind_of(request), stage, arguments_of(request)))

    # To the client

    def _answer(self, message: Any, delay: float) -> None:
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
