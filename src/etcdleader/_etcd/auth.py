"""The token of a user who has logged in, and its renewal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel

from .._grpc import Metadata
from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdUnavailableError
from .api import Header
from .endpoint import Endpoint
from .error_mapping import AuthenticationFailedError
from .messages import AuthenticateRequest
from .rpcs import AUTHENTICATE

_LONGEST_TOKEN = 2**16
"""Characters. It goes with each call, and etcd's own tokens have some hundred."""
MAX_LOGINS = 3
"""How often one call logs in again: an administrator of users makes several changes, and each outdates the tokens before."""


class Authenticator:
    """Logs in when there is a user, once at a time, and again when the token is not taken any more."""

    def __init__(self, user: str | None, password: str | None, *, several: bool = False) -> None:
        """Make one; ``several`` says whether there is more than one endpoint."""
        self._several = several
        self._user = user
        self._password = password
        self._metadata: Metadata | None = None if user else ()
        self._lock = anyio.Lock()
        self._failures = 0
        self._error: EtcdLeaderError | None = None
        self.on_header: Callable[[Header], None] | None = None
        """Called with the header of each login's response."""

    async def metadata(self, endpoint: Endpoint, timeout: float) -> Metadata:
        """What goes with a call.

        Raises:
            EtcdUnavailableError: No answer.
            EtcdRefusedError: Wrong user or password.
        """
        if self._metadata is not None:
            return self._metadata
        failures = self._failures
        with anyio.move_on_after(timeout):
            async with self._lock:
                if self._metadata is None:
                    # Who waited for a login that failed does not try it again: etcd takes long over each password.
                    if failures != self._failures and self._error is not None:
                        raise type(self._error)(*self._error.args)
                    self._metadata = await self._try(endpoint, timeout)
                return self._metadata
        raise EtcdUnavailableError(f"no login within {timeout:g} s")

    async def _try(self, endpoint: Endpoint, timeout: float) -> Metadata:
        try:
            return await self._authenticate(endpoint, timeout)
        except EtcdLeaderError as error:
            self._failures += 1
            self._error = error
            raise

    async def _authenticate(self, endpoint: Endpoint, timeout: float) -> Metadata:
        assert self._user is not None
        assert self._password is not None
        request = AuthenticateRequest(self._user, self._password)
        try:
            answer = await endpoint.call(AUTHENTICATE, request, (), timeout)
        except EtcdRefusedError as error:
            if "authentication is not enabled" in str(error):
                # It may be switched on later: then calls without a token are refused, and we come here again.
                return ()
            # One member may be set up otherwise than the others, or be another cluster's.
            raise AuthenticationFailedError(
                f"user {self._user!r} cannot log in to {endpoint.name}: {error}", elsewhere=self._several
            ) from error
        if len(answer.token) > _LONGEST_TOKEN:
            raise EtcdUnavailableError(f"{endpoint.name}: a token of {len(answer.token)} characters")
        if self.on_header is not None:
            self.on_header(answer.header)
        return (("token", answer.token),)

    def is_current(self, metadata: Metadata) -> bool:
        """Whether this is what a call that was made now would have with it."""
        return metadata is self._metadata

    def invalidate(self, metadata: Metadata | None = None) -> bool:
        """A call with this token, or by default with the latest, was refused. Returns whether logging in again may
        help."""
        if self._user is None:
            return False
        if metadata is None or metadata is self._metadata:
            self._metadata = None
        return True


class ClientToken(Authenticator):
    """What a user's own ``etcd3.Etcd3Client`` sends along, at each call anew."""

    def __init__(self, client: Any) -> None:
        super().__init__(None, None)
        self._client = client

    def is_current(self, metadata: Metadata) -> bool:
        return tuple(metadata) == tuple(self._client.metadata or ())

    async def metadata(self, endpoint: Endpoint, timeout: float) -> Metadata:
        del endpoint, timeout
        await anyio.lowlevel.checkpoint_if_cancelled()
        return tuple(self._client.metadata or ())
