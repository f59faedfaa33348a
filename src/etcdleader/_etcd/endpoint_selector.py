"""The endpoint to use, and the moment to switch to the next. Pure: the caller passes the time."""

from __future__ import annotations

import math

_SWITCH_COOLDOWN_SECONDS = 1.0
"""Seconds for which the client keeps an endpoint if no endpoint has responded since the last switch. During an outage,
many calls fail, and each must not open a connection."""
_ALIVE_WINDOW_SECONDS = 0.1
"""Seconds since the last received data during which the only endpoint counts as alive. A missing response is then late,
not lost. A new connection would have to create every watch again, which delays the response further."""

_PATIENCE_SECONDS = 1.0
"""Seconds after the first failed call during which the only endpoint may count as alive because it sends data. Watch
events, or a proxy, show that the connection is alive, but not that the member responds to calls."""


class EndpointSelector:
    """A selector of endpoints: one of several at a time, in round-robin order.

    All times are seconds on one monotonic clock.

    Attributes:
        number: The endpoint in use. It rises with each switch; modulo the number of endpoints it is an index.
    """

    def __init__(self, endpoints: int) -> None:
        self.number = 0
        self._others = endpoints - 1
        self._opened_at = -math.inf
        self._failed_switches = 0
        self._failing_since = math.inf

    def found(self, members: int) -> None:
        """Record the number of members that the endpoints stand for, which a lookup in DNS has shown."""
        self._others = members - 1

    def opened(self, now: float) -> None:
        """Record that a connection to the endpoint is about to be opened."""
        self._opened_at = now

    def answered(self) -> None:
        """Record that the endpoint has responded to a call, or sent a message on a stream."""
        self._failed_switches = 0

    def answered_call(self) -> None:
        """Record that the endpoint has responded to a call, which a message on a stream does not show."""
        self._failing_since = math.inf

    def switch(self, used: int, now: float, last_received_at: float) -> bool:
        """Switch to the next endpoint. Return False if the endpoint in use is kept instead.

        Args:
            used: The endpoint that failed. The client may have left it already.
            now: The current time.
            last_received_at: The time of the last data from the endpoint in use; -inf if there was none.
        """
        if used != self.number:
            return False
        if self._failed_switches >= self._others and now < self._opened_at + _SWITCH_COOLDOWN_SECONDS:
            return False
        self._failing_since = min(self._failing_since, now)
        if (
            not self._others
            and now < last_received_at + _ALIVE_WINDOW_SECONDS
            and now < self._failing_since + _PATIENCE_SECONDS
        ):
            return False
        self._failing_since = math.inf
        self.number += 1
        self._failed_switches += 1
        return True
