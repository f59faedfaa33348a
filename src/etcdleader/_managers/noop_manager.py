"""The manager of an election that is off. It leads while it campaigns, by the same contract."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import NoReturn

import anyio
import anyio.lowlevel

from .._lease.backoff import Backoff
from .._runtime.fork import process_id
from ..config import Config, validate_election_key
from ..errors import ConfigError, HandOverError, LeadershipLostError, NotLeaderError
from ..model import LeaderRecord, LossReason, Term
from .base import BaseManager
from .campaign import Campaign
from .term_scope import TermScope

_logger = logging.getLogger("etcdleader")


class NoopLeaderManager(BaseManager):
    """Leads while it campaigns. It is for a single copy of a program, and for development.

    It sends no requests, so a second copy of the program leads as well. Its terms have token 0, which protects no
    write. They end only by ``stop()``, ``resign()``, cancellation or an exception.
    """

    def __init__(self, config: Config | None = None, election_key: str = "") -> None:
        """Create a manager. Both arguments only describe the election that is off.

        Raises:
            ConfigError: The election key is neither empty nor valid.
        """
        if election_key != "":
            validate_election_key(election_key)
        super().__init__(config or Config(), election_key, clock=time.monotonic, metrics=None)
        self._uniform = random.uniform  # without a connection, the manager has the source itself
        self._logged = False

    def _draw_identity(self) -> str:
        return "noop"

    async def _contend(self, campaign: Campaign) -> None:
        if not self._logged:
            self._logged = True
            _logger.info("election for %r is off: this process leads whenever it campaigns", self._election_key)
        campaign.queued.set()
        backoff = Backoff(self._config.retry, self._uniform)
        while not campaign.stopping:
            scope = self._open_term()
            try:
                await self._serve_term(campaign, scope, anyio.sleep_forever, _never)
            finally:
                self._on_released(scope)
            backoff.reset()  # as on etcd, where each term begins with a successful candidacy
            resigned = scope.term.loss_reason is LossReason.RESIGNED
            with campaign.interruptible():
                await anyio.sleep(self._config.retry if resigned else backoff.next())

    def _open_term(self) -> TermScope:
        process = self._process

        def wait(seconds: float) -> bool:
            return scope.wait(seconds)

        term = Term(
            token=0,
            identity=self._identity,
            election=self._election_key,
            key="",
            lease_id=0,
            elected_at=datetime.now(UTC),
            _lease_is_valid=lambda: process == process_id(),
            _remaining=lambda: math.inf,
            _wait=wait,
            _guard=list,
            _transact=_refuse,
            _attach=_refuse,
        )
        reporter = self._reporter
        scope = TermScope(term, clock=self._clock, margin=self._config.margin, on_close=lambda: reporter.ending(term))
        return scope

    async def extend(self, term: Term | None = None) -> Term:
        await anyio.lowlevel.checkpoint()
        if self._campaign is not None:
            self._campaign.check_loop("extend")
        current = self.term
        if term is not None and term is not current:
            raise LeadershipLostError(term)
        if current is None:
            raise NotLeaderError(f"{self.identity} does not lead {self._election_key!r}")
        return current

    async def leader(self) -> LeaderRecord | None:
        await anyio.lowlevel.checkpoint()
        return self._record()

    async def candidates(self) -> list[LeaderRecord]:
        record = await self.leader()
        return [] if record is None else [record]

    @asynccontextmanager
    async def observe(self) -> AsyncGenerator[AsyncIterator[LeaderRecord | None], None]:
        async with aclosing(self._states()) as states:
            yield states

    async def _states(self) -> AsyncGenerator[LeaderRecord | None, None]:
        reported: LeaderRecord | None = None
        begun = False
        while True:
            await anyio.lowlevel.checkpoint()
            state = self._record()
            if begun and state == reported:
                await self._reporter.wait_changed()
                continue
            begun, reported = True, state
            yield state

    def _record(self) -> LeaderRecord | None:
        return LeaderRecord(self.identity, 0, "", 0, self.advertised) if self.is_leader() else None

    @property
    def known_leader(self) -> LeaderRecord | None:
        return self._record()

    @property
    def known_leader_at(self) -> datetime | None:
        return datetime.now(UTC) if self.is_leader() else None

    async def _clear_way(self, to: str) -> int | None:
        await anyio.lowlevel.checkpoint()
        raise HandOverError(f"election is off (enabled = false), so there is no candidate {to!r}")

    async def _update_value(self) -> None:
        self._reporter.changed()


_never: Callable[[], float | None] = lambda: None  # noqa: E731 - a name for what it means


async def _refuse(*_: object, **__: object) -> NoReturn:
    await anyio.lowlevel.checkpoint()
    raise ConfigError("election is off (enabled = false): there is no etcd to write to, and token 0 protects no write")
