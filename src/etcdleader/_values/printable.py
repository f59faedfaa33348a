"""Text of others, made safe for logs, errors and terminals."""

from __future__ import annotations


def escape_control_characters(text: str) -> str:
    """Return ``text`` with its control characters escaped: they could steer a terminal or forge a line of a log."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
