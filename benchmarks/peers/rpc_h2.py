"""A codec by h2, with its checks of headers switched off."""

from __future__ import annotations

from collections.abc import Iterator

import h2.config
import h2.connection
import h2.events
import h2.settings

from benchmarks.peers.rpc_client import TIMEOUT, WINDOW, Received, framed, headers, whole

__all__ = ("H2Codec",)


class H2Codec:
    def __init__(self, authority: str) -> None:
        self._authority = authority.encode()
        self._connection = h2.connection.H2Connection(
            h2.config.H2Configuration(
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
            )
        )
        codes = h2.settings.SettingCodes
        self._connection.local_settings = h2.settings.Settings(
            client=True, initial_values={codes.ENABLE_PUSH: 0, codes.INITIAL_WINDOW_SIZE: WINDOW}
        )
        self._connection.initiate_connection()
        self._connection.increment_flow_control_window(WINDOW - 65_535)
        self._streams: dict[int, bytearray] = {}

    def open(self, path: bytes, message: bytes, *, last: bool) -> int:
        number = self._connection.get_next_available_stream_id()
        self._streams[number] = bytearray()
        self._connection.send_headers(number, headers(path, self._authority, TIMEOUT if last else None))
        self._connection.send_data(number, framed(message), end_stream=last)
        return number

    def take(self) -> bytes:
        return self._connection.data_to_send()

    def receive(self, data: bytes) -> Iterator[Received]:
        for event in self._connection.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                self._connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                buffer = self._streams[event.stream_id]
                buffer += event.data
                yield event.stream_id, whole(buffer), False
            elif isinstance(event, h2.events.TrailersReceived):
                assert dict(event.headers)[b"grpc-status"] == b"0", event.headers
            elif isinstance(event, h2.events.StreamEnded):
                del self._streams[event.stream_id]
                yield event.stream_id, [], True
            else:
                assert not isinstance(event, h2.events.StreamReset), "a stream was reset"
