"""Failed attempts to open the connection for streams."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from etcdleader import EtcdConfig, EtcdUnavailableError
from etcdleader._etcd import endpoint as endpoints
from etcdleader._etcd import tls
from etcdleader._etcd.api import Range
from etcdleader._etcd.endpoint import Endpoint
from etcdleader._etcd.rpcs import RANGE, WATCH
from etcdleader._etcd.stream import StreamCallbacks
from etcdleader._grpc import Connection
from tests.client.endpoint_of import endpoint_of

pytestmark = pytest.mark.anyio

PATIENCE = 60


USE = StreamCallbacks(lambda message: None, lambda message: None, lambda error: None, lambda *_: None)


async def ask(endpoint: Endpoint, how: str, timeout: float = PATIENCE) -> None:
    if how == "call":
        await endpoint.call(RANGE, Range(b"a"), (), timeout)
    else:
        await endpoint.open_stream(WATCH, (), USE, timeout)


@asynccontextmanager
async def endpoint_at(serve: Callable[[SocketStream], Awaitable[None]]) -> AsyncIterator[Endpoint]:
    """Return an endpoint that uses TLS with any peer at this address."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        address = f"https://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        endpoint = endpoint_of(address, EtcdConfig([address]))
        with anyio.fail_after(PATIENCE):
            yield endpoint
            endpoint.close()
            await endpoint.wait_closed()
        group.cancel_scope.cancel()


async def test_each_caller_gets_the_reason_of_a_failed_connection_even_if_the_first_one_leaves() -> None:
    async def hang_up(socket: SocketStream) -> None:
        await socket.aclose()

    errors: list[str] = []

    async def ask_and_leave(endpoint: Endpoint) -> None:
        try:
            await ask(endpoint, "stream")
        except EtcdUnavailableError as error:
            errors.append(str(error))
            endpoint.drain()

    async with endpoint_at(hang_up) as endpoint, anyio.create_task_group() as group:
        group.start_soon(ask_and_leave, endpoint)
        group.start_soon(ask_and_leave, endpoint)
    assert len(errors) == 2
    assert errors[0] == errors[1]
    assert "closed" not in errors[1]


@pytest.mark.parametrize("how", ["call", "stream"])
async def test_a_peer_that_closes_during_the_handshake_is_unavailable(how: str) -> None:
    async def hang_up(socket: SocketStream) -> None:
        await socket.aclose()

    async with endpoint_at(hang_up) as endpoint:
        with pytest.raises(EtcdUnavailableError):
            await ask(endpoint, how)


@pytest.mark.parametrize("how", ["call", "stream"])
@pytest.mark.parametrize("way", ["drain", "close"])
async def test_a_call_that_connects_to_an_abandoned_endpoint_does_not_wait_for_it(how: str, way: str) -> None:
    came = anyio.Event()

    async def say_nothing(socket: SocketStream) -> None:
        async with socket:
            came.set()
            await anyio.sleep_forever()

    raised: list[str] = []

    async def connect(endpoint: Endpoint) -> None:
        try:
            await ask(endpoint, how)
        except EtcdUnavailableError as error:
            raised.append(str(error))

    async with endpoint_at(say_nothing) as endpoint:
        async with anyio.create_task_group() as group:
            for _ in range(2):  # the second one waits for the first one's connection
                group.start_soon(connect, endpoint)
            await came.wait()
            getattr(endpoint, way)()
        assert len(raised) == 2


@pytest.mark.parametrize("how", ["call", "stream"])
async def test_certificates_that_are_replaced_while_they_are_read_are_unavailable_for_now(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were checked a moment before, and were valid."""

    def replaced(config: EtcdConfig) -> ssl.SSLContext:
        raise ssl.SSLError("half of it is written")

    async def serve(socket: SocketStream) -> None:
        await socket.aclose()

    monkeypatch.setattr(tls, "client_context", replaced)
    async with endpoint_at(serve) as endpoint:
        with pytest.raises(EtcdUnavailableError, match=r"changed while they were read: .*half of it"):
            await ask(endpoint, how)


async def test_an_attempt_to_connect_outlives_its_first_callers_timeout() -> None:
    """Otherwise a link slower than every caller's timeout would never be connected."""

    async def serve(socket: SocketStream) -> None:
        await socket.aclose()

    made = 0
    fail = anyio.Event()

    class Slow(Connection):
        async def connect(self, tls: object) -> None:
            nonlocal made
            made += 1
            await fail.wait()
            raise OSError("no connection, in the end")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(endpoints, "Connection", Slow)
        patch.setattr(endpoints, "_CONNECT_TIMEOUT_SECONDS", PATIENCE)
        async with endpoint_at(serve) as endpoint:
            endpoint._examiner = None  # type: ignore[attr-defined]
            with pytest.raises(EtcdUnavailableError, match="no connection in time"):
                await ask(endpoint, "call", 0.1)
            with anyio.move_on_after(0.01):
                await ask(endpoint, "stream")
            fail.set()  # the next call waits for the attempt before that one wakes up
            with pytest.raises(EtcdUnavailableError, match="no connection, in the end"):
                await ask(endpoint, "call")
            assert made == 1
