"""The command ``etcdleader``. Its own dependencies are in the extra ``cli``."""

from __future__ import annotations

import gc
import sys

from .std_streams import reopen_closed_streams

__all__ = ("main",)


def main() -> None:
    """Run the command, or print how to install its dependencies."""
    reopen_closed_streams()
    # The imports create many objects, and all of them stay. Collecting garbage meanwhile is a fifth of the start time.
    gc.disable()
    try:
        from .app import app
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in {"typer", "rich"}:
            raise
        sys.exit("The command etcdleader needs typer and rich. Install them with: pip install 'etcdleader[cli]'")
    gc.enable()
    app()
