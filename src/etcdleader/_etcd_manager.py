"""Leader election on etcd: one candidacy after another, until the campaign is to end."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel

from ._announcer import Announcer
from ._base_manager import BaseManager
from ._campaign import Campaign
from ._connections import Connection, connect
from ._core.backoff import Backoff
from ._core.lease import Timing
from ._election import Candidacy, CandidacyOverError
from ._etcd.api import Compare, EtcdApi
from ._observer import Observer, read_queue
from ._process import boottime, process_id
from ._session import Session
from ._term_scope import TermScope
from .config import SHORT_LEASE, Config, EtcdConfig, check_election_key
from .errors import EtcdRegressedError, LeadershipLostError, NotLeaderError
from .metrics import Metrics
from .model import LeaderRecord, LossReason, Term

__all__ = ("EtcdLeaderManager",)


class EtcdLeaderManager(BaseManager):
    """Campaigns on etcd. Nothing is opened before the first campaign or question, in whatever process that is.

    Managers with an equal ``EtcdConfig``, or with the same client, share one connection per process and event loop.
    """

    def __init__(
        self,
        client: EtcdConfig | EtcdApi | Any,
        config: Config,
        election_key: str,
        *,
        clock: Callable[[], float] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """Make a manager for one election.

        Args:
            client: How to reach etcd: an ``EtcdConfig``, a ready ``etcd3.Etcd3Client`` (it is used, and left open), or
                an object that implements the port, as ``etcdleader.testing.FakeEtcd`` has them.
            config: The election's settings. ``enabled`` is the factory's affair and changes nothing here.
            election_key: What is campaigned for: candidates of one key stand in one queue. ``election_key + "/"`` is
                the prefix of their keys in etcd.
            clock: Seconds on a clock that never steps. By default CLOCK_BOOTTIME, which counts suspend.
            metrics: Who counts; by default nobody.

        Raises:
            ConfigError: The election key cannot be one.
            TypeError: ``client`` or ``config`` is none of the above.
        """
        if not isinstance(config, Config):
            raise TypeError(f"config must be a Config, not {type(config).__name__}")
        if not isinstance(client, EtcdConfig | EtcdApi) and not _is_etcd3_client(client):
            raise TypeError(f"client must be an EtcdConfig or an etcd3.Etcd3Client, not {type(client).__name__}")
        check_election_key(election_key)
        self._client = client
        self._known_revisions: Mapping[int, int] = {}
        super().__init__(config, election_key, clock=clock or boottime, metrics=metrics)
        self._timing = Timing(config.lease, config.retry, config.renew, config.margin)

    def _begin_anew(self) -> None:
        super()._begin_anew()
        self._session: Session | None = None

    def _draw_identity(self) -> str:
        name = self._config.id.replace("{pid}", str(os.getpid()))
        if "{host}" in name:
            import socket

            name = name.replace("{host}", socket.gethostname())
        return f"{name}#{secrets.token_hex(4)}"

    def _renewal_age(self) -> float | None:
        session = self._session  # once: this may be asked from another thread
        return None if session is None else session.age()

    def _connect(self) -> AbstractAsyncContextManager[Connection]:
        client = self._client
        if isinstance(client, EtcdApi):
            return connect(id(client), lambda: client, owned=False)
        key: Hashable = client if isinstance(client, EtcdConfig) else id(client)

        def open_gateway() -> EtcdApi:
            from ._etcd.gateway import EtcdGateway

            return EtcdGateway(client)

        return connect(key, open_gateway, owned=True)

    # Looking on

    async def leader(self) -> LeaderRecord | None:
        queue = await self._read_queue(limit=1)
        return queue[0] if queue else None

    async def candidates(self) -> list[LeaderRecord]:
        return await self._read_queue(limit=0)

    async def _read_queue(self, *, limit: int) -> list[LeaderRecord]:
        async with self._connect() as connection:
            return await read_queue(connection, self._election_key, limit=limit, timeout=self._config.retry)

    @asynccontextmanager
    async def observe(self) -> AsyncGenerator[AsyncIterator[LeaderRecord | None], None]:
        self._here()
        async with (
            self._connect() as connection,
            Observer(connection, self._election_key, self._config.retry, self._announcer).opened() as leaders,
        ):
            yield leaders

    # Campaigning

    async def extend(self, term: Term | None = None) -> Term:
        await anyio.lowlevel.checkpoint()
        current, session = self.term, self._session
        if term is not None and term is not current:
            raise LeadershipLostError(term)
        if current is None or session is None:
            raise NotLeaderError(f"{self.identity} does not lead {self._election_key!r}")
        await session.renew_now()
        if not current.is_valid():
            raise LeadershipLostError(current)
        return current

    async def _contend(self, campaign: Campaign) -> None:
        if self._config.lease < SHORT_LEASE:
            self._announcer.short_lease(self._config.lease)
        async with self._connect() as connection:
            # A manager remembers what it saw in earlier campaigns, too: a cluster can be wiped between two.
            connection.revisions.learn(self._known_revisions)
            connection.tell_version(self._announcer.etcd_version)
            try:
                await self._stand_again_and_again(campaign, connection)
            finally:
                self._known_revisions = connection.revisions.known()

    async def _stand_again_and_again(self, campaign: Campaign, connection: Connection) -> None:
        backoff = Backoff(self._config.retry, random.uniform)
        while not campaign.stopping:
            candidacy = Candidacy(
                connection,
                self._election_key,
                self._identity,
                self._timing,
                clock=self._clock,
                listener=self._announcer,
            )
            term = await self._candidacy(campaign, candidacy)
            if term is not None:
                backoff.reset()
            resigned = term is not None and term.loss_reason is LossReason.RESIGNED
            with campaign.interruptible():
                await anyio.sleep(self._config.retry if resigned else backoff.next())

    async def _candidacy(self, campaign: Campaign, candidacy: Candidacy) -> Term | None:
        """From the grant to the release. Returns the term, if there was one."""
        self._session = candidacy.session
        scope: TermScope | None = None
        try:
            if await self._win(campaign, candidacy) and not campaign.stopping:
                scope = self._open_term(candidacy)
                await self._serve(campaign, scope, candidacy.hold, self._overrun_in(scope, candidacy.session))
        finally:
            try:
                # Last of all: until here the seat was ours, and nobody else's work could begin.
                await candidacy.withdraw()
            finally:
                self._session = None
                self._announcer.candidacy_ended()
                if scope is not None:
                    self._release_told(scope)
        if isinstance(candidacy.session.error, EtcdRegressedError):
            # Also when etcd has meanwhile come past the revision that was known, so that the next join would not tell.
            raise candidacy.session.error
        return None if scope is None else scope.term

    async def _win(self, campaign: Campaign, candidacy: Candidacy) -> bool:
        with campaign.interruptible():
            try:
                await candidacy.stand()
                campaign.standing.set()
                await candidacy.wait_turn()
            except CandidacyOverError as over:
                self._announcer.candidacy_lost(over.reason)
            else:
                return True
        return False

    def _open_term(self, candidacy: Candidacy) -> TermScope:
        """The seat is ours. Nothing is awaited from the look that showed it to here."""
        session, process = candidacy.session, self._process
        key, token, lease_id = candidacy.key, candidacy.token, session.lease_id
        term = Term(
            token=token,
            identity=self._identity,
            election=self._election_key,
            key=key.decode(),
            lease_id=lease_id,
            elected_at=datetime.now(UTC),
            _believed=lambda: process == process_id() and session.believed(),
            _remaining=session.lease_remaining,
            _guard=partial(_guard_compares, key.decode(), token, lease_id),
            _transact=partial(self._transact, session, key, token, lease_id),
        )

        def close() -> None:
            session.drain()
            self._announcer.ending(term)

        scope = TermScope(term, clock=self._clock, margin=self._config.margin, on_close=close)
        session.on_lost = lambda: scope.seat_lost(session.lost or LossReason.EXPIRED)
        session.lead(lambda: self._tick(scope, session, self._announcer))
        return scope

    @staticmethod
    def _overrun_in(scope: TermScope, session: Session) -> Callable[[], float | None]:
        return lambda: scope.overrun_in(session.lease_remaining())

    @staticmethod
    def _tick(scope: TermScope, session: Session, announcer: Announcer) -> None:
        remaining = session.lease_remaining()
        scope.extend_backstop(anyio.current_time())
        left = scope.overrun_in(remaining)
        if left is not None and left <= 0 and scope.had_time_to_end() and not scope.overrun_told:
            scope.overrun_told = True
            announcer.overrun(scope.term)

    async def _transact(
        self,
        session: Session,
        key: bytes,
        token: int,
        lease_id: int,
        success: Sequence[Any],
        failure: Sequence[Any],
    ) -> tuple[bool, list[Any]]:
        from ._etcd.transactions import transact

        compares = [Compare(key, "create", token), Compare(key, "lease", lease_id)]
        async with self._connect() as connection:
            try:
                return await transact(connection.txn, compares, success, failure, timeout=self._config.retry)
            except EtcdRegressedError as error:
                session.lose(LossReason.REGRESSED, error)
                raise


def _guard_compares(key: str, token: int, lease_id: int) -> list[Any]:
    from .etcd3 import guard_compares

    return list(guard_compares(key, token, lease_id))


def _is_etcd3_client(client: object) -> bool:
    """Whether it is etcd3's, without importing etcd3: who has such a client has imported it."""
    return any(base.__module__.startswith("etcd3.") and base.__name__ == "Etcd3Client" for base in type(client).__mro__)
