"""The check for etcd's grpc-proxy. The proxy answers keep-alives itself, so a renewal through it proves nothing."""

from __future__ import annotations

import re
import ssl

import anyio
from anyio.abc import ByteStream

from .._etcd.tls import client_context
from .._values.addresses import needs_tls, unix_path
from ..config import EtcdConfig
from .findings import Finding, Report

_PAGE = "/proxy/metrics"
"""A page that the grpc-proxy of etcd 3.5 and later serves next to gRPC. A member of etcd responds with 404."""
_READ_BYTES = 4096
_NOT_FOUND_OUT = (OSError, UnicodeError, ValueError, anyio.EndOfStream, anyio.BrokenResourceError)


async def check_proxies(etcd: EtcdConfig, report: Report, timeout: float) -> None:
    """Report each endpoint that is a grpc-proxy."""
    found = {endpoint: await _is_grpc_proxy(etcd, endpoint, timeout) for endpoint in etcd.endpoints}
    proxies = [endpoint for endpoint, is_proxy in found.items() if is_proxy]
    silent = [endpoint for endpoint, is_proxy in found.items() if is_proxy is None]
    if proxies:
        what = f"etcd's grpc-proxy is at {', '.join(proxies)}; it answers keep-alives itself, and is not supported"
        report(Finding("proxy", "problem", what, "set the members of the cluster as endpoints"))
    elif silent:
        what = f"{', '.join(silent)} did not respond to the request that identifies etcd's grpc-proxy"
        report(Finding("proxy", "skipped", what))
    else:
        report(Finding("proxy", "ok", "no endpoint is etcd's grpc-proxy"))


async def _is_grpc_proxy(etcd: EtcdConfig, endpoint: str, timeout: float) -> bool | None:
    """Return whether the endpoint serves the page of a grpc-proxy; None if it did not respond."""
    answer = b""
    with anyio.move_on_after(timeout):
        try:
            async with await _connect(etcd, endpoint) as stream:
                host = "localhost" if unix_path(endpoint) is not None else endpoint.removeprefix("https://")
                await stream.send(f"GET {_PAGE} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
                while len(answer) < _READ_BYTES:
                    answer += await stream.receive()
        except _NOT_FOUND_OUT:
            pass  # the end of the response raises one of these
    if not answer:
        return None
    # Another server may respond to every path with its own page.
    return re.match(rb"HTTP/1\.[01] 200 ", answer) is not None and b"# HELP " in answer


async def _connect(etcd: EtcdConfig, endpoint: str) -> ByteStream:
    if (path := unix_path(endpoint)) is not None:
        return await anyio.connect_unix(path)
    host, _, port = endpoint.removeprefix("https://").rpartition(":")
    host = host.strip("[]")
    if not needs_tls(endpoint, tls=etcd.tls):
        return await anyio.connect_tcp(host, int(port))
    context: ssl.SSLContext = client_context(etcd)
    context.set_alpn_protocols(["http/1.1"])
    name = host.removesuffix(".")  # neither SNI nor a certificate has the final dot
    return await anyio.connect_tcp(
        host, int(port), ssl_context=context, tls_standard_compatible=False, tls_hostname=name
    )
