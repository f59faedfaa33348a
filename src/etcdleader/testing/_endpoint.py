"""The connection between a client and one member of a fake etcd, over a network with injected faults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import anyio

from .._etcd.endpoint import Endpoint
from .._etcd.rpcs import WATCH, A, Q, Rpc
from .._etcd.stream import RpcStream, StreamCallbacks
from .._grpc.framing import Metadata
from ..errors import EtcdUnavailableError
from ._calls import kind_of
from ._cluster import Cluster
from ._faults import FaultyNetwork
from ._link import Link
from ._member import FakeMember
from ._stream import FakeStream


@dataclass(eq=False)
class _Answer:
    """The outcome of one call."""

    came: anyio.Event = field(default_factory=anyio.Event)
    given_up: bool = False
    value: Any = None
    error: Exception | None = None

    def arrive(self, value: Any, error: Exception | None = None) -> None:
        self.value, self.error = value, error
        self.came.set()


class FakeEndpoint(Endpoint):
    """One client's connection to one member."""

    def __init__(self, name: str, network: FaultyNetwork, cluster: Cluster, member: FakeMember) -> None:
        """Create an endpoint without opening a connection.

        Args:
            name: The client's name, for hooks.
            network: The client's network.
            cluster: Runs the tasks of requests in transit, and calls the hooks.
            member: The member to connect to.
        """
        self.name = repr(member)
        self.clock = anyio.current_time
        self._link = Link(name, network, cluster, member)
        # A dict, because the iteration order of a set differs from run to run.
        self._waiting: dict[_Answer, None] = {}

    async def call(self, rpc: Rpc[Q, A], request: Q, metadata: Metadata, timeout: float) -> A:
        del metadata
        self._link.network.count(kind_of(request))
        answer = _Answer()
        self._waiting[answer] = None
        try:
            self._link.cluster.spawn(self._carry, request, answer)
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
        """Deliver one request to etcd and its response to the caller, even if the caller has given up."""
        network = self._link.network
        fault = network.fault_for(kind_of(request))
        held_up = not await network.arrival(anyio.current_time() + network.one_way() + fault.request_delay)
        if fault.lose == "request" or (held_up and answer.given_up):
            return
        value, failure = None, None
        try:
            value = await self._link.serve(request, fault)
        except Exception as error:  # noqa: BLE001 - a hook's exception, such as an AssertionError, goes to the caller
            failure = error
        if fault.lose != "answer":
            await network.arrival(anyio.current_time() + network.one_way() + fault.answer_delay)
            self.on_data()
            answer.arrive(value, failure)

    async def open_stream(
        self, rpc: Rpc[Any, Any], metadata: Metadata, use: StreamCallbacks, timeout: float
    ) -> RpcStream:
        del timeout
        self._link.member.check_up()
        return FakeStream(metadata, use, self._link, self.on_data, watches=rpc is WATCH)

    def drain(self) -> None:
        """Do nothing: calls in progress continue, and there is no connection to close."""

    def close(self) -> None:
        for answer in list(self._waiting):
            answer.arrive(None, EtcdUnavailableError("the connection was closed"))

    async def wait_closed(self) -> None:
        """Return at once: an endpoint has no task. The cluster runs the requests in transit."""
