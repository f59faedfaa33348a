"""Explain a failed TLS connection, naming the file, the setting or the endpoint."""

from __future__ import annotations

import re
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import anyio
from anyio.abc import ByteStream
from anyio.streams.tls import TLSAttribute

from .._grpc.tcp import connect_tcp
from .._grpc.transport import CONNECTION_LOST
from .._grpc.transport_anyio import stream_over
from ..config import EtcdConfig
from ..errors import EtcdLeaderError
from .tls import ClientContexts

_TIMEOUT_SECONDS = 5.0
"""Timeout of the diagnosis in seconds."""
_NOTHING = (*CONNECTION_LOST, ValueError)
"""Errors that show no cause. The last one is raised for names that cannot be host names."""
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
_SETTINGS = b"\4"
"""The type of a SETTINGS frame, which is the fourth byte of the frame."""
# The validity in a certificate: not before, not after. Before 2050, years have two digits.
_VALIDITY = re.compile(rb"0.(?:\x17\r\d{12}|\x18\x0f\d{14})Z(?:\x17\r(\d{12})|\x18\x0f(\d{14}))Z", re.DOTALL)


class TlsDiagnosis:
    """The cause of the failure of an endpoint that has never responded, found by another handshake.

    gRPC's texts differ between releases, and some report only that the peer closed the connection. A peer also does that
    if only one of the two sides uses TLS. The diagnosis runs when a connection fails, and only once for each endpoint.
    """

    def __init__(
        self, address: str, config: EtcdConfig, contexts: ClientContexts | None = None, *, tls: bool | None = None
    ) -> None:
        host, _, port = address.rpartition(":")
        self._contexts = contexts or ClientContexts(config)
        self._name = address
        self._host = host.strip("[]")
        self._port = int(port)
        self._config = config
        self._tls = config.tls if tls is None else tls
        self._once = anyio.Lock()
        self._asked = False
        self._reason: str | None = None

    async def reason(self) -> str | None:
        """Return the problem as a text for people. None: TLS is not the cause, or no cause was found in time."""
        async with self._once:
            if not self._asked:
                with anyio.move_on_after(_TIMEOUT_SECONDS):
                    self._reason = await (self._with_tls() if self._tls else self._without_tls())
                    self._asked = True
        return self._reason

    async def _with_tls(self) -> str | None:
        config = self._config
        speaks_tls = False
        try:
            async with await self._connect(self._contexts.get) as stream:
                speaks_tls = True
                if stream.extra(TLSAttribute.alpn_protocol, None) != "h2":  # noqa: S610 - Django's is another one
                    return self._no_http2()
                # In TLS 1.3 the peer checks our certificate after the handshake has completed on our side.
                await stream.receive()
        except ssl.SSLCertVerificationError as error:
            held = "no ca_cert is set" if config.ca_cert is None else f"ca_cert = {config.ca_cert!r}"
            return f"the certificate of {self._name} was refused: {error.verify_message} ({held})"
        except ssl.SSLError as error:
            if "ALERT" in (error.reason or ""):
                return self._alert(str(error.reason))
            return await self._plaintext() or f"the TLS handshake with {self._name} failed: {error.reason}"
        except EtcdLeaderError:
            return None  # a file was just replaced: the next attempt to connect reports it
        except _NOTHING:
            # A peer without TLS closes or resets the connection, depending on how much of our hello it has read.
            return None if speaks_tls else await self._plaintext()
        return None

    def _no_http2(self) -> str:
        return (
            f"{self._name} speaks TLS, but does not offer HTTP/2 (h2 in ALPN), which gRPC needs: it is not etcd, or "
            "a proxy without HTTP/2"
        )

    def _alert(self, alert: str) -> str:
        """Return the meaning of a TLS alert from the peer."""
        cert = self._config.cert
        if "NO_APPLICATION_PROTOCOL" in alert:
            return self._no_http2()
        if "CERT" not in alert and "UNKNOWN_CA" not in alert:
            return f"{self._name} refused the TLS handshake: {alert}"
        if cert is None:
            return f"{self._name} requires a client certificate: set cert and key ({alert})"
        why = "it may come from an authority that etcd does not trust, or not be valid for clients"
        with suppress(OSError, ValueError):
            expiry = _expiry(Path(cert).read_text())
            if expiry is not None and expiry < datetime.now(UTC):
                why = f"it expired on {expiry:%Y-%m-%d at %H:%M} UTC"
        return f"{self._name} refused cert = {cert!r}: {why} ({alert})"

    async def _plaintext(self) -> str | None:
        """Return the problem if the peer closes the connection because it does not use TLS."""
        try:
            async with await self._connect(None) as stream:
                await stream.send(_HTTP2_PREFACE)
                answer = await stream.receive()
                # An HTTP/2 server begins with SETTINGS. An HTTP/1 response is an error, which a TLS server may send too.
                http1 = answer.startswith(b"HTTP/") and b"https" not in answer.lower()
                if not http1 and answer[3:4] != _SETTINGS:
                    return None
        except _NOTHING:
            return None
        return f"{self._name} does not speak TLS: reach it by http:// and without ca_cert, or give etcd a certificate"

    async def _without_tls(self) -> str | None:
        try:
            async with await self._connect(_any_context):
                pass
        except ssl.SSLError as error:
            if "ALERT" not in (error.reason or ""):
                return None
        except _NOTHING:
            return None
        return f"{self._name} speaks TLS: reach it by https://, or set ca_cert"

    async def _connect(self, tls: Callable[[], Awaitable[ssl.SSLContext]] | None) -> ByteStream:
        connected = await connect_tcp(self._host, self._port)
        try:
            context = None if tls is None else await tls()
        except BaseException:
            connected.close()
            raise
        return await stream_over(connected, self._host.removesuffix("."), context)  # certificates have no final dot


async def _any_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # no data is sent on this connection, and no data from it is trusted
    context.set_alpn_protocols(["h2"])
    return context


def _expiry(pem: str) -> datetime | None:
    """Return the expiry of the first certificate in ``pem``. It only explains a refusal, and decides nothing."""
    end = "-----END CERTIFICATE-----"
    found = _VALIDITY.search(ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN") : pem.index(end) + len(end)]))
    if found is None:
        return None
    short, long = found.groups()
    return datetime.strptime((long or b"20" + short).decode(), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
