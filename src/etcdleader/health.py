"""Health over HTTP, for load balancers, orchestrators and people: as an ASGI app, or from a separate thread.

::

    with serve(manager, "0.0.0.0", 8008):
        await manager.campaign()

- ``/leader``: 200 while this process leads, as the manager computes it at that moment, otherwise 503.
- ``/livez``: 503 if the manager is wedged or its campaign has failed, so that a restart is due. A standby is live.
- ``/readyz``: 200 on the leader, and on a standby that could take over now.
- ``/status``: the complete state as JSON, without secrets.
- ``/metrics``: the content of the given Prometheus registry.

With an election key after them (``/leader/NAME``), the first four pages report on that election. ``/livez`` and ``/readyz``
without a key report on all elections.

GET, HEAD and OPTIONS have the same status (HAProxy's plain ``option httpchk`` sends OPTIONS). No response waits for etcd or for
the event loop. But an ASGI app runs on a loop: while that is blocked, it does not respond. So prefer :func:`serve` if the app
shares its loop with the manager and a prompt response matters.

Neither has users or passwords: bind them to an address that only authorized clients can reach.
"""

from __future__ import annotations

import json
import logging
import math
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ._values.printable import escape_control_characters
from .manager import LeaderManager
from .model import Health, HealthState

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ("Health", "HealthServer", "HealthState", "asgi_app", "serve")

_logger = logging.getLogger("etcdleader.health")

_METHODS = ("GET", "HEAD", "OPTIONS")
_LONGEST_REQUEST = 16_384
_TIMEOUT_SECONDS = 5.0
"""Seconds for a request to arrive, and again for its response to be read."""
_MAX_CONNECTIONS = 32
"""Connections at a time. Another one is closed at once. One client can hold all of them for at most two timeouts."""

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    content_type: str = "application/json"

    def headers(self) -> dict[str, str]:
        return {
            "Content-Type": self.content_type,
            "Content-Length": str(len(self.body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Allow": ", ".join(_METHODS),
        }


class _Site:
    """The pages, for both servers."""

    def __init__(self, managers: LeaderManager | Iterable[LeaderManager], registry: CollectorRegistry | None) -> None:
        all_of_them = [managers] if isinstance(managers, LeaderManager) else list(managers)
        self._managers = {manager.election_key: manager for manager in all_of_them}
        self._registry = registry
        if not all_of_them:
            raise ValueError("health needs at least one manager")
        if len(self._managers) < len(all_of_them):
            raise ValueError("two managers campaign for the same election: /leader/NAME could mean either")

    def answer(self, method: str, path: str, accept: str = "") -> _Answer:
        """Return the response to one request.

        Args:
            method: The method.
            path: The decoded path, without the query.
            accept: The Accept header, for ``/metrics``.
        """
        if method not in _METHODS:
            return _json(405, {"error": f"only {', '.join(_METHODS)}"})
        try:
            page, _, name = path.removeprefix("/").partition("/")
            if page == "metrics" and not name and self._registry is not None:
                # A registry exists only if prometheus_client is installed.
                from prometheus_client.exposition import choose_encoder

                encode, content_type = choose_encoder(accept)
                return _Answer(200, encode(self._registry), content_type)
            return self._about(page, name.rstrip("/"))
        except Exception:
            _logger.exception("no answer to %r %r", method, path)
            return _json(500, {"error": "internal error: see the log"})

    def _about(self, page: str, name: str) -> _Answer:
        if page not in {"leader", "livez", "readyz", "status"}:
            return _json(
                404, {"error": "the pages are /leader, /livez, /readyz, /status and, with a registry, /metrics"}
            )
        if name and name not in self._managers:
            return _json(404, {"error": "no such election here", "elections": sorted(self._managers)})
        those = {name: self._managers[name]} if name else self._managers
        if page == "status":
            return _json(200, {"elections": {election: _status(manager) for election, manager in those.items()}})
        if page == "leader" and len(those) > 1:
            return _json(404, {"error": "several elections: name one, as in /leader/NAME", "elections": sorted(those)})
        healths = {election: manager.health() for election, manager in those.items()}
        if page == "leader":
            good = all(manager.is_leader() for manager in those.values())
        elif page == "livez":
            good = all(health.live for health in healths.values())
        else:
            good = all(health.ready for health in healths.values())
        return _json(200 if good else 503, {election: _health(health) for election, health in healths.items()})


def _json(status: int, content: Mapping[str, object]) -> _Answer:
    return _Answer(status, json.dumps(content, indent=2).encode() + b"\n")


def _health(health: Health) -> dict[str, object]:
    return asdict(health) | {
        "state": health.state.value,
        "since": health.since.isoformat(timespec="milliseconds"),
        "live": health.live,
    }


def _status(manager: LeaderManager) -> dict[str, object]:
    term, statistics = manager.term, manager.statistics()
    remaining = None if term is None else term.remaining()
    return {
        "identity": manager.identity,
        "advertised": manager.advertised,
        "is_leader": term is not None,
        "status": manager.status.name,
        "health": _health(manager.health()),
        "term": None
        if term is None or remaining is None
        else {
            "token": term.token,
            "key": term.key,
            # Hexadecimal, as in the key. A number would lose digits in JavaScript.
            "lease_id": f"{term.lease_id:x}",
            "elected_at": term.elected_at.isoformat(timespec="milliseconds"),
            "remaining": round(remaining, 3) if math.isfinite(remaining) else None,
        },
        "known_leader": _known_leader(manager),
        "statistics": asdict(statistics)
        | {"losses": {reason.value: count for reason, count in statistics.losses.items()}},
    }


def _known_leader(manager: LeaderManager) -> dict[str, object] | None:
    leader, received_at = manager.known_leader, manager.known_leader_at
    if leader is None:
        return None
    return {
        "identity": leader.identity,
        "advertised": leader.advertised,
        "token": leader.token,
        "key": leader.key,
        "lease_id": f"{leader.lease_id:x}",
        "received_at": None if received_at is None else received_at.isoformat(timespec="milliseconds"),
    }


# In an event loop


def asgi_app(
    managers: LeaderManager | Iterable[LeaderManager], *, registry: CollectorRegistry | None = None
) -> Callable[[_Scope, _Receive, _Send], Awaitable[None]]:
    """Return an ASGI 3 application. Serve it alone or mount it in another one, on any event loop.

    Args:
        managers: One manager, or the managers of several elections.
        registry: The content of ``/metrics``. Without a registry that page does not exist.

    Raises:
        ValueError: There is no manager, or two managers have the same election.
    """
    site = _Site(managers, registry)

    async def app(scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] == "http":
            path, root = scope["path"], scope.get("root_path", "")
            if root and (path == root or path.startswith(f"{root}/")):
                path = path.removeprefix(root)
            accept = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"), "")
            answer = site.answer(scope["method"], path, accept)
            headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers().items()]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            body = b"" if scope["method"] == "HEAD" else answer.body
            await send({"type": "http.response.body", "body": body})
        else:
            raise ValueError(f"unsupported ASGI scope: {scope['type']}")

    return app


# In a thread


@dataclass(frozen=True, slots=True)
class HealthServer:
    """The address of a health server.

    Attributes:
        host: The host, as given.
        port: The port in use, even if 0 was given.
    """

    host: str
    port: int

    @property
    def url(self) -> str:
        """``http://HOST:PORT``, without a slash at the end."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


@contextmanager
def serve(
    managers: LeaderManager | Iterable[LeaderManager],
    host: str,
    port: int,
    *,
    registry: CollectorRegistry | None = None,
) -> Iterator[HealthServer]:
    """Serve the pages from a daemon thread while the block runs, even while the event loop is blocked.

    The thread needs the interpreter. It does not respond while a C call holds the GIL, or while the process is stopped.

    Args:
        managers: One manager, or the managers of several elections.
        host: A name or an address of this machine; ``"0.0.0.0"`` or ``"::"`` for all.
        port: The port; 0 for any free port.
        registry: The content of ``/metrics``. Without a registry that page does not exist.

    Raises:
        ValueError: There is no manager, or two managers have the same election.
        OSError: The address is in use or not available.
    """
    with _Server(host, port, _Site(managers, registry)) as server:
        thread = threading.Thread(target=server.answer_requests, name="etcdleader health", daemon=True)
        thread.start()
        try:
            yield HealthServer(host, server.server_port)
        finally:
            server.stop()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    timeout = 1.0
    """Seconds between the thread's checks for its end, on platforms where closing the socket does not wake it."""

    def __init__(self, host: str, port: int, site: _Site) -> None:
        self.site = site
        self.places = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        self._stopping = threading.Event()
        flags = socket.AI_PASSIVE | socket.AI_NUMERICSERV
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)[0]
        except UnicodeError:
            raise socket.gaierror(socket.EAI_NONAME, f"{host!r} is not a valid host name") from None
        self.address_family = family
        super().__init__((str(address[0]), port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer's own method resolves the host's name, which can take seconds.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def answer_requests(self) -> None:
        while not self._stopping.is_set():
            self.handle_request()

    def stop(self) -> None:
        self._stopping.set()
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:
            # Usually no file descriptor is left. The connection is still waiting, so the next call would come at once.
            self._stopping.wait(0.1)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self.places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        del request
        # Usually the client has disconnected, or was too slow.
        _logger.debug("a request from %s failed: %r", client_address, sys.exception())


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        # The head is read as a whole, within one deadline. A socket's timeout is that of one byte, so a slow client could
        # otherwise stay connected without limit.
        self.rfile = BytesIO(_read_head(self.connection, time.monotonic() + _TIMEOUT_SECONDS))
        self.connection.settimeout(_TIMEOUT_SECONDS)

    def _answer(self) -> None:
        path = unquote(self.path.partition("?")[0], errors="replace")
        answer = self.server.site.answer(self.command, path, self.headers.get("Accept", ""))
        self.send_response(answer.status)
        for name, value in answer.headers().items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_HEAD = do_OPTIONS = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815 - the base's names

    def version_string(self) -> str:
        return "etcdleader"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        _logger.debug("%s", escape_control_characters(format % args))


def _read_head(connection: socket.socket, deadline: float) -> bytes:
    """Return the bytes received up to the empty line, the greatest length or the end; none after the deadline."""
    head = b""
    while b"\r\n\r\n" not in head and b"\n\n" not in head and len(head) < _LONGEST_REQUEST:
        left = deadline - time.monotonic()
        if left <= 0:
            return b""
        connection.settimeout(left)
        some = connection.recv(4096)
        if not some:
            break
        head += some
    return head
