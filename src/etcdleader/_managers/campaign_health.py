"""The health of a campaign, from the time of its last activity. Any thread may read it."""

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


class CampaignHealth:
    """Records the activity of a campaign, and judges the health from it.

    Only the event loop writes the fields. Any thread may read them without a lock, because each field is read once.

    Attributes:
        campaigning: True while a campaign runs.
    """

    __slots__ = ("_active_at", "_clock", "_config", "_failure", "_renewals_active_at", "_since", "campaigning")

    def __init__(self, config: Config, clock: Callable[[], float]) -> None:
        self._config = config
        self._clock = clock
        self.campaigning = False
        self._failure: BaseException | None = None
        self._since = datetime.now(UTC)
        self._active_at = self._renewals_active_at = -math.inf

    # Events

    def campaign_begins(self) -> None:
        """Record that a campaign begins."""
        # First: a thread that reads while it campaigns with the last campaign's activity would report it as wedged.
        self.record_activity(renewal=True)
        self.campaigning, self._failure, self._since = True, None, datetime.now(UTC)

    def campaign_ends(self) -> None:
        """Record that the campaign has ended."""
        self.campaigning, self._since = False, datetime.now(UTC)

    def term_ends(self) -> None:
        """Record that a term is over."""
        self._since = datetime.now(UTC)

    def failed(self, error: BaseException) -> None:
        """Record the exception that ends the campaign. The first one counts."""
        self._failure = self._failure or error

    def record_activity(self, *, renewal: bool = False) -> None:
        """Record that the event loop runs. With ``renewal``, a renewal was attempted, or none is due yet."""
        self._active_at = self._clock()
        if renewal:
            self._renewals_active_at = self._active_at

    # Judgement

    def health(
        self, scope: TermScope | None, *, position: int | None, blocked_by: bytes | None, renewals_fail: bool
    ) -> Health:
        """Return the campaign's health.

        Args:
            scope: The scope of the term whose leadership has not been released yet, if there is one.
            position: The position in the queue; None if the candidate is not queued.
            blocked_by: A key ahead that has no lease, if one is known.
            renewals_fail: True if a renewal was not confirmed, and the outage has not ended since.
        """
        if not self.campaigning:
            return self._after()
        if scope is not None and not scope.work_ended:
            return self._in_term(scope, renewals_fail=renewals_fail)
        silence = self._clock() - self._active_at
        if silence > 2 * self._config.lease:
            return _wedged(f"its event loop has shown no activity for {silence:.0f} s", silence)
        if scope is not None:
            return self._standby("its term is over, and leadership is being released")
        if position is None:
            return self._standby("it is not in the queue yet")
        if renewals_fail:
            return self._standby("it is in the queue, but renewals of its lease fail")
        if silence > self._config.renew + 2 * self._config.retry:
            return self._standby(f"its event loop has shown no activity for {silence:.0f} s")
        if blocked_by is not None:
            key = blocked_by.decode(errors="replace")
            return self._standby(f"it waits behind the key {key!r}, which has no lease: delete that key")
        return self._standby(f"it is in the queue, {position} ahead", ready=True)

    def _in_term(self, scope: TermScope, *, renewals_fail: bool) -> Health:
        term = scope.term
        lease_remaining = scope.lease_remaining()
        left = scope.overrun_in(lease_remaining)
        if left is not None and left <= 0:
            return _wedged(f"work of the term with token {term.token} still runs past the end of its lease", -left)
        silence = self._clock() - self._renewals_active_at
        if silence > self._config.renew + 2 * self._config.retry and math.isfinite(lease_remaining):
            return _wedged(
                f"no renewal was tried for {silence:.0f} s in the term with token {term.token}: "
                "its event loop is blocked, or work or a step never ends",
                silence,
            )
        if not term.is_valid():
            return self._standby(f"the term with token {term.token} is over, and its work is ending")
        reason = f"leads with token {term.token}"
        if renewals_fail:
            reason += f"; renewals fail, {term.remaining():.1f} s left"
        return Health(state=HealthState.LEADING, reason=reason, since=term.elected_at, ready=True)

    def _after(self) -> Health:
        failure, state, reason = self._failure, HealthState.NOT_CAMPAIGNING, "no campaign is running"
        if failure is not None:
            # The text of a foreign exception may contain a secret. The log has it.
            text = f": {failure}" if isinstance(failure, EtcdLeaderError) else ""
            state, reason = HealthState.FAILED, f"the campaign has ended with {type(failure).__name__}{text}"
        return Health(state=state, reason=reason, since=self._since, ready=False)

    def _standby(self, reason: str, *, ready: bool = False) -> Health:
        return Health(state=HealthState.STANDBY, reason=reason, since=self._since, ready=ready)


def _wedged(reason: str, seconds: float) -> Health:
    since = datetime.now(UTC) - timedelta(seconds=seconds)
    return Health(state=HealthState.WEDGED, reason=reason, since=since, ready=False)
