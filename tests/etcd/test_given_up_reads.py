"""Older versions of etcd crash when a read-only transaction is given up while it reads (etcd#14110). The wheel's etcd is
one of them. A timeout or the death of the client gives a transaction up. No candidate may cause such a crash."""

from __future__ import annotations

import random

import anyio
import pytest

from etcdleader._etcd.api import Put, Range
from etcdleader._etcd.client import new_client
from etcdleader.testing import EtcdServer

pytestmark = pytest.mark.anyio

KEYS = 100
AT_ONCE = 8
TIMES = 60
"""A plain read of so many keys ends etcd 3.5.1 by about one cancellation in sixteen."""


@pytest.mark.parametrize("keys", [2, KEYS])
async def test_etcd_survives_a_renewal_that_is_given_up_at_any_moment(keys: int) -> None:
    chance = random.Random(keys)
    async with EtcdServer() as server:
        api = new_client(server.config)
        names = [b"elections/%d" % number for number in range(KEYS)]
        await api.txn((), [Put(name, b"x" * 100) for name in names], timeout=30)
        reads = [Range(name) for name in names[:keys]]
        begun = anyio.current_time()
        before = await api.txn((), reads, timeout=30)
        usual = anyio.current_time() - begun
        for _ in range(TIMES):
            with anyio.move_on_after(chance.uniform(0, usual * 2)):
                async with anyio.create_task_group() as group:
                    for _ in range(AT_ONCE):
                        group.start_soon(lambda: api.txn((), reads, timeout=30))
        after = await api.txn((), reads, timeout=30)
        assert (after.results, after.header.revision) == (before.results, before.header.revision)
        assert server.members[0].running
        await api.aclose()
