"""Steps: blocks of code, in any thread, during which leadership is not released."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType

import anyio.lowlevel

from .._runtime.fork import process_id
from ..manager import Step
from ..model import Term
from .reentrancy import on_behalf_of
from .term_scope import TermScope


class TermStep(Step):
    """A block that runs in the current term, if there is one."""

    __slots__ = ("_current_scope", "_frame", "_process", "_scope")

    def __init__(self, current_scope: Callable[[], TermScope | None]) -> None:
        self._current_scope = current_scope
        self._scope: TermScope | None = None
        self._frame: AbstractContextManager[None] | None = None
        self._process = process_id()

    def __enter__(self) -> Term | None:
        if self._frame is not None:
            raise RuntimeError("this step has begun already: call manager.step() for each block")
        if (scope := self._current_scope()) is None:
            return None
        frame = on_behalf_of(scope)
        try:
            if not scope.begin_step(self):
                return None
            frame.__enter__()
            self._scope, self._frame, self._process = scope, frame, process_id()
        except BaseException:
            scope.end_step(self)  # Ctrl-C: a step without an end would hold leadership
            raise
        return scope.term

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._end()
        except BaseException:
            self._end()  # Ctrl-C: a step without an end would hold leadership
            raise

    def _end(self) -> None:
        """End the step. A second call does what an interrupted first one has left."""
        if (scope := self._scope) is None:
            return
        # A forked child has only a copy of the term, whose lock another thread of the parent may have held.
        if self._process == process_id():
            scope.end_step(self)
        frame, self._frame = self._frame, None
        self._scope = None
        if frame is not None:
            frame.__exit__(None, None, None)

    async def __aenter__(self) -> Term | None:
        await anyio.lowlevel.checkpoint()
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)
