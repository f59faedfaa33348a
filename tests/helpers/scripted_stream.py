"""A stream whose responses the test gives, instead of a thread and gRPC."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Any

import anyio.lowlevel

from etcdleader.errors import EtcdLeaderError


class ScriptedStream:
    """Behaves like `_etcd.stream.Stream` for its user: in order, and silent after its end.

    Attributes:
        sent: The sent messages, in order.
    """

    def __init__(self, on_message: Callable[[Any], None], on_end: Callable[[EtcdLeaderError], None]) -> None:
        self.sent: list[Any] = []
        self.open = True
        self._on_message = on_message
        self._on_end = on_end

    def send(self, *requests: Any) -> None:
        self.sent.extend(requests)

    def end(self, error: EtcdLeaderError) -> None:
        if self.open:
            self.open = False
            self._on_end(error)

    def bring(self, message: Any) -> None:
        """Deliver a message. After the end it is dropped, as by the real stream."""
        if self.open:
            self._on_message(message)


class Opener:
    """Opens scripted streams.

    Attributes:
        streams: All opened streams.
        failing: Raised instead of opening one.
        hanging: True if opening one never returns.
        ends: The reasons for which streams have ended.
    """

    def __init__(self) -> None:
        self.streams: list[ScriptedStream] = []
        self.ends: list[EtcdLeaderError] = []
        self.failing: EtcdLeaderError | None = None
        self.hanging = False

    async def __call__(
        self, on_message: Callable[[Any], None], on_end: Callable[[EtcdLeaderError], None], timeout: float
    ) -> Any:
        await anyio.lowlevel.checkpoint()
        if self.hanging:
            await anyio.sleep_forever()
        if self.failing is not None:
            raise self.failing

        def ended(error: EtcdLeaderError) -> None:
            self.ends.append(error)
            on_end(error)

        self.streams.append(ScriptedStream(on_message, ended))
        return self.streams[-1]

    @property
    def last(self) -> ScriptedStream:
        """Return the stream that was opened last."""
        return self.streams[-1]


class ScriptedCall:
    """gRPC's side of a stream: yields its given messages, even after it was cancelled."""

    def __init__(self, requests: Iterator[Any], metadata: object) -> None:
        self.requests = requests
        self.metadata = metadata
        self.cancelled = False
        self.messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.messages.get, None)

    def cancel(self) -> None:
        self.cancelled = True
