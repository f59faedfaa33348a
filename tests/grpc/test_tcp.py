"""Connect on asyncio, including cases that asyncio's own method misses."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from etcdleader._grpc import tcp
from etcdleader._grpc.connect import connect
from etcdleader._grpc.transport import Transport

pytestmark = pytest.mark.anyio
PATIENCE = 60


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def full() -> Iterator[tuple[str, int]]:
    """Return the address of a host that does not respond: its queue is full."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as server,
        socket.socket() as first,
        socket.socket() as second,
    ):
        for one in (first, second):
            one.settimeout(0)
            one.connect_ex(server.getsockname())
        yield server.getsockname()


def addresses(monkeypatch: pytest.MonkeyPatch, *found: tuple[str, int]) -> None:
    async def of(host: str, port: int) -> list[tuple[int, Any]]:
        return [(socket.AF_INET, address) for address in found]

    monkeypatch.setattr(tcp, "_addresses", of)


async def opened(host: str = "some.where", port: int = 1) -> Transport:
    return await connect(f"{host}:{port}", None, lambda: b"hello", lambda _: False)


async def closed(one: Transport) -> None:
    await one.aclose()
    assert one.fileno == -1  # a forked child would have closed the file that has its number now
    with pytest.raises(OSError, match="hung up"):
        await one.tasks[0]()


async def test_another_address_is_tried_when_one_refuses(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        unused = gone.getsockname()
    addresses(monkeypatch, unused, listener.getsockname())
    with anyio.fail_after(PATIENCE):
        await closed(await opened())


async def test_another_address_is_tried_if_the_address_family_is_missing(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The addresses of localhost may include an IPv6 address on a machine without IPv6."""

    async def of(host: str, port: int) -> list[tuple[int, Any]]:
        return [(12345, ("::1", 1, 0, 0)), (socket.AF_INET, listener.getsockname())]

    monkeypatch.setattr(tcp, "_addresses", of)
    with anyio.fail_after(PATIENCE):
        await closed(await opened())


async def test_another_address_is_tried_beside_one_that_does_not_answer(
    listener: socket.socket, full: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses(monkeypatch, full, listener.getsockname())
    with anyio.fail_after(PATIENCE):
        await closed(await opened())


async def test_a_host_without_a_listener_is_an_error_of_the_first_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        unused = first.getsockname(), second.getsockname()
    addresses(monkeypatch, *unused)
    with anyio.fail_after(PATIENCE), pytest.raises(OSError, match=str(unused[0][1])):
        await opened()
    addresses(monkeypatch)
    with anyio.fail_after(PATIENCE), pytest.raises(OSError, match="no address"):
        await opened()


async def test_a_connection_attempt_cancelled_at_any_moment_leaves_nothing(listener: socket.socket) -> None:
    host, port = listener.getsockname()
    finished = False
    for moment in range(100):
        with anyio.CancelScope() as scope:

            async def give_up(passes: int = moment, scope: anyio.CancelScope = scope) -> None:
                for _ in range(passes):
                    await asyncio.sleep(0)
                scope.cancel()

            async with anyio.create_task_group() as group:
                group.start_soon(give_up)
                one = await opened(host, port)
                finished = not scope.cancel_called
                await closed(one)
        if finished:
            break
    assert finished
    gc.collect()  # a leaked socket warns now, and warnings are errors
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_reused_file_descriptor_is_not_taken_for_the_closed_socket(
    listener: socket.socket, tmp_path: Path
) -> None:
    """With TLS the loop closes a socket before it reports that. A forked child would close the other file."""
    with anyio.fail_after(PATIENCE):
        one = await opened(*listener.getsockname())
        number = one.fileno
        assert number > 2
        with (tmp_path / "other").open("w") as other, socket.socket(fileno=socket.dup(number)) as saved:
            os.dup2(other.fileno(), number)
            assert one.fileno == -1
            os.dup2(saved.fileno(), number)
            assert one.fileno == number
        await closed(one)


async def test_requests_do_not_wait_for_tcp_acknowledgements(listener: socket.socket) -> None:
    """Otherwise each request would wait 40 ms for the acknowledgement of the one before."""
    with anyio.fail_after(PATIENCE):
        one = await opened(*listener.getsockname())
        with socket.socket(fileno=socket.dup(one.fileno)) as same:
            assert same.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await closed(one)
