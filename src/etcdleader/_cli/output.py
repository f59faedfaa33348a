"""The output of the commands on stdout."""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .._values.printable import escape_control_characters

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_WIDEST = 100_000
"""Columns: more than any table has."""


def console() -> Console:
    """Return a rich console. On a terminal it has colours, unless NO_COLOR is set. Elsewhere it is plain and cuts no line."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=_WIDEST, no_color=True)


printable = escape_control_characters
"""Make foreign text safe to print, such as identities and keys."""


def print_whole(screen: Console, shown: RenderableType) -> None:
    """Print without cutting any line. The terminal wraps long lines, so a copied name is complete."""
    from rich.measure import Measurement

    widest = Measurement.get(screen, screen.options.update(max_width=_WIDEST), shown).maximum
    screen.width = max(screen.width, widest)
    screen.print(shown, crop=False)


def write_all(fd: int, data: bytes) -> None:
    """Write all data to a file descriptor, and block until its reader has taken it."""
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:  # another process that shares the descriptor has set O_NONBLOCK
            select.select([], [fd], [])


def write_json(value: Mapping[str, object], *, indent: int | None = 2) -> None:
    """Print JSON and flush it."""
    print(json.dumps(value, indent=indent), flush=True)
