"""When a member may be connected to again, and how often it is pinged. Pure: the time and randomness are handed in."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..errors import EtcdLeaderError

_FIRST_PAUSE = 0.05
"""Seconds. A member that restarts is back after a few of these."""
_LONGEST_PAUSE = 1.0
"""Seconds. A longer pause would delay the renewals that follow an outage."""
_STEADY = 1.0
"""Seconds after an attempt for which its connection must receive responses before it counts as one that works."""
_PING_INTERVAL = 10.0
"""Seconds. Pings detect a member that vanished, and nothing that matters waits for that. etcd closes a connection that
pings more often than every 5 s (its default for ``--grpc-keepalive-min-time``)."""
_LONGEST_PING_INTERVAL = 300.0
"""Seconds. gRPC servers accept that unless they are configured otherwise."""


class ConnectPolicy:
    """What the connections to one member have shown. It outlives each of them, and all of its callers share it.

    Attributes:
        error: Why there is no connection: how the last attempt or the last call failed.
        ping_interval: Seconds between the pings of the next connection.
    """

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        """Begin without any knowledge of the member.

        Args:
            uniform: Returns a random number between its arguments. Clients that lost a member at the same moment then
                return to it one after another.
        """
        self.error: EtcdLeaderError | None = None
        self.ping_interval = _PING_INTERVAL
        self._uniform = uniform
        self._attempts = 0
        self._attempted_at = self._not_before = -math.inf

    @property
    def failing(self) -> bool:
        """Whether no connection has worked since the last attempt."""
        return self._attempts > 0

    def delay(self, now: float) -> float:
        """Return the seconds until the next attempt."""
        return max(0.0, self._not_before - now)

    def attempt(self, now: float) -> None:
        """Record an attempt to connect. The pause after it grows until a connection works."""
        pause = min(_FIRST_PAUSE * 2.0**self._attempts, _LONGEST_PAUSE)
        self._attempts = min(self._attempts + 1, 16)
        self._attempted_at = now
        self._not_before = now + self._uniform(pause / 2, pause)

    def received(self, now: float) -> None:
        """Record that a connection has received a response. If it has lasted, the next attempt need not wait.

        A server may answer once on each connection, and close it.
        """
        if now >= self._attempted_at + _STEADY:
            self._attempts = 0
            self._not_before = -math.inf

    def too_many_pings(self) -> None:
        """Record that the member closed a connection because of its pings: gRPC doubles the interval then."""
        self.ping_interval = min(2 * self.ping_interval, _LONGEST_PING_INTERVAL)
