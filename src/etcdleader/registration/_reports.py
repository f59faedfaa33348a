"""The log of a registration. It receives the reports of its lease and of its watch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from .._etcd.api import KeyValue
from .._managers.outages import Input, News, Outages
from ..errors import EtcdLeaderError, EtcdRefusedError
from ..model import LossReason

_logger = logging.getLogger("etcdleader.registration")


class Reports:
    """The listener of one registration's leases and watches. Each kind of error is logged once per outage.

    Attributes:
        on_refused: Called with each refusal by etcd while the block is being entered; otherwise None.
    """

    def __init__(self, key: bytes, ttl: float, on_refused: Callable[[EtcdRefusedError], None]) -> None:
        self.on_refused: Callable[[EtcdRefusedError], None] | None = on_refused
        self._name = f"the registration of {key.decode(errors='replace')!r}"
        self._ttl = ttl
        self._outages = Outages()
        self._taken: KeyValue | None = None

    # The registration

    def registered(self, lease_id: int, *, again: bool) -> None:
        """Log that the key is in etcd."""
        self._taken = None
        _logger.info("%s is in etcd%s, on lease %x", self._name, " again" if again else "", lease_id)

    def lost(self, reason: LossReason) -> None:
        """Log that the key was lost, and is put again."""
        _logger.warning("%s was lost (%s); putting it again", self._name, reason.name)

    def released(self) -> None:
        """Record that the lease is released. Its failed renewals do not count for the next one."""
        self._outages.take(Input.CANDIDACY_ENDED)

    def taken(self, kv: KeyValue) -> None:
        """Log, once per key of another client, that it prevents this one."""
        if self._taken is None or self._taken.create_revision != kv.create_revision:
            _logger.warning(
                "%s waits: another client has put the key (%s). It is put again when that key is gone",
                *(self._name, f"on lease {kv.lease:x}" if kv.lease else "without a lease"),
            )
        self._taken = kv

    def failed(self, error: Exception) -> None:
        """Report an error after which the key is put again. Only an error of the library's own code is unexpected."""
        if isinstance(error, EtcdLeaderError):
            self.etcd_failed(error)
        else:
            _logger.error("%s failed unexpectedly, and is put again: %r", self._name, error)

    # LeaseListener

    def etcd_failed(self, error: EtcdLeaderError) -> None:
        """Report the error of a failed call, which is retried."""
        if isinstance(error, EtcdRefusedError) and self.on_refused is not None:
            self.on_refused(error)
            return
        self._report(self._outages.take(Input.CALL_FAILED, type(error)), error)

    def answered(self) -> None:
        """Report that a call succeeded."""
        self._recovered(self._outages.take(Input.ANSWERED))

    def renewal_failed(self, error: EtcdLeaderError, remaining: float) -> None:
        """Report an unconfirmed renewal."""
        late = remaining < self._ttl / 3
        news = self._outages.take(Input.RENEWAL_FAILED_LATE if late else Input.RENEWAL_FAILED, type(error))
        self._report(news, error, remaining)

    def renewed(self, duration: float, remaining: float) -> None:
        """Report a confirmed renewal."""
        del duration, remaining
        self._recovered(self._outages.take(Input.RENEWED))

    def loop_was_blocked(self, seconds: float) -> None:
        """Report that the lease has run out while the event loop did not run."""
        _logger.warning(
            "the lease of %s has run out, and its event loop did not run for at least %.1f s. "
            "Run blocking code in a thread. If no code blocks the loop, the process or the machine was stopped or suspended",
            *(self._name, seconds),
        )

    def lease_moved(self, lease_id: int) -> None:
        """Report the key's new lease."""
        _logger.info("%s moved to lease %x: etcd has elected another leader", self._name, lease_id)
        self._recovered(self._outages.take(Input.RENEWED))

    # WatchListener

    def watch_failed(self, watcher: object, error: EtcdLeaderError) -> None:
        """Report that the key is not watched."""
        self._report(self._outages.watch_failed(watcher, type(error)), error)

    def watch_recovered(self, watcher: object) -> None:
        """Report that the key is watched again, or need not be."""
        self._recovered(self._outages.watch_back(watcher, campaigning=True))

    def _report(self, news: Sequence[News], error: EtcdLeaderError, remaining: float | None = None) -> None:
        if News.KIND in news and remaining is None:
            _logger.warning("%s: etcd request failed: %s", self._name, error)
        if News.RENEWALS_FAIL in news:
            _logger.warning("renewals of %s began to fail, %.1f s left: %s", self._name, remaining, error)
        if News.CRITICAL in news:
            _logger.error("renewals of %s still fail, only %.1f s left: %s", self._name, remaining, error)

    def _recovered(self, news: Sequence[News]) -> None:
        if news:
            _logger.info("%s: etcd connection restored", self._name)
