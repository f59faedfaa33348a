from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.debian import find_program


def make_program(path: Path) -> str:
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_an_installed_program_comes_before_a_fetched_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert find_program("promtool-x") is None
    fetched = make_program(tmp_path / "cache" / "etcdleader" / "debian" / "promtool-x")
    assert find_program("promtool-x") == fetched
    installed = make_program(tmp_path / "bin" / "promtool-x")
    assert find_program("promtool-x") == installed
