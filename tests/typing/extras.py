"""Fencing, monitoring and etcd3's face, used as their users do. This file is never run."""

# etcd3 has no types.
# pyright: strict, reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, assert_type

import anyio
from opentelemetry.metrics import get_meter_provider
from prometheus_client import CollectorRegistry

from etcdleader import (
    Config,
    EtcdConfig,
    EtcdLeaderError,
    EtcdLeaderManager,
    LeaderManager,
    LeaderRecord,
    LossReason,
    NoopLeaderManager,
    Term,
)
from etcdleader.blocking import BlockingLeaderManager
from etcdleader.etcd3 import Lease, etcd3, guard_compares
from etcdleader.fencing import FencedError, Gate, fence_compares, fence_operations, fenced_transaction
from etcdleader.health import Health, HealthServer, HealthState, asgi_app, serve
from etcdleader.metrics import GuardedMetrics, Metrics, NullMetrics
from etcdleader.opentelemetry import OpenTelemetryMetrics
from etcdleader.prometheus import PrometheusMetrics
from etcdleader.registration import Registration, registered
from etcdleader.testing import FakeEtcd

# etcd3


def by_hand(term: Term) -> None:
    client: Any = etcd3.client(host="etcd-1", port=2379)
    compares: list[Any] = [*guard_compares(term.key, term.token, term.lease_id), Lease("key") == term.lease_id]
    assert_type(Lease("key").build_compare(compares[0]), None)
    client.transaction(compare=compares, success=[client.transactions.put("report", "done")], failure=[])


# Fencing, on the side that is written to


def receive(token: int) -> int:
    gate = Gate("report", token=41, epoch=1)
    assert_type((gate.token, gate.epoch), tuple[int, int])
    try:
        assert_type(gate.check(token), None)
        with gate.passing(token, epoch=1) as nothing:
            assert_type(nothing, None)
    except FencedError as error:
        assert_type((error.token, error.highest, error.epoch, error.highest_epoch), tuple[int, int, int, int])
        assert_type(error.resource, str)
        as_ours: EtcdLeaderError = error
        raise as_ours from FencedError(1, 2, resource="report")
    return 200


async def fence(term: Term) -> None:
    client: Any = etcd3.client(host="etcd-elsewhere", port=2379)
    put = client.transactions.put("report", "done")
    assert_type(fenced_transaction(client, "report", term.token, [put], epoch=1), list[Any])
    await anyio.to_thread.run_sync(fenced_transaction, client, "report", term.token, [put])
    assert_type(fence_compares("report", term.token, epoch=1), list[Any])
    assert_type(fence_operations("report", term.token, epoch=1), list[Any])
    await term.transaction([put, *fence_operations("report", term.token)])


# Monitoring


def watch(manager: LeaderManager, config: Config) -> None:
    health = manager.health()
    assert_type(health, Health)
    assert_type((health.state, health.reason, health.since), tuple[HealthState, str, datetime])
    assert_type((health.live, health.ready), tuple[bool, bool])
    match health.state:
        case HealthState.LEADING | HealthState.STANDBY | HealthState.NOT_CAMPAIGNING:
            print(health.state.value)
        case HealthState.WEDGED | HealthState.FAILED:
            print(health.reason)
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry, namespace="jobs", drain_buckets=[0.1, 1, 10])
    metrics.attach(manager)
    EtcdLeaderManager(EtcdConfig("127.0.0.1:2379"), config, "jobs/nightly", metrics=metrics)
    manager.add_metrics(OpenTelemetryMetrics())
    manager.add_metrics(OpenTelemetryMetrics(get_meter_provider(), clock=lambda: 0.0))
    asgi_app(manager)
    asgi_app([manager], registry=registry)
    with serve(manager, "127.0.0.1", 0, registry=registry) as server:
        assert_type(server, HealthServer)
        assert_type((server.host, server.port, server.url), tuple[str, int, str])
    with serve([manager, NoopLeaderManager()], "::", 8008):
        pass


def scraped(metrics: PrometheusMetrics) -> None:
    assert_type(metrics.registry, CollectorRegistry)
    counters = [
        metrics.terms,
        metrics.losses,
        metrics.overruns,
        metrics.errors,
        metrics.renewal_failures,
        metrics.lease_moves,
    ]
    histograms = [metrics.renewals, metrics.remaining, metrics.drains]
    for one in [*counters, *histograms]:
        one.clear()


class Statsd(NullMetrics):
    def bind(self, manager: LeaderManager) -> Metrics:
        return self if manager.is_leader() else NullMetrics()

    def renewed(self, duration: float, remaining: float) -> None:
        print(duration, remaining)

    def leader_known(self, known: bool | None) -> None:
        print(known)


def count(metrics: Metrics, manager: LeaderManager, term: Term, error: EtcdLeaderError) -> None:
    mine = metrics.bind(manager)
    assert_type(mine, Metrics)
    mine.elected(term)
    mine.ousted(term, LossReason.EXPIRED, 0.5)
    mine.renewed(0.01, 12.0)
    mine.renewal_failed(5.0)
    mine.lease_moved(1234)
    mine.etcd_failed(error)
    mine.queued(None)
    mine.queued(2)
    mine.overrun(term)
    mine.leader_known(None)
    mine.leader_known(True)


counted: Metrics = Statsd()
EtcdLeaderManager(EtcdConfig("127.0.0.1:2379"), Config(enabled=True), "jobs/nightly", metrics=counted)
several = GuardedMetrics()
several.add(counted, NoopLeaderManager())
several.emit(Metrics.renewed, 0.01, 12.0)
kinds: Sequence[Metrics] = [PrometheusMetrics(), NullMetrics()]


# Registration


async def keep(etcd: FakeEtcd) -> None:
    async with registered(EtcdConfig("127.0.0.1:2379"), "workers/a", "idle") as registration:
        assert_type(registration, Registration)
        assert_type(registration.key, str)
        assert_type(registration.lease_id, int)
        assert_type(registration.is_valid(), bool)
        assert_type(await registration.update("busy"), None)
        await registration.update(b"busy")
    registered(etcd, b"workers/a", b"idle", ttl="1m", clock=lambda: 0.0)
    registered(etcd, "workers/a", "idle", ttl=timedelta(seconds=30))
    registered(etcd, "workers/a", "idle", ttl=[])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# Threads


def in_threads(manager: LeaderManager) -> None:
    blocking = BlockingLeaderManager(manager)
    assert_type(blocking.manager, LeaderManager)
    assert_type(blocking.run(lambda term: term.token), int | None)
    assert_type(blocking.run_once("v42", lambda term: None), bool)
    with blocking as entered:
        assert_type(entered, BlockingLeaderManager)
        assert_type(blocking.wait_elected(timeout=5), Term)
        assert_type(blocking.term, Term | None)
        assert_type(blocking.is_leader(), bool)
        assert_type(blocking.extend(), Term)
        assert_type(blocking.leader(), LeaderRecord | None)
        assert_type(blocking.candidates(), list[LeaderRecord])
        blocking.advertise("http://10.0.0.1:8000")
        blocking.resign()
        blocking.resign(to="web-2#1f2e3d4c")
        with blocking.step() as step:
            assert_type(step, Term | None)
        with blocking.leading(timeout=5) as term:
            assert_type(term, Term)
        with blocking.observe() as leaders:
            assert_type(next(leaders), LeaderRecord | None)
    blocking.stop()
