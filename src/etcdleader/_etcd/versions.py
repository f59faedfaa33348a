"""Which versions of etcd have defects that matter to an election."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .._values.printable import escape_control_characters

_SOUND = {(3, 5): 33, (3, 6): 14, (3, 7): 1}
"""The first patch of each supported release in which the known ones are mended: a watch that escapes permissions
(GHSA-xg4h-6gfc-h4m8), reads that were not linearizable after a pause (etcd#20418), keep-alives and grants that asked for
no permission (CVE-2026-33413)."""
_END_OF_LIFE = (3, 4)
"""The newest release that receives no fixes any more, since June 2026."""
_SURVIVES = {(3, 4): 23, (3, 5): 7}
"""The first patch of each release of which a read-only transaction that its client gives up ends nothing but itself
(etcd#14110, etcd#14891)."""


def known_defects(version: str) -> str | None:
    """What is to be said of a version of etcd; None when nothing is known against it, or it cannot be read."""
    if (parsed := _parsed(version)) is None or _has_patch(parsed, _SOUND):
        return None
    version = escape_control_characters(version)
    fixed = ", ".join(f"{a}.{b}.{patch}" for (a, b), patch in _SOUND.items())
    if parsed[:2] <= _END_OF_LIFE:
        return f"etcd {version} is at its end of life and receives no fixes: upgrade to {fixed} or later"
    return f"etcd {version} has known defects in watches, leases and authentication, which are mended in {fixed}"


def survives_given_up_reads(version: str) -> bool:
    """Whether this etcd goes on when a client gives up a read-only transaction; False when that is not known.

    Others crash, as a whole, when it happens in the moment of reading: by a timeout, or by the client's end.
    """
    return (parsed := _parsed(version)) is not None and _has_patch(parsed, _SURVIVES)


def _parsed(version: str) -> tuple[int, int, int] | None:
    match = re.match(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})(?!\d)", version)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def _has_patch(version: tuple[int, int, int], first: Mapping[tuple[int, int], int]) -> bool:
    major, minor, patch = version
    release = (major, minor)
    return release > max(first) or patch >= first.get(release, 1 << 30)
