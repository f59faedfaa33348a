"""The back-off between connection attempts, and the ping interval. Pure: the caller passes time and randomness."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..errors import EtcdLeaderError

_FIRST_PAUSE_SECONDS = 0.05
"""A restarted member is available again after a few such pauses."""
_MAX_PAUSE_SECONDS = 1.0
"""A longer pause would delay the renewals that follow an outage."""
_STEADY_AFTER_SECONDS = 1.0
"""Seconds after an attempt. Its connection counts as working if it receives a response after that time."""
_PING_INTERVAL_SECONDS = 10.0
"""Pings detect a member that vanished. No election depends on that.

etcd closes a connection that pings more often than every 5 s (its default for ``--grpc-keepalive-min-time``)."""
_MAX_PING_INTERVAL_SECONDS = 300.0
"""gRPC servers accept that interval by default."""


class ConnectPolicy:
    """The back-off and the ping interval of one member. All callers share it, and it outlives each connection.

    Attributes:
        error: The reason why there is no connection, which is the error of the last attempt or call.
        ping_interval: Seconds between the pings of the next connection.
    """

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        """Start without any record of the member.

        Args:
            uniform: Returns a random number between its arguments. It spreads the reconnects of clients that lost a
                member at the same moment.
        """
        self.error: EtcdLeaderError | None = None
        self.ping_interval = _PING_INTERVAL_SECONDS
        self._uniform = uniform
        self._attempts = 0
        self._attempted_at = self._not_before = -math.inf

    @property
    def failing(self) -> bool:
        """True if no connection has worked since the last attempt."""
        return self._attempts > 0

    def delay(self, now: float) -> float:
        """Return the seconds until the next attempt."""
        return max(0.0, self._not_before - now)

    def attempt(self, now: float) -> None:
        """Record an attempt to connect. The pause after it grows until a connection works."""
        pause = min(_FIRST_PAUSE_SECONDS * 2.0**self._attempts, _MAX_PAUSE_SECONDS)
        self._attempts = min(self._attempts + 1, 16)
        self._attempted_at = now
        self._not_before = now + self._uniform(pause / 2, pause)

    def received(self, now: float) -> None:
        """Record that a connection has received a response. If the connection has lasted, the next attempt need not wait.

        A short-lived connection does not count: a server may respond once on each connection, and close it.
        """
        if now >= self._attempted_at + _STEADY_AFTER_SECONDS:
            self._attempts = 0
            self._not_before = -math.inf

    def too_many_pings(self) -> None:
        """Record that the member closed a connection because of its pings. As in gRPC, this doubles the ping interval."""
        self.ping_interval = min(2 * self.ping_interval, _MAX_PING_INTERVAL_SECONDS)
