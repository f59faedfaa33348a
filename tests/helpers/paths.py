"""The paths of the repository."""

from __future__ import annotations

from pathlib import Path

__all__ = ("ROOT",)

ROOT = Path(__file__).parents[2]
