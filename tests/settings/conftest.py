"""The working directory of the tests of settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, some way below one with settings, and an environment without any."""
    (tmp_path / "settings.toml").write_text("[leader]\nid = 'from above'\n")
    (tmp_path / ".env").write_text("ETCDLEADER_LEADER__ID=from-above\n")
    cwd = tmp_path / "app" / "run"
    cwd.mkdir(parents=True)
    monkeypatch.chdir(cwd)
    for name in list(os.environ):
        if name.upper().startswith("ETCDLEADER_") or name.endswith("_FOR_DYNACONF"):
            monkeypatch.delenv(name)
    return cwd
