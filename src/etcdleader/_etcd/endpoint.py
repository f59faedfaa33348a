"""One member of etcd, and the ways to it: a channel of gRPC's with the stubs on it, for calls without a thread each, and a
connection for streams."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import grpc

from .._loop import CallSoon, LightEvent
from ..config import EtcdConfig
from ..errors import EtcdRefusedError, EtcdUnavailableError
from .rpc import etcdrpc
from .tls import TlsExaminer, check_files, client_context
from .translation import NoTlsError, translated

if TYPE_CHECKING:
    from .http2 import Http2

__all__ = ("Endpoint", "Metadata", "open_endpoint")

Metadata = Sequence[tuple[str, str]]

_OPTIONS = (
    # A watch may have to catch up with much.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # By default gRPC waits longer and longer, up to two minutes, before it tries a member again.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Closing a channel closes its connection, rather than leaving it to other channels of this process.
    ("grpc.use_local_subchannel_pool", 1),
    # So that a peer that vanished is noticed some time; nothing that matters waits for it. Below 5 s etcd hangs up, and
    # without the third option the second one does not count.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    # etcd is not reached through an HTTP proxy, and gRPC would even take one for 127.0.0.1.
    ("grpc.enable_http_proxy", 0),
)


_NO_CONNECTION = (OSError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, UnicodeError)
"""The last one is what names that cannot be names of hosts raise."""


class Endpoint:
    """The stubs of one channel.

    Attributes:
        name: Its address.
        heard_at: When something came from it, by ``time.monotonic``: an answer, or a message on a stream.
    """

    def __init__(self, name: str, channel: Any, call_soon: CallSoon, config: EtcdConfig | None = None) -> None:
        """Make one; without ``config`` the channel is a user's own, and left as it is."""
        self.name = name
        self.heard_at = -math.inf
        self._config = config
        self._examiner = None if config is None else TlsExaminer(name.removeprefix("https://"), config)
        self._channel = channel
        self._call_soon = call_soon
        self._calls = 0
        self._over: deque[LightEvent] = deque()
        self._told = False
        self._left = False
        self._streams: Http2 | None = None
        self._connecting = anyio.Lock()
        self._connect_scope: anyio.CancelScope | None = None
        self._given_up = False
        self.kv = etcdrpc.KVStub(channel)
        self.lease = etcdrpc.LeaseStub(channel)
        self.watch = etcdrpc.WatchStub(channel)
        self.auth = etcdrpc.AuthStub(channel)
        self.maintenance = etcdrpc.MaintenanceStub(channel)

    async def call(self, method: Any, request: Any, metadata: Metadata, timeout: float) -> Any:
        """Send one request and wait for its answer; cancelled, the request is withdrawn.

        Raises:
            EtcdLeaderError: What gRPC's error means.
        """
        deadline = anyio.current_time() + timeout
        try:
            future = method.future(request, timeout=timeout, metadata=metadata)
        except ValueError as closed:  # as gRPC says it: a user's own client, perhaps
            raise EtcdUnavailableError(f"{self.name}: the channel was closed") from closed
        over = LightEvent()

        def ended(_: object) -> None:
            if future.code() is grpc.StatusCode.OK:
                self.heard()
            self._over.append(over)
            if not self._told:
                # One way to the loop for all that ends until it looks: waking it costs more than all else here.
                self._told = True
                self._call_soon(self._tell)

        future.add_done_callback(ended)
        self._calls += 1
        try:
            await over.wait()
        finally:
            future.cancel()  # does nothing to one that is done
            self._calls -= 1
            self._close_if_done()
        if future.code() is grpc.StatusCode.OK:
            self._examiner = None
            return future.result()
        error = translated(future.code().name, future.details(), self.name)
        if future.code() is grpc.StatusCode.UNAVAILABLE and self._examiner is not None:
            with anyio.move_on_at(deadline):
                if (reason := await self._examiner.reason()) is not None:
                    error = NoTlsError(reason)
        if isinstance(error, NoTlsError):
            # The channel keeps the certificates that it was made with. That streams come about with those of today is no
            # reason to keep it.
            self.heard_at = -math.inf
        raise error

    def _tell(self) -> None:
        self._told = False  # first, so that what ends from now on tells again
        while self._over:
            self._over.popleft().set()

    async def streams(self) -> Http2 | None:
        """The connection for streams, which is made when there is none. None: this member is reached by a user's own client
        only.

        Raises:
            EtcdLeaderError: There is no connection.
        """
        if self._config is None:
            return None
        async with self._connecting:
            if not self._given_up and (self._streams is None or not self._streams.is_open):
                with anyio.CancelScope() as self._connect_scope:
                    self._streams = await self._connected(self._config)
            if self._given_up and self._streams is not None:
                self._streams.close()  # it may have come about all the same
            if self._given_up or self._streams is None or not self._streams.is_open:
                raise EtcdUnavailableError(f"{self.name}: the connection was closed")
            return self._streams

    async def _connected(self, config: EtcdConfig) -> Http2:
        from .http2 import Http2  # it takes a while to load, and a leader is elected without any stream

        connection = Http2(self.name.removeprefix("https://"), self.heard)
        context = None
        if config.tls:
            read_files(config)  # each time: they may have been renewed, and be wrong now
            context = client_context(config)
        try:
            await connection.connect(context)
        except _NO_CONNECTION as error:
            raise translated("UNAVAILABLE", _why(error), self.name) from error
        return connection

    async def closed(self) -> None:
        """Wait until nothing of it runs any more, once it was closed."""
        async with self._connecting:
            if self._streams is not None:
                await self._streams.ended.wait()

    def heard(self) -> None:
        """Something came from it. Called as it comes, in gRPC's threads, too: the loop may be late to look."""
        self.heard_at = time.monotonic()

    def leave(self) -> None:
        """Close it when the calls under way are over: one that does not answer *this* caller may answer others."""
        self._left = True
        self._give_up_connecting()
        self._close_if_done()

    def _give_up_connecting(self) -> None:
        self._given_up = True
        if self._connect_scope is not None:
            self._connect_scope.cancel()

    def _close_if_done(self) -> None:
        if self._left and not self._calls:
            self.close()

    def close(self) -> None:
        """End its calls and streams."""
        self._give_up_connecting()
        if self._streams is not None:
            self._streams.close()
        if self._config is not None:
            self._channel.close()


def open_endpoint(endpoint: str, config: EtcdConfig, call_soon: CallSoon) -> Endpoint:
    """Make a channel. Nothing is sent yet; certificates are read now, so renewed ones are found when one is made again.

    Raises:
        EtcdRefusedError: A certificate or key cannot be used.
    """
    address = endpoint.removeprefix("https://")
    if config.tls:
        contents = read_files(config)
        channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(*contents), options=_OPTIONS)
    else:
        channel = grpc.insecure_channel(address, options=_OPTIONS)
    return Endpoint(endpoint, channel, call_soon, config)


def read_files(config: EtcdConfig) -> list[bytes | None]:
    """What is in the files of authority, key and certificate.

    Raises:
        EtcdRefusedError: One cannot be used.
    """
    contents = [_read(name, getattr(config, name)) for name in ("ca_cert", "key", "cert")]
    # Not by gRPC, which writes what is wrong with a file to stderr and says to us only that something is.
    check_files(config)
    return contents


def _why(error: Exception) -> str:
    """Why there is no connection: anyio says of several attempts only that they failed."""
    if isinstance(error, OSError):
        cause = error.__cause__
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        return str(cause or error)
    return str(error) or "the member hung up while the connection was made"


def _read(name: str, path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise EtcdRefusedError(f"cannot read {name} = {path!r}: {error.strerror}") from error
