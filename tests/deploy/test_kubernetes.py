"""The manifests for Kubernetes: the schemas have every field, and all settings in them exist."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from etcdleader import Config, EtcdLeaderManager, must_new_leader_manager_from_config
from tests.deploy.deployed import DEPLOY, TO_END, parsed_run
from tests.helpers.debian import find_program

VERSIONS = ("1.30", "1.37")
"""Of Kubernetes: an old one that is still to be met, and a new one."""

MANIFESTS: list[dict[str, Any]] = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
HAPROXY = find_program("haproxy")


def manifest(kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = [each for each in MANIFESTS if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def pod(deployment: str) -> dict[str, Any]:
    template: dict[str, Any] = manifest("Deployment", deployment)["spec"]["template"]["spec"]
    return template


def container(deployment: str) -> dict[str, Any]:
    only: dict[str, Any]
    (only,) = pod(deployment)["containers"]
    return only


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("each", MANIFESTS, ids=lambda each: f"{each['kind']} {each['metadata']['name']}")
def test_the_schemas_have_every_field(each: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(each, version, strict=True)


def test_a_field_that_there_is_not_is_found() -> None:
    """Or the test above would say nothing."""
    wrong = {**manifest("Service", "jobs"), "spec": {"selektor": {"app": "jobs"}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_the_settings_are_good_together_with_the_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a pod finds them: the files in its working directory, the password in a variable."""
    ours = container("jobs")
    for name, text in manifest("ConfigMap", "jobs-etcdleader")["data"].items():
        (tmp_path / name).write_text(text)
    (variable,) = ours["env"]
    reference = variable["valueFrom"]["secretKeyRef"]
    monkeypatch.setenv(variable["name"], manifest("Secret", reference["name"])["stringData"][reference["key"]])
    monkeypatch.setenv("ETCDLEADER_LEADER__ENABLED", "true")  # `run` does not need it
    monkeypatch.chdir(tmp_path)
    manager = must_new_leader_manager_from_config("jobs")
    assert isinstance(manager, EtcdLeaderManager)
    (mount,) = [each for each in ours["volumeMounts"] if each["name"] == "settings"]
    assert ours["workingDir"] == mount["mountPath"]
    settings = (tmp_path / "settings.toml").read_text()
    assert f'ca_cert = "{mount["mountPath"]}/ca.pem"' in settings


def test_the_command_line_serves_the_probes_requests() -> None:
    ours = container("jobs")
    program, *words = ours["command"]
    assert program == "etcdleader"
    run = parsed_run(words)
    ports = {port["name"]: port["containerPort"] for port in ours["ports"]}
    assert run["http"] == ("0.0.0.0", ports["health"])
    assert run["restart"]
    assert f"--port={ports['http']}" in run["command"]
    assert ours["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "health"}
    assert ours["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}
    to_give_back = 2 * Config(enabled=True).retry
    assert (
        pod("jobs")["terminationGracePeriodSeconds"]
        >= TO_END + run["grace"] * (2 if run["on_lost"] else 1) + to_give_back
    )


def test_each_name_that_one_manifest_has_of_another_is_there() -> None:
    for deployment in ("jobs", "jobs-leader"):
        spec = manifest("Deployment", deployment)["spec"]
        labels = spec["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"] == labels
        assert manifest("Service", deployment)["spec"]["selector"] == labels
        for port in manifest("Service", deployment)["spec"]["ports"]:
            assert port["targetPort"] in {each["name"] for each in container(deployment)["ports"]}
        for volume in pod(deployment)["volumes"]:
            assert "emptyDir" in volume or manifest("ConfigMap", volume["configMap"]["name"])
    assert manifest("PodDisruptionBudget", "jobs")["spec"]["selector"]["matchLabels"] == {"app": "jobs"}


def backend(text: str) -> set[str]:
    """The lines of the backend that send requests to the leader, without the servers."""
    lines = [line.strip() for line in text.partition("\nbackend leader\n")[2].splitlines()]
    return {line for line in lines if line and not line.startswith(("#", "server"))}


def test_the_proxy_routes_as_the_one_that_is_tested() -> None:
    """tests/etcd/test_load_balancer.py runs haproxy.cfg."""
    shown = manifest("ConfigMap", "jobs-leader")["data"]["haproxy.cfg"]
    assert backend(shown) == backend((DEPLOY / "haproxy.cfg").read_text())
    assert len(backend(shown)) > 5
    assert "jobs.default.svc.cluster.local:8080 check port 8008" in shown


@pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed (Debian: haproxy)")
def test_haproxy_finds_nothing_wrong_with_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "haproxy.cfg"
    file.write_text(manifest("ConfigMap", "jobs-leader")["data"]["haproxy.cfg"])
    assert HAPROXY is not None
    done = subprocess.run([HAPROXY, "-c", "-f", str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
