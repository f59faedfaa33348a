"""Authentication: log in to etcd, and log in again when the token is no longer valid."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel

from .._grpc import Metadata
from .._runtime.threads import run_in_thread
from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdUnavailableError
from .api import Header
from .endpoint import Endpoint
from .error_mapping import AuthenticationFailedError
from .messages import AuthenticateRequest
from .password_file import read_password
from .rpcs import AUTHENTICATE

_LONGEST_TOKEN = 2**16
"""Characters. The token is sent with each call. etcd's own tokens have a few hundred characters."""
MAX_LOGINS = 3
"""Maximum number of logins that one call repeats. An administrator may change users several times, and each change invalidates
the earlier tokens."""


class Authenticator:
    """The login of a configured user. It runs once at a time, and again when etcd no longer accepts the token."""

    def __init__(
        self, user: str | None, password: str | None, *, password_file: str | None = None, several: bool = False
    ) -> None:
        """Make no request yet.

        Args:
            user: The user, or None to make calls without a token.
            password: The user's password, or None to read it from ``password_file``.
            password_file: The path of a file with the password, which is read at each login.
            several: Whether there is more than one endpoint.
        """
        self._several = several
        self._user = user
        self._password = password
        self._password_file = password_file
        self._metadata: Metadata | None = None if user else ()
        self._lock = anyio.Lock()
        self._failures = 0
        self._error: EtcdLeaderError | None = None
        self.on_header: Callable[[Header], None] | None = None
        """Called with the header of each login's response."""

    async def metadata(self, endpoint: Endpoint, timeout: float) -> Metadata:
        """Return the metadata to send with a call. Log in first if there is no token.

        Raises:
            EtcdUnavailableError: There was no response in time.
            EtcdRefusedError: Wrong user or password, or the password file cannot be used.
        """
        if self._metadata is not None:
            return self._metadata
        failures = self._failures
        with anyio.move_on_after(timeout):
            async with self._lock:
                if self._metadata is None:
                    # A caller that waited for a failed login does not repeat it: etcd takes long to check a password.
                    if failures != self._failures and self._error is not None:
                        raise type(self._error)(*self._error.args)
                    self._metadata = await self._try(endpoint, timeout)
                return self._metadata
        raise EtcdUnavailableError(f"the login did not complete within {timeout:g} s")

    async def _try(self, endpoint: Endpoint, timeout: float) -> Metadata:
        try:
            return await self._authenticate(endpoint, timeout)
        except EtcdLeaderError as error:
            self._failures += 1
            self._error = error
            raise

    async def _authenticate(self, endpoint: Endpoint, timeout: float) -> Metadata:
        assert self._user is not None
        request = AuthenticateRequest(self._user, await self._current_password())
        try:
            answer = await endpoint.call(AUTHENTICATE, request, (), timeout)
        except EtcdRefusedError as error:
            if "authentication is not enabled" in str(error):
                # If it is enabled later, etcd refuses calls without a token, and this method runs again.
                return ()
            # This member may be configured differently from the others, or belong to another cluster.
            source = f" with password_file = {self._password_file!r}" if self._password is None else ""
            raise AuthenticationFailedError(
                f"user {self._user!r} cannot log in to {endpoint.name}{source}: {error}", elsewhere=self._several
            ) from error
        if len(answer.token) > _LONGEST_TOKEN:
            raise EtcdUnavailableError(f"{endpoint.name}: a token of {len(answer.token)} characters is too long")
        if self.on_header is not None:
            self.on_header(answer.header)
        return (("token", answer.token),)

    async def _current_password(self) -> str:
        if self._password is not None:
            return self._password
        assert self._password_file is not None
        # In a thread, because the file may be on a network file system.
        return await run_in_thread(functools.partial(read_password, self._password_file), "etcdleader password")

    def is_current(self, metadata: Metadata) -> bool:
        """Return whether a call made now would send this metadata."""
        return metadata is self._metadata

    def invalidate(self, metadata: Metadata | None = None) -> bool:
        """Discard a refused token, by default the latest. Return whether a new login may help."""
        if self._user is None:
            return False
        if metadata is None or metadata is self._metadata:
            self._metadata = None
        return True


class ClientToken(Authenticator):
    """The token of a user's own ``etcd3.Etcd3Client``, read again for each call."""

    def __init__(self, client: Any) -> None:
        super().__init__(None, None)
        self._client = client

    def is_current(self, metadata: Metadata) -> bool:
        return tuple(metadata) == tuple(self._client.metadata or ())

    async def metadata(self, endpoint: Endpoint, timeout: float) -> Metadata:
        del endpoint, timeout
        await anyio.lowlevel.checkpoint_if_cancelled()
        return tuple(self._client.metadata or ())
