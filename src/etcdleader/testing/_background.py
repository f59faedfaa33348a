"""The background tasks of a fake etcd, and the hooks that observe its requests."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from anyio.abc import TaskGroup

from ..errors import EtcdUnavailableError
from ._calls import Call, Hook
from ._notification import Notification


class Background(ABC):
    """Tasks that no caller waits for.

    Attributes:
        hooks: Called with each request.
        failure: The exception of a hook or a stream's handler that no caller could receive. That stream has ended.
        changed: Sent after each change that a waiting call may be waiting for.
    """

    def __init__(self) -> None:
        self.hooks: list[Hook] = []
        self.failure: Exception | None = None
        self.changed = Notification()
        self._group: TaskGroup | None = None

    @abstractmethod
    def loops(self) -> Sequence[Callable[[], Coroutine[Any, Any, None]]]:
        """Return the functions of the tasks that run from the start to the end."""

    def start(self, group: TaskGroup) -> None:
        """Start the background tasks in this task group."""
        self._group = group
        for loop in self.loops():
            group.start_soon(loop)

    def end(self) -> None:
        """Refuse further tasks."""
        self._group = None

    def spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        """Run a function in a task that outlives its caller: a request that was sent stays sent.

        Raises:
            EtcdUnavailableError: The fake has not been entered, or has been left.
        """
        if self._group is None:
            raise EtcdUnavailableError("this FakeEtcd is not open: it runs inside its `async with`")
        self._group.start_soon(function, *arguments)

    async def tell_hooks(self, call: Call) -> None:
        """Call the test's hooks with a request, and await those that are async."""
        for hook in list(self.hooks):
            result = hook(call)
            if inspect.isawaitable(result):
                await result
