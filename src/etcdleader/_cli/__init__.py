"""The command ``etcdleader``. What it needs beyond the library comes with the extra ``cli``."""

from __future__ import annotations

import gc
import sys

from .streams import reopen_closed_streams

__all__ = ("main",)


def main() -> None:
    """Run the command, or say how to install what it needs."""
    reopen_closed_streams()
    # What is loaded now stays, and is a lot: looking through it for garbage meanwhile is a fifth of the command's start.
    gc.disable()
    try:
        from .app import app
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in {"typer", "rich"}:
            raise
        sys.exit("The command etcdleader needs typer and rich. Install them with: pip install 'etcdleader[cli]'")
    gc.enable()
    app()
