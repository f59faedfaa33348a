"""The manager of an election on etcd. It runs one candidacy after the other until the campaign ends."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from .._runtime.clock import Clock, boottime
from ..config import MIN_RECOMMENDED_LEASE_SECONDS, Config, EtcdConfig, validate_election_key
from ..errors import LeadershipLostError, NotLeaderError
from ..metrics import Metrics
from ..model import LeaderRecord, Term
from .base import BaseManager
from .campaign import Campaign
from .connector import borrows_token, check_client, connect
from .once import Once
from .placeholders import with_host_and_pid

# The etcd client is imported at the first campaign or query. It would take half of the time of `import etcdleader`. A
# factory call at import, a command line, or a parent process that forks does not use it.
if TYPE_CHECKING:
    from .._lease.shared_connection import SharedConnection
    from .elector import Elector


class EtcdLeaderManager(BaseManager):
    """Campaigns on etcd. A manager opens no connection before the first campaign or query in the process.

    Managers with an equal ``EtcdConfig``, or with the same client, share one connection per process and event loop.
    """

    def __init__(
        self,
        client: EtcdConfig | Any,
        config: Config,
        election_key: str,
        *,
        clock: Callable[[], float] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """Create a manager for one election.

        Args:
            client: The way to etcd: an ``EtcdConfig``, a ready ``etcd3.Etcd3Client``, or an object that implements the
                port, such as a client of ``etcdleader.testing.FakeEtcd``. An ``Etcd3Client`` is not closed. One with a
                user logs in once, when it is created: leadership ends when that token expires.
            config: The settings of the election. ``enabled`` has no effect here; only the factory reads it.
            election_key: The name of the election. Candidates with the same key wait in one queue.
                ``election_key + "/"`` is the prefix of their keys in etcd.
            clock: Returns seconds on a clock that never steps. By default CLOCK_BOOTTIME, which counts suspend.
            metrics: Receives the events of this manager. By default there are no metrics.

        Raises:
            ConfigError: The election key is not valid.
            TypeError: ``client`` or ``config`` has none of the above types.
        """
        if not isinstance(config, Config):
            raise TypeError(f"config must be a Config, not {type(config).__name__}")
        check_client(client)
        validate_election_key(election_key)
        self._client: Any = client
        self._known_revisions: Mapping[int, int] = {}
        super().__init__(config, election_key, clock=clock or boottime, metrics=metrics)

    def _reset(self) -> None:
        super()._reset()
        self._elector: Elector | None = None

    def _draw_identity(self) -> str:
        return f"{with_host_and_pid(self._config.id)}#{os.urandom(4).hex()}"

    def _renewal_age(self) -> float | None:
        elector = self._elector  # each attribute is read once: this may be called from another thread
        session = None if elector is None else elector.session
        return None if session is None else session.age()

    def _connect(self) -> AbstractAsyncContextManager[SharedConnection]:
        return connect(self._client)

    # Queries

    async def leader(self) -> LeaderRecord | None:
        queue = await self._read_queue(limit=1)
        return queue[0] if queue else None

    async def candidates(self) -> list[LeaderRecord]:
        return await self._read_queue(limit=0)

    async def _read_queue(self, *, limit: int) -> list[LeaderRecord]:
        from .._election.observer import read_records

        self._reset_after_fork()
        async with self._connect() as connection:
            queue = await read_records(connection, self._election_key, limit=limit, timeout=self._config.retry)
        self._reporter.leader_seen(queue[0] if queue else None)
        return queue

    @asynccontextmanager
    async def observe(self) -> AsyncGenerator[AsyncIterator[LeaderRecord | None], None]:
        from .._election.observer import Observer

        self._reset_after_fork()
        async with (
            self._connect() as connection,
            Observer(connection, self._election_key, self._config.retry, self._reporter).opened() as leaders,
        ):
            yield leaders

    # Campaigning

    async def extend(self, term: Term | None = None) -> Term:
        await anyio.lowlevel.checkpoint()
        if self._campaign is not None:
            self._campaign.check_loop("extend")
        current, elector = self.term, self._elector
        if term is not None and term is not current:
            raise LeadershipLostError(term)
        if current is None or elector is None or elector.session is None:
            raise NotLeaderError(f"{self.identity} does not lead {self._election_key!r}")
        await elector.session.renew_now()
        if not current.is_valid():
            raise LeadershipLostError(current)
        return current

    async def _clear_way(self, to: str) -> int | None:
        from .._election.hand_over import clear_way

        async with self._connect() as connection:
            leader = await clear_way(connection, self._election_key, to, timeout=self._config.retry)
        return None if leader is None else leader.token

    async def _update_value(self) -> None:
        if (elector := self._elector) is not None:
            await elector.update_value(self._candidate_value())

    def _candidate_value(self) -> bytes:
        from .._election.candidate_value import encode_value

        return encode_value(self._identity, self._advertised)

    async def _contend(self, campaign: Campaign) -> None:
        from .._election.context import ElectionContext
        from .._lease.lease_deadline import Timing
        from .elector import Elector

        config = self._config
        if config.lease < MIN_RECOMMENDED_LEASE_SECONDS:
            self._reporter.short_lease(config.lease)
        if borrows_token(self._client):
            self._reporter.borrowed_token()
        context = ElectionContext(
            identity=self._identity,
            election_key=self._election_key,
            timing=Timing.of(config),
            clock=Clock(self._clock),
            listener=self._reporter,
            value=self._candidate_value,
            connect=self._connect,
        )
        self._elector = elector = Elector(
            campaign, context, self._reporter, serve=self._serve_term, released=self._on_released
        )
        async with self._connect() as connection:
            # The manager keeps the revisions of earlier campaigns: a cluster can be wiped between two campaigns.
            connection.revisions.learn(self._known_revisions)
            connection.api.on_version(self._reporter.etcd_version)
            try:
                if isinstance(campaign.work, Once):
                    await self._contend_once(campaign, campaign.work, connection, lambda: elector.run(connection))
                else:
                    await elector.run(connection)
            finally:
                self._known_revisions = connection.revisions.known()
                self._elector = None

    async def _contend_once(
        self, campaign: Campaign, once: Once, connection: SharedConnection, contend: Callable[[], Awaitable[None]]
    ) -> None:
        from .done_record import DoneRecord

        retry, reporter = self._config.retry, self._reporter
        await DoneRecord(connection, campaign, once, self._election_key, retry=retry, reporter=reporter).run(contend)
