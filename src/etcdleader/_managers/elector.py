"""A campaign on etcd: one candidacy after the other, and the leadership of each that wins.

This module is imported at the first campaign, not with the package.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeAlias

import anyio

from .._election.candidacy import Candidacy, CandidacyOverError
from .._election.context import ElectionContext
from .._election.queue import election_prefix
from .._etcd.api import Compare, Put
from .._lease.backoff import Backoff
from .._lease.session import Session
from .._lease.shared_connection import SharedConnection
from .._runtime.fork import process_id
from ..errors import EtcdLeaderError, EtcdRefusedError, EtcdRegressedError, LeadershipLostError
from ..model import LossReason, Term
from .campaign import Campaign
from .reporter import Reporter
from .term_scope import TermScope

Serve: TypeAlias = Callable[
    [Campaign, TermScope, Callable[[], Awaitable[None]], Callable[[], float | None]], Awaitable[None]
]


class Elector:
    """Runs the candidacies of one campaign.

    Attributes:
        session: The lease of the current candidacy. It may be read from any thread.
    """

    __slots__ = (
        "_campaign",
        "_candidacy",
        "_context",
        "_released",
        "_reporter",
        "_requeue",
        "_serve",
        "_updates",
        "session",
    )

    def __init__(
        self,
        campaign: Campaign,
        context: ElectionContext,
        reporter: Reporter,
        *,
        serve: Serve,
        released: Callable[[TermScope], None],
    ) -> None:
        """Create an elector; ``run`` starts the first candidacy.

        Args:
            campaign: The campaign.
            context: The common parameters of the candidacies.
            reporter: Receives the events.
            serve: Leads through a term, until its work has ended.
            released: Called when the leadership of such a term was released.
        """
        self.session: Session | None = None
        self._candidacy: Candidacy | None = None
        self._updates: anyio.Lock | None = None
        self._requeue = False
        self._campaign = campaign
        self._context = context
        self._reporter = reporter
        self._serve = serve
        self._released = released

    async def run(self, connection: SharedConnection) -> None:
        """Run one candidacy after the other, until the end of the campaign is requested.

        Raises:
            EtcdRegressedError: etcd was wiped or restored.
        """
        campaign, retry = self._campaign, self._context.timing.retry
        backoff = Backoff(retry, connection.uniform)
        while not campaign.stopping:
            term = await self._run_candidacy(Candidacy(connection, self._context))
            if term is not None:
                backoff.reset()
            elif self._requeue:
                continue  # it lets another candidate pass, and keeps its place behind all that are in the queue now
            resigned = term is not None and term.loss_reason is LossReason.RESIGNED
            with campaign.interruptible():
                await anyio.sleep(retry if resigned else backoff.next())

    async def update_value(self, value: bytes) -> None:
        """Put a value on our candidate key. Return when etcd has it, or when there is no such key."""
        candidacy = self._candidacy
        if candidacy is not None:
            self._updates = self._updates or anyio.Lock()
            async with self._updates:
                await candidacy.update_value(value)

    async def _run_candidacy(self, candidacy: Candidacy) -> Term | None:
        """Run a candidacy from the grant of its lease to the release. Return its term, or None if it did not win."""
        self.session, self._candidacy = candidacy.session, candidacy
        scope: TermScope | None = None
        try:
            if await self._win(candidacy) and not self._campaign.stopping:
                leadership = Leadership(self._campaign, candidacy, self._context, self._reporter)
                scope = leadership.scope
                await self._serve(self._campaign, scope, candidacy.monitor, leadership.overrun_in)
        finally:
            try:
                # This comes last: before the release, no other candidate's work can begin.
                await candidacy.release()
            finally:
                self.session = self._candidacy = None
                self._reporter.candidacy_ended()
                if scope is not None:
                    self._released(scope)
        if isinstance(candidacy.session.error, EtcdRegressedError):
            # The next join might not detect the regression: etcd's revision may have passed the known one meanwhile.
            raise candidacy.session.error
        return None if scope is None else scope.term

    async def _win(self, candidacy: Candidacy) -> bool:
        self._requeue = False
        with self._campaign.interruptible():
            try:
                await candidacy.join()
                self._campaign.queued.set()
                await candidacy.wait_until_first()
            except CandidacyOverError as over:
                self._requeue = over.reason is LossReason.RESIGNED
                self._reporter.candidacy_lost(over.reason)
            else:
                return True
        return False


class Leadership:
    """A candidacy that was won. It connects the term with the lease: requests in one direction, reports in the other.

    There is no await between the response that showed the win and the creation of this object.

    Attributes:
        scope: The scope of its term.
    """

    __slots__ = ("_campaign", "_context", "_process", "_reporter", "_session", "scope")

    def __init__(self, campaign: Campaign, candidacy: Candidacy, context: ElectionContext, reporter: Reporter) -> None:
        self._campaign = campaign
        self._session = candidacy.session
        self._process = process_id()
        self._reporter = reporter
        self._context = context
        term = Term(
            token=candidacy.token,
            identity=context.identity,
            election=context.election_key,
            key=candidacy.key.decode(),
            lease_id=candidacy.session.lease_id,
            elected_at=datetime.now(UTC),
            _lease_is_valid=self._is_valid,
            _remaining=self._session.lease_remaining,
            _wait=self._wait,
            _guard=self._guard,
            _transact=self._transact,
            _attach=self._attach,
        )
        self.scope = TermScope(
            term,
            clock=context.clock.now,
            margin=context.timing.margin,
            on_close=self._on_close,
            on_end_requested=self._session.limit_renewals,
            confirm=self._confirm,
        )
        self._session.on_lost = self._on_lost
        self._session.on_moved = self._on_moved
        self._session.start_leading(self._on_tick)

    def overrun_in(self) -> float | None:
        """Return ``TermScope.overrun_in`` for this lease. The watchdog's thread calls this, too."""
        return self.scope.overrun_in(self._session.lease_remaining())

    # Requests of the term

    def _is_valid(self) -> bool:
        return self._process == process_id() and self._session.is_valid()

    def _wait(self, seconds: float) -> bool:
        return self.scope.wait(seconds)

    def _guard(self) -> list[Any]:
        from .._etcd.etcd3_txn import guard_compares

        term = self.scope.term
        return list(guard_compares(term.key, term.token, term.lease_id))

    async def _transact(self, success: Sequence[Any], failure: Sequence[Any]) -> tuple[bool, list[Any]]:
        from .._etcd.etcd3_txn import keys_put_by, transact, transact_failure

        self._check_loop("transaction", "success", "failure")
        for key in keys_put_by([*success, *failure]):  # an invalid operation raises here, before any request
            self._refuse_candidate(key)
        own, retry, tried = self._session.own, self._context.timing.retry, 0
        async with self._context.connect() as connection:
            try:
                while (lease_id := await self._session.settled_lease(retry)) != tried:
                    result = await transact(
                        connection.txn, own.key, own.create_revision, lease_id, success, timeout=retry
                    )
                    if result is not None:
                        return result
                    tried = lease_id  # send it again if the key has moved meanwhile
                # The key is deleted, or attached to another client's lease.
                return await transact_failure(connection.txn, failure, timeout=retry)
            except EtcdRegressedError as error:
                self._session.invalidate(LossReason.REGRESSED, error)
                raise

    async def _attach(self, key: bytes, value: bytes) -> None:
        session, term, retry, tried = self._session, self.scope.term, self._context.timing.retry, 0
        self._check_loop("attach", "key", "value")
        self._refuse_candidate(key)
        async with self._context.connect() as connection:
            try:
                while term.is_valid() and (lease_id := await session.settled_lease(retry)) != tried:
                    refused, own = session.attached.add(key, lease_id), session.own
                    stands = [Compare(own.key, "create", own.create_revision), Compare(own.key, "lease", lease_id)]
                    try:
                        result = await connection.txn(stands, [Put(key, value, lease_id)], timeout=retry)
                    except EtcdRefusedError:
                        refused()
                        raise
                    if result.succeeded:
                        return
                    refused()
                    tried = lease_id  # try again if the key has moved meanwhile
            except EtcdRegressedError as error:
                session.invalidate(LossReason.REGRESSED, error)
                raise
        raise LeadershipLostError(term)

    def _check_loop(self, call: str, *arguments: str) -> None:
        """Refuse a call on another loop than the campaign's, while the session may be in use on that one."""
        if not self._campaign.finished.is_set():
            self._campaign.check_loop(call, "term", *arguments)

    def _refuse_candidate(self, key: bytes) -> None:
        prefix = election_prefix(self.scope.term.election)
        if key.startswith(prefix):
            raise ValueError(
                f"{key!r} lies below the prefix {prefix!r} of the election, where every key is a candidate. No candidate "
                "behind it could be elected: use another key"
            )

    # Reports of the lease and the scope

    async def _confirm(self) -> None:
        with suppress(EtcdLeaderError):  # then the term continues
            await self._session.renew_now()

    def _on_close(self) -> None:
        self._session.limit_renewals()
        self._reporter.ending(self.scope.term)

    def _on_lost(self) -> None:
        self.scope.leadership_lost(self._session.loss_reason or LossReason.EXPIRED)

    def _on_moved(self) -> None:
        self.scope.term.lease_id = self._session.lease_id

    def _on_tick(self, remaining: float) -> None:
        scope = self.scope
        scope.extend_backstop(anyio.current_time(), remaining)
        if not scope.had_time_to_end() or scope.overrun_reported:
            return
        left = self.overrun_in()
        if left is not None and left <= 0:
            scope.overrun_reported = True
            self._reporter.overrun(scope.term)
