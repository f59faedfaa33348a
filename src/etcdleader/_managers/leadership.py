"""A seat that was won: what its term asks of the lease, and what the lease tells the term's scope."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any

import anyio

from .._election.candidacy import Candidacy
from .._election.queue import election_prefix
from .._etcd.api import Compare, Put
from .._lease.connection import Connection
from .._lease.lease_clock import Timing
from .._runtime.fork import process_id
from ..errors import EtcdRefusedError, EtcdRegressedError, LeadershipLostError
from ..model import LossReason, Term
from .reporter import Announcer
from .term_scope import TermScope

__all__ = ("Seat",)


class Seat:
    """Made when the candidacy has won: nothing is awaited from the look that showed it to here.

    Attributes:
        scope: That of its term.
    """

    __slots__ = ("_announcer", "_connect", "_process", "_retry", "_session", "scope")

    def __init__(
        self,
        candidacy: Candidacy,
        *,
        identity: str,
        election_key: str,
        timing: Timing,
        clock: Callable[[], float],
        announcer: Announcer,
        connect: Callable[[], AbstractAsyncContextManager[Connection]],
    ) -> None:
        self._session = candidacy.session
        self._process = process_id()
        self._announcer = announcer
        self._connect = connect
        self._retry = timing.retry
        term = Term(
            token=candidacy.token,
            identity=identity,
            election=election_key,
            key=candidacy.key.decode(),
            lease_id=candidacy.session.lease_id,
            elected_at=datetime.now(UTC),
            _believed=self._believed,
            _remaining=self._session.lease_remaining,
            _guard=self._guard,
            _transact=self._transact,
            _attach=self._attach,
        )
        self.scope = TermScope(term, clock=clock, margin=timing.margin, on_close=self._closed)
        self._session.on_lost = self._lost
        self._session.on_moved = self._moved
        self._session.watch_deadline(self._tick)

    def overrun_in(self) -> float | None:
        """``TermScope.overrun_in``, of this lease. Called from the guard's thread, too."""
        return self.scope.overrun_in(self._session.lease_remaining())

    # What the term asks

    def _believed(self) -> bool:
        return self._process == process_id() and self._session.believed()

    def _guard(self) -> list[Any]:
        from .._etcd.etcd3_txn import guard_compares

        term = self.scope.term
        return list(guard_compares(term.key, term.token, term.lease_id))

    async def _transact(self, success: Sequence[Any], failure: Sequence[Any]) -> tuple[bool, list[Any]]:
        from .._etcd.etcd3_txn import keys_put_by, transact, transact_failure

        for key in keys_put_by([*success, *failure]):  # an operation that cannot be raises before anything is sent
            self._refuse_candidate(key)
        own, retry, tried = self._session.own, self._retry, 0
        async with self._connect() as connection:
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
                self._session.lose(LossReason.REGRESSED, error)
                raise

    async def _attach(self, key: bytes, value: bytes) -> None:
        session, term, retry, tried = self._session, self.scope.term, self._retry, 0
        self._refuse_candidate(key)
        async with self._connect() as connection:
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
                    tried = lease_id  # the key may have moved meanwhile: once more then
            except EtcdRegressedError as error:
                session.lose(LossReason.REGRESSED, error)
                raise
        raise LeadershipLostError(term)

    def _refuse_candidate(self, key: bytes) -> None:
        prefix = election_prefix(self.scope.term.election)
        if key.startswith(prefix):
            raise ValueError(
                f"{key!r} lies below the prefix {prefix!r} of the election, where every key is a candidate: no candidate "
                "behind it could be elected. Use another key"
            )

    # What happens to it

    def _closed(self) -> None:
        self._session.drain()
        self._announcer.ending(self.scope.term)

    def _lost(self) -> None:
        self.scope.seat_lost(self._session.lost or LossReason.EXPIRED)

    def _moved(self) -> None:
        self.scope.term.lease_id = self._session.lease_id

    def _tick(self, remaining: float) -> None:
        scope = self.scope
        scope.extend_backstop(anyio.current_time(), remaining)
        if not scope.had_time_to_end() or scope.overrun_told:
            return
        left = self.overrun_in()
        if left is not None and left <= 0:
            scope.overrun_told = True
            self._announcer.overrun(scope.term)
