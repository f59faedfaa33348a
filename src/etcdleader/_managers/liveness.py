"""How a campaign fares, as another thread can tell: from when something was last heard of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ..config import Config
from ..errors import EtcdLeaderError
from ..model import Health, HealthState

if TYPE_CHECKING:
    from .term_scope import TermScope


class Liveness:
    """Written on the event loop; read, and judged, from anywhere. Nothing is locked: each field is read once.

    Attributes:
        campaigning: Whether a campaign runs.
    """

    __slots__ = ("_clock", "_config", "_failure", "_heard_at", "_renewals_heard_at", "_since", "campaigning")

    def __init__(self, config: Config, clock: Callable[[], float]) -> None:
        self._config = config
        self._clock = clock
        self.campaigning = False
        self._failure: BaseException | None = None
        self._since = datetime.now(UTC)
        self._heard_at = self._renewals_heard_at = -math.inf

    # What happens

    def campaign_begins(self) -> None:
        """Somebody campaigns from now on."""
        self.campaigning, self._failure, self._since = True, None, datetime.now(UTC)
        self.heard(renewal=True)

    def campaign_ends(self) -> None:
        """No campaign runs any more."""
        self.campaigning, self._since = False, datetime.now(UTC)

    def term_ends(self) -> None:
        """A term is over."""
        self._since = datetime.now(UTC)

    def failed(self, error: BaseException) -> None:
        """The campaign ends with this; the first one counts."""
        self._failure = self._failure or error

    def heard(self, *, renewal: bool = False) -> None:
        """The event loop runs; with ``renewal``, a renewal was tried, or none is due yet."""
        self._heard_at = self._clock()
        if renewal:
            self._renewals_heard_at = self._heard_at

    # What it amounts to

    def health(
        self, scope: TermScope | None, *, position: int | None, blocked_by: bytes | None, renewals_fail: bool
    ) -> Health:
        """How it goes.

        Args:
            scope: Of the term whose seat was not given back yet, if there is one.
            position: In the queue.
            blocked_by: A key ahead of ours that has no lease, if one is known.
            renewals_fail: The last renewal was not confirmed.
        """
        if not self.campaigning:
            return self._after()
        if scope is not None and not scope.joined:
            return self._in_term(scope, renewals_fail=renewals_fail)
        silence = self._clock() - self._heard_at
        if silence > 2 * self._config.lease:
            return _wedged(f"nothing was heard from its event loop for {silence:.0f} s", silence)
        if scope is not None:
            return self._standby("its term is over, and the seat is being given back")
        if position is None:
            return self._standby("it does not stand in the queue yet")
        if renewals_fail:
            return self._standby("it stands in the queue, but etcd does not renew its lease")
        if silence > self._config.renew + 2 * self._config.retry:
            return self._standby(f"nothing was heard from its event loop for {silence:.0f} s")
        if blocked_by is not None:
            key = blocked_by.decode(errors="replace")
            return self._standby(f"it waits behind the key {key!r}, which has no lease: delete that key")
        return self._standby(f"it stands in the queue, {position} ahead", ready=True)

    def _in_term(self, scope: TermScope, *, renewals_fail: bool) -> Health:
        term = scope.term
        lease_remaining = scope.lease_remaining()
        left = scope.overrun_in(lease_remaining)
        if left is not None and left <= 0:
            return _wedged(f"work of the term with token {term.token} still runs past the end of its lease", -left)
        silence = self._clock() - self._renewals_heard_at
        if silence > self._config.renew + 2 * self._config.retry and math.isfinite(lease_remaining):
            return _wedged(
                f"no renewal was tried for {silence:.0f} s in the term with token {term.token}: "
                "its event loop is blocked, or work ignores its cancellation",
                silence,
            )
        if not term.is_valid():
            return self._standby(f"the term with token {term.token} is over, and its work is ending")
        reason = f"leads with token {term.token}"
        if renewals_fail:
            reason += f"; renewals fail, {term.remaining():.1f} s left"
        return Health(state=HealthState.LEADING, reason=reason, since=term.elected_at, ready=True)

    def _after(self) -> Health:
        failure, state, reason = self._failure, HealthState.NOT_CAMPAIGNING, "no campaign is under way"
        if failure is not None:
            # What others' exceptions say may be secret; it is in the log.
            text = f": {failure}" if isinstance(failure, EtcdLeaderError) else ""
            state, reason = HealthState.FAILED, f"the campaign has ended with {type(failure).__name__}{text}"
        return Health(state=state, reason=reason, since=self._since, ready=False)

    def _standby(self, reason: str, *, ready: bool = False) -> Health:
        return Health(state=HealthState.STANDBY, reason=reason, since=self._since, ready=ready)


def _wedged(reason: str, seconds: float) -> Health:
    since = datetime.now(UTC) - timedelta(seconds=seconds)
    return Health(state=HealthState.WEDGED, reason=reason, since=since, ready=False)
