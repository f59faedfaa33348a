"""etcdleader's gRPC client: its connection, and its codec alone, used as the connection uses it."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.peers.rpc_client import TIMEOUT, USER_AGENT, WINDOW, OnMessage, Received
from etcdleader._grpc import Connection, Stream
from etcdleader._grpc.frames import Frames
from etcdleader._grpc.framing import RequestHeaders, Unframed, framed, status, timeout_header
from etcdleader._grpc.happenings import Arrived, Headers
from etcdleader._grpc.hpack import packed

__all__ = ("OurClient", "OurCodec")


class OurClient:
    async def connect(self, address: str) -> None:
        self.connection = Connection(
            address, user_agent=USER_AGENT.decode(), ping_interval=10, reserved_streams=2, on_received=lambda: None
        )
        self.streams: list[Stream] = []
        await self.connection.connect(None)

    async def call(self, path: str, request: bytes) -> bytes:
        return await self.connection.unary_unary(path, request, timeout=TIMEOUT)

    def stream(self, path: str, request: bytes, on_message: OnMessage) -> None:
        stream = self.connection.stream_stream(path, on_message=on_message, on_close=print)
        stream.send(request)
        self.streams.append(stream)


class OurCodec:
    def __init__(self, authority: str) -> None:
        self._headers = RequestHeaders("http", authority, USER_AGENT.decode())
        self._frames = Frames(WINDOW)
        self._streams: dict[int, tuple[Unframed, dict[str, str]]] = {}

    def open(self, path: bytes, message: bytes, *, last: bool) -> int:
        timeout = ((b"grpc-timeout", timeout_header(TIMEOUT).encode()),) if last else ()
        number = self._frames.open(self._headers.packed(path.decode(), ()) + packed(timeout))
        self._streams[number] = Unframed(WINDOW), {}
        self._frames.send(number, framed(message), last=last)
        return number

    def take(self) -> bytes:
        return self._frames.take()

    def receive(self, data: bytes) -> Iterator[Received]:
        for event in self._frames.receive(data):
            assert isinstance(event, Headers | Arrived)
            unframed, headers = self._streams[event.number]
            if isinstance(event, Arrived):
                yield event.number, unframed.take(event.data), False
            else:
                headers.update(event.headers)
            if event.ended:
                self._frames.finish(event.number)
                del self._streams[event.number]
                assert status({}, headers).code == "OK"
                yield event.number, [], True
