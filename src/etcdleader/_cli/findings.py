"""The findings that the doctor reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Level: TypeAlias = Literal["ok", "skipped", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        check: The name of the check.
        level: ``ok``, ``skipped`` (the check was not possible), ``warning`` or ``problem``.
        what: The state that the check found.
        advice: The action to take; empty if none is necessary.
    """

    check: str
    level: Level
    what: str
    advice: str = ""


Report: TypeAlias = Callable[[Finding], None]
"""A function that receives each finding."""
