"""The names for tests, used as tests do. This file is never run."""

# pyright: strict

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, assert_type

import anyio

from etcdleader import Config, EtcdConfig, EtcdLeaderError, EtcdLeaderManager, EtcdUnavailableError
from etcdleader._etcd.api import Range, WatchEvent
from etcdleader.testing import EtcdServer, EtcdServerError, FakeEtcd
from etcdleader.testing.etcd_server import EtcdMember
from etcdleader.testing.fake_etcd import Call, CallKind, Commit, FakeClient, FakeMember, Snapshot
from etcdleader.testing.virtual_time import VIRTUAL_BACKENDS, VirtualClock, VirtualTimeLoop, virtual_backend

config = Config(enabled=True)

# A real etcd


def run_one() -> None:
    with EtcdServer() as server:
        assert_type(server, EtcdServer)
        assert_type(server.endpoints, tuple[str, ...])
        assert_type(server.config, EtcdConfig)
        assert_type((server.version, server.etcdctl), tuple[str, Path])
        assert_type(server.etcdutl, Path | None)
        EtcdLeaderManager(server.config, config, "jobs/nightly")
    EtcdServer(version="3.7.3")
    server = EtcdServer(
        3,
        binary="/usr/bin/etcd",
        data_dir=Path("data"),
        extra_args=["--auto-compaction-retention=1"],
        cert="cert.pem",
        key=Path("key.pem"),
        client_ca="ca.pem",
        start_timeout=10,
    )
    try:
        server.start()
    except EtcdServerError as error:
        as_ours: EtcdLeaderError = error
        raise as_ours from None
    finally:
        server.stop()


async def run_three() -> None:
    async with EtcdServer(members=3) as server:
        assert_type(server, EtcdServer)
        assert_type(server.members, tuple[EtcdMember, ...])
        member = server.members[0]
        assert_type((member.name, member.endpoint), tuple[str, str])
        assert_type((member.data_dir, member.log), tuple[Path, Path])
        assert_type((member.running, member.pid), tuple[bool, int])
        assert_type(member.last_words, str | None)
        member.pause()
        member.resume()
        member.kill()
        await anyio.to_thread.run_sync(member.restart)
        member.restart(wait=False)
        member.wait_healthy()
        member.kill()
        member.launch()
        await anyio.to_thread.run_sync(member.wait_healthy, anyio.from_thread.check_cancelled)


# A fake one


async def fake() -> None:
    async with FakeEtcd(members=3, minimum_ttl=1, election_timeout=0.5, seed=7) as etcd:
        assert_type(etcd, FakeEtcd)
        EtcdLeaderManager(etcd, config, "jobs/nightly")
        EtcdLeaderManager(etcd.client("alice"), config, "jobs/nightly")
        assert_type(etcd.client(endpoints=etcd.members[1:]), FakeClient)
        assert_type(etcd.members, tuple[FakeMember, ...])
        see(etcd)
        operate(etcd)
        happen(etcd)
        etcd.hooks.append(hook)
        etcd.hooks.append(async_hook)
        etcd.commit_hooks.append(commit_hook)


def commit_hook(commit: Commit) -> None:
    assert_type(commit.events, tuple[WatchEvent, ...])


def see(etcd: FakeEtcd) -> None:
    assert_type((etcd.revision, etcd.raft_term), tuple[int, int])
    assert_type(etcd.leader, FakeMember | None)
    assert_type(etcd.calls, Counter[CallKind])
    assert_type(etcd.history, Sequence[Commit])
    assert_type([(commit.revision, commit.time) for commit in etcd.history], list[tuple[int, float]])
    assert_type([event.kv.key for commit in etcd.history for event in commit.events], list[bytes])
    assert_type([kv.value for kv in etcd.keys().values()], list[bytes])
    assert_type(etcd.leases(), dict[int, float])


def operate(etcd: FakeEtcd) -> None:
    assert_type(etcd.put("key", b"value", lease=1), int)
    assert_type(etcd.put(b"key", ignore_value=True, ignore_lease=True), int)
    assert_type(etcd.request_step_down("jobs/nightly/1"), int)
    assert_type((etcd.delete("key"), etcd.delete_prefix("jobs/")), tuple[int, int])
    etcd.grant(1, 10)
    etcd.revoke(1)
    etcd.compact()
    etcd.compact(5)
    etcd.version = etcd.version or "3.5.1"
    etcd.no_space = not etcd.no_space
    etcd.fast_lease_keep_alive = not etcd.fast_lease_keep_alive
    etcd.woken_leaders_revoke = not etcd.woken_leaders_revoke
    etcd.revoke_halfway(1)
    etcd.apply_no_more()
    etcd.apply()


def happen(etcd: FakeEtcd) -> None:
    snapshot = etcd.snapshot()
    assert_type(snapshot, Snapshot)
    print(snapshot.store.revision, snapshot.lessor.ids())
    etcd.lose_leader()
    etcd.change_leader()
    etcd.change_leader(etcd.members[0])
    etcd.stop()
    etcd.start()
    etcd.restore(snapshot, raft_term=3, cluster_id=2)
    etcd.wipe(raft_term=3, cluster_id=2)


def hook(call: Call) -> None:
    assert_type((call.client, call.kind), tuple[str, CallKind])
    assert_type(call.stage, Literal["before", "after"])
    assert_type(call.arguments, tuple[Any, ...])


async def async_hook(call: Call) -> None:
    await anyio.sleep(1)
    hook(call)


# Its port, of the fake as of a client


async def call(etcd: FakeEtcd | FakeClient) -> None:
    granted = await etcd.lease_grant(10, 1, timeout=1)
    assert_type((granted.lease_id, granted.ttl, granted.header.revision), tuple[int, int, int])
    answers = await etcd.lease_keep_alive([1], timeout=1)
    assert_type([answer.ttl for answer in answers.values()], list[int])
    assert_type((await etcd.lease_time_to_live(1, keys=True, timeout=1)).keys, tuple[bytes, ...])
    assert_type((await etcd.lease_revoke(1, timeout=1)).raft_term, int)
    assert_type((await etcd.member_status(timeout=1)).version, str)
    assert_type((await etcd.txn([], [], timeout=1)).succeeded, bool)
    etcd.watch(b"jobs/", b"jobs0", sink=print, timeout=1).close()
    etcd.report_endpoint_failure(etcd.endpoint_number)
    assert_type(await etcd.member_raft_term(b"key", timeout=1), int)
    etcd.on_version(print)
    assert_type(etcd.uniform(0, 1), float)
    etcd.on_header(print)
    print(etcd.range)
    await etcd.aclose()


# A client's network


def disturb(client: FakeClient) -> None:
    assert_type((client.name, client.closed), tuple[str, bool])
    assert_type(client.uniform(0, 1), float)
    assert_type(client.calls, Counter[CallKind])
    assert_type((client.member, client.endpoints), tuple[FakeMember, tuple[FakeMember, ...]])
    client.latency = 0.1
    client.latency = (0.1, 0.2)
    client.partition()
    client.heal()
    client.silence_watches()
    client.stall_watches()
    client.resume_watches()
    assert_type((client.partitioned, client.stalled), tuple[bool, bool])
    assert_type(client.silenced, int)
    client.lose_request("txn")
    client.lose_request(times=2)
    client.lose_answer("range", times=2)
    client.delay("lease_keep_alive", request=1, answer=0.5, times=3)
    client.fail("txn", EtcdUnavailableError("gone"), applied=True)
    client.fail(None, EtcdUnavailableError("gone"))
    client.refuse("watch")
    client.clear_faults()
    client.break_streams()


async def carry(client: FakeClient) -> None:
    """The methods that the fake's own parts call."""
    client.count("watch")
    client.changed.send()
    assert_type(client.one_way(), float)
    assert_type(await client.arrival(anyio.current_time() + client.fault_for("txn").request_delay), bool)
    assert_type(client.cluster.has_leader, bool)


# A member


def ail(member: FakeMember) -> None:
    member.lag()
    member.depose()
    member.freeze()
    member.kill()
    member.recover()
    member.recover(by_snapshot=True)
    member.restart()
    member.restart(by_snapshot=True)
    member.answers_early = not member.answers_early
    assert_type((member.member_id, member.revision, member.raft_term), tuple[int, int, int])
    assert_type((member.frozen, member.is_well, member.is_running), tuple[bool, bool, bool])


async def serve(member: FakeMember, commit: Commit) -> None:
    """The methods that the fake's own parts call."""
    member.check_up()
    member.applied(commit)
    member.entry_applied()
    member.start_over()
    assert_type(member.is_behind, bool)
    member.catch_up()
    print([stream.metadata for stream in member.streams])
    await member.until_awake()
    print(await member.handle(Range(b"key")), await member.write(member.header))
    assert_type(member.watches.behind, bool)
    assert_type(member.header().revision, int)
    assert_type(member.status().leader, int)
    assert_type(await member.read(lambda: 1), int)
    assert_type((await member.keep_alive(1)).ttl, int)
    assert_type((await member.time_to_live(1, keys=False)).ttl, int)


# Virtual time


def virtual() -> None:
    assert_type(VIRTUAL_BACKENDS, tuple[Literal["asyncio", "trio"], ...])
    for name in VIRTUAL_BACKENDS:
        assert_type(virtual_backend(name), tuple[str, Mapping[str, Any]])
    loop = VirtualTimeLoop()
    assert_type(loop.time(), float)
    loop.close()


async def on_virtual_time(etcd: FakeEtcd) -> None:
    clock = VirtualClock(rate=1.01)
    assert_type((clock(), clock.rate), tuple[float, float])
    clock.rate = 2
    clock.advance(60)
    EtcdLeaderManager(etcd, config, "jobs/nightly", clock=clock)
