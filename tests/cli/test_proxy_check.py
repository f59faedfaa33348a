"""`etcdleader doctor` reports only what it has found out about etcd's grpc-proxy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from anyio.abc import SocketAttribute, SocketStream

from etcdleader import EtcdConfig
from etcdleader._cli.findings import Finding
from etcdleader._cli.proxy_check import check_proxies

pytestmark = pytest.mark.anyio

Handler = Callable[[SocketStream], Awaitable[None]]


async def says_nothing(stream: SocketStream) -> None:
    async with stream:
        await anyio.sleep_forever()


async def hangs_up(stream: SocketStream) -> None:
    await stream.aclose()


def answers(status: str, page: str) -> Handler:
    async def handle(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(f"HTTP/1.0 {status}\r\n\r\n{page}".encode())

    return handle


@pytest.mark.parametrize(
    ("handler", "level"),
    [
        (says_nothing, "skipped"),
        (hangs_up, "skipped"),
        (answers("404 Not Found", "404 page not found"), "ok"),
        (answers("200 OK", "<html>"), "ok"),
        (answers("200 OK", "# HELP etcd_grpc_proxy_cache_hits_total\n"), "problem"),
    ],
    ids=["silence", "no answer", "a member", "a page for every path", "a grpc-proxy"],
)
async def test_an_endpoint_is_no_proxy_only_if_it_answers_as_a_member_does(handler: Handler, level: str) -> None:
    found: list[Finding] = []
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        endpoint = f"127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, handler)
            # Only a silent endpoint waits that long. An answer has all the time that a slow machine needs.
            await check_proxies(EtcdConfig([endpoint]), found.append, 0.1 if handler is says_nothing else 60)
            group.cancel_scope.cancel()
    assert [(one.check, one.level) for one in found] == [("proxy", level)]
    assert level != "skipped" or endpoint in found[0].what


async def test_the_final_dot_of_a_name_is_not_in_what_is_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No certificate has it. With it the handshake would fail, and the proxy would not be found."""
    ca = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(ca))
    asked: list[tuple[str, str]] = []

    async def connect_tcp(host: str, port: int, *, tls_hostname: str, **_: Any) -> None:
        asked.append((host, tls_hostname))
        raise OSError

    monkeypatch.setattr(anyio, "connect_tcp", connect_tcp)
    await check_proxies(EtcdConfig("https://proxy.example.:2379", ca_cert=ca), lambda finding: None, 60)
    assert asked == [("proxy.example.", "proxy.example")]
