"""The background tasks of a fake etcd, and the hooks that observe its requests."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from anyio.abc import TaskGroup

from ..errors import EtcdUnavailableError
from ._calls import Call, Hook
from ._signal import Signal


class Background(ABC):
    """Tasks that no caller waits for.

    Attributes:
        hooks: Called with each request.
        failure: The exception of a hook or a sink that no caller could receive. The stream that called it has ended.
        changed: Sent when something changed that a waiting call may have waited for.
    """

    def __init__(self) -> None:
        self.hooks: list[Hook] = []
        self.failure: Exception | None = None
        self.changed = Signal()
        self._group: TaskGroup | None = None

    @abstractmethod
    def loops(self) -> Sequence[Callable[[], Coroutine[Any, Any, None]]]:
        """Return what runs from the start to the end."""

    def start(self, group: TaskGroup) -> None:
        """Start what runs beside the calls."""
        self._group = group
        for loop in self.loops():
            group.start_soon(loop)

    def end(self) -> None:
        """Start nothing any more."""
        self._group = None

    def spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        """Run something that outlives its caller, as what was sent stays sent.

        Raises:
            EtcdUnavailableError: The fake is not open, or not any more.
        """
        if self._group is None:
            raise EtcdUnavailableError("this FakeEtcd is not open: it runs inside its `async with`")
        self._group.start_soon(function, *arguments)

    async def tell_hooks(self, call: Call) -> None:
        """Let the test act at this very moment."""
        for hook in list(self.hooks):
            result = hook(call)
            if inspect.isawaitable(result):
                await result
