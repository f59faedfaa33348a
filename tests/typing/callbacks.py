"""Callbacks that may be registered, and callbacks that a type checker must refuse. This file is never run.

An ignore that ignores nothing is an error. So each of them below is a check that the line is refused: by mypy for
the given reason, by pyright for any reason.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import assert_type

from etcdleader import (
    EtcdLeaderError,
    EtcdLeaderManager,
    LeaderManager,
    NoopLeaderManager,
    Term,
    must_new_leader_manager_from_config,
)
from etcdleader.manager import ErrorCallback, TermCallback, Work

manager = must_new_leader_manager_from_config()
concrete = NoopLeaderManager()


@manager.on_elected
async def elected(manager: LeaderManager, term: Term) -> None:
    print(manager.identity, term.token)


@manager.on_elected
def elected_plain(_: LeaderManager, term: Term) -> int:
    return term.token


@manager.on_ousted
async def ousted(_: LeaderManager, term: Term) -> str:
    return term.key


@manager.on_error
def failed(_: LeaderManager, error: EtcdLeaderError) -> None:
    print(error)


@manager.on_error
async def failed_async(_: LeaderManager, error: EtcdLeaderError) -> None:
    print(error)


# Decorated, they are what they were.
assert_type(elected_plain, Callable[[LeaderManager, Term], int])
assert_type(failed, Callable[[LeaderManager, EtcdLeaderError], None])


async def decorated(manager: LeaderManager, term: Term, error: EtcdLeaderError) -> None:
    assert_type(await elected(manager, term), None)
    assert_type(await ousted(manager, term), str)
    assert_type(await failed_async(manager, error), None)


class Jobs:
    async def start(self, manager: LeaderManager, term: Term) -> None: ...

    def stop(self, manager: LeaderManager, term: Term) -> int:
        return term.token

    def note(self, manager: LeaderManager, error: EtcdLeaderError) -> None: ...

    async def work(self, term: Term) -> str:
        return term.key


class Called:
    def __call__(self, manager: LeaderManager, term: Term) -> None: ...


async def note(where: str, manager: LeaderManager, term: Term) -> None: ...


def either(manager: object, what: object) -> None: ...


def optional(manager: LeaderManager, term: Term, *, loud: bool = False) -> None: ...


def anything(*arguments: object) -> None: ...


jobs = Jobs()
assert_type(manager.on_ousted(jobs.stop), Callable[[LeaderManager, Term], int])
manager.on_elected(jobs.start)
manager.on_error(jobs.note)
manager.on_elected(Called())
manager.on_elected(partial(note, "log"))
manager.on_elected(partial(optional, loud=True))
manager.on_elected(optional)
manager.on_elected(either)
manager.on_error(either)
manager.on_ousted(anything)

# Lambdas are inferred: what they are given has its type.
manager.on_elected(lambda _, term: print(assert_type(term, Term).token))
manager.on_ousted(lambda manager, _: print(assert_type(manager, LeaderManager).identity))
manager.on_error(lambda _, error: print(assert_type(error, EtcdLeaderError)))
concrete.on_ousted(lambda manager, term: print(assert_type(manager, LeaderManager), assert_type(term, Term)))
manager.on_elected(lambda manager, term: jobs.start(manager, term))  # noqa: PLW0108 - that it may be one

# As a type of one's own.
kept: list[TermCallback] = [elected, elected_plain, jobs.stop, partial(note, "log")]
kept_for_errors: list[ErrorCallback] = [failed, failed_async, jobs.note]
work: Work[str] = jobs.work
plain_work: Work[str] = lambda term: term.key  # noqa: E731 - that it has the type


# Refused


def only_term(term: Term) -> None: ...


async def only_term_async(term: Term) -> None: ...


def no_argument() -> None: ...


def the_wrong_way_round(term: Term, manager: LeaderManager) -> None: ...


def one_too_many(manager: LeaderManager, term: Term, more: int) -> None: ...


def on_etcd_only(manager: EtcdLeaderManager, term: Term) -> None: ...


manager.on_elected(only_term)  # type: ignore[arg-type]
manager.on_elected(only_term_async)  # type: ignore[arg-type]
manager.on_elected(no_argument)  # type: ignore[arg-type]
manager.on_elected(the_wrong_way_round)  # type: ignore[arg-type]
manager.on_elected(one_too_many)  # type: ignore[arg-type]
manager.on_elected(on_etcd_only)  # type: ignore[arg-type]
manager.on_elected(jobs.note)  # type: ignore[arg-type]
manager.on_elected(jobs.work)  # type: ignore[arg-type]
manager.on_elected(None)  # type: ignore[arg-type]
manager.on_ousted(only_term)  # type: ignore[arg-type]
manager.on_ousted(jobs.note)  # type: ignore[arg-type]
manager.on_error(only_term)  # type: ignore[arg-type]
manager.on_error(jobs.stop)  # type: ignore[arg-type]
concrete.on_elected(only_term)  # type: ignore[arg-type]
concrete.on_ousted(jobs.note)  # type: ignore[arg-type]
concrete.on_error(jobs.stop)  # type: ignore[arg-type]


async def register(manager: LeaderManager, term: Term) -> None:
    manager.on_elected(jobs.start(manager, term))  # type: ignore[arg-type]
    await manager.run(elected)  # type: ignore[arg-type]
    await manager.run(elected_plain)  # type: ignore[arg-type]
