"""The alert rules and the dashboard: they name what is exposed, they load, and the alerts fire when they should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from etcdleader import Config, EtcdConfig, EtcdLeaderManager
from etcdleader.prometheus import PrometheusMetrics
from tests.helpers.debian import find_program
from tests.helpers.paths import ROOT

DEPLOY = ROOT / "deploy"
MONITORING = (ROOT / "docs/monitoring.md").read_text()

PROMTOOL = find_program("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    return loaded


def expressions() -> Iterator[str]:
    """All of both, with Grafana's variables filled in as Grafana does."""
    for rule in rules():
        yield rule["expr"]
    board = dashboard()
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    queries += [annotation["expr"] for annotation in board["annotations"]["list"]]
    for query in queries:
        yield query.replace("$__rate_interval", "1m").replace("$election", "jobs|mail").replace("$job", "app")


def exposed() -> set[str]:
    """The names of all series, as PromQL has them."""
    registry = CollectorRegistry()
    manager = EtcdLeaderManager(
        EtcdConfig("127.0.0.1:2379"), Config(enabled=True), "jobs", metrics=PrometheusMetrics(registry)
    )
    names = set()
    for family in registry.collect():
        names |= {sample.name for sample in family.samples} or {family.name}
    del manager
    return names


def promtool(*arguments: str | Path) -> None:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, timeout=120, check=False, cwd=DEPLOY)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_query_only_exposed_metrics() -> None:
    """A name with a typing error in it never alerts anybody."""
    asked = {name for expression in expressions() for name in re.findall(r"\betcdleader_\w+", expression)}
    assert len(asked) > 15
    assert asked <= exposed()


def test_everything_exposed_and_every_alert_is_documented() -> None:
    for name in exposed():
        if not name.endswith("_created"):
            assert f"`{re.sub('_(bucket|count|sum)$', '', name)}" in MONITORING, name
    for rule in rules():
        assert f"`{rule['alert']}`" in MONITORING


def test_each_alert_states_its_severity_what_happened_and_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) > 5
    for rule in rules():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}, rule["alert"]
        assert re.fullmatch(r"Etcdleader[A-Z][A-Za-z]+", rule["alert"])
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))


def test_each_alert_is_seen_to_fire_and_to_keep_quiet() -> None:
    """In the tests that promtool runs; this holds where it is not installed, too."""
    fires: dict[str, int] = {}
    quiet: set[str] = set()
    tests = yaml.safe_load((DEPLOY / "alerts_test.yml").read_text())
    assert tests["rule_files"] == ["alerts.yml"]
    for test in tests["tests"]:
        quiet |= {"all"} if test.get("promql_expr_test") else set()
        for case in test.get("alert_rule_test", ()):
            if case["exp_alerts"]:
                fires[case["alertname"]] = fires.get(case["alertname"], 0) + 1
    assert quiet == {"all"}
    assert set(fires) == {rule["alert"] for rule in rules()}


@needs_promtool
def test_promtool_takes_the_rules() -> None:
    promtool("check", "rules", "alerts.yml")


@needs_promtool
def test_the_alerts_fire_when_they_should() -> None:
    promtool("test", "rules", "alerts_test.yml")


@needs_promtool
def test_the_tests_of_the_alerts_notice_each_that_never_fires(tmp_path: Path) -> None:
    loaded = yaml.safe_load((DEPLOY / "alerts.yml").read_text())
    for rule in loaded["groups"][0]["rules"]:
        rule["expr"] = f"({rule['expr']}) and vector(1) > 2"
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(loaded))
    shutil.copy(DEPLOY / "alerts_test.yml", tmp_path)
    with pytest.raises(AssertionError) as caught:
        promtool("test", "rules", tmp_path / "alerts_test.yml")
    noticed = set(re.findall(r"alertname: (\w+)", str(caught.value)))
    assert noticed == {rule["alert"] for rule in rules()}


@needs_promtool
def test_promtool_understands_every_query_of_the_dashboard(tmp_path: Path) -> None:
    recorded = [{"record": f"query:{number}", "expr": expression} for number, expression in enumerate(expressions())]
    recorded = [
        {**rule, "record": re.sub(r"\d", lambda digit: "abcdefghij"[int(digit[0])], rule["record"])}
        for rule in recorded
    ]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    promtool("check", "rules", "--lint=none", file)


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    """The parts that its importer insists on, without which it says no more than "dashboard validation failed"."""
    board = dashboard()
    assert board["id"] is None, "Grafana gives it one"
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", board["uid"])
    assert board["title"]
    assert isinstance(board["schemaVersion"], int)
    assert board["schemaVersion"] >= 36, "data sources are named by type and uid from there on"
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 8
    needed = {requirement["id"] for requirement in board["__requires"] if requirement["type"] == "panel"}
    assert {panel["type"] for panel in panels} == needed
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert {"defaults", "overrides"} == set(panel["fieldConfig"])
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references) > 0


def test_the_panels_of_the_dashboard_do_not_cover_each_other() -> None:
    places = [panel["gridPos"] for panel in dashboard()["panels"]]
    for place in places:
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
    for one, other in combinations(places, 2):
        assert (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        ), (one, other)


def test_the_dashboard_uses_the_variables_it_has_and_has_those_it_uses() -> None:
    board = dashboard()
    defined = {variable["name"] for variable in board["templating"]["list"]}
    text = json.dumps([board["panels"], board["annotations"], board["templating"]])
    used = set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval", "__all"}
    assert used == defined
