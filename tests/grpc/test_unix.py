"""Connections to unix sockets, on asyncio and trio alike."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketStream

from etcdleader._grpc.unix import connect_unix
from tests.grpc.http2_client import PATH, PATIENCE, make_connection
from tests.grpc.http2_server import Server

pytestmark = pytest.mark.anyio


@pytest.fixture
def path() -> Iterator[str]:
    """A short one: a socket's path has at most 107 bytes, and that of ``tmp_path`` may be longer."""
    with tempfile.TemporaryDirectory(prefix="unix") as folder:
        yield str(Path(folder, "Socket@1"))


@asynccontextmanager
async def serving(path: str) -> AsyncIterator[list[Server]]:
    servers: list[Server] = []

    async def serve(stream: SocketStream) -> None:
        async with stream:
            servers.append(Server(stream))
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                await servers[-1].run()

    async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        with anyio.fail_after(PATIENCE):
            yield servers
        group.cancel_scope.cancel()


async def test_calls_go_through_a_unix_socket_to_a_peer_called_localhost(path: str) -> None:
    """A path is no authority in HTTP/2. gRPC's other clients send this name, too."""
    async with serving(path) as servers, anyio.create_task_group() as group:
        connection = make_connection(f"unix:{path}")
        await connection.connect(None)

        async def answer() -> None:
            while not servers:
                await anyio.sleep(0.001)
            await servers[0].wait_for_data(1, 5)
            await servers[0].answer(1, b"answer")

        group.start_soon(answer)
        assert await connection.unary_unary(PATH, b"ask", timeout=PATIENCE) == b"answer"
        assert servers[0].headers[1][":authority"] == "localhost"
        connection.close()
        await connection.wait_closed()


async def test_a_socket_that_does_not_exist_is_named(path: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"No such file or directory: {path}"):
        await make_connection(f"unix:{path}").connect(None)


async def test_a_socket_without_a_listener_is_named(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path)
    with pytest.raises(ConnectionRefusedError, match=f"Connection refused: {path}"):
        await make_connection(f"unix:{path}").connect(None)


async def test_a_peer_that_accepts_slowly_is_waited_for_without_blocking_the_loop(path: str) -> None:
    """With its queue full, the system refuses a connection at once, and not when the timeout has passed."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        waiting: list[socket.socket] = []
        with suppress(BlockingIOError):
            while True:
                waiting.append(socket.socket(socket.AF_UNIX))
                waiting[-1].settimeout(0)
                waiting[-1].connect(path)
        connected: list[socket.socket] = []

        async def connect() -> None:
            connected.append(await connect_unix(path))

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(connect)
                await anyio.sleep(0.05)
                assert connected == []
                for _ in waiting:
                    with suppress(BlockingIOError):
                        listener.settimeout(0)
                        listener.accept()[0].close()
        for each in (*waiting, *connected):
            each.close()
    assert len(connected) == 1


async def test_an_attempt_that_is_cancelled_closes_its_socket(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []

    class Full(socket.socket):
        def __init__(self, *arguments: int) -> None:
            super().__init__(*arguments)
            made.append(self)

        def connect_ex(self, address: object) -> int:
            return 11  # EAGAIN

    monkeypatch.setattr("etcdleader._grpc.unix.socket.socket", Full)
    monkeypatch.setattr("etcdleader._grpc.unix.errno.EAGAIN", 11)
    with anyio.move_on_after(0.05) as scope:
        await connect_unix(path)
    assert scope.cancelled_caught
    assert [each.fileno() for each in made] == [-1]
