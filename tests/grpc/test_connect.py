"""Open a connection, or fail with the right error, on asyncio and trio alike."""

from __future__ import annotations

import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
import trio
import trustme
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSListener

from etcdleader._grpc import RpcError, tcp
from etcdleader._grpc import connect as connect_module
from etcdleader._runtime.tasks import spawn_system_task
from tests.grpc.http2_client import PATH, PATIENCE, make_connection
from tests.grpc.http2_server import Server
from tests.grpc.reset_socket import reset_socket

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def listening(serve: Callable[[SocketStream], Awaitable[None]]) -> AsyncIterator[str]:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        with anyio.fail_after(PATIENCE):
            yield f"127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        group.cancel_scope.cancel()


def client_tls(authority: trustme.CA | None = None) -> Callable[[], Awaitable[ssl.SSLContext]]:
    async def context() -> ssl.SSLContext:
        made = ssl.create_default_context()
        made.set_alpn_protocols(["h2"])
        if authority is not None:
            authority.configure_trust(made)
        return made

    return context


names: list[str] = []
"""The server names that TLS clients have requested."""


@asynccontextmanager
async def tls_server(authority: trustme.CA, name: str = "127.0.0.1") -> AsyncIterator[str]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["h2"])
    authority.issue_cert(name).configure_cert(context)
    names.clear()
    context.sni_callback = lambda _, name, __: names.append(name)

    async def serve(stream: ByteStream) -> None:
        server = Server(stream)
        async with stream, anyio.create_task_group() as group:

            async def answer() -> None:
                await server.wait_for_data(1, 5)
                await server.answer(1, server.headers[1][":scheme"].encode())

            group.start_soon(answer)
            try:
                await server.run()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                group.cancel_scope.cancel()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as tcp, anyio.create_task_group() as group:
        listener = TLSListener(tcp, context, standard_compatible=False)
        group.start_soon(partial(listener.serve, serve))
        with anyio.fail_after(PATIENCE):
            yield f"127.0.0.1:{tcp.extra(SocketAttribute.local_port)}"
        group.cancel_scope.cancel()


async def test_calls_go_through_tls() -> None:
    authority = trustme.CA()
    async with tls_server(authority) as address:
        connection = make_connection(address)
        await connection.connect(client_tls(authority))
        assert await connection.unary_unary(PATH, b"ask", timeout=PATIENCE) == b"https"
        connection.close()
        await connection.wait_closed()


async def test_a_final_dot_is_neither_in_sni_nor_in_the_verified_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """It marks a name as complete. No certificate has it, and TLS forbids it in SNI (RFC 6066, 3)."""
    asked: list[str] = []

    async def addresses(host: str, port: int) -> list[tuple[int, Any]]:
        asked.append(host)
        return [(socket.AF_INET, ("127.0.0.1", port))]

    monkeypatch.setattr(tcp, "_addresses", addresses)
    authority = trustme.CA()
    async with tls_server(authority, "localhost") as address:
        connection = make_connection(address.replace("127.0.0.1", "localhost."))
        await connection.connect(client_tls(authority))
        assert await connection.unary_unary(PATH, b"ask", timeout=PATIENCE) == b"https"
        connection.close()
        await connection.wait_closed()
    assert asked == ["localhost."], "there it means something"
    assert names == ["localhost"]


async def test_a_certificate_that_is_not_trusted_is_an_error_of_ssl() -> None:
    async with tls_server(trustme.CA()) as address:
        connection = make_connection(address)
        with pytest.raises(ssl.SSLError):
            await connection.connect(client_tls())
        assert not connection.is_open


async def test_a_server_that_closes_during_the_handshake_is_an_os_error() -> None:
    async def hang_up(stream: SocketStream) -> None:
        await stream.receive()
        await stream.aclose()

    async with listening(hang_up) as address:
        with pytest.raises(OSError):
            await make_connection(address).connect(client_tls())


@pytest.mark.parametrize("tls", [False, True], ids=["plaintext", "TLS"])
async def test_a_peer_that_resets_what_it_has_just_accepted_is_an_error_of_the_connection(
    tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the fault suite: anyio raises ValueError for a socket that is no longer connected."""
    monkeypatch.setattr(connect_module, "connect_tcp", reset_socket)
    connection = make_connection("127.0.0.1:1")
    with pytest.raises((OSError, RpcError)):
        await connection.connect(client_tls() if tls else None)
        await connection.unary_unary(PATH, b"", timeout=PATIENCE)  # asyncio detects the reset when it reads
    connection.close()
    await connection.wait_closed()


async def test_a_port_without_a_listener_is_reported_with_the_systems_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(OSError, match=r"\[Errno \d+\].*") as refused:
        await make_connection(f"127.0.0.1:{port}").connect(None)
    assert isinstance(refused.value, ConnectionRefusedError)


@pytest.mark.parametrize("name", ["a" * 64 + ".example", "ex ample\0"])
async def test_an_impossible_host_name_is_an_os_error(name: str) -> None:
    connection = make_connection(f"{name}:1")
    with pytest.raises(OSError):
        await connection.connect(None)
    connection.close()
    await connection.wait_closed()


def test_ctrl_c_while_a_system_task_connects_reaches_the_main_task_of_trio(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the system task it would be trio's own failure."""
    interrupted_once = False

    def interrupted(name: str) -> Callable[..., Any]:
        real = getattr(socket.socket, name)

        def connect(self: socket.socket, address: Any) -> Any:
            nonlocal interrupted_once
            interrupted_once = True
            signal.raise_signal(signal.SIGINT)
            return real(self, address)

        return connect

    async def main() -> None:
        ended = trio.Event()

        async def attempt() -> None:
            connection = make_connection(f"127.0.0.1:{server.getsockname()[1]}")
            await connection.connect(None)
            connection.close()

        spawn_system_task(attempt, "attempt", ended.set)
        with trio.fail_after(PATIENCE):
            await ended.wait()
        await trio.lowlevel.checkpoint()  # raises it here at the latest

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, interrupted(name))
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(KeyboardInterrupt):
            trio.run(main)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert interrupted_once
