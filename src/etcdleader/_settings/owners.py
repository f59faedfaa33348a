"""Whose settings a file may hold. It decides who leads, and to which address a password is sent."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_ROOT = 0


def refuse_if_written_by_others(path: Path, *, found: bool) -> None:
    """Raise if another user may have written the file.

    Args:
        path: The file.
        found: It was found in the working directory, not named. Another user may have put it there.

    Raises:
        OSError: It cannot be looked at.
        ValueError: Another user may have. The message says what to do.
    """
    file = path.stat()
    if file.st_mode & stat.S_IWOTH:
        raise ValueError(f"every user may write it, and so choose where the password is sent: chmod o-w {path}")
    if not found or not hasattr(os, "geteuid"):
        return
    # A stranger may have made the folder "config", too.
    for entry in (path, *path.parents[:-1]):
        if (owner := _stranger_who_may_have_put(entry)) is not None:
            what = "it" if entry == path else f"its directory {entry}"
            raise ValueError(
                f"{what} belongs to user {owner} and lies in a directory that other users may write: remove it, change its "
                "owner, or name the file if it is meant (--settings FILE, settings=...)"
            )


def _stranger_who_may_have_put(entry: Path) -> int | None:
    """Return the user who may have put the entry into its folder, and is neither the folder's owner nor trusted."""
    folder = entry.parent.stat()
    for owner in {entry.stat().st_uid, entry.lstat().st_uid} - {_ROOT, os.geteuid()}:
        # The owner of a folder may have put the file there for us, as into the volume of a container.
        if folder.st_mode & stat.S_IWOTH or (folder.st_mode & stat.S_IWGRP and folder.st_uid != owner):
            return owner
    return None
