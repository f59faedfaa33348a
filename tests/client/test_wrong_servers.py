"""The error for a server that is no etcd, or is reached in the wrong way: the reason, and no wrong advice."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import anyio
import pytest
import trustme
from anyio.abc import SocketAttribute, SocketStream

from etcdleader import EtcdConfig, EtcdLeaderError, EtcdRefusedError, EtcdUnavailableError
from etcdleader._etcd import tls_diagnosis
from etcdleader._etcd.api import Range
from etcdleader._etcd.rpcs import RANGE
from etcdleader._etcd.tls_diagnosis import TlsDiagnosis
from tests.client.endpoint_of import endpoint_of
from tests.grpc.http2_server import Server, serving
from tests.grpc.reset_socket import reset_socket

pytestmark = pytest.mark.anyio

PATIENCE = 60
PREFACE, FRAME_HEADER = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 9
HEADERS, SETTINGS, ACK = 1, 4, 1
GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
Serve = Callable[[SocketStream], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[str]:
    async def guarded(stream: SocketStream) -> None:
        async with stream:
            with suppress(*GONE, ssl.SSLError):
                await serve(stream)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, guarded)
        with anyio.fail_after(PATIENCE):
            yield f"127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        group.cancel_scope.cancel()


@contextmanager
def in_threads(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """Serve each connection in a thread, which can inspect its first byte before it uses TLS."""

    def accept() -> None:
        with suppress(OSError):  # it was closed
            while True:
                peer, _ = listener.accept()
                threading.Thread(target=serve, args=(peer,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


async def error_of(address: str, config: EtcdConfig) -> EtcdLeaderError:
    endpoint = endpoint_of(address, config)
    if not config.tls:
        endpoint._tls_diagnosis = None  # the test's server does not use TLS at all
    try:
        with pytest.raises(EtcdLeaderError) as failed:
            await endpoint.call(RANGE, Range(b"k"), (), 30)
    finally:
        endpoint.close()
        await endpoint.wait_closed()
    return failed.value


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.mark.parametrize("protocols", [[], ["http/1.1"]], ids=["no ALPN", "HTTP/1 only"])
@pytest.mark.parametrize("talks", [True, False], ids=["answers", "waits"])
async def test_a_tls_server_without_http2_is_reported_as_such(
    authority: trustme.CA, ca: Path, protocols: list[str], *, talks: bool
) -> None:
    """Examples are nginx without `http2`, and Go's server. Advice to use http:// would be harmful."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    if protocols:
        context.set_alpn_protocols(protocols)

    def serve(peer: socket.socket) -> None:
        with suppress(OSError), peer:
            if peer.recv(1, socket.MSG_PEEK) != b"\x16":
                peer.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
                return
            with context.wrap_socket(peer, server_side=True) as tls:
                tls.recv(1000)
                if talks:
                    tls.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with in_threads(serve) as address, anyio.fail_after(PATIENCE):
        error = await error_of(f"https://{address}", EtcdConfig(f"https://{address}", ca_cert=ca))
    assert isinstance(error, EtcdRefusedError)
    assert f"{address} speaks TLS, but does not offer HTTP/2 (h2 in ALPN)" in str(error)


def test_the_alert_of_a_server_without_http2_is_reported_as_such() -> None:
    """Go's server sends it if it supports ALPN without h2."""
    examiner = TlsDiagnosis("one:1", EtcdConfig("https://one:1"))
    assert "does not offer HTTP/2" in examiner._alert("TLSV1_ALERT_NO_APPLICATION_PROTOCOL")


async def test_http2_without_tls_is_distinguished_from_tls(ca: Path) -> None:
    async def serve(stream: SocketStream) -> None:
        await stream.send(b"\0\0\0\4\0\0\0\0\0")
        if (await stream.receive()).startswith(b"PRI"):
            await anyio.sleep_forever()

    async with listening(serve) as address:
        error = await error_of(f"https://{address}", EtcdConfig(f"https://{address}", ca_cert=ca))
    assert f"{address} does not speak TLS: reach it by http://" in str(error)


async def test_a_peer_that_closes_during_the_handshake_is_an_error_with_a_text(ca: Path) -> None:
    async def serve(stream: SocketStream) -> None:
        await stream.receive()

    async with listening(serve) as address:
        error = await error_of(f"https://{address}", EtcdConfig(f"https://{address}", ca_cert=ca))
    assert isinstance(error, EtcdUnavailableError)
    text = str(error).removeprefix(f"https://{address}: UNAVAILABLE: ")
    assert len(text) > 10
    assert text != "no reason was given"


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_diagnosis_of_a_peer_that_resets_what_it_has_just_accepted_finds_no_cause(
    scheme: str, ca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs while an error of etcd is being reported, so another error would end the campaign."""
    monkeypatch.setattr(tls_diagnosis, "connect_tcp", reset_socket)
    config = EtcdConfig(f"{scheme}://one:1", ca_cert=ca if scheme == "https" else None)
    assert await TlsDiagnosis("one:1", config).reason() is None


async def test_a_proxys_web_page_is_reported_with_its_status() -> None:
    async def page(server: Server) -> None:
        await server.wait_for_data(1, 5)
        server.connection.send_headers(1, [(":status", "502"), ("content-type", "text/html")])
        server.connection.send_data(1, b"<html><h1>502 Bad Gateway</h1></html>", end_stream=True)
        await server.flush()

    with anyio.fail_after(PATIENCE):
        async with serving() as (address, servers), anyio.create_task_group() as group:

            async def answer() -> None:
                while not servers:
                    await anyio.sleep(0.001)
                await page(servers[0])

            group.start_soon(answer)
            error = await error_of(address, EtcdConfig(address))
    assert isinstance(error, EtcdUnavailableError)
    assert "HTTP status 502 with content type 'text/html' instead of a gRPC response" in str(error)


@pytest.mark.parametrize("streams", [0, 1])
async def test_a_peer_that_allows_too_few_streams_is_reported_with_its_limit(streams: int) -> None:
    limited = anyio.Event()
    with anyio.fail_after(PATIENCE):
        async with listening(lambda stream: few(stream, streams, limited)) as address:
            endpoint = endpoint_of(address, EtcdConfig(address))
            endpoint._tls_diagnosis = None
            errors: list[str] = []

            async def ask(timeout: float) -> None:
                try:
                    await endpoint.call(RANGE, Range(b"k"), (), timeout)
                except EtcdUnavailableError as error:
                    errors.append(str(error))

            async with anyio.create_task_group() as group:
                group.start_soon(ask, PATIENCE)
                await limited.wait()
                await ask(0.2)
                endpoint.close()
            await endpoint.wait_closed()
    assert f"allows {streams} streams at a time (SETTINGS_MAX_CONCURRENT_STREAMS)" in errors[0], errors


async def few(stream: SocketStream, streams: int, limited: anyio.Event) -> None:
    """Allow few streams, and set ``limited`` once the client applies the limit and has opened all that it may."""
    await stream.send(b"\0\0\6\4\0\0\0\0\0\0\3" + streams.to_bytes(4, "big"))
    received = b""
    while True:
        received += await stream.receive()
        frames = set(frame_types(received))
        if (SETTINGS, ACK) in frames and (not streams or any(kind == HEADERS for kind, _ in frames)):
            limited.set()


def frame_types(received: bytes) -> Iterator[tuple[int, int]]:
    """Yield the type and the flags of each frame after the connection preface."""
    at = len(PREFACE)
    while at + FRAME_HEADER <= len(received):
        yield received[at + 3], received[at + 4]
        at += FRAME_HEADER + int.from_bytes(received[at : at + 3], "big")
