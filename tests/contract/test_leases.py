"""Leases as the election requires them of etcd, on the fake and on the real etcd alike."""

from __future__ import annotations

import secrets

import anyio
import pytest

from etcdleader._election.queue import prefix_end
from etcdleader._etcd.api import EtcdApi, LeaseExistsError, LeaseNotFoundError, Put, Range
from tests.contract.watching import TIMEOUT, Recorder

pytestmark = pytest.mark.anyio


def _new_id() -> int:
    return secrets.randbits(62) + 1


async def test_a_lease_has_the_requested_id_and_ttl(api: EtcdApi) -> None:
    """The client chooses the id, so that a grant whose response was lost can be revoked."""
    lease_id = (1 << 63) - 1 - secrets.randbits(40)
    granted = await api.lease_grant(60, lease_id, timeout=TIMEOUT)
    assert (granted.lease_id, granted.ttl) == (lease_id, 60)
    await api.lease_revoke(lease_id, timeout=TIMEOUT)


async def test_a_short_lease_is_made_longer(api: EtcdApi) -> None:
    """So deadlines are computed from the granted TTL, never from the requested one."""
    assert (await api.lease_grant(1, _new_id(), timeout=TIMEOUT)).ttl == 2


async def test_a_lease_id_is_granted_once(api: EtcdApi) -> None:
    """A repeated grant is detected, and the lease stays unchanged."""
    lease_id = _new_id()
    await api.lease_grant(60, lease_id, timeout=TIMEOUT)
    with pytest.raises(LeaseExistsError):
        await api.lease_grant(30, lease_id, timeout=TIMEOUT)
    assert (await api.lease_time_to_live(lease_id, timeout=TIMEOUT)).granted_ttl == 60
    await api.lease_revoke(lease_id, timeout=TIMEOUT)
    assert (await api.lease_grant(30, lease_id, timeout=TIMEOUT)).ttl == 30
    await api.lease_revoke(lease_id, timeout=TIMEOUT)


async def test_a_grant_changes_no_revision(api: EtcdApi, prefix: bytes) -> None:
    """A revocation without keys changes none either. Neither is an event of the queue."""
    before = (await api.range(Range(prefix), timeout=TIMEOUT)).header.revision
    lease_id = _new_id()
    granted = await api.lease_grant(60, lease_id, timeout=TIMEOUT)
    revoked = await api.lease_revoke(lease_id, timeout=TIMEOUT)
    assert granted.header.revision == revoked.revision == before


async def test_a_revocation_deletes_the_keys_of_the_lease_in_one_revision(api: EtcdApi, prefix: bytes) -> None:
    """A release is one request and one commit. A key without the lease stays."""
    lease_id, end = _new_id(), prefix_end(prefix)
    await api.lease_grant(60, lease_id, timeout=TIMEOUT)
    await api.txn([], [Put(prefix + b"a", lease=lease_id), Put(prefix + b"b", lease=lease_id)], timeout=TIMEOUT)
    last = await api.txn([], [Put(prefix + b"c")], timeout=TIMEOUT)
    watch = Recorder(api, prefix, end)
    await watch.created()
    header = await api.lease_revoke(lease_id, timeout=TIMEOUT)
    events = await watch.events(2)
    assert {(event.type, event.kv.key, event.kv.mod_revision) for event in events} == {
        ("delete", prefix + name, last.header.revision + 1) for name in (b"a", b"b")
    }
    assert len(watch.batches()) == 1
    assert header.revision == last.header.revision + 1
    assert [kv.key for kv in (await api.range(Range(prefix, end), timeout=TIMEOUT)).kvs] == [prefix + b"c"]


async def test_a_lease_that_is_gone_cannot_be_revoked(api: EtcdApi) -> None:
    """So a revocation whose response was lost may be repeated."""
    lease_id = _new_id()
    with pytest.raises(LeaseNotFoundError):
        await api.lease_revoke(lease_id, timeout=TIMEOUT)
    await api.lease_grant(60, lease_id, timeout=TIMEOUT)
    await api.lease_revoke(lease_id, timeout=TIMEOUT)
    with pytest.raises(LeaseNotFoundError):
        await api.lease_revoke(lease_id, timeout=TIMEOUT)


async def test_many_leases_are_kept_alive_by_one_call(api: EtcdApi) -> None:
    """Each has its own response. A lease that etcd does not have is reported without harm to the others."""
    live, gone = [_new_id() for _ in range(50)], _new_id()
    for number, lease_id in enumerate(live):
        await api.lease_grant(60 + number, lease_id, timeout=TIMEOUT)
    answers = await api.lease_keep_alive([*live[:25], gone, *live[25:]], timeout=TIMEOUT)
    assert {lease_id: answer.ttl for lease_id, answer in answers.items() if lease_id != gone} == {
        lease_id: 60 + number for number, lease_id in enumerate(live)
    }
    assert answers[gone].ttl <= 0
    assert all(answer.lease_id == lease_id for lease_id, answer in answers.items())
    for lease_id in live:
        await api.lease_revoke(lease_id, timeout=TIMEOUT)


async def test_keep_alives_continue_after_one_for_a_missing_lease(api: EtcdApi) -> None:
    """Some client libraries close the stream on it."""
    lease_id = _new_id()
    await api.lease_grant(60, lease_id, timeout=TIMEOUT)
    for _ in range(3):
        assert (await api.lease_keep_alive([lease_id], timeout=TIMEOUT))[lease_id].ttl == 60
    await api.lease_revoke(lease_id, timeout=TIMEOUT)
    assert (await api.lease_keep_alive([lease_id], timeout=TIMEOUT))[lease_id].ttl <= 0
    await api.lease_grant(30, lease_id, timeout=TIMEOUT)
    assert (await api.lease_keep_alive([lease_id], timeout=TIMEOUT))[lease_id].ttl == 30
    await api.lease_revoke(lease_id, timeout=TIMEOUT)


async def test_two_calls_keep_different_leases_alive_side_by_side(api: EtcdApi) -> None:
    """They share one stream, and each gets its own responses."""
    mine, yours = _new_id(), _new_id()
    await api.lease_grant(60, mine, timeout=TIMEOUT)
    await api.lease_grant(30, yours, timeout=TIMEOUT)
    found: dict[int, int] = {}

    async def renew(lease_id: int) -> None:
        for _ in range(10):
            answers = await api.lease_keep_alive([lease_id], timeout=TIMEOUT)
            assert list(answers) == [lease_id]
            found[lease_id] = answers[lease_id].ttl

    async with anyio.create_task_group() as group:
        group.start_soon(renew, mine)
        group.start_soon(renew, yours)
    assert found == {mine: 60, yours: 30}


async def test_a_cancelled_keep_alive_does_not_disturb_the_next(api: EtcdApi) -> None:
    """Its stream ends, and the next call opens another."""
    lease_id = _new_id()
    await api.lease_grant(60, lease_id, timeout=TIMEOUT)
    for _ in range(3):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await api.lease_keep_alive([lease_id], timeout=TIMEOUT)
        assert (await api.lease_keep_alive([lease_id], timeout=TIMEOUT))[lease_id].ttl == 60
    await api.lease_revoke(lease_id, timeout=TIMEOUT)


async def test_the_remaining_ttl_of_a_lease_can_be_read(api: EtcdApi, prefix: bytes) -> None:
    """Its keys are listed on request."""
    lease_id = _new_id()
    await api.lease_grant(60, lease_id, timeout=TIMEOUT)
    await api.txn([], [Put(prefix + b"b", lease=lease_id), Put(prefix + b"a", lease=lease_id)], timeout=TIMEOUT)
    left = await api.lease_time_to_live(lease_id, keys=True, timeout=TIMEOUT)
    assert (left.lease_id, left.granted_ttl) == (lease_id, 60)
    assert 30 < left.ttl <= 60
    assert sorted(left.keys) == [prefix + b"a", prefix + b"b"]
    assert (await api.lease_time_to_live(lease_id, timeout=TIMEOUT)).keys == ()
    await api.lease_revoke(lease_id, timeout=TIMEOUT)


async def test_a_lease_that_has_ended_has_no_remaining_ttl(api: EtcdApi) -> None:
    """It is a response, not an error."""
    assert (await api.lease_time_to_live(_new_id(), timeout=TIMEOUT)).ttl == -1


async def test_a_lease_without_keep_alives_ends_with_its_key_and_not_too_early(api: EtcdApi, prefix: bytes) -> None:
    """Mutual exclusion depends on it: not before `sent_at + ttl`."""
    kept, left = _new_id(), _new_id()
    await api.lease_grant(60, kept, timeout=TIMEOUT)
    sent_at = anyio.current_time()
    ttl = (await api.lease_grant(2, left, timeout=TIMEOUT)).ttl
    await api.txn([], [Put(prefix + b"kept", lease=kept), Put(prefix + b"left", lease=left)], timeout=TIMEOUT)
    watch = Recorder(api, prefix, prefix_end(prefix))
    (event,) = await watch.events(1)
    assert anyio.current_time() >= sent_at + ttl
    assert (event.type, event.kv.key) == ("delete", prefix + b"left")
    assert (await api.lease_keep_alive([left], timeout=TIMEOUT))[left].ttl <= 0
    await api.lease_revoke(kept, timeout=TIMEOUT)


async def test_a_keep_alive_resets_the_ttl_of_a_lease(api: EtcdApi, prefix: bytes) -> None:
    """The TTL counts from the send time, at the earliest."""
    lease_id = _new_id()
    ttl = (await api.lease_grant(3, lease_id, timeout=TIMEOUT)).ttl
    await api.txn([], [Put(prefix + b"k", lease=lease_id)], timeout=TIMEOUT)
    watch = Recorder(api, prefix + b"k")
    await watch.created()
    await anyio.sleep(1)
    sent_at = anyio.current_time()
    assert (await api.lease_keep_alive([lease_id], timeout=TIMEOUT))[lease_id].ttl == ttl
    await watch.events(1)
    assert anyio.current_time() >= sent_at + ttl
