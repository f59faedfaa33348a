"""Reproduces etcd#15247: a former leader that wakes up revokes leases that its successor renewed."""

from __future__ import annotations

import anyio

from ._cluster import Cluster
from ._lessor import Lessor
from ._store import Store

_MAX_DELAY_SECONDS = 0.05
"""Seconds from the wake-up to the last of the revocations."""


def revoke_expired(stale_lessor: Lessor, cluster: Cluster) -> None:
    """Revoke the leases that have expired in the stale lessor of a former leader that wakes up.

    The member has not received its successor's renewals. It proposes the revocations before it detects that it has
    lost the leadership. The cluster commits each of them at a random time from the seed.
    """
    doomed = stale_lessor.expired(anyio.current_time()) if cluster.controls.woken_leaders_revoke else []
    if doomed:
        moments = sorted(anyio.current_time() + cluster.random.uniform(0, _MAX_DELAY_SECONDS) for _ in doomed)
        cluster.spawn(_revoke, cluster, cluster.store, list(zip(moments, doomed, strict=True)))


async def _revoke(cluster: Cluster, store: Store, doomed: list[tuple[float, int]]) -> None:
    for moment, lease_id in doomed:
        await anyio.sleep_until(moment)
        await cluster.changed.until(lambda: cluster.has_leader)
        if cluster.store is not store:
            return  # The proposals went with the data that was replaced.
        if lease_id in cluster.lessor:
            cluster.revoke(lease_id)
