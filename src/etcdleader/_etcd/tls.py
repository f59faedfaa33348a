"""TLS contexts for connections to etcd, and checks of their certificate and key files."""

from __future__ import annotations

import os
import ssl
from contextlib import suppress
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NoReturn

from .._runtime.threads import run_in_thread
from ..config import EtcdConfig
from ..errors import EtcdRefusedError, EtcdUnavailableError


class ClientContexts:
    """The TLS context of a client's connections, cached while its files are unchanged.

    With the system's authorities, creating a context takes tens of milliseconds. So it is created in a thread.
    """

    def __init__(self, config: EtcdConfig) -> None:
        self._config = config
        self._checked: object = None
        self._made: tuple[object, ssl.SSLContext] | None = None
        """The versions of the files, and the context made from them."""

    def check(self) -> None:
        """Check the configured files, unless they are unchanged since the last check.

        Raises:
            EtcdRefusedError: As in ``check_files``.
        """
        if (files := self._files()) != self._checked:
            check_files(self._config)
            self._checked = files

    async def get(self) -> ssl.SSLContext:
        """Return the context.

        Raises:
            EtcdRefusedError: As in ``check_files``.
            EtcdUnavailableError: A file changed while it was read.
        """
        files = self._files()  # taken before they are read, so that a later change makes a new context
        if self._made is not None and self._made[0] == files:
            return self._made[1]

        def make() -> ssl.SSLContext:
            context = self._make()
            # Kept by the thread: an attempt to connect may end before a busy machine gets here. The next one uses it.
            self._made = files, context
            return context

        return await run_in_thread(make, "etcdleader certificates")

    def _make(self) -> ssl.SSLContext:
        check_files(self._config)
        try:
            return client_context(self._config)
        except (OSError, ValueError) as error:  # a file was replaced between check and use
            raise EtcdUnavailableError(f"the certificates changed while they were read: {error}") from error

    def _files(self) -> list[object]:
        """Return the versions of the files, which differ if a file was written or replaced."""
        system = ssl.get_default_verify_paths()
        named = (self._config.ca_cert, self._config.cert, self._config.key, os.environ.get(_GRPC_ROOTS))
        return [_version_of(path) for path in (*named, system.cafile, system.capath)]


def _version_of(path: str | None) -> object:
    try:
        found = Path(path).stat() if path else None
    except OSError as error:
        return error.errno
    return found and (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


_GRPC_ROOTS = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"
"""The environment variable by which gRPC's users configure other authorities."""


def check_files(config: EtcdConfig) -> None:
    """Check the configured files. The error names the file and the problem.

    Raises:
        EtcdRefusedError: A file cannot be read, or has no certificate or key. Or the key is encrypted, or belongs to another
            certificate.
    """
    for name, path in (("ca_cert", config.ca_cert), ("key", config.key), ("cert", config.cert)):
        if path is not None:
            try:
                Path(path).read_bytes()
            except OSError as error:
                raise EtcdRefusedError(f"cannot read {name} = {path!r}: {error.strerror}") from error
    scratch = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    scratch.set_ciphers("DEFAULT:@SECLEVEL=0")  # the two ends of the connection decide whether a key is long enough
    for name, path in (("ca_cert", config.ca_cert), ("cert", config.cert)):
        if path is not None:
            try:
                scratch.load_verify_locations(path)
            except ssl.SSLError:
                raise EtcdRefusedError(f"{name} = {path!r} holds no certificate in PEM") from None
    if config.cert is None or config.key is None:
        return
    try:
        scratch.load_cert_chain(config.cert, config.key, _password)
    except EncryptedKeyError:
        raise EtcdRefusedError(
            f"key = {config.key!r} is encrypted, and there is no setting for its password: store it unencrypted"
        ) from None
    except ssl.SSLError as error:
        if "MISMATCH" in (error.reason or ""):
            raise EtcdRefusedError(f"key = {config.key!r} is not the key of cert = {config.cert!r}") from None
        raise EtcdRefusedError(f"key = {config.key!r} holds no private key in PEM") from None


class EncryptedKeyError(ValueError):
    """The error of a private key that needs a password."""


def _password() -> NoReturn:
    raise EncryptedKeyError


def client_context(config: EtcdConfig) -> ssl.SSLContext:
    """Return a TLS context that accepts the same certificates as gRPC, and so as etcd3's own client.

    It also accepts certificates from the system's authorities. The files must have been checked.

    Raises:
        OSError: A file was replaced since the check (``ssl.SSLError``), or was deleted.
    """
    context = ssl.create_default_context(cafile=config.ca_cert)
    if config.ca_cert is None:
        # The system's authorities are loaded already. gRPC includes its own authorities, and may be configured with others.
        path = os.environ.get(_GRPC_ROOTS)
        if path:
            with suppress(OSError):
                context.load_verify_locations(path)
        grpc = PathFinder.find_spec("grpc")  # found, not loaded
        for folder in (grpc and grpc.submodule_search_locations) or ():
            with suppress(OSError):
                context.load_verify_locations(Path(folder, "_cython", "_credentials", "roots.pem"))
    # gRPC's own cipher suites. The two ends decide whether a key is long enough, as in `check_files`.
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=0")
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # set by Python 3.13; many private CAs fail it
    context.set_alpn_protocols(["h2"])
    if config.cert is not None:
        context.load_cert_chain(config.cert, config.key, _password)
    return context
