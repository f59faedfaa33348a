"""Work and callbacks that write or call `extend` when their term is over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from etcdleader import EtcdLeaderError, EtcdLeaderManager, LeaderManager, Term
from etcdleader.fencing import Gate

__all__ = ("Act", "nothing", "provoke", "write_in_a_task_of_the_work", "write_through_a_gate")

Act = Callable[[EtcdLeaderManager, Term], Awaitable[object]]


async def write_through_a_gate(manager: EtcdLeaderManager, term: Term) -> None:
    gate = Gate("report", token=term.token + 1)  # a successor has written
    with gate.passing(term.token):
        raise AssertionError


async def write_in_a_task_of_the_work(manager: EtcdLeaderManager, term: Term) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(write_through_a_gate, manager, term)
        group.start_soon(manager.extend, term)


async def nothing(term: Term) -> None:
    await anyio.sleep_forever()


def provoke(manager: LeaderManager, term: Term) -> None:
    assert isinstance(manager, EtcdLeaderManager)
    manager._reporter.on_error(EtcdLeaderError("trouble"))
