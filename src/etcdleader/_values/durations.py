"""Durations in Go's format: "1m", "1h15m30.5s", "250ms"."""

from __future__ import annotations

import math
import re
from datetime import timedelta

_NANOSECONDS = {
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "µs": 1_000,  # the micro sign
    "μs": 1_000,  # the Greek letter
    "ns": 1,
}
_NUMBER = r"(?:([0-9]+)(?:\.([0-9]*))?|\.([0-9]+))"
_PART = re.compile(rf"{_NUMBER}(h|ms|m|s|us|µs|μs|ns)")
_DURATION = re.compile(rf"([+-]?)((?:{_PART.pattern})+)")
_SECONDS = re.compile(rf"[+-]?{_NUMBER}")
_MAX_TEXT_CHARACTERS = 100
"""More digits would not change the value, and would cost time."""
_MAX_NANOSECONDS = 2**63 - 1
"""Nanoseconds in the longest duration of Go, about 292 years."""


def parse_duration(value: object) -> float:
    """Return the seconds of a number of seconds, a ``timedelta`` or a Go duration string. They may be 0 or negative.

    A string without a unit is a number of seconds; Go refuses such a string. Digits below a nanosecond are cut off.

    Raises:
        ValueError: The value is none of these, not finite, or longer than Go's longest duration. The message describes
            a valid value.
    """
    seconds = _seconds(value)
    if seconds is None:
        raise ValueError('must be a duration: a number of seconds, or such as "1m", "1h15m30.5s", "250ms"')
    if abs(seconds) > _MAX_NANOSECONDS / 10**9:
        raise ValueError("must be a duration of less than 292 years")
    return seconds


def _seconds(value: object) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    if isinstance(value, str) and len(value) <= _MAX_TEXT_CHARACTERS:
        text = f"{value}s" if _SECONDS.fullmatch(value) else value
        if match := _DURATION.fullmatch(text):
            # Computed in whole nanoseconds: 0.001 has no exact float, so 1100 * 0.001 is not 1.1.
            nanoseconds = sum(_nanoseconds(*part) for part in _PART.findall(match[2]))
            seconds = nanoseconds / 10**9 if nanoseconds <= _MAX_NANOSECONDS else math.inf
            return -seconds if match[1] == "-" else seconds
    return None


def _nanoseconds(whole: str, fraction: str, only_fraction: str, unit: str) -> int:
    # As in Go: integers for the whole part, a float for the fraction's first digits, cut off at the nanosecond.
    digits = (fraction or only_fraction)[:18]
    return int(whole or "0") * _NANOSECONDS[unit] + int(int(digits or "0") * (_NANOSECONDS[unit] / 10 ** len(digits)))
