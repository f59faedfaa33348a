"""Keep-alives that race with the revocation of their lease, on a real etcd: what is acknowledged, and what counts."""

from __future__ import annotations

import secrets

import anyio
import pytest

from etcdleader._etcd.api import Compare, DeleteRange, EtcdApi, Put, Range
from etcdleader._etcd.client import new_client
from etcdleader._lease.lease_deadline import RenewalResult, check_renewal
from etcdleader._lease.leased_key import LeasedKey
from etcdleader.errors import EtcdLeaderError
from etcdleader.testing import EtcdServer

pytestmark = pytest.mark.anyio

LEASES = 100
ROUNDS = 20
"""At most, until a keep-alive was acknowledged too early. Usually it happens in the first one."""
PATIENCE = 30


async def test_a_keep_alive_that_was_acknowledged_and_is_as_good_as_revoked_does_not_count(
    etcd_server: EtcdServer, election_key: str
) -> None:
    """Many are acknowledged so: a client that trusts the acknowledgement holds the lease for another time to live."""
    holder, operator = new_client(etcd_server.config), new_client(etcd_server.config)
    verdicts: list[tuple[RenewalResult, int]] = []

    async def race(number: int) -> None:
        lease_id = secrets.randbelow(2**62) + 1
        key = f"{election_key}/{number}".encode()
        await holder.lease_grant(60, lease_id, timeout=PATIENCE)
        put = await holder.txn((), [Put(key, b"mine", lease=lease_id)], timeout=PATIENCE)
        own = LeasedKey(key, b"mine", put.header.revision, lease_id)
        async with anyio.create_task_group() as group:
            group.start_soon(revoke, operator, lease_id)
            while (seen := await renewed(holder, own))[0] is RenewalResult.CONFIRMED:
                pass
        verdicts.append(seen)

    rounds = 0
    with anyio.fail_after(4 * PATIENCE):
        while rounds < ROUNDS and not any(ttl > 0 for _, ttl in verdicts):
            async with anyio.create_task_group() as group:
                for number in range(LEASES):
                    group.start_soon(race, rounds * LEASES + number)
            rounds += 1
    assert len(verdicts) == rounds * LEASES
    assert {verdict for verdict, _ in verdicts} == {RenewalResult.KEY_LOST}
    assert any(ttl > 0 for _, ttl in verdicts), "no keep-alive was acknowledged too early: the race did not take place"
    await holder.aclose()
    await operator.aclose()


async def revoke(operator: EtcdApi, lease_id: int) -> None:
    await operator.lease_revoke(lease_id, timeout=PATIENCE)


async def renewed(holder: EtcdApi, own: LeasedKey) -> tuple[RenewalResult, int]:
    """Return the result of one keep-alive, with the proposal and the read after it, and the TTL in its response."""
    try:
        answer = (await holder.lease_keep_alive([own.lease_id], timeout=PATIENCE))[own.lease_id]
    except EtcdLeaderError as error:
        raise AssertionError(f"it was not answered: {error}") from error
    await holder.txn([Compare(own.key, "version", 0, "<")], [DeleteRange(own.key)], timeout=PATIENCE)
    read = await holder.range(Range(own.key), timeout=PATIENCE)
    verdict = check_renewal(
        ttl=answer.ttl,
        key_is_ours=own.matches(read.kvs[0] if read.kvs else None),
        lease_raft_term=answer.header.raft_term,
        read_raft_term=read.header.raft_term,
        known_raft_term=answer.header.raft_term,
    )
    return verdict, answer.ttl
