"""Durations as Go writes them: "1m", "1h15m30.5s", "250ms"."""

from __future__ import annotations

import math
import re
from datetime import timedelta

__all__ = ("parse_duration",)

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_PART = re.compile(rf"({_NUMBER})(ms|us|µs|μs|ns|h|m|s)")
_WHOLE = re.compile(rf"[+-]?(?:{_PART.pattern})+")
_SECONDS = re.compile(rf"[+-]?{_NUMBER}")


def parse_duration(value: object) -> float:
    """Seconds, from a number of seconds, a ``timedelta`` or a Go duration string.

    Raises:
        ValueError: It is none of these; the message says what would do.
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if isinstance(value, str):
        if _SECONDS.fullmatch(value):
            return float(value)
        if _WHOLE.fullmatch(value):
            seconds = math.fsum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))
            return -seconds if value.startswith("-") else seconds
    raise ValueError('is not a duration: seconds, or such as "1m", "1h15m30.5s", "250ms"')
