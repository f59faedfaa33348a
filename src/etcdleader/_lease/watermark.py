"""The highest revision seen, and what it means when etcd shows a lower one."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import EtcdRegressedError

__all__ = ("Watermark",)


class Watermark:
    """Revisions of a cluster only rise, unless it was wiped or restored from an old backup.

    The evidence must be a *linearizable* answer whose revision lies below one that was known before the request was
    sent. Headers of keep-alives and of watches on a lagging member are no evidence, and neither is an answer that was
    overtaken on its way by a newer one.
    """

    __slots__ = ("_highest",)

    def __init__(self, known: Mapping[int, int] = {}) -> None:
        self._highest = dict(known)

    def known(self) -> Mapping[int, int]:
        """A copy of the highest revision by cluster id: take it before the request leaves."""
        return dict(self._highest)

    def learn(self, known: Mapping[int, int]) -> None:
        """Take in what somebody else knows."""
        for cluster_id, revision in known.items():
            self._highest[cluster_id] = max(self._highest.get(cluster_id, 0), revision)

    def check(self, cluster_id: int, revision: int, known_before: Mapping[int, int]) -> None:
        """Take in a linearizable answer.

        Raises:
            EtcdRegressedError: It lies below what was known before its request was sent.
        """
        known = known_before.get(cluster_id, 0)
        if revision < known:
            raise EtcdRegressedError(cluster_id, known, revision)
        self.learn({cluster_id: revision})
