"""etcdleader's gRPC client: its connection, and its codec alone, used as the connection uses it."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.peers.rpc_client import TIMEOUT, USER_AGENT, WINDOW, OnMessage, Received
from etcdleader._grpc import Connection, Stream
from etcdleader._grpc.events import DataReceived, HeadersReceived
from etcdleader._grpc.frames import H2Codec
from etcdleader._grpc.framing import MessageDecoder, RequestHeaders, encode_message, encode_timeout, status_of
from etcdleader._grpc.hpack import encode_headers

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
        self._frames = H2Codec(WINDOW)
        self._streams: dict[int, tuple[MessageDecoder, dict[str, str]]] = {}

    def open(self, path: bytes, message: bytes, *, last: bool) -> int:
        timeout = ((b"grpc-timeout", encode_timeout(TIMEOUT).encode()),) if last else ()
        number = self._frames.open_stream(self._headers.encode(path.decode(), ()) + encode_headers(timeout))
        self._streams[number] = MessageDecoder(WINDOW), {}
        self._frames.send_data(number, encode_message(message), last=last)
        return number

    def take(self) -> bytes:
        return self._frames.data_to_send()

    def receive(self, data: bytes) -> Iterator[Received]:
        for event in self._frames.receive_data(data):
            assert isinstance(event, HeadersReceived | DataReceived)
            unframed, headers = self._streams[event.stream_id]
            if isinstance(event, DataReceived):
                yield event.stream_id, unframed.feed(event.data), False
            else:
                headers.update(event.headers)
            if event.stream_ended:
                self._frames.finish_stream(event.stream_id)
                del self._streams[event.stream_id]
                assert status_of({}, headers).code == "OK"
                yield event.stream_id, [], True
