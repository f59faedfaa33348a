"""The metrics that OpenTelemetry's SDK collects: names, units and attributes. Collecting needs no event loop."""

from __future__ import annotations

import gc
import logging
import os
import re
import subprocess
import sys
import threading

import anyio
import pytest
from opentelemetry.sdk.metrics import Counter, ObservableCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    NumberDataPoint,
)

from etcdleader import (
    Config,
    EtcdConfig,
    EtcdLeaderError,
    EtcdLeaderManager,
    EtcdRefusedError,
    EtcdRegressedError,
    EtcdUnavailableError,
    LossReason,
    NoopLeaderManager,
    Term,
    must_new_leader_manager_from_config,
)
from etcdleader.metrics import Metrics
from etcdleader.opentelemetry import OpenTelemetryMetrics
from tests.helpers.otel import EXPOSED, Collected

CONFIG = Config(enabled=True)
ETCD = EtcdConfig("127.0.0.1:2379")


def managed(collected: Collected, election: str = "jobs") -> tuple[EtcdLeaderManager, Metrics]:
    """A client that opens nothing: metrics only count for it."""
    manager = EtcdLeaderManager(ETCD, CONFIG, election)
    return manager, collected.metrics.bind(manager)


def a_term(election: str = "jobs") -> Term:

    async def open_term() -> Term:
        return NoopLeaderManager(election_key=election)._open_term().term

    return anyio.run(open_term)


def report_everything(recorder: Metrics, times: int = 1) -> None:
    """Report each event, with texts, numbers and identities that always differ."""
    for number in range(times):
        recorder.elected(a_term())
        for reason in LossReason:
            recorder.ousted(a_term(), reason, number)
        for error in (
            EtcdUnavailableError(f"message {number}"),
            EtcdRefusedError(f"message {number}"),
            EtcdRegressedError(number, 2, 1),
            EtcdLeaderError(f"message {number}"),
        ):
            recorder.etcd_failed(error)
        recorder.renewed(number, number)
        recorder.renewal_failed(number)
        recorder.lease_moved(number)
        recorder.queued(number)
        recorder.overrun(a_term())
        recorder.leader_known(number % 2 == 0)


@pytest.mark.parametrize("name", EXPOSED)
def test_the_names_follow_the_conventions_of_opentelemetry(name: str) -> None:
    """https://opentelemetry.io/docs/specs/semconv/general/: naming and metrics."""
    instrument, unit = EXPOSED[name]
    assert re.fullmatch(r"etcdleader(\.[a-z]+(_[a-z]+)*)+", name)
    last = name.rpartition(".")[2]
    assert not {"total", "seconds", "s"} & set(last.split("_"))
    assert unit in {"s", "1"} or re.fullmatch(r"\{[a-z]+\}", unit)
    assert not unit.endswith("s}")
    counts = instrument == "counter" and unit != "s"
    assert last.endswith("s") == (counts or last == "status"), "plural only if it counts discrete things"
    assert not any(other.startswith(f"{name}.") for other in EXPOSED), "a name is no namespace"


def test_attributes_have_no_other_values_whatever_happens() -> None:
    """An attribute with an identity or a message in it makes a new series each time."""
    collected = Collected()
    manager, recorder = managed(collected)
    report_everything(recorder)
    before = {(point.name, frozenset(point.attributes.items())) for point in collected.points()}
    report_everything(recorder, 50)
    after = {(point.name, frozenset(point.attributes.items())) for point in collected.points()}
    assert after == before
    values: dict[str, set[object]] = {}
    for _, pairs in after:
        for name, value in pairs:
            values.setdefault(name, set()).add(value)
    assert values == {
        "etcdleader.election": {"jobs"},
        "etcdleader.loss.reason": {reason.value for reason in LossReason},
        "etcdleader.health.state": {"leading", "standby", "wedged", "not_campaigning", "failed"},
        "error.type": {"unavailable", "refused", "regressed", "_OTHER"},
    }
    assert collected("etcd.errors", error__type="regressed") == 51
    del manager


def test_all_counters_begin_with_zero() -> None:
    """Otherwise a backend does not see the first overrun: the series begins with 1, and does not rise."""
    collected = Collected()
    managed_by = managed(collected)
    counters = {name for name, (instrument, _) in EXPOSED.items() if instrument == "counter"}
    zeros = {point.name for point in collected.points() if isinstance(point.data, NumberDataPoint)}
    assert counters <= zeros
    assert collected("term.losses", etcdleader__loss__reason="expired") == 0
    del managed_by


def test_histograms_have_boundaries_in_seconds() -> None:
    """The SDK's own are meant for milliseconds: each renewal would be in the first bucket."""
    collected = Collected()
    manager, recorder = managed(collected)
    recorder.renewed(0.02, 9.0)
    (point,) = collected.points_of("renewal.duration")
    assert isinstance(point, HistogramDataPoint)
    assert (point.explicit_bounds[0], point.explicit_bounds[-1]) == (0.001, 10.0)
    del manager


def test_the_scope_has_the_name_and_the_version_of_the_package() -> None:
    collected = Collected()
    managed_by = managed(collected)
    data = collected.reader.get_metrics_data()
    assert data is not None
    (scope,) = data.resource_metrics[0].scope_metrics
    assert scope.scope.name == "etcdleader"
    assert re.fullmatch(r"\d+\.\d+.*", scope.scope.version or "")
    del managed_by


def test_managers_from_the_factory_and_by_hand_share_one_object() -> None:
    collected = Collected()
    settings = {"leader": {"enabled": True, "lease": 30}, "etcd": {"endpoints": ["127.0.0.1:1"]}}
    made = must_new_leader_manager_from_config("made", settings=settings, metrics=collected.metrics)
    off = must_new_leader_manager_from_config("off", settings={"leader": {"enabled": False}})
    off.add_metrics(collected.metrics)
    off.add_metrics(collected.metrics)
    assert collected("config.lease", "made") == 30
    for manager in (made, off):
        state = {"etcdleader__health__state": "not_campaigning"}
        assert collected("health.status", manager.election_key, **state) == 1


def test_several_objects_on_one_provider_miss_no_manager(caplog: pytest.LogCaptureFixture) -> None:
    """The SDK ignores the callbacks of a second instrument of the same name, without a word."""
    collected = Collected()
    first = EtcdLeaderManager(ETCD, CONFIG, "first", metrics=collected.metrics)
    second = EtcdLeaderManager(ETCD, CONFIG, "second", metrics=OpenTelemetryMetrics(collected.provider))
    assert (collected("leader.count", "first"), collected("leader.count", "second")) == (0, 0)
    second.add_metrics(collected.metrics)
    assert collected("leader.count", "second") == 0
    assert collected("health.status", "second", etcdleader__health__state="not_campaigning") == 1, "counted once"
    assert caplog.records == []
    other = Collected()
    assert other.all() == []
    del first, second


def test_the_global_provider_may_be_set_before_between_and_afterwards() -> None:
    """Modules make their managers while they are imported, the application sets its SDK up later."""
    script = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from etcdleader import NoopLeaderManager
from etcdleader.metrics import Metrics
from etcdleader.opentelemetry import OpenTelemetryMetrics

def make(key, *given):
    manager = NoopLeaderManager(election_key=key)
    manager.add_metrics(OpenTelemetryMetrics(*given))
    return manager

provider = MeterProvider([reader := InMemoryMetricReader()])
managers = [make("a"), make("b")]
metrics.set_meter_provider(provider)
managers += [make("c"), make("d", provider)]
(resource,) = reader.get_metrics_data().resource_metrics
(scope,) = resource.scope_metrics
for metric in scope.metrics:
    if metric.name == "etcdleader.leader.count":
        print(*sorted(point.attributes["etcdleader.election"] for point in metric.data.data_points))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.split(), done.stderr) == (["a", "b", "c", "d"], "")


def test_managers_are_not_kept_alive_and_what_they_did_stays_counted() -> None:
    collected = Collected()
    manager, recorder = managed(collected)
    recorder.renewal_failed(1.0)
    del manager
    gc.collect()
    assert collected("leader.count") is None
    assert collected("renewal.failures") == 1


@pytest.mark.parametrize("temporality", [AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA])
def test_the_time_without_a_leader_does_not_fall_when_a_manager_is_deleted(
    temporality: AggregationTemporality,
) -> None:
    """A backend takes a falling counter for a restart, and a delta below zero for nonsense."""
    now = [0.0]
    collected = Collected(lambda: now[0], {Counter: temporality, ObservableCounter: temporality})
    read: list[float] = []
    for _ in range(3):
        manager, recorder = managed(collected)
        recorder.leader_known(False)
        now[0] += 10
        read.append(collected("leaderless.time") or 0)
        del manager
        gc.collect()
    assert read == ([10, 20, 30] if temporality is AggregationTemporality.CUMULATIVE else [10, 10, 10])


@pytest.mark.anyio
async def test_a_switched_off_election_is_counted_like_any_other(
    anyio_backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    collected = Collected()
    manager = NoopLeaderManager(election_key="jobs")
    manager.add_metrics(collected.metrics)
    async with manager:
        await manager.wait_elected()
        assert (collected("leader.count"), collected("leader.known"), collected("term.token")) == (1, 1, 0)
        assert collected("lease.remaining_time") is None, "it is infinite"
    assert collected("term.losses", etcdleader__loss__reason="stopped") == 1
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


@pytest.mark.anyio
async def test_a_collection_needs_no_event_loop(anyio_backend: str) -> None:
    """When the loop is blocked is when the numbers matter most."""
    collected = Collected()
    manager = NoopLeaderManager(election_key="jobs")
    manager.add_metrics(collected.metrics)
    seen: list[float | None] = []
    async with manager:
        await manager.wait_elected()
        thread = threading.Thread(target=lambda: seen.append(collected("leader.count")))
        thread.start()
        thread.join(30)  # blocks the loop, on purpose
        await anyio.lowlevel.checkpoint()
    assert seen == [1]


@pytest.mark.anyio
async def test_a_thread_may_collect_while_managers_come_lead_and_go(
    anyio_backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The SDK's reader thread collects at any moment."""
    collected = Collected()
    done = threading.Event()
    sums: list[float] = []

    def collect() -> None:
        while not done.is_set():
            counts = [point.data for point in collected.points() if point.name == "etcdleader.leader.count"]
            sums.append(sum(point.value for point in counts if isinstance(point, NumberDataPoint)))

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        with caplog.at_level(logging.WARNING):
            for number in range(100):
                manager = NoopLeaderManager(election_key=f"election-{number % 5}")
                manager.add_metrics(collected.metrics)
                async with manager:
                    await manager.wait_elected()
                del manager
            while len(sums) < 2:
                await anyio.sleep(0.001)
    finally:
        done.set()
        thread.join()
    assert set(sums) <= {0, 1}
    assert caplog.records == []
    collections = [collected("terms", f"election-{number}") for number in range(5)]
    assert collections == [20] * 5


def test_an_exception_of_one_manager_hides_no_other_one_and_does_not_reach_the_sdk(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(NoopLeaderManager):
        def is_leader(self) -> bool:
            raise RuntimeError("out of order")

    collected = Collected()
    managers = [Broken(election_key="broken"), NoopLeaderManager(election_key="jobs")]
    for manager in managers:
        manager.add_metrics(collected.metrics)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert (collected("leader.count", "broken"), collected("leader.count")) == (None, 0)
    assert collected("config.lease", "broken") == 60
    assert [(each.name, each.levelname) for each in caplog.records] == [("etcdleader", "ERROR")]
    assert "etcdleader.leader.count of 'broken' raised RuntimeError" in caplog.text


FORKING = """
import os, sys
import anyio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, PeriodicExportingMetricReader
from etcdleader import NoopLeaderManager
from etcdleader.metrics import Metrics
from etcdleader.opentelemetry import OpenTelemetryMetrics

class Exporter(MetricExporter):
    numbers = {}

    def export(self, data, timeout_millis=0, **_):
        metrics = data.resource_metrics[0].scope_metrics[0].metrics
        self.numbers = {
            (metric.name, point.attributes.get("etcdleader.health.state")): getattr(point, "value", None)
            for metric in metrics for point in metric.data.data_points
        }
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis=0): return True
    def shutdown(self, timeout_millis=0, **_): pass

exporter = Exporter()
provider = MeterProvider([PeriodicExportingMetricReader(exporter, export_interval_millis=20)])
manager = NoopLeaderManager(election_key="jobs")
manager.add_metrics(OpenTelemetryMetrics(provider))

def show(who):
    provider.force_flush()
    numbers = exporter.numbers
    print(who, numbers["etcdleader.leader.count", None], numbers.get(("etcdleader.leader.known", None)),
          numbers["etcdleader.health.status", "not_campaigning"], numbers["etcdleader.terms", None], flush=True)

async def lead():
    async with manager:
        await manager.wait_elected()
        if os.fork() == 0:
            show("child")
            os._exit(0)
        os.wait()
        show("parent")

anyio.run(lead, backend=sys.argv[1])
if os.fork() == 0:
    anyio.run(lead, backend=sys.argv[1])
    os._exit(0)
os.wait()
show("end")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_forked_child_of_a_leader_does_not_report_leadership(backend: str) -> None:
    """The sum over all processes must be 1. Its counters go on from those of its parent, as all of the SDK's do."""
    done = subprocess.run(
        [sys.executable, "-c", FORKING, backend], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == [
        "child 0 None 1 1",
        "parent 1 1 0 1",
        "child 0 None 1 2",  # of a child that leads
        "parent 1 1 0 2",
        "end 0 None 1 1",
    ]
    assert done.returncode == 0, done.stderr
