"""The user's password in a file. It is read at each login, so a changed password needs no restart."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import EtcdRefusedError

_MAX_BYTES = 4096
"""A longer file is not meant to be a password."""


def read_password(path: str) -> str:
    """Return the password in a file, without the line break at its end.

    Raises:
        EtcdRefusedError: The file is missing, unreadable, empty, or has more than a password. The text has the remedy,
            and nothing of the file.
    """
    try:
        # Checked first: a pipe would block, and has its content only once.
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise EtcdRefusedError(f"password_file = {path!r} is not a regular file: give the path of a file")
        with Path(path).open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        if os.sep not in path:  # it may be the password itself, so it is not shown
            raise EtcdRefusedError(
                "password_file names no file in the working directory: it must be a path, and not the password"
            ) from None
        raise EtcdRefusedError(f"password_file = {path!r} does not exist: put the password there") from None
    except OSError as error:
        raise EtcdRefusedError(
            f"password_file = {path!r} cannot be read: {error.strerror}; this process must be able to read it"
        ) from None
    text = content.decode("utf-8-sig", errors="replace").rstrip("\r\n")
    if not text:
        raise EtcdRefusedError(f"password_file = {path!r} is empty: write the password into it")
    if len(content) > _MAX_BYTES or not text.isprintable() or "\ufffd" in text:
        raise EtcdRefusedError(f"password_file = {path!r} must have the password only, in one line of UTF-8")
    return text
