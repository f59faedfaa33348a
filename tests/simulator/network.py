"""A simulated network: bytes between processes and members, in order, late, held back, or into the void.

It replaces TCP below the library's own transports. One task delivers everything at its time. So a message costs no task.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import heapq
import itertools
import math
import random
from collections.abc import Callable
from typing import Protocol

import anyio

from etcdleader._runtime.events import running_trio

__all__ = ("Direction", "Link", "Network", "Peer", "TcpConnection")


class Peer(Protocol):
    """One end of a connection."""

    def receive(self, data: bytes) -> None:
        """Receive bytes."""

    def lose(self, reason: str) -> None:
        """Receive the end of the connection."""


class Network:
    """Delivers at the right time. ``run`` must be running.

    Attributes:
        random: The source of latencies.
        messages: The number of deliveries.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.messages = 0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._next = math.inf
        """The time at which the next delivery is planned."""
        self._time = anyio.current_time
        self._plan: Callable[[float], None] = self._plan_nothing
        self._failure: Exception | None = None
        self._changed = anyio.Event()

    def _plan_nothing(self, moment: float) -> None:
        """``run`` has not begun."""

    def now(self) -> float:
        """Return the loop's time."""
        return self._time()

    def at(self, moment: float, action: Callable[[], None]) -> None:
        """Do something at a time of the loop's clock. What is due at the same time is done in the order of the calls."""
        heapq.heappush(self._due, (moment, next(self._number), action))
        if moment < self._next:
            self._next = moment
            self._plan(moment)

    async def run(self) -> None:
        """Deliver, until cancelled."""
        if running_trio() is None:
            await self._run_by_timers()
        else:
            await self._run_in_a_task()

    async def _run_by_timers(self) -> None:
        """Deliver in callbacks of asyncio's timers. A task that waits would cost twice as much."""
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        self._time = loop.time

        def plan(moment: float) -> None:
            loop.call_at(moment, self._on_timer, context=context)

        self._plan = plan
        self._on_timer()
        while self._failure is None:
            await self._changed.wait()
        raise self._failure

    def _on_timer(self) -> None:
        try:
            self._deliver_due()
        except Exception as error:  # noqa: BLE001 - the loop would only log it
            self._failure = error
            self._changed.set()
        if self._next < math.inf:
            self._plan(self._next)

    async def _run_in_a_task(self) -> None:
        self._plan = lambda moment: self._changed.set()
        while True:
            self._deliver_due()
            self._changed = anyio.Event()
            with anyio.CancelScope(deadline=self._next):
                await self._changed.wait()

    def _deliver_due(self) -> None:
        due, now = self._due, self._time()
        self._next = -math.inf  # what is added now is looked at below
        while due and due[0][0] <= now:
            self.messages += 1
            heapq.heappop(due)[2]()
        self._next = due[0][0] if due else math.inf


class Direction:
    """One direction of a link.

    Attributes:
        latency: The bounds of the seconds that a packet takes.
        blocked: Hold everything back, as a partition does. TCP delivers it afterwards.
    """

    def __init__(self, network: Network) -> None:
        self.latency = (0.0002, 0.0006)
        self._network = network
        self._blocked = False
        self._held: list[Callable[[], None]] = []

    @property
    def blocked(self) -> bool:
        return self._blocked

    @blocked.setter
    def blocked(self, blocked: bool) -> None:
        self._blocked = blocked
        if not blocked:
            held, self._held = self._held, []
            for action in held:
                action()

    def deliver(self, earliest: float, action: Callable[[], None]) -> float:
        """Do something when a packet that is sent now arrives, not before ``earliest``. Return that time."""
        low, high = self.latency
        moment = max(earliest, self._network.now() + self._network.random.uniform(low, high))
        self._network.at(moment, lambda: self._arrive(action))
        return moment

    def _arrive(self, action: Callable[[], None]) -> None:
        if self._blocked:
            self._held.append(action)
        else:
            action()


class Link:
    """The way between one process and one member.

    Attributes:
        up: From the process to the member.
        down: Back.
        refuses: Refuse new connections.
        connections: The open connections.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.up = Direction(network)
        self.down = Direction(network)
        self.refuses = False
        self.connections: list[TcpConnection] = []

    @property
    def cut(self) -> bool:
        """True while no request can be answered."""
        return self.up.blocked or self.down.blocked

    def set_latency(self, low: float, high: float) -> None:
        """Set the latency of both directions."""
        self.up.latency = self.down.latency = (low, high)

    def reset(self) -> None:
        """Reset all connections, by a packet to each end."""
        for connection in list(self.connections):
            connection.reset("connection reset by peer")

    def half_open(self) -> None:
        """Let the member discard all connections without a packet, as after a crash of its machine."""
        for connection in list(self.connections):
            connection._end_server("discarded")


class TcpConnection:
    """An open connection.

    Attributes:
        server_gone: The member has no record of it, and does not say so.
    """

    def __init__(self, link: Link) -> None:
        self.client: Peer | None = None
        self.server: Peer | None = None
        self._link = link
        self._up_at = self._down_at = -math.inf
        self._open = True
        self.server_gone = False
        link.connections.append(self)

    def send_up(self, data: bytes) -> None:
        """Send from the process to the member."""
        if self._open:
            self._up_at = self._link.up.deliver(self._up_at, lambda: self._arrive_up(data))

    def send_down(self, data: bytes, delay: float = 0.0) -> None:
        """Send from the member to the process, ``delay`` seconds from now."""
        if delay > 0.0:
            self._link.network.at(anyio.current_time() + delay, lambda: self.send_down(data))
        elif self._open:
            self._down_at = self._link.down.deliver(self._down_at, lambda: self._arrive_down(data))

    @property
    def is_open(self) -> bool:
        """True until one end closes or resets it."""
        return self._open

    def _arrive_up(self, data: bytes) -> None:
        if self._open and not self.server_gone and self.server is not None:
            self.server.receive(data)

    def _arrive_down(self, data: bytes) -> None:
        if self._open and self.client is not None:
            self.client.receive(data)

    def close(self) -> None:
        """Close it from the process's side: the member receives the end after what was sent before."""
        if self._open:
            self._up_at = self._link.up.deliver(self._up_at, lambda: self._end_server("closed"))
            self._remove()

    def reset(self, reason: str) -> None:
        """Break it for both ends."""
        if self._open:
            self._remove()
            if self.client is not None:
                self._link.down.deliver(self._down_at, functools.partial(self.client.lose, reason))
            self._link.up.deliver(self._up_at, lambda: self._end_server(reason))

    def _end_server(self, reason: str) -> None:
        if not self.server_gone and self.server is not None:
            self.server_gone = True
            self.server.lose(reason)

    def _remove(self) -> None:
        self._open = False
        self._link.connections.remove(self)
