"""The contract of an object that observes an election. It needs no campaign."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import datetime

from .model import LeaderRecord

__all__ = ("ElectionObserver",)


class ElectionObserver(ABC):
    """Shows the leader of an election, and its candidates. Each :class:`LeaderManager` is one."""

    @property
    @abstractmethod
    def known_leader(self) -> LeaderRecord | None:
        """The leader that this manager received last, from a read, a watch or ``observe()``. No I/O, from any thread.

        None if it received that there is no leader, or received nothing so far.

        A candidate behind the next in line watches its predecessor only. For as long as it waits, this can name a leader
        that is gone: see ``known_leader_at``. To answer requests, await ``leader()``. Or keep this current by a task with
        ``async with manager.observe() as leaders: async for _ in leaders: pass``.
        """

    @property
    @abstractmethod
    def known_leader_at(self) -> datetime | None:
        """The time at which ``known_leader`` was received last, by the wall clock, in UTC. None: nothing was received."""

    @abstractmethod
    async def leader(self) -> LeaderRecord | None:
        """Return the leader from a linearizable read; None if there is none. Needs no campaign.

        Raises:
            EtcdUnavailableError: etcd did not answer.
            EtcdRefusedError: etcd refused the read.
        """

    @abstractmethod
    async def candidates(self) -> list[LeaderRecord]:
        """Return the queue in order: the first candidate leads. Needs no campaign.

        Raises:
            EtcdUnavailableError: etcd did not answer.
            EtcdRefusedError: etcd refused the read.
        """

    @abstractmethod
    def observe(self) -> AbstractAsyncContextManager[AsyncIterator[LeaderRecord | None]]:
        """Follow the leader: an async iterator of records, with None where there is no leader. Needs no campaign.

        The first item is the current state. Each item is the newest state: never an older one, and never a backlog.
        """
