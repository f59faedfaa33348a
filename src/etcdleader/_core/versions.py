"""Which versions of etcd have defects that matter to an election."""

from __future__ import annotations

import re

__all__ = ("known_defects",)

_SOUND = {(3, 4): 44, (3, 5): 30, (3, 6): 11}
"""The first patch of each release in which the known ones are mended: leases that an isolated leader revoked
(etcd#15247), reads that were not linearizable after a pause (etcd#20418), keep-alives and grants that asked for no
permission (CVE-2026-33413)."""


def known_defects(version: str) -> str | None:
    """What is to be said of a version of etcd; None when nothing is known against it, or it cannot be read."""
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if match is None:
        return None
    major, minor, patch = (int(part) for part in match.groups())
    release = (major, minor)
    if release > max(_SOUND) or patch >= _SOUND.get(release, 1 << 30):
        return None
    fixed = ", ".join(f"{a}.{b}.{patch}" for (a, b), patch in _SOUND.items())
    return f"etcd {version} has known defects in leases and authentication, which are mended in {fixed}"
