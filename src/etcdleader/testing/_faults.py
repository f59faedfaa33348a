"""Faults that a test injects between one client and etcd."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import anyio

from ..errors import EtcdLeaderError, EtcdRefusedError
from ._calls import CallKind
from ._notification import Notification


@dataclass(slots=True)
class Fault:
    """A fault that hits the next calls of one kind, or of any kind. Delays are in seconds."""

    kind: CallKind | None = None
    times: float = math.inf
    request_delay: float = 0.0
    answer_delay: float = 0.0
    lose: Literal["nothing", "request", "answer"] = "nothing"
    error: EtcdLeaderError | None = None
    applied: bool = False


NO_FAULT = Fault()


class Counted(Protocol):
    """A fault that hits so many calls of one kind; None stands for any kind."""

    times: float

    @property
    def kind(self) -> str | None:
        """The kind."""
        ...


F = TypeVar("F", bound=Counted)


def use_up(faults: list[F], kind: str) -> F | None:
    """Return the oldest fault that hits a call of this kind, and count the call. Remove the fault after its last call."""
    for fault in faults:
        if fault.kind in (None, kind):
            fault.times -= 1
            if fault.times <= 0:
                faults.remove(fault)
            return fault
    return None


class FaultyNetwork:
    """The network of one client.

    A fault for a kind of call, such as ``"txn"``, hits the next ``times`` calls of that kind. Without a kind, it hits
    the next calls of any kind. Each call uses up the oldest fault that matches it.

    Attributes:
        latency: Seconds in each direction. For a pair, each message takes a random time between the two.
        partitioned: True while the network delivers nothing.
        stalled: True while watches deliver nothing.
        calls: The number of requests that were sent, by kind.
    """

    def __init__(self, rng: random.Random) -> None:
        self.latency: float | tuple[float, float] = 0.0
        self.partitioned = False
        self.stalled = False
        self.silenced = 0
        self.changed = Notification()
        self.calls: Counter[CallKind] = Counter()
        self._random = rng
        self._faults: list[Fault] = []

    # Faults, for tests

    def partition(self) -> None:
        """Deliver nothing until :meth:`heal`. Messages in transit wait.

        A request is lost if its caller gives up meanwhile. Streams stay open and deliver nothing. To break them, call
        :meth:`FakeClient.break_streams`.
        """
        self.partitioned = True
        self.changed.send()

    def heal(self) -> None:
        """End the partition."""
        self.partitioned = False
        self.changed.send()

    def stall_watches(self) -> None:
        """Hold back the messages of watches until :meth:`resume_watches`. All other calls work."""
        self.stalled = True
        self.changed.send()

    def resume_watches(self) -> None:
        """Deliver the messages that were held back, and all later ones."""
        self.stalled = False
        self.changed.send()

    def silence_watches(self) -> None:
        """Deliver no further message on the open watch stream. Other calls work, and so does the next stream."""
        self.silenced += 1
        self.changed.send()

    def lose_request(self, kind: CallKind | None = None, *, times: float = 1) -> None:
        """Lose the requests of calls: etcd does not receive them, and the caller receives no response."""
        self._faults.append(Fault(kind, times, lose="request"))

    def lose_answer(self, kind: CallKind | None = None, *, times: float = 1) -> None:
        """Lose the responses of calls: etcd processes the requests, and the caller receives no response."""
        self._faults.append(Fault(kind, times, lose="answer"))

    def delay(
        self, kind: CallKind | None = None, *, request: float = 0.0, answer: float = 0.0, times: float = 1
    ) -> None:
        """Delay calls by so many seconds on the way to etcd (``request``) and back (``answer``).

        A request arrives even if its caller has given up meanwhile: a request that was sent stays sent.
        """
        self._faults.append(Fault(kind, times, request_delay=request, answer_delay=answer))

    def fail(self, kind: CallKind | None, error: EtcdLeaderError, *, applied: bool = False, times: float = 1) -> None:
        """Respond with an error. On a stream, the error ends the stream.

        With ``applied``, etcd processes the request first, as etcd 3.5 does when it runs out of space.
        """
        self._faults.append(Fault(kind, times, error=error, applied=applied))

    def refuse(self, kind: CallKind | None = None, *, times: float = 1) -> None:
        """Respond that permission is denied. A watch is cancelled."""
        self.fail(kind, EtcdRefusedError("etcdserver: permission denied"), times=times)

    def clear_faults(self) -> None:
        """Remove the faults that have not hit a call yet. A partition or a stall stays."""
        self._faults.clear()

    # For the client's calls

    def count(self, kind: CallKind) -> None:
        """Count a request that is being sent."""
        self.calls[kind] += 1

    def fault_for(self, kind: CallKind) -> Fault:
        """Return the fault for this call, and use it up once."""
        return use_up(self._faults, kind) or NO_FAULT

    def one_way(self) -> float:
        """Return the seconds that this message takes in one direction."""
        if isinstance(self.latency, tuple):
            return self._random.uniform(*self.latency)
        return self.latency

    async def arrival(self, at: float) -> bool:
        """Wait until a message that is due at this time of the loop's clock has arrived.

        Return False if a partition delayed it.
        """
        if at > anyio.current_time():
            await anyio.sleep_until(at)
        if not self.partitioned:
            return True
        await self.changed.until(lambda: not self.partitioned)
        return False
