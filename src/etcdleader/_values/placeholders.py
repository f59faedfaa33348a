"""The placeholders in the settings ``id`` and ``advertise``."""

from __future__ import annotations

import re

HOST, PID = "{host}", "{pid}"
_PLACEHOLDER = re.compile(r"\{\w+\}?")
"""A brace right before a word. In a JSON object, a quote, whitespace or another brace follows."""


def placeholder_problem(text: str) -> str | None:
    """Return the problem of a text with a part that looks like a placeholder and is none, or None."""
    for found in _PLACEHOLDER.findall(text):
        if found not in (HOST, PID):
            return f"{found} is no placeholder, only {HOST} and {PID} are"
    return None
