"""The highest revision received, and the detection of a lower one."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import EtcdRegressedError


class Watermark:
    """The highest known revision of each cluster.

    Revisions only rise, unless the cluster was wiped or restored from an old backup.

    A regression is a *linearizable* response whose revision is below one that was known before its request was sent. The
    headers of keep-alives, and of watches on a lagging member, prove no regression. Neither does a response that arrives
    after a newer one.
    """

    __slots__ = ("_highest",)

    def __init__(self, known: Mapping[int, int] = {}) -> None:
        self._highest = dict(known)

    def known(self) -> Mapping[int, int]:
        """Return a copy of the highest revisions, by cluster id. Call this before sending a request."""
        return dict(self._highest)

    def learn(self, known: Mapping[int, int]) -> None:
        """Record revisions that were received elsewhere, for example on an earlier connection."""
        for cluster_id, revision in known.items():
            self._highest[cluster_id] = max(self._highest.get(cluster_id, 0), revision)

    def check(self, cluster_id: int, revision: int, known_before: Mapping[int, int]) -> None:
        """Record the revision of a linearizable response.

        Raises:
            EtcdRegressedError: The revision is below the one in ``known_before``, which was known before the request.
        """
        known = known_before.get(cluster_id, 0)
        if revision < known:
            raise EtcdRegressedError(cluster_id, known, revision)
        self.learn({cluster_id: revision})
