"""Functions of the user, as work or as callbacks: their check at registration, and the call of work."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

from .._runtime.threads import run_joined
from ..model import Term


def check_callable(what: str, function: object, *arguments: str) -> None:
    """Check that ``function`` can be called with so many arguments.

    Without the check, the mistake would show at the first failover.

    Args:
        what: The name of the method that receives the function.
        function: The function.
        arguments: The names of the positional arguments that it will receive.

    Raises:
        TypeError: It is not callable, refuses these arguments, or is a generator function.
    """
    if _takes(function, len(arguments)):
        return
    call = f"function({', '.join(arguments)})"
    if inspect.iscoroutine(function):
        name = function.__name__
        function.close()  # otherwise Python warns that it was never awaited
        raise TypeError(f"{what}() takes a function, not a coroutine object: pass {name} and not {name}(...)")
    if not callable(function):
        raise TypeError(f"{what}() takes a function, and will call {call}: {function!r} cannot be called")
    inner = _without_partial(function)
    if any(is_one(each) for each in (inner, _call_of(inner)) for is_one in _GENERATORS):
        raise TypeError(f"{what}() takes a function: {_name(function)} is a generator, so calling it would run nothing")
    try:
        # The signature of the function itself. That of a function that it wraps may differ.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return  # some functions in C have no signature
    try:
        signature.bind(*arguments)
    except TypeError as error:
        taken = [one.replace(annotation=one.empty) for one in signature.parameters.values()]
        takes = signature.replace(parameters=taken, return_annotation=signature.empty)
        raise TypeError(f"{what}() will call {call}, but {_name(function)} takes {takes}: {error}") from None


def _takes(function: object, count: int) -> bool:
    """Return True if this is a Python function or method that takes ``count`` positional arguments, and is no generator.

    It decides the usual case in a fraction of the time that ``inspect.signature`` takes. False decides nothing.
    """
    bound = isinstance(function, MethodType)
    inner = function.__func__ if isinstance(function, MethodType) else function
    if not isinstance(inner, FunctionType) or inner.__code__.co_kwonlyargcount:
        return False
    code = inner.__code__
    most = code.co_argcount - bound
    least = most - len(inner.__defaults__ or ())
    takes_more = bool(code.co_flags & inspect.CO_VARARGS)
    is_generator = code.co_flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR)
    return not is_generator and least <= count and (count <= most or takes_more)


_GENERATORS: tuple[Callable[[object], bool], ...] = (inspect.isgeneratorfunction, inspect.isasyncgenfunction)


def is_async(function: object) -> bool:
    """Return whether ``function`` is an async function, or an object with an async ``__call__``."""
    inner = _without_partial(function)
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(_call_of(inner))


async def run_work(work: Callable[[Term], Any], term: Term) -> Any:
    """Call work and return its result. Plain functions run in a worker thread, which is joined.

    If a plain function returns an awaitable, that is awaited on the event loop.
    """
    if is_async(work):
        return await work(term)
    result = await run_joined(functools.partial(work, term))
    return await result if inspect.isawaitable(result) else result_of_plain(result)


def result_of_plain(result: Any, *, refuse_awaitable: bool = False) -> Any:
    """Return what a plain function has returned as work, unless that shows that none of the work was done.

    Args:
        result: What it has returned.
        refuse_awaitable: No event loop awaits the result.

    Raises:
        TypeError: It is a generator, or an awaitable that must not be.
    """
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError(f"the work has returned a generator, so nothing was run: {result!r}")
    if refuse_awaitable and inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()  # otherwise Python warns that it was never awaited
        raise TypeError(f"the work has returned an awaitable, which no event loop awaits here: {result!r}")
    return result


def _without_partial(function: object) -> object:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _call_of(function: object) -> object:
    return getattr(type(function), "__call__", None)  # noqa: B004 - it is inspected, not called


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", None) or repr(function))
