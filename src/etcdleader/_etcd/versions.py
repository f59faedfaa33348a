"""The etcd versions with defects that affect elections."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .._values.printable import escape_control_characters

_SOUND = {(3, 5): 33, (3, 6): 14, (3, 7): 1}
"""The first patch of each supported release that fixes these defects:

- a watch that bypasses permissions (GHSA-xg4h-6gfc-h4m8);
- reads that are not linearizable after a pause (etcd#20418);
- keep-alives and grants without a permission check (CVE-2026-33413).
"""
_END_OF_LIFE = (3, 4)
"""The newest release that no longer receives fixes, since June 2026."""
_SURVIVES = {(3, 4): 23, (3, 5): 7}
"""The first patch of each release in which the cancellation of a read-only transaction does not crash the member
(etcd#14110, etcd#14891)."""


def known_defects(version: str) -> str | None:
    """Return a warning about a version of etcd. None: it has no known defect, or it cannot be parsed."""
    if (parsed := _parsed(version)) is None or _has_patch(parsed, _SOUND):
        return None
    version = escape_control_characters(version)
    fixed = ", ".join(f"{a}.{b}.{patch}" for (a, b), patch in _SOUND.items())
    if parsed[:2] <= _END_OF_LIFE:
        return f"etcd {version} is at its end of life and receives no fixes: upgrade to {fixed} or later"
    return f"etcd {version} has known defects in watches, leases and authentication: upgrade to {fixed} or later"


def survives_cancelled_reads(version: str) -> bool:
    """Return whether this etcd survives the cancellation of a read-only transaction. False if that is not known.

    The process of another etcd crashes if the transaction is cancelled while it reads. A timeout or the client's exit
    cancels it.
    """
    return (parsed := _parsed(version)) is not None and _has_patch(parsed, _SURVIVES)


def _parsed(version: str) -> tuple[int, int, int] | None:
    match = re.match(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})(?!\d)", version)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def _has_patch(version: tuple[int, int, int], first: Mapping[tuple[int, int], int]) -> bool:
    major, minor, patch = version
    release = (major, minor)
    return release > max(first) or patch >= first.get(release, 1 << 30)
