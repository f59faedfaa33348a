"""How commands print."""

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
"""Columns. No table has as many."""


def console() -> Console:
    """Where to print: on a terminal with colours (unless NO_COLOR is set) and in its width, else plain and uncut."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=_WIDEST, no_color=True)


clean = escape_control_characters
"""For what others wrote, as identities and keys."""


def print_whole(screen: Console, shown: RenderableType) -> None:
    """Print it as wide as it is. A terminal wraps long lines, and a name copied from one is the whole name."""
    from rich.measure import Measurement

    widest = Measurement.get(screen, screen.options.update(max_width=_WIDEST), shown).maximum
    screen.width = max(screen.width, widest)
    screen.print(shown, crop=False)


def write_all(fd: int, data: bytes) -> None:
    """Write all of it to a file descriptor, however long its reader takes."""
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:  # another process has set O_NONBLOCK, and the two share the descriptor
            select.select([], [fd], [])


def write_json(value: Mapping[str, object], *, indent: int | None = 2) -> None:
    """Print it, at once."""
    print(json.dumps(value, indent=indent), flush=True)
