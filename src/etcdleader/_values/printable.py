"""Untrusted text, escaped for logs, errors and terminals."""

from __future__ import annotations


def escape_control_characters(text: str) -> str:
    """Return ``text`` with escaped control characters: they could control a terminal or forge a log line."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
