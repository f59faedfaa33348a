"""The page that Prometheus reads: names and labels, without the event loop."""

from __future__ import annotations

import gc
import re
import subprocess
import threading

import anyio
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from etcdleader import (
    Config,
    EtcdConfig,
    EtcdLeaderManager,
    EtcdRefusedError,
    EtcdRegressedError,
    EtcdUnavailableError,
    LeaderManager,
    LossReason,
    NoopLeaderManager,
    must_new_leader_manager_from_config,
)
from etcdleader.prometheus import PrometheusMetrics
from tests.helpers.debian import find_program

PROMTOOL = find_program("promtool")
CONFIG = Config(enabled=True)


def managed(registry: CollectorRegistry, election: str = "jobs") -> tuple[PrometheusMetrics, EtcdLeaderManager]:
    """A client that opens nothing: metrics only count for it."""
    metrics = PrometheusMetrics(registry)
    return metrics, EtcdLeaderManager(EtcdConfig("127.0.0.1:2379"), CONFIG, election, metrics=metrics)


def families(registry: CollectorRegistry) -> dict[str, Metric]:
    return {family.name: family for family in parse(generate_latest(registry).decode())}


def test_what_is_exposed_is_what_the_documentation_lists() -> None:
    """The dashboard and the alerts of users depend on these names and types."""
    registry = CollectorRegistry()
    _, manager = managed(registry)
    exposed = {name: family.type for name, family in families(registry).items() if not name.endswith("_created")}
    assert exposed == {
        "etcdleader_terms": "counter",
        "etcdleader_losses": "counter",
        "etcdleader_overruns": "counter",
        "etcdleader_etcd_errors": "counter",
        "etcdleader_renewal_failures": "counter",
        "etcdleader_lease_moves": "counter",
        "etcdleader_renewal_duration_seconds": "histogram",
        "etcdleader_renewal_remaining_seconds": "histogram",
        "etcdleader_drain_seconds": "histogram",
        "etcdleader_is_leader": "gauge",
        "etcdleader_token": "gauge",
        "etcdleader_lease_remaining_seconds": "gauge",
        "etcdleader_min_remaining_seconds": "gauge",
        "etcdleader_queue_position": "gauge",
        "etcdleader_lease_seconds": "gauge",
        "etcdleader_retry_seconds": "gauge",
        "etcdleader_renew_seconds": "gauge",
        "etcdleader_margin_seconds": "gauge",
        "etcdleader_health": "gauge",
        "etcdleader_leader_known": "gauge",
        "etcdleader_leaderless_seconds": "counter",
    }
    del manager


def test_both_formats_are_understood_by_their_parsers() -> None:
    registry = CollectorRegistry()
    _, manager = managed(registry, 'a "quoted"\\name\nof two lines')
    encode, _ = choose_encoder("application/openmetrics-text; version=1.0.0")
    plain = {family.name for family in parse(generate_latest(registry).decode())}
    openmetrics = list(parse_openmetrics(encode(registry).decode()))  # type: ignore[no-untyped-call]
    assert {family.name for family in openmetrics} == {name for name in plain if not name.endswith("_created")}
    assert {sample.labels["election"] for family in openmetrics for sample in family.samples} == {manager.election_key}


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")
def test_the_names_follow_the_conventions_of_prometheus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units and suffixes, as in promtool."""
    assert PROMTOOL is not None
    registry = CollectorRegistry()
    _, manager = managed(registry)
    # prometheus_client adds these automatically; in the plain format they look like gauges without a unit.
    text = "".join(line + "\n" for line in generate_latest(registry).decode().splitlines() if "_created" not in line)
    done = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    del manager


def test_labels_have_no_other_values_whatever_happens() -> None:
    """A label with an identity or a message in it fills a Prometheus until it falls over."""
    registry = CollectorRegistry()
    metrics, manager = managed(registry)
    counted = metrics.bind(manager)

    def labels() -> set[tuple[str, frozenset[tuple[str, str]]]]:
        return {
            (sample.name, frozenset(sample.labels.items()))
            for family in families(registry).values()
            for sample in family.samples
        }

    before = labels()
    for number in range(50):
        counted.etcd_failed(EtcdUnavailableError(f"message {number}"))
        counted.etcd_failed(EtcdRefusedError(f"message {number}"))
        counted.etcd_failed(EtcdRegressedError(number, 2, 1))
        counted.renewal_failed(float(number))
        counted.renewed(float(number), float(number))
    assert labels() - before == set()
    names = {name for _, pairs in before for name, _ in pairs}
    assert names == {"election", "reason", "kind", "state", "le"}
    reasons = {value for _, pairs in before for name, value in pairs if name == "reason"}
    assert reasons == {reason.value for reason in LossReason}
    value = registry.get_sample_value("etcdleader_etcd_errors_total", {"election": "jobs", "kind": "regressed"})
    assert value == 50


def test_a_second_object_on_one_registry_is_refused_in_words() -> None:
    registry = CollectorRegistry()
    PrometheusMetrics(registry)
    with pytest.raises(ValueError, match="etcdleader_terms"):
        PrometheusMetrics(registry)
    PrometheusMetrics(registry, namespace="other")


def test_a_manager_from_the_factory_is_attached_and_twice_is_once() -> None:
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    settings = {"leader": {"enabled": True, "lease": 30}, "etcd": {"endpoints": ["127.0.0.1:1"]}}
    manager = must_new_leader_manager_from_config("made", settings=settings)
    metrics.attach(manager)
    metrics.attach(manager)
    assert registry.get_sample_value("etcdleader_lease_seconds", {"election": "made"}) == 30
    states = {"election": "made", "state": "not_campaigning"}
    assert registry.get_sample_value("etcdleader_health", states) == 1


def test_an_object_that_is_no_manager_is_not_attached() -> None:
    stranger: LeaderManager = object()  # type: ignore[assignment]
    with pytest.raises(TypeError, match="object"):
        PrometheusMetrics(CollectorRegistry()).attach(stranger)


def test_managers_are_not_kept_alive_and_what_they_did_stays_counted() -> None:
    registry = CollectorRegistry()
    metrics, manager = managed(registry)
    metrics.bind(manager).renewal_failed(1.0)
    del manager
    gc.collect()
    assert registry.get_sample_value("etcdleader_is_leader", {"election": "jobs"}) is None
    assert registry.get_sample_value("etcdleader_renewal_failures_total", {"election": "jobs"}) == 1


@pytest.mark.anyio
async def test_a_switched_off_election_is_counted_like_any_other(anyio_backend: str) -> None:
    registry = CollectorRegistry()
    metrics, manager = PrometheusMetrics(registry), NoopLeaderManager(election_key="off")
    metrics.attach(manager)
    async with manager:
        await manager.wait_elected()
        text = generate_latest(registry).decode()
        assert registry.get_sample_value("etcdleader_is_leader", {"election": "off"}) == 1
        assert 'etcdleader_lease_remaining_seconds{election="off"} +Inf' in text
    assert registry.get_sample_value("etcdleader_losses_total", {"election": "off", "reason": "stopped"}) == 1


@pytest.mark.anyio
async def test_a_scrape_needs_no_event_loop(anyio_backend: str) -> None:
    """When the loop is blocked is when the numbers matter most."""
    registry = CollectorRegistry()
    metrics, manager = PrometheusMetrics(registry), NoopLeaderManager(election_key="off")
    metrics.attach(manager)
    scraped: list[bytes] = []
    async with manager:
        await manager.wait_elected()
        thread = threading.Thread(target=lambda: scraped.append(generate_latest(registry)))
        thread.start()
        thread.join(30)  # blocks the loop, on purpose
        await anyio.lowlevel.checkpoint()
    assert re.search(rb'^etcdleader_is_leader\{election="off"\} 1.0$', scraped[0], re.MULTILINE)
