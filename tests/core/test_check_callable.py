"""A function that refuses its arguments is refused where it is registered."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from etcdleader import NoopLeaderManager
from etcdleader._managers.work import check_callable, is_async


def one(term: object) -> None: ...


async def one_async(term: object) -> None: ...


def two(manager: object, term: object) -> None: ...


def more(term: object, *, loud: bool = False) -> None: ...


def none() -> None: ...


def needs_a_keyword(term: object, *, loud: bool) -> None: ...


def generator(term: object) -> Iterator[int]:
    yield 1


async def async_generator(term: object) -> AsyncIterator[int]:
    yield 1


class Job:
    def __init__(self, term: object = None) -> None: ...

    def plain(self, term: object) -> None: ...

    async def later(self, term: object) -> None: ...

    @staticmethod
    def still(term: object) -> None: ...


class Called:
    def __call__(self, term: object) -> None: ...


class CalledAsync:
    async def __call__(self, term: object) -> None: ...


class Yielding:
    def __call__(self, term: object) -> Iterator[int]:
        yield 1


@functools.wraps(two)
def injected(term: object) -> None:
    two(1, term)


ACCEPTED: tuple[Any, ...] = (
    one, one_async, more, Job, Job().plain, Job().later, Job.still, Called(), CalledAsync(), print, str, injected,
    functools.partial(two, 1), functools.partial(needs_a_keyword, loud=True), lambda term: None, lambda *_: None, Mock(),
    AsyncMock(), {}.get, min,
)  # fmt: skip
REFUSED: tuple[tuple[Any, str], ...] = (
    (two, r"will call function\(term\), but two takes \(manager, term\): missing"),
    (none, "too many positional arguments"),
    (needs_a_keyword, "missing a required"),
    (functools.partial(one, 1), "too many"),
    (generator, "generator is a generator"),
    (async_generator, "is a generator"),
    (Yielding(), "is a generator"),
    (functools.partial(generator), "is a generator"),
    (generator(1), "cannot be called"),
    (None, "None cannot be called"),
    ("work", "'work' cannot be called"),
    (Called, r"Called takes \(\)"),
)


@pytest.mark.parametrize("function", ACCEPTED)
def test_what_can_be_called_is_accepted(function: object) -> None:
    check_callable("run", function, "term")


@pytest.mark.parametrize(("function", "why"), REFUSED)
def test_what_cannot_is_refused_with_the_reason(function: object, why: str) -> None:
    with pytest.raises(TypeError, match=rf"^run\(\) .*{why}"):
        check_callable("run", function, "term")


def test_a_coroutine_object_is_refused_and_closed() -> None:
    """Otherwise Python would warn that it was never awaited; warnings are errors here."""
    with pytest.raises(TypeError, match=r"not a coroutine object: pass one_async and not one_async\(\.\.\.\)"):
        check_callable("run", one_async(1), "term")


@pytest.mark.parametrize("name", ["on_elected", "on_ousted", "on_error"])
@pytest.mark.parametrize("callback", [one, none, None, generator])
def test_callbacks_are_checked_at_registration(name: str, callback: Any) -> None:
    register: Callable[[Any], object] = getattr(NoopLeaderManager(), name)
    with pytest.raises(TypeError, match=rf"^{name}\(\) "):
        register(callback)


@pytest.mark.anyio
async def test_work_is_checked_before_the_campaign_begins(anyio_backend: object) -> None:
    manager = NoopLeaderManager()
    with pytest.raises(TypeError, match=r"^run\(\) "):
        await manager.run(two)  # type: ignore[arg-type]
    assert manager.statistics().terms == 0


def test_async_functions_are_distinguished_from_plain_ones() -> None:
    partial = functools.partial(functools.partial(one_async), term=1)
    assert all(
        map(is_async, (one_async, Job().later, CalledAsync(), partial, AsyncMock(), functools.partial(CalledAsync())))
    )
    assert not any(
        map(
            is_async, (one, Job, Job().plain, Called(), CalledAsync, print, functools.partial(one), lambda _: one_async)
        )
    )
