"""Health over HTTP: from a thread that no blocked loop can silence, and as an ASGI app on any loop."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields
from typing import Any

import anyio
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from etcdleader import Config, ElectionStatistics, EtcdConfig, EtcdLeaderManager, NoopLeaderManager, Term
from etcdleader import health as health_module
from etcdleader.health import HealthServer, asgi_app, serve
from etcdleader.prometheus import PrometheusMetrics

pytestmark = pytest.mark.anyio

SECRET = "swordfish"


@dataclass
class Got:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(server: HealthServer, path: str, method: str = "GET", **headers: str) -> Got:
    """Blocks its caller, including the event loop."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return Got(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


async def ask_app(app: Any, path: str, method: str = "GET", *, root: str = "", **headers: str) -> Got:
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        await anyio.lowlevel.checkpoint()
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        await anyio.lowlevel.checkpoint()
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "method": method,
        "path": path,
        "root_path": root,
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    await app(scope, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    start, body = sent
    return Got(start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, body["body"])


@pytest.fixture
def manager() -> NoopLeaderManager:
    """It leads while it campaigns, without an etcd."""
    return NoopLeaderManager(election_key="jobs/nightly")


async def test_leader_is_200_only_while_it_leads_both_ways(anyio_backend: str, manager: NoopLeaderManager) -> None:
    app = asgi_app(manager)
    with serve(manager, "127.0.0.1", 0) as server:

        async def statuses() -> tuple[int, int]:
            return ask(server, "/leader").status, (await ask_app(app, "/leader")).status

        assert await statuses() == (503, 503)
        async with manager:
            await manager.wait_elected()
            assert await statuses() == (200, 200)
        assert await statuses() == (503, 503)


async def test_the_thread_answers_while_the_loop_is_blocked(anyio_backend: str, manager: NoopLeaderManager) -> None:
    """``ask`` is called on the loop and holds it until the answer is there: one that needs the loop never comes."""
    registry = CollectorRegistry()
    PrometheusMetrics(registry).attach(manager)
    with serve(manager, "127.0.0.1", 0, registry=registry) as server:
        async with manager:
            await manager.wait_elected()
            for page in ("/leader", "/livez", "/readyz", "/status", "/metrics"):
                assert ask(server, page).status == 200, page


async def test_a_failed_campaign_fails_liveness(anyio_backend: str, manager: NoopLeaderManager) -> None:
    app = asgi_app(manager)
    manager.on_elected(lambda manager, term: 1 / 0)
    assert (await ask_app(app, "/livez")).status == 200
    assert (await ask_app(app, "/readyz")).status == 503
    with pytest.raises(ZeroDivisionError):
        await manager.campaign()
    got = await ask_app(app, "/livez")
    assert got.status == 503
    assert got.json()["jobs/nightly"]["state"] == "failed"
    assert (await ask_app(app, "/leader")).status == 503


@pytest.mark.parametrize(
    "path", ["/", "/nope", "/leaders", "/metrics", "/metrics/jobs", "/leader/other", "/livez/other", ""]
)
async def test_unknown_paths_are_404(anyio_backend: str, manager: NoopLeaderManager, path: str) -> None:
    """A load balancer that asks for a page with a typing error must not take the answer for yes."""
    async with manager:
        await manager.wait_elected()
        with serve(manager, "127.0.0.1", 0) as server:
            assert ask(server, path or "*").status == 404
        assert (await ask_app(asgi_app(manager), path)).status == 404


@pytest.mark.parametrize("leads", [False, True])
async def test_get_head_and_options_have_one_status(
    anyio_backend: str, manager: NoopLeaderManager, leads: bool
) -> None:
    """By default HAProxy sends OPTIONS, and others send HEAD."""
    app = asgi_app(manager)
    async with AsyncExitStack() as stack:
        server = stack.enter_context(serve(manager, "127.0.0.1", 0))
        if leads:
            await stack.enter_async_context(manager)
            await manager.wait_elected()
        for method in ("GET", "HEAD", "OPTIONS"):
            for got in (ask(server, "/leader", method), await ask_app(app, "/leader", method)):
                assert got.status == (200 if leads else 503)
                assert got.headers["allow"] == "GET, HEAD, OPTIONS"
                assert got.headers["cache-control"] == "no-store"
                assert got.headers["x-content-type-options"] == "nosniff"
                assert bool(got.body) is (method != "HEAD")
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert ask(server, "/leader", method).status == 405
            assert (await ask_app(app, "/leader", method)).status == 405


def test_the_answer_to_head_ends_with_its_headers(manager: NoopLeaderManager) -> None:
    """Bytes after them would be taken for the next response. Python's own client does not read them, and reports nothing."""
    with serve(manager, "127.0.0.1", 0) as server, connected(server, b"HEAD /livez HTTP/1.0\r\n\r\n") as client:
        got = b"".join(iter(lambda: client.recv(4096), b""))
    assert got.startswith(b"HTTP/1.0 200 ")
    assert got.partition(b"\r\n\r\n")[1:] == (b"\r\n\r\n", b"")


async def test_a_page_that_fails_reports_it_and_keeps_the_reason_for_the_log(
    anyio_backend: str, manager: NoopLeaderManager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError(SECRET)

    monkeypatch.setattr(manager, "health", fail)
    with serve(manager, "127.0.0.1", 0) as server:
        for got in (ask(server, "/livez"), await ask_app(asgi_app(manager), "/livez")):
            assert got.status == 500
            assert SECRET.encode() not in got.body
    assert caplog.text.count(f"ValueError: {SECRET}") == 2


async def test_several_elections_are_distinguished_by_name(anyio_backend: str) -> None:
    one, two = NoopLeaderManager(election_key="one"), NoopLeaderManager(election_key="a/b c?ü")
    with serve([one, two], "127.0.0.1", 0) as server:
        async with two:
            await two.wait_elected()
            assert ask(server, "/leader").status == 404, "which one?"
            assert ask(server, "/leader/one").status == 503
            assert ask(server, "/leader/a/b%20c%3F%C3%BC").status == 200
            assert ask(server, "/leader/a/b%20c%3F%C3%BC/?from=lb").status == 200
            assert (await ask_app(asgi_app([one, two]), "/leader/a/b c?ü")).status == 200
            assert ask(server, "/livez").status == 200
            assert ask(server, "/readyz").status == 503, "not all of them are"
            assert ask(server, "/readyz/a/b%20c%3F%C3%BC").status == 200
            assert set(ask(server, "/status").json()["elections"]) == {one.election_key, two.election_key}


def test_two_managers_of_one_election_are_refused() -> None:
    with pytest.raises(ValueError, match="same election"):
        asgi_app([NoopLeaderManager(election_key="one"), NoopLeaderManager(election_key="one")])
    with pytest.raises(ValueError, match="at least one manager"):
        asgi_app([])


async def test_status_shows_everything_except_secrets(anyio_backend: str, manager: NoopLeaderManager) -> None:
    client = EtcdConfig(endpoints="etcd:2379", user="jobs", password=SECRET, allow_plaintext_password=True)
    other = EtcdLeaderManager(client, Config(enabled=True), "other")

    async def work(term: Term) -> None:
        raise ValueError(SECRET)

    with pytest.raises(ValueError, match=SECRET):
        await manager.run(work)
    async with NoopLeaderManager(election_key="led") as led:
        await led.wait_elected()
        await led.advertise("here")
        got = await ask_app(asgi_app([manager, other, led]), "/status")
    assert SECRET.encode() not in got.body
    elections = got.json()["elections"]
    assert elections["led"]["term"]["token"] == 0
    assert elections["led"]["term"]["remaining"] is None, "infinite, which JSON has no word for"
    assert elections["jobs/nightly"]["health"]["state"] == "failed"
    assert elections["other"]["identity"] == other.identity
    assert (elections["other"]["advertised"], elections["other"]["known_leader"]) == (None, None)
    leader = elections["led"]["known_leader"]
    assert leader.pop("received_at")
    assert leader == {"identity": "noop", "advertised": "here", "token": 0, "key": "", "lease_id": "0"}
    assert elections["led"]["advertised"] == "here"
    assert elections["other"]["statistics"]["queue_position"] is None
    assert elections["other"]["statistics"].keys() == {field.name for field in fields(ElectionStatistics)}
    assert elections["jobs/nightly"]["statistics"]["losses"] == {"failed": 1}


async def test_metrics_come_in_the_requested_format(anyio_backend: str, manager: NoopLeaderManager) -> None:
    registry = CollectorRegistry()
    PrometheusMetrics(registry).attach(manager)
    with serve(manager, "127.0.0.1", 0, registry=registry) as server:
        plain = ask(server, "/metrics")
        assert plain.headers["content-type"].startswith("text/plain")
        names = {family.name for family in text_string_to_metric_families(plain.body.decode())}
        assert "etcdleader_is_leader" in names
        opened = ask(server, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert opened.headers["content-type"].startswith("application/openmetrics-text")
        assert opened.body.endswith(b"# EOF\n")
    got = await ask_app(asgi_app(manager, registry=registry), "/metrics")
    assert b"etcdleader_is_leader" in got.body


async def test_an_app_that_is_mounted_below_a_path_finds_its_pages(
    anyio_backend: str, manager: NoopLeaderManager
) -> None:
    """Some servers leave the mount point in the path, some take it off."""
    app = asgi_app(manager)
    assert (await ask_app(app, "/health/livez", root="/health")).status == 200
    assert (await ask_app(app, "/livez", root="/health")).status == 200
    assert (await ask_app(app, "/healthlivez", root="/health")).status == 404


async def test_lifespan_and_websockets_are_answered(anyio_backend: str, manager: NoopLeaderManager) -> None:
    """A server that gets no answer to lifespan does not start, or says that the app is broken."""
    app = asgi_app(manager)

    async def talk(kind: str, *received: str) -> list[str]:
        messages, sent = iter(received), []

        async def receive() -> MutableMapping[str, Any]:
            await anyio.lowlevel.checkpoint()
            return {"type": next(messages)}

        async def send(message: MutableMapping[str, Any]) -> None:
            await anyio.lowlevel.checkpoint()
            sent.append(message["type"])

        await app({"type": kind}, receive, send)
        return sent

    assert await talk("lifespan", "lifespan.startup", "lifespan.shutdown") == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert await talk("websocket", "websocket.connect") == ["websocket.close"]
    with pytest.raises(ValueError, match="smoke"):
        await talk("smoke")


# What strangers do to the thread


@contextmanager
def connected(server: HealthServer, sends: bytes = b"") -> Iterator[socket.socket]:
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        connection.sendall(sends)
        yield connection


def test_silent_clients_delay_no_other_client(manager: NoopLeaderManager) -> None:
    with serve(manager, "127.0.0.1", 0) as server, connected(server), connected(server, b"GET /livez HTTP/1.1\r\nA:"):
        assert ask(server, "/livez").status == 200


@pytest.mark.parametrize("says", [b"", b"GET /livez HTTP/1.1\r\nHost: ", b"\x16\x03\x01\x00\xa5\x01\x00", b"\n"])
def test_a_client_that_does_not_finish_is_dropped_in_time(
    manager: NoopLeaderManager, monkeypatch: pytest.MonkeyPatch, says: bytes
) -> None:
    monkeypatch.setattr(health_module, "_TIMEOUT_SECONDS", 0.1)
    with (
        serve(manager, "127.0.0.1", 0) as server,
        connected(server, says) as client,
        suppress(ConnectionResetError),  # a slow machine sends its bytes after that
    ):
        assert client.recv(1) == b""


def test_a_client_that_sends_a_byte_now_and_then_is_dropped_all_the_same(
    manager: NoopLeaderManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte restarts a socket's timeout; the request has one timeout for all of it."""
    monkeypatch.setattr(health_module, "_TIMEOUT_SECONDS", 0.3)
    with (
        serve(manager, "127.0.0.1", 0) as server,
        connected(server, b"GET /livez HTTP/1.1\r\n") as client,
        pytest.raises(ConnectionError),
    ):
        for _ in range(1000):
            client.sendall(b"A")
            time.sleep(0.02)


def test_clients_that_hold_every_slot_are_disconnected_after_a_while(
    manager: NoopLeaderManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No number of connections makes more threads than there are places."""
    monkeypatch.setattr(health_module, "_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(health_module, "_MAX_CONNECTIONS", 3)
    before = threading.active_count()
    with serve(manager, "127.0.0.1", 0) as server, ExitStack() as held:
        for _ in range(20):
            held.enter_context(connected(server))
        assert threading.active_count() <= before + 1 + 3
        for _ in range(500):
            try:
                status = ask(server, "/livez").status
                break
            except (ConnectionError, http.client.HTTPException):
                time.sleep(0.02)
        else:
            pytest.fail("no place became free")
        assert status == 200


@pytest.mark.parametrize(
    "request_line", [b"GET /livez", b"BREW /livez HTTP/1.1", b"GET  HTTP/1.1", b"GET /%zz%00 HTTP/1.1", b"\xff\xfe /"]
)
def test_nonsense_is_answered_or_dropped_and_the_next_is_served(
    manager: NoopLeaderManager, request_line: bytes
) -> None:
    with serve(manager, "127.0.0.1", 0) as server:
        with connected(server, request_line + b"\r\n\r\n") as client:
            assert b" 200 " not in client.recv(100)[:20]
        assert ask(server, "/livez").status == 200


def test_the_port_is_free_again_after_the_block(manager: NoopLeaderManager) -> None:
    with serve(manager, "127.0.0.1", 0) as server:
        port = server.port
        with pytest.raises(OSError, match="not a valid host name"), serve(manager, "a..b", port):
            pytest.fail("not to be had")
        with pytest.raises(OSError, match="in use"), serve(manager, "127.0.0.1", port):
            pass
    with serve(manager, "127.0.0.1", port) as again:
        assert again.url == f"http://127.0.0.1:{port}"
        assert ask(again, "/livez").status == 200
    assert not [thread for thread in threading.enumerate() if thread.name == "etcdleader health"]


def test_ipv6(manager: NoopLeaderManager) -> None:
    try:
        with serve(manager, "::1", 0) as server:
            assert server.url == f"http://[::1]:{server.port}"
            assert ask(server, "/livez").status == 200
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")


def test_health_needs_no_prometheus_client() -> None:
    """It is an extra."""
    script = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from etcdleader import NoopLeaderManager; from etcdleader.health import asgi_app, serve\n"
        "asgi_app(NoopLeaderManager())\n"
        "with serve(NoopLeaderManager(), '127.0.0.1', 0): pass\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=60)
