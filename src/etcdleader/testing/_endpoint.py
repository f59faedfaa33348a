"""The way from a client to one member of a fake etcd, through a network in which all can go wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio

from .._etcd.endpoint import Endpoint
from .._etcd.rpcs import WATCH, A, Q, Rpc
from .._etcd.stream import Stream, StreamUse
from .._grpc.framing import Metadata
from ..errors import EtcdUnavailableError
from ._calls import Call, arguments_of, kind_of
from ._cluster import Cluster
from ._faults import Fault, FaultyNetwork
from ._member import FakeMember
from ._stream import FakeStream


@dataclass(eq=False)
class _Answer:
    """What becomes of one call."""

    came: anyio.Event = field(default_factory=anyio.Event)
    given_up: bool = False
    value: Any = None
    error: Exception | None = None

    def fail(self, error: Exception) -> None:
        self.error = error
        self.came.set()

    def succeed(self, value: Any) -> None:
        self.value = value
        self.came.set()


class FakeEndpoint(Endpoint):
    """One member, as one client reaches it."""

    def __init__(self, name: str, network: FaultyNetwork, cluster: Cluster, member: FakeMember) -> None:
        """Open nothing yet.

        Args:
            name: The client's, for hooks.
            network: The client's.
            cluster: Runs what is on its way, and tells the hooks.
            member: The one to reach.
        """
        self.name = repr(member)
        self.clock = anyio.current_time
        self._client = name
        self._network = network
        self._cluster = cluster
        self._member = member
        # A dict, because the order in which a set is gone through is not the same in each run.
        self._waiting: dict[_Answer, None] = {}

    async def call(self, rpc: Rpc[Q, A], request: Q, metadata: Metadata, timeout: float) -> A:
        del metadata
        self._network.count(kind_of(request))
        answer = _Answer()
        self._waiting[answer] = None
        try:
            self._cluster.spawn(self._carry, request, answer)
            with anyio.move_on_after(timeout):
                await answer.came.wait()
        finally:
            answer.given_up = True
            self._waiting.pop(answer, None)
        if answer.error is not None:
            raise answer.error
        if not answer.came.is_set():
            raise EtcdUnavailableError(f"etcd did not answer {rpc.name} within {timeout:g} s")
        value: A = answer.value
        return value

    async def _carry(self, request: Any, answer: _Answer) -> None:
        """Take one request to etcd, have it done, and bring the answer, whether or not the caller still waits for it."""
        network, fault = self._network, self._network.fault_for(kind_of(request))
        held_up = not await network.arrival(anyio.current_time() + network.one_way() + fault.request_delay)
        if fault.lose == "request" or (held_up and answer.given_up):
            return
        outcome: Callable[[], None]
        try:
            value = await self._serve(request, fault)
        except Exception as error:  # noqa: BLE001 - whatever a hook raises, an assertion perhaps, goes to the caller
            failure = error
            outcome = lambda: answer.fail(failure)  # noqa: E731
        else:
            outcome = lambda: answer.succeed(value)  # noqa: E731
        if fault.lose != "answer":
            await network.arrival(anyio.current_time() + network.one_way() + fault.answer_delay)
            self.on_data()
            outcome()

    async def _serve(self, request: Any, fault: Fault) -> Any:
        """Do what happens when a request has reached its member."""
        self._member.check_up()
        kind, arguments = kind_of(request), arguments_of(request)
        await self._cluster.tell_hooks(Call(self._client, kind, "before", arguments))
        if fault.error is not None and not fault.applied:
            raise fault.error
        value = await self._member.handle(request)
        await self._cluster.tell_hooks(Call(self._client, kind, "after", arguments))
        if fault.error is not None:
            raise fault.error
        return value

    async def open_stream(self, rpc: Rpc[Any, Any], metadata: Metadata, use: StreamUse, timeout: float) -> Stream:
        del timeout
        self._member.check_up()
        watches = rpc is WATCH
        return FakeStream(
            metadata, use, self._client, self._network, self._cluster, self._member, self.on_data, watches=watches
        )

    def drain(self) -> None:
        """Calls under way go on, and nothing else is kept."""

    def close(self) -> None:
        for answer in list(self._waiting):
            answer.fail(EtcdUnavailableError("the connection was closed"))

    async def wait_closed(self) -> None:
        """Nothing of it runs: what is on its way belongs to the network."""
