"""What the doctor reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Level: TypeAlias = Literal["ok", "skipped", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        check: Which one.
        level: ``ok``, ``skipped`` (it could not be looked at), ``warning`` or ``problem``.
        what: What is so.
        advice: What to do; empty when there is nothing to do.
    """

    check: str
    level: Level
    what: str
    advice: str = ""


Report: TypeAlias = Callable[[Finding], None]
"""Takes each finding."""
