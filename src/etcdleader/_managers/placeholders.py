"""The placeholders in the settings ``id`` and ``advertise``."""

from __future__ import annotations

import os


def with_host_and_pid(text: str) -> str:
    """Return a text with the host's name and this process's id instead of ``{host}`` and ``{pid}``."""
    text = text.replace("{pid}", str(os.getpid()))
    if "{host}" in text:
        import socket

        text = text.replace("{host}", socket.gethostname())
    return text
