"""Settings that the tests write and read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from etcdleader._settings.sources import read_settings

SECRET = "hunter2"


def write(**files: str) -> None:
    """Write files; ``__`` in a name is a slash, and a first ``_`` a dot."""
    for name, text in files.items():
        path = Path(re.sub(r"(^|/)_", r"\1.", name.replace("__", "/")) + ("" if name == "_env" else ".toml"))
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


def leader(settings: object = None, section: str = "leader") -> dict[str, Any]:
    read = read_settings(settings, section)
    assert [*read.unreadable, *read.leader.problems, *read.etcd.problems] == []
    return read.leader.values


def etcd(settings: object = None) -> dict[str, Any]:
    leader(settings)
    return read_settings(settings, "leader").etcd.values


def complaints(settings: object = None, section: str = "leader") -> list[str]:
    read = read_settings(settings, section)
    found = [*read.unreadable, *read.leader.problems, *read.etcd.problems]
    assert SECRET not in "".join(found)
    return found
