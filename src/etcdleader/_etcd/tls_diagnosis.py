"""Why there is no TLS connection, in words that name the file, the setting or the endpoint."""

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
from .._grpc.transport_anyio import stream_over
from ..config import EtcdConfig
from ..errors import EtcdLeaderError
from .tls import ClientContexts

_HANDSHAKE = 5.0
"""Seconds that finding out why there is no connection may take."""
_NOTHING = (OSError, UnicodeError, anyio.EndOfStream, anyio.BrokenResourceError)
"""Nothing was found out. The second one is what names that cannot be names of hosts raise."""
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
_SETTINGS = b"\4"
"""The type of a frame, its fourth byte."""
# In a certificate: from when, until when. The first two digits of the year are left out before 2050.
_VALIDITY = re.compile(rb"0.(?:\x17\r\d{12}|\x18\x0f\d{14})Z(?:\x17\r(\d{12})|\x18\x0f(\d{14}))Z", re.DOTALL)


class TlsDiagnosis:
    """Finds out why an endpoint that never answered does not, by shaking hands with it once more.

    gRPC's texts differ from release to release, and some say only that the other side hung up: it does so, too, when
    only one of the two speaks TLS. It is asked when a connection fails, and only once for each channel.
    """

    def __init__(self, address: str, config: EtcdConfig, contexts: ClientContexts | None = None) -> None:
        host, _, port = address.rpartition(":")
        self._contexts = contexts or ClientContexts(config)
        self._name = address
        self._host = host.strip("[]")
        self._port = int(port)
        self._config = config
        self._once = anyio.Lock()
        self._asked = False
        self._reason: str | None = None

    async def reason(self) -> str | None:
        """What does not fit, for people; None when it is not TLS, or was not found in time."""
        async with self._once:
            if not self._asked:
                with anyio.move_on_after(_HANDSHAKE):
                    self._reason = await (self._with_tls() if self._config.tls else self._without_tls())
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
                # In TLS 1.3 the other side looks at our certificate when for us all is done.
                await stream.receive()
        except ssl.SSLCertVerificationError as error:
            held = "no ca_cert is set" if config.ca_cert is None else f"ca_cert = {config.ca_cert!r}"
            return f"the certificate of {self._name} was refused: {error.verify_message} ({held})"
        except ssl.SSLError as error:
            if "ALERT" in (error.reason or ""):
                return self._alert(str(error.reason))
            return await self._plaintext() or f"{self._name} does not speak TLS as it should: {error.reason}"
        except EtcdLeaderError:
            return None  # a file was replaced a moment ago: the next attempt to connect reports it
        except _NOTHING:
            # A peer that does not know TLS hangs up, by an end or by a reset: it may have read all of our hello, or not.
            return None if speaks_tls else await self._plaintext()
        return None

    def _no_http2(self) -> str:
        return (
            f"{self._name} speaks TLS, but does not offer HTTP/2 (h2 in ALPN), which gRPC needs: it is no etcd, or a "
            "proxy without HTTP/2"
        )

    def _alert(self, alert: str) -> str:
        """Return what an alert of the peer means."""
        cert = self._config.cert
        if "NO_APPLICATION_PROTOCOL" in alert:
            return self._no_http2()
        if "CERT" not in alert and "UNKNOWN_CA" not in alert:
            return f"{self._name} refused the TLS handshake: {alert}"
        if cert is None:
            return f"{self._name} wants a client certificate: set cert and key ({alert})"
        why = "it may be of an authority that etcd does not trust, or not be meant for clients"
        with suppress(OSError, ValueError):
            expiry = _expiry(Path(cert).read_text())
            if expiry is not None and expiry < datetime.now(UTC):
                why = f"it expired on {expiry:%Y-%m-%d at %H:%M} UTC"
        return f"{self._name} refused cert = {cert!r}: {why} ({alert})"

    async def _plaintext(self) -> str | None:
        """Whether it hangs up because it does not know what TLS is."""
        try:
            async with await self._connect(None) as stream:
                await stream.send(_HTTP2_PREFACE)
                answer = await stream.receive()
                # HTTP/2 begins with SETTINGS. HTTP/1 is an error, which a TLS server may send, too.
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
        return await stream_over(connected, self._host.removesuffix("."), context)  # no certificate has the final dot


async def _any_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is told to it, and nothing believed
    context.set_alpn_protocols(["h2"])
    return context


def _expiry(pem: str) -> datetime | None:
    """Until when the first certificate in ``pem`` is valid. To explain a refusal: it decides nothing."""
    end = "-----END CERTIFICATE-----"
    found = _VALIDITY.search(ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN") : pem.index(end) + len(end)]))
    if found is None:
        return None
    short, long = found.groups()
    return datetime.strptime((long or b"20" + short).decode(), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
