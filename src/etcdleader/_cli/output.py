"""How commands print."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .._values.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ("clean", "console", "write_json")


def console() -> Console:
    """Where to print: on a terminal with colours (unless NO_COLOR is set) and in its width, else plain and uncut."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=100_000, no_color=True)


clean = printable
"""For what others wrote, as identities and keys."""


def write_json(value: Mapping[str, object], *, indent: int | None = 2) -> None:
    """Print it, at once."""
    print(json.dumps(value, indent=indent), flush=True)
