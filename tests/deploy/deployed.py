"""Helpers for the tests of the examples under ``deploy``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer

from etcdleader._cli.app import app
from tests.helpers.paths import ROOT

__all__ = ("DEPLOY", "ROOT", "TO_END", "parsed_run")

DEPLOY = ROOT / "deploy"
TO_END = 30.0
"""Seconds that the examples give the command after SIGTERM, as their comments say."""


def parsed_run(words: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of ``etcdleader WORDS``. An option that does not exist raises an error."""
    group: Any = typer.main.get_command(app)
    assert words[0] == "run"
    parameters: dict[str, Any] = group.commands["run"].make_context("run", list(words[1:])).params
    return parameters
