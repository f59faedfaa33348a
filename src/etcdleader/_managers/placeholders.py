"""The replacement of the placeholders in the settings ``id`` and ``advertise``."""

from __future__ import annotations

import os

from .._values.placeholders import HOST, PID


def with_host_and_pid(text: str) -> str:
    """Return a text with the host's name and this process's id instead of ``{host}`` and ``{pid}``."""
    text = text.replace(PID, str(os.getpid()))
    if HOST in text:
        import socket

        text = text.replace(HOST, socket.gethostname())
    return text
