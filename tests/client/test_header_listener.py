"""The headers of responses reach the listener, for every kind of call."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from etcdleader._etcd.api import Header, MemberStatus
from etcdleader._etcd.auth import Authenticator
from etcdleader._etcd.client import EtcdClient
from etcdleader._etcd.messages import AuthenticateResponse
from etcdleader._etcd.rpcs import AUTHENTICATE, Rpc

pytestmark = pytest.mark.anyio

LOGIN = Header(cluster_id=1, member_id=2, revision=3, raft_term=7)
STATUS = LOGIN._replace(raft_term=8)


class Member:
    """An endpoint that responds at once."""

    name = "member"
    last_received_at = -math.inf

    def __init__(self, login: Header) -> None:
        self._login = login

    async def call(self, rpc: Rpc[Any, Any], request: object, metadata: object, timeout: float) -> Any:
        if rpc is AUTHENTICATE:
            return AuthenticateResponse(self._login, "token")
        return MemberStatus("3.7.3", 2, STATUS)


async def terms_seen(login: Header) -> list[int]:
    """Send one request with a user. Return the raft terms that the listener received."""
    member: Any = Member(login)
    client = EtcdClient(lambda number: member, None, Authenticator("user", "password"), random.uniform)
    seen: list[int] = []
    client.on_header(lambda header: seen.append(header.raft_term))
    await client.member_status(timeout=5)
    return seen


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_login_brings_a_raft_term_before_the_first_call() -> None:
    """So the lease of a user with a password needs no additional request for it."""
    assert await terms_seen(LOGIN) == [7, 8]
