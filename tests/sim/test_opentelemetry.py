"""OpenTelemetry reports the facts that Prometheus reports, under its own names."""

from __future__ import annotations

import re

import anyio
import pytest
from opentelemetry.sdk.metrics.export import Gauge, HistogramDataPoint, Metric, Sum

from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.helpers.otel import EXPOSED, Collected
from tests.helpers.paths import ROOT
from tests.sim.moving import moved
from tests.sim.scrape import Scrape
from tests.sim.world import CONFIG, ELECTION, make, until

pytestmark = pytest.mark.anyio

NAMES = {
    "etcdleader.terms": "terms_total",
    "etcdleader.term.losses": "losses_total",
    "etcdleader.term.overruns": "overruns_total",
    "etcdleader.term.token": "token",
    "etcdleader.etcd.errors": "etcd_errors_total",
    "etcdleader.renewal.failures": "renewal_failures_total",
    "etcdleader.renewal.duration": "renewal_duration_seconds",
    "etcdleader.renewal.remaining_time": "renewal_remaining_seconds",
    "etcdleader.drain.duration": "drain_seconds",
    "etcdleader.lease.moves": "lease_moves_total",
    "etcdleader.lease.remaining_time": "lease_remaining_seconds",
    "etcdleader.lease.min_remaining_time": "min_remaining_seconds",
    "etcdleader.leader.count": "is_leader",
    "etcdleader.leader.known": "leader_known",
    "etcdleader.leaderless.time": "leaderless_seconds_total",
    "etcdleader.queue.position": "queue_position",
    "etcdleader.health.status": "health",
    "etcdleader.config.lease": "lease_seconds",
    "etcdleader.config.retry": "retry_seconds",
    "etcdleader.config.renew": "renew_seconds",
    "etcdleader.config.margin": "margin_seconds",
}
LABELS = {
    "etcdleader.election": "election",
    "etcdleader.loss.reason": "reason",
    "etcdleader.health.state": "state",
    "error.type": "kind",
}
Facts = dict[tuple[str, frozenset[tuple[str, object]]], float]


@pytest.fixture
async def scrape(clock: VirtualClock) -> Scrape:
    return Scrape(clock)


@pytest.fixture
async def collected(clock: VirtualClock) -> Collected:
    return Collected(clock)


def facts_of_opentelemetry(collected: Collected) -> Facts:
    facts: Facts = {}
    for point in collected.points():
        name = NAMES[point.name]
        labels = frozenset(
            (LABELS[key], "other" if value == "_OTHER" else value) for key, value in point.attributes.items()
        )
        if isinstance(point.data, HistogramDataPoint):
            if point.data.count:
                facts[f"{name}_count", labels] = point.data.count
                facts[f"{name}_sum", labels] = point.data.sum
        else:
            facts[name, labels] = point.data.value
    return facts


def facts_of_prometheus(scrape: Scrape) -> Facts:
    facts = {
        (sample.name.removeprefix("etcdleader_"), frozenset[tuple[str, object]](sample.labels.items())): float(
            sample.value
        )
        for family in scrape.registry.collect()
        for sample in family.samples
        if not sample.name.endswith(("_created", "_bucket"))
    }
    empty = {(name.removesuffix("_count"), labels) for (name, labels), value in facts.items() if not value}
    return {  # the SDK exports a histogram from its first value on
        (name, labels): value
        for (name, labels), value in facts.items()
        if not (name.endswith(("_count", "_sum")) and (name.rpartition("_")[0], labels) in empty)
    }


async def test_both_report_the_same_facts_at_each_moment(
    etcd: FakeEtcd, clock: VirtualClock, scrape: Scrape, collected: Collected
) -> None:
    client = etcd.client()
    manager, other = scrape.watching(make(client, clock)), scrape.watching(make(etcd, clock, "b"))
    ahead = make(etcd, clock, "c", election="elsewhere")
    waiting = scrape.watching(make(etcd, clock, "d", election="elsewhere"))
    compared: list[Facts] = []

    def compare() -> None:
        facts = facts_of_opentelemetry(collected)
        assert facts == pytest.approx(facts_of_prometheus(scrape))
        compared.append(facts)

    for each in (manager, other, waiting):
        each.add_metrics(collected.metrics)
    compare()
    async with manager, ahead:
        term = await manager.wait_elected()
        await ahead.wait_elected()
        compare()
        async with other, waiting:
            await until(lambda: manager.statistics().renewals >= 2)
            compare()
            await moved(etcd, term)
            compare()
            client.partition()
            await until(lambda: manager.statistics().renewal_failures >= 2)
            compare()
            clock.advance(CONFIG.lease)  # the loop does not run meanwhile
            compare()
            client.heal()
            await until(lambda: manager.is_leader() or other.is_leader())
            compare()
            etcd.stop()
            await anyio.sleep(3 * CONFIG.lease)
            compare()
            etcd.start()
            await until(lambda: manager.is_leader() or other.is_leader())
            compare()
    compare()
    reached = {name for facts in compared for (name, _), value in facts.items() if value}
    never = {name for name in NAMES.values() if not any(one.startswith(name) for one in reached)}
    assert never == {"overruns_total"}, "each other number was above 0 at some time"


def instrument(metric: Metric) -> str:
    if isinstance(metric.data, Sum):
        return "counter" if metric.data.is_monotonic else "up-down counter"
    return "gauge" if isinstance(metric.data, Gauge) else "histogram"


async def test_what_is_collected_is_what_the_documentation_lists(
    etcd: FakeEtcd, clock: VirtualClock, collected: Collected
) -> None:
    """The dashboards and the alerts of users depend on these names, instruments and units."""
    manager = make(etcd, clock)
    manager.add_metrics(collected.metrics)
    async with manager:
        await manager.wait_elected()
        await manager.resign()
        await until(lambda: manager.is_leader() and manager.statistics().renewals > 0)
        metrics = collected.all()
    assert {metric.name: (instrument(metric), metric.unit) for metric in metrics} == EXPOSED
    assert all(metric.description for metric in metrics)
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(etcdleader\.[\w.]+)` \| `(\w+)` \| ([\w -]+) \| `(\S+)` \|", page, re.MULTILINE)
    assert {name: (kind, unit) for name, _, kind, unit in rows} == EXPOSED
    prometheus = {name: f"etcdleader_{ours}" for name, ours in NAMES.items()}
    assert {name: theirs for name, theirs, _, _ in rows} == prometheus
    assert set(EXPOSED) == set(NAMES)
    assert ELECTION == "jobs"
