"""Which endpoint is used, and when it is left. Pure: told the time, never asking for it."""

from __future__ import annotations

import math

_SWITCH_COOLDOWN = 1.0
"""Seconds for which an endpoint is kept when none has answered since the last switch: in an outage the many that fail
must not open a connection each."""
_ALIVE_WINDOW = 0.1
"""Seconds since the last received data during which the only endpoint counts as alive. A missing response is then late,
not lost. A new connection would have to create every watch again, which delays the response further."""

_PATIENCE = 1.0
"""Seconds after the first failure for which the only endpoint is kept because it talks, if it answers no call. Events
of a watch, or a proxy between, show that something lives, but not that calls are answered."""


class EndpointBalancer:
    """One endpoint of several is used at a time, in turn.

    All moments are seconds on one monotonic clock.

    Attributes:
        number: Which one is used. It rises with each switch; modulo the number of endpoints it is an index.
    """

    def __init__(self, endpoints: int) -> None:
        self.number = 0
        self._others = endpoints - 1
        self._opened_at = -math.inf
        self._failed_switches = 0
        self._failing_since = math.inf

    def opened(self, now: float) -> None:
        """A connection to the endpoint is about to be made."""
        self._opened_at = now

    def answered(self) -> None:
        """The endpoint has answered a call, or sent a message on a stream."""
        self._failed_switches = 0

    def answered_call(self) -> None:
        """The endpoint has answered a call, rather than sent a message on a stream."""
        self._failing_since = math.inf

    def switch(self, used: int, now: float, last_received_at: float) -> bool:
        """Go over to the next endpoint, or return False: the one in use is to be kept.

        Args:
            used: The endpoint that did not answer as it should. It may have been left already.
            now: The moment.
            last_received_at: When anything was received from the endpoint in use; -inf if nothing was.
        """
        if used != self.number:
            return False
        if self._failed_switches >= self._others and now < self._opened_at + _SWITCH_COOLDOWN:
            return False
        self._failing_since = min(self._failing_since, now)
        if not self._others and now < last_received_at + _ALIVE_WINDOW and now < self._failing_since + _PATIENCE:
            return False
        self._failing_since = math.inf
        self.number += 1
        self._failed_switches += 1
        return True
