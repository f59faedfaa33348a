"""What can go wrong between one client and etcd, as a test orders it."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import anyio

from ..errors import EtcdLeaderError, EtcdRefusedError
from ._calls import CallKind
from ._signal import Signal


@dataclass(slots=True)
class Fault:
    """What is to happen to some calls. Delays are in seconds."""

    kind: CallKind | None = None
    times: float = math.inf
    request_delay: float = 0.0
    answer_delay: float = 0.0
    lose: Literal["nothing", "request", "answer"] = "nothing"
    error: EtcdLeaderError | None = None
    applied: bool = False


NO_FAULT = Fault()


class FaultyNetwork:
    """The network of one client.

    A fault that is ordered for a kind of call, such as ``"txn"``, hits the next ``times`` calls of that kind, and of
    any kind when none is named; several are used up in the order in which they were ordered, one for each call.

    Attributes:
        latency: Seconds each way; of a pair, something between the two, drawn anew each time.
        partitioned: Whether nothing comes through now.
        stalled: Whether the watches bring nothing now.
        calls: How many requests have left, by kind.
    """

    def __init__(self, rng: random.Random) -> None:
        self.latency: float | tuple[float, float] = 0.0
        self.partitioned = False
        self.stalled = False
        self.silenced = 0
        self.changed = Signal()
        self.calls: Counter[CallKind] = Counter()
        self._random = rng
        self._faults: list[Fault] = []

    # What a test orders

    def partition(self) -> None:
        """Let nothing through until :meth:`heal`. What is on its way waits; a request whose caller gives up meanwhile
        is lost. Streams fall silent; whoever wants them broken says so."""
        self.partitioned = True
        self.changed.send()

    def heal(self) -> None:
        """End the partition."""
        self.partitioned = False
        self.changed.send()

    def stall_watches(self) -> None:
        """Let watches bring nothing, while all other calls work, until :meth:`resume_watches`; then it all comes."""
        self.stalled = True
        self.changed.send()

    def resume_watches(self) -> None:
        """End the stall."""
        self.stalled = False
        self.changed.send()

    def silence_watches(self) -> None:
        """Deliver no further message on the open watch stream. Other calls work, and so does the next stream."""
        self.silenced += 1
        self.changed.send()

    def lose_request(self, kind: CallKind | None = None, *, times: float = 1) -> None:
        """Calls do not reach etcd and are never answered."""
        self._faults.append(Fault(kind, times, lose="request"))

    def lose_answer(self, kind: CallKind | None = None, *, times: float = 1) -> None:
        """etcd does what it is asked, and nobody learns of it."""
        self._faults.append(Fault(kind, times, lose="answer"))

    def delay(
        self, kind: CallKind | None = None, *, request: float = 0.0, answer: float = 0.0, times: float = 1
    ) -> None:
        """Calls take longer, by so many seconds on the way to etcd and back. A request arrives even if its caller has
        given up meanwhile: what was sent stays sent."""
        self._faults.append(Fault(kind, times, request_delay=request, answer_delay=answer))

    def fail(self, kind: CallKind | None, error: EtcdLeaderError, *, applied: bool = False, times: float = 1) -> None:
        """etcd answers with an error; with ``applied``, after it did what it was asked, as etcd 3.5 does when it finds
        that it has no space. On a stream, the error ends the stream."""
        self._faults.append(Fault(kind, times, error=error, applied=applied))

    def refuse(self, kind: CallKind | None = None, *, times: float = 1) -> None:
        """etcd denies permission. A watch is cancelled."""
        self.fail(kind, EtcdRefusedError("etcdserver: permission denied"), times=times)

    def clear_faults(self) -> None:
        """Forget the faults that were ordered and have not hit yet. A partition or a stall stays."""
        self._faults.clear()

    # What the calls ask

    def count(self, kind: CallKind) -> None:
        """One more request leaves."""
        self.calls[kind] += 1

    def fault_for(self, kind: CallKind) -> Fault:
        """What happens to this call."""
        for fault in self._faults:
            if fault.kind in (None, kind):
                fault.times -= 1
                if fault.times <= 0:
                    self._faults.remove(fault)
                return fault
        return NO_FAULT

    def one_way(self) -> float:
        """How long this message takes."""
        if isinstance(self.latency, tuple):
            return self._random.uniform(*self.latency)
        return self.latency

    async def arrival(self, at: float) -> bool:
        """Wait until a message that arrives at this moment of the loop's clock has come through; False if it was held
        up by a partition."""
        if at > anyio.current_time():
            await anyio.sleep_until(at)
        if not self.partitioned:
            return True
        await self.changed.until(lambda: not self.partitioned)
        return False
