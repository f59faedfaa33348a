"""The command ``etcdleader``. What it needs beyond the library comes with the extra ``cli``."""

from __future__ import annotations

import sys

from ._streams import mend_streams

__all__ = ("main",)


def main() -> None:
    """Run the command, or say how to install what it needs."""
    mend_streams()
    try:
        from ._app import app
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in {"typer", "rich"}:
            raise
        sys.exit("The command etcdleader needs typer and rich. Install them with: pip install 'etcdleader[cli]'")
    app()
