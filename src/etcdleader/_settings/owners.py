"""Refuse a settings file that another user may have written.

The file decides which process leads, and which address receives the password.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

_ROOT = 0


def refuse_if_written_by_others(path: Path, *, found: bool) -> None:
    """Raise if another user may have written the file.

    Args:
        path: The file.
        found: True if the file was found in the working directory and not named. Another user may have put it there.

    Raises:
        OSError: The file cannot be examined.
        ValueError: Another user may have written it. The message names the remedy.
    """
    file = path.stat()
    if file.st_mode & stat.S_IWOTH:
        raise ValueError(f"every user may write it, and so choose where the password is sent: chmod o-w {path}")
    if not found or not hasattr(os, "geteuid"):
        return
    # Another user may have created the directory "config", too.
    for entry in (path, *path.parents[:-1]):
        if (owner := _stranger_who_may_have_put(entry)) is not None:
            what = "it" if entry == path else f"its directory {entry}"
            raise ValueError(
                f"{what} belongs to user {owner} and lies in a directory that other users may write. "
                "Remove it, change its owner, or name the file if it is meant (--settings FILE, settings=...)"
            )


def _stranger_who_may_have_put(entry: Path) -> int | None:
    """Return the untrusted user that may have created the entry in its directory; None if there is none."""
    folder = entry.parent.stat()
    for owner in {entry.stat().st_uid, entry.lstat().st_uid} - {_ROOT, os.geteuid()}:
        # The directory's owner is trusted, because it may have put the file there for us, as in a container's volume.
        if folder.st_mode & stat.S_IWOTH or (folder.st_mode & stat.S_IWGRP and folder.st_uid != owner):
            return owner
    return None
