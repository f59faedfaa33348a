"""Streams over HTTP/2, against a server that the test controls."""

from __future__ import annotations

import asyncio
import errno
import logging

import anyio
import h2.settings
import pytest

from etcdleader._grpc import RpcError, Status
from etcdleader._grpc import connection as http2
from etcdleader._grpc.framing import RequestHeaders
from tests.grpc.http2_client import PATH, PATIENCE, client, make_connection
from tests.grpc.http2_server import framed

pytestmark = pytest.mark.anyio


async def test_a_stream_is_a_post_with_its_metadata() -> None:
    async with client() as one:
        one.open(("token", "secret"), ("hasleader", "true"))
        await one.server.wait_for_data(one.number)
        headers = one.server.headers[one.number]
        assert headers[":method"] == "POST"
        assert headers[":path"] == PATH
        assert headers[":scheme"] == "http"
        assert headers["content-type"] == "application/grpc"
        assert headers["te"] == "trailers"
        assert headers["user-agent"] == "tests"
        assert headers["token"] == "secret"
        assert headers["hasleader"] == "true"


async def test_messages_are_sent_and_received_in_order_and_complete_however_they_are_cut() -> None:
    async with client() as one:
        sent = [bytes([number]) * number for number in range(50)]
        for message in sent:
            one.stream.send(message)
        data = b"".join(framed(message) for message in sent)
        await one.server.wait_for_data(one.number, len(data))
        assert one.server.data[one.number] == data
        for at in range(0, len(data), 7):
            await one.server.send(one.number, data[at : at + 7])
        assert await one.received(50) == sent


async def test_more_data_than_any_window_is_sent_and_received() -> None:
    async with client(max_recv_bytes=2**26) as one:
        long = bytes(range(256)) * 1200  # four times the window at the beginning
        one.stream.send(long)
        one.stream.send(b"short")
        await one.server.wait_for_data(one.number, len(long) + 15)
        assert one.server.data[one.number] == framed(long) + framed(b"short")
        huge = long * 120  # more than the window for our side
        async with anyio.create_task_group() as group:
            group.start_soon(one.server.send, one.number, framed(huge) + framed(b"short"))
            assert await one.received(2) == [huge, b"short"]


async def test_a_full_window_delays_no_other_stream_and_the_waiting_data_is_sent_later() -> None:
    async with client() as one:
        one.server.acknowledges = False
        first, long = one.number, b"x" * 40_000
        one.stream.send(long)
        one.stream.send(long)  # more than a stream's window
        await one.server.wait_for_data(first, 65_535)
        # The connection's window is used up by now, too: reopen that one alone.
        one.server.connection.increment_flow_control_window(65_535)
        await one.server.flush()
        one.open()
        one.stream.send(b"other")
        await one.server.wait_for_data(one.number, 10)
        assert len(one.server.data[first]) == 65_535
        one.server.connection.increment_flow_control_window(65_535, first)
        await one.server.flush()
        await one.server.wait_for_data(first, 2 * len(framed(long)))
        assert one.server.data[first] == 2 * framed(long)


@pytest.mark.parametrize(
    ("trailers", "status"),
    [
        ([("grpc-status", "0")], Status("OK", "")),
        (
            [("grpc-status", "16"), ("grpc-message", "etcdserver: invalid auth token, 100%25 sure%21")],
            Status("UNAUTHENTICATED", "etcdserver: invalid auth token, 100% sure!"),
        ),
        ([("grpc-status", "99")], Status("UNKNOWN", "")),
        ([("grpc-status", "many")], Status("UNKNOWN", "")),
        (
            [("something", "else")],
            Status("UNAVAILABLE", "the response ended without a gRPC status: a proxy or the server has cut it off"),
        ),
    ],
)
async def test_a_stream_ends_with_the_status_of_its_trailers(trailers: list[tuple[str, str]], status: Status) -> None:
    async with client() as one:
        await one.server.send(one.number, framed(b"last"))
        await one.server.end(one.number, *trailers)
        assert await one.end() == status
        assert one.messages == [b"last"]
        assert one.connection.is_open
        one.stream.send(b"too late")
        one.open()
        await one.server.wait_for_data(one.number)


async def test_a_stream_that_the_server_resets_ends_alone() -> None:
    async with client() as one:
        one.server.connection.reset_stream(one.number, 7)
        await one.server.flush()
        assert (await one.end()).code == "UNAVAILABLE"
        assert one.connection.is_open


async def test_an_end_together_with_a_reset_ends_that_stream_only() -> None:
    """etcd sends this: our half of the stream is open when its own half has ended."""
    async with client() as one:
        one.server.begin(one.number)
        one.server.connection.send_headers(one.number, [("grpc-status", "0")], end_stream=True)
        one.server.connection.reset_stream(one.number, 0)
        await one.server.flush()
        assert await one.end() == Status("OK", "")
        one.open()
        await one.server.wait_for_data(one.number)
        assert one.connection.is_open


async def test_a_cancelled_stream_calls_nothing_more_and_is_reset() -> None:
    async with client() as one:
        first = one.number
        one.stream.cancel()
        one.stream.cancel()
        one.stream.send(b"too late")
        one.open()
        await one.server.wait_for_data(one.number)
        assert one.server.reset == [first]
        assert one.server.data[first] == b""
        assert one.ends == []


async def test_a_stream_may_be_closed_while_its_message_is_handled() -> None:
    async with client() as one:
        on_message = one.on_message

        def take(message: bytes) -> None:
            on_message(message)
            one.stream.cancel()

        one.on_message = take  # type: ignore[method-assign]
        one.open()
        await one.server.wait_for_data(one.number)
        await one.server.send(one.number, framed(b"one") + framed(b"two"))
        await one.received(1)
        while one.number not in one.server.reset:
            await anyio.sleep(0.001)
        assert one.messages == [b"one"]


async def test_a_compressed_message_ends_its_stream() -> None:
    """It was not requested, and without all messages of a stream no message of it can be trusted."""
    async with client() as one:
        await one.server.send(one.number, framed(b"one") + framed(b"two", compressed=True) + framed(b"three"))
        assert (await one.end()).code == "INTERNAL"
        assert one.messages == [b"one"]


@pytest.mark.parametrize("how", ["closes", "sends GOAWAY", "sends nonsense"])
async def test_a_server_that_closes_ends_all_streams(how: str) -> None:
    async with client() as one:
        ends = one.ends
        one.open()
        await one.server.wait_for_data(one.number)
        if how == "closes":
            await one.server.close()
        elif how == "sends GOAWAY":
            one.server.connection.close_connection(additional_data=b"so long")
            await one.server.flush()
        else:
            async with one.server._writing:
                await one.server._socket.send(b"\0\0\1\0\0\0\0\0\0x")  # data on stream 0
        while len(ends) < 2:
            await one.changed.wait()
        assert [end.code for end in ends] == ["UNAVAILABLE", "UNAVAILABLE"]
        assert ("so long" in ends[0].message) == (how == "sends GOAWAY")
        assert not one.connection.is_open
        one.stream.send(b"too late")
        await one.connection.ended.wait()


async def test_closing_a_connection_ends_its_streams_and_the_transport() -> None:
    async with client() as one:
        one.connection.close()
        assert await one.end() == Status("CANCELLED", "the connection was closed")
        await one.connection.ended.wait()
        assert not one.connection.is_open
        one.stream.cancel()
        one.connection.close()


async def test_a_connection_that_was_never_made_can_be_closed() -> None:
    connection = make_connection("127.0.0.1:1")
    with pytest.raises(OSError) as refused:
        await connection.connect(None)
    assert refused.value.errno in {errno.ECONNREFUSED, None}
    connection.close()
    await connection.ended.wait()


async def test_a_token_is_in_no_shared_header_table() -> None:
    async with client(stream=False) as one:
        one.open(("token", "secret"))
        await one.server.wait_for_data(one.number)
        assert one.server.headers[one.number]["token"] == "secret"
        assert not one.server.connection.decoder.header_table.dynamic_entries


async def test_a_token_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """The library hpack would log each header that it encodes."""
    with caplog.at_level(logging.DEBUG):
        assert b"secret" in RequestHeaders("http", "127.0.0.1:1", "tests").encode(PATH, (("token", "secret"),))
        assert "secret" not in caplog.text


async def test_a_stream_cancelled_without_any_data_since_it_sent_ends_the_connection() -> None:
    """The next one would be opened on the same dead connection, for as long as other ways to the member work."""
    async with client() as one:
        one.open()
        await one.server.wait_for_data(one.number)
        await one.server.send(one.number, framed(b"nothing else is under way"))
        await one.received(1)
        one.server.silent = True
        one.streams[0].send(b"anybody there?")
        await anyio.sleep(2 * http2._SUSPECT_AFTER_SECONDS)
        assert one.ends == []
        one.streams[0].cancel()
        assert not one.connection.is_open
        assert (await one.end()).code == "UNAVAILABLE"  # of the other stream


async def test_a_stream_that_is_cancelled_at_once_does_not_end_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "_SUSPECT_AFTER_SECONDS", PATIENCE)  # however long the machine stops in between
    async with client() as one:
        one.stream.send(b"never mind")
        one.stream.cancel()
        assert one.connection.is_open


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # on trio no other code can cancel it
async def test_a_connection_whose_task_is_cancelled_ends_its_streams() -> None:
    async with client() as one:
        for task in asyncio.all_tasks():
            if task.get_name() == "grpc connection":
                task.cancel()
        assert (await one.end()).code == "CANCELLED"
        assert not one.connection.is_open


async def test_a_server_that_allows_no_more_streams_is_unavailable() -> None:
    async with client() as one:
        one.server.connection.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1})
        await one.server.flush()
        while one.connection._codec.max_concurrent_streams != 1:
            await anyio.sleep(0.001)
        with pytest.raises(RpcError, match=r"no stream could begin.*allows 1 streams.*1 are open") as refused:
            one.open()
        assert refused.value.status.code == "UNAVAILABLE"
        assert refused.value.status.unprocessed
        assert one.connection.is_open


async def test_a_stream_on_a_connection_that_is_closed_is_refused_with_the_reason() -> None:
    async with client() as one:
        one.connection.close()
        with pytest.raises(RpcError, match="CANCELLED: the connection was closed"):
            one.open()
        assert len(one.ends) == 1


async def test_only_data_of_an_open_stream_counts_as_received() -> None:
    """A dead stream may bring empty frames forever."""
    async with client() as one:
        closed = one.number
        one.stream.cancel()
        one.open()
        await one.server.wait_for_data(one.number)
        await one.server.send(one.number, framed(b"one"))
        await one.received(1)
        before = len(one.receipts)
        one.server.connection.send_data(one.number, b"")
        await one.server.flush()
        async with one.server._writing:
            await one.server._socket.send(b"\0\0\1\0\0" + closed.to_bytes(4, "big") + b"x")
        one.server.connection.send_data(one.number, b"", pad_length=5)
        await one.server.flush()
        one.server.connection.ping(bytes(8))
        await one.server.flush()
        while not one.server.acknowledged:
            await anyio.sleep(0.001)
        assert len(one.receipts) == before
        await one.server.send(one.number, framed(b"two"))
        await one.received(2)
        assert len(one.receipts) > before


@pytest.mark.parametrize(("code", "graceful"), [(0, True), (2, False), (11, False)])
async def test_a_goaway_without_an_error_is_graceful(code: int, *, graceful: bool) -> None:
    async with client() as one:
        await one.server.send_goaway(one.number, code)
        assert (await one.end()).graceful is graceful


@pytest.mark.parametrize(
    ("code", "why", "reports"), [(11, b"too_many_pings", 1), (11, b"calm", 0), (0, b"too_many_pings", 0)]
)
async def test_a_peer_that_receives_too_many_pings_is_distinguished(code: int, why: bytes, reports: int) -> None:
    complaints: list[None] = []
    async with client(on_too_many_pings=lambda: complaints.append(None)) as one:
        await one.server.send_goaway(one.number, code, why)
        await one.end()
    assert len(complaints) == reports


@pytest.mark.parametrize(
    ("status", "kind"), [("502", "text/html"), ("403", "application/json"), ("200", "text/html"), ("404", "text/plain")]
)
async def test_a_proxys_web_page_is_no_message(status: str, kind: str) -> None:
    """Its first bytes would be taken for those of a compressed message."""
    async with client() as one:
        one.server.connection.send_headers(one.number, [(":status", status), ("content-type", kind)])
        one.server.connection.send_data(one.number, b"<html>Bad Gateway</html>", end_stream=True)
        await one.server.flush()
        end = await one.end()
        assert end.code == "UNAVAILABLE"
        assert f"HTTP status {status} with content type '{kind}'" in end.message
        assert one.connection.is_open


async def test_informational_headers_come_before_those_of_the_response() -> None:
    async with client() as one:
        one.server.connection.send_headers(one.number, [(":status", "103")])
        await one.server.send(one.number, framed(b"message"))
        await one.server.end(one.number, ("grpc-status", "0"))
        assert await one.end() == Status("OK", "")
        assert one.messages == [b"message"]
