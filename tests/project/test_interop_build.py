"""The candidates of other libraries are built once and kept, and the documents name their versions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from tests.interop import build

GO_MODULE = build.SOURCES / "go" / "go.mod"
POM = build.SOURCES / "java" / "pom.xml"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an empty cache and without compilers."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("etcdleader.testing._go_toolchain.find_spec", lambda name: None)
    return tmp_path / "cache" / "etcdleader" / "interop"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "main").write_text("1")
    return folder


def test_a_candidate_is_built_once_for_each_state_of_its_sources(cache: Path, sources: Path) -> None:
    builds = []

    def compile_(copy: Path, output: Path) -> None:
        builds.append((copy / "main").read_text())
        (output / "program").write_text(builds[-1])

    first = build._built(sources, compile_)
    assert build._built(sources, compile_) == first
    (sources / "main").write_text("2")
    second = build._built(sources, compile_)
    assert builds == ["1", "2"]
    assert [(folder / "program").read_text() for folder in (first, second)] == ["1", "2"]
    assert {first.parent, second.parent} == {cache}


def test_a_build_that_fails_leaves_nothing_behind(cache: Path, sources: Path) -> None:
    def fail(copy: Path, output: Path) -> None:
        (output / "half").write_text("")
        raise build.BuildError("line 1: a mistake")

    with pytest.raises(build.BuildError, match="a mistake"):
        build._built(sources, fail)
    assert [path for path in cache.iterdir() if path.suffix != ".lock"] == []


def test_a_failing_compiler_shows_its_output(
    cache: Path, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, words in {"java": "", "javac": "", "mvn": "echo what is wrong; echo and where >&2; exit 3"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{words}\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(build.BuildError, match=r"ended with 3:\nwhat is wrong\nand where\n"):
        build.java_candidate()


@pytest.mark.parametrize(
    ("find", "missing"),
    [
        (build.go_candidate, "Go is not installed"),
        (build.java_candidate, "Java is not installed"),
        (lambda: build.etcdctl("3.6"), r"etcdctl 3\.6\.\d+ is not built yet"),
    ],
    ids=["go", "java", "etcdctl"],
)
def test_what_is_missing_is_named(cache: Path, find: object, missing: str) -> None:
    assert callable(find)
    with pytest.raises(build.MissingToolError, match=missing):
        find()


@pytest.mark.parametrize("document", ["README.md", "docs/divergence.md"])
def test_the_documents_name_the_versions_that_are_tested(document: str) -> None:
    go = re.search(r"client/v3 v(\S+)", GO_MODULE.read_text())
    jetcd = re.search(r"<artifactId>jetcd-core</artifactId>\s*<version>(.+)</version>", POM.read_text())
    assert go is not None
    assert jetcd is not None
    text = (ROOT / document).read_text()
    for version in (go[1], jetcd[1], *map(build.newest_in, build.SERIES)):
        assert version in text
