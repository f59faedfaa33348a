"""One campaign on etcd: one candidacy after another, until it is to end. Loaded when the first one begins, not at import."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import anyio

from .._election.candidacy import Candidacy, CandidacyOverError
from .._lease.backoff import Backoff
from .._lease.connection import Connection
from .._lease.lease_clock import Timing
from .._lease.session import Session
from .._runtime.clock import Clock
from ..errors import EtcdRegressedError
from ..model import LossReason, Term
from .campaign import Campaign
from .leadership import Seat
from .reporter import Announcer
from .term_scope import TermScope

__all__ = ("Contest",)

Serve: TypeAlias = Callable[
    [Campaign, TermScope, Callable[[], Awaitable[None]], Callable[[], float | None]], Awaitable[None]
]


class Contest:
    """The candidacies of one campaign.

    Attributes:
        session: The lease of the one that is under way. May be read from any thread.
    """

    __slots__ = (
        "_announcer",
        "_campaign",
        "_clock",
        "_connect",
        "_election_key",
        "_identity",
        "_released",
        "_serve",
        "_timing",
        "session",
    )

    def __init__(
        self,
        campaign: Campaign,
        *,
        identity: str,
        election_key: str,
        timing: Timing,
        clock: Clock,
        announcer: Announcer,
        connect: Callable[[], AbstractAsyncContextManager[Connection]],
        serve: Serve,
        released: Callable[[TermScope], None],
    ) -> None:
        """Nothing begins yet.

        Args:
            campaign: Whose candidacies these are.
            identity: What is written into the queue.
            election_key: What is campaigned for.
            timing: The durations of the election.
            clock: The manager's.
            announcer: Listens.
            connect: Joins the connection that the manager uses.
            serve: Leads through a term, until its work has ended.
            released: Called when the seat of such a term was given back.
        """
        self.session: Session | None = None
        self._campaign = campaign
        self._identity = identity
        self._election_key = election_key
        self._timing = timing
        self._clock = clock
        self._announcer = announcer
        self._connect = connect
        self._serve = serve
        self._released = released

    async def run(self, connection: Connection) -> None:
        """Stand again and again, until the campaign is to end.

        Raises:
            EtcdRegressedError: etcd was wiped or restored.
        """
        campaign, retry = self._campaign, self._timing.retry
        backoff = Backoff(retry, random.uniform)
        while not campaign.stopping:
            candidacy = Candidacy(
                connection,
                self._election_key,
                self._identity,
                self._timing,
                clock=self._clock,
                listener=self._announcer,
            )
            term = await self._stand(candidacy)
            if term is not None:
                backoff.reset()
            resigned = term is not None and term.loss_reason is LossReason.RESIGNED
            with campaign.interruptible():
                await anyio.sleep(retry if resigned else backoff.next())

    async def _stand(self, candidacy: Candidacy) -> Term | None:
        """From the grant to the release. Returns the term, if there was one."""
        self.session = candidacy.session
        scope: TermScope | None = None
        try:
            if await self._win(candidacy) and not self._campaign.stopping:
                seat = self._take_seat(candidacy)
                scope = seat.scope
                await self._serve(self._campaign, scope, candidacy.hold, seat.overrun_in)
        finally:
            try:
                # Last of all: until here the seat was ours, and nobody else's work could begin.
                await candidacy.withdraw()
            finally:
                self.session = None
                self._announcer.candidacy_ended()
                if scope is not None:
                    self._released(scope)
        if isinstance(candidacy.session.error, EtcdRegressedError):
            # Also when etcd has meanwhile come past the revision that was known, so that the next join would not tell.
            raise candidacy.session.error
        return None if scope is None else scope.term

    async def _win(self, candidacy: Candidacy) -> bool:
        with self._campaign.interruptible():
            try:
                await candidacy.stand()
                self._campaign.standing.set()
                await candidacy.wait_turn()
            except CandidacyOverError as over:
                self._announcer.candidacy_lost(over.reason)
            else:
                return True
        return False

    def _take_seat(self, candidacy: Candidacy) -> Seat:
        return Seat(
            candidacy,
            identity=self._identity,
            election_key=self._election_key,
            timing=self._timing,
            clock=self._clock.now,
            announcer=self._announcer,
            connect=self._connect,
        )
