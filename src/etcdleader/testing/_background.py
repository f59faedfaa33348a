"""The background tasks of a fake etcd."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from anyio.abc import TaskGroup

from ..errors import EtcdUnavailableError
from ._notification import Notification


class Background:
    """Tasks that no caller waits for.

    Attributes:
        failure: The exception of a hook or a stream's handler that no caller could receive. That stream has ended.
        changed: Sent after each change that a waiting call may be waiting for.
    """

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.changed = Notification()
        self._group: TaskGroup | None = None

    def start(self, group: TaskGroup) -> None:
        """Start the background tasks in this task group."""
        self._group = group

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
