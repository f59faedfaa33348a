"""A token is sent with each call, so a peer must not choose its size."""

from __future__ import annotations

import math
from typing import Any

import pytest

from etcdleader import EtcdUnavailableError
from etcdleader._etcd.api import Header
from etcdleader._etcd.auth import Authenticator
from etcdleader._etcd.messages import AuthenticateResponse
from etcdleader._etcd.rpcs import Rpc

pytestmark = pytest.mark.anyio


class Member:
    """Accepts every login, with a token of this many characters."""

    name = "member:1"
    last_received_at = -math.inf

    def __init__(self, size: int) -> None:
        self._size = size

    async def call(self, rpc: Rpc[Any, Any], request: object, metadata: object, timeout: float) -> Any:
        return AuthenticateResponse(Header(1, 2, 3, 4), "t" * self._size)


async def test_a_token_of_millions_of_characters_is_refused() -> None:
    member: Any = Member(2**22)
    with pytest.raises(EtcdUnavailableError, match="member:1: a token of 4194304 characters"):
        await Authenticator("user", "password").metadata(member, 5)


async def test_a_long_token_is_sent_with_each_call() -> None:
    """For example a JWT with many claims."""
    member: Any = Member(10_000)
    assert await Authenticator("user", "password").metadata(member, 5) == (("token", "t" * 10_000),)
