"""The connection between a client and one member of a fake etcd, over a network with injected faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio

from .._etcd.endpoint import Endpoint
from .._etcd.rpcs import WATCH, A, Q, Rpc
from .._etcd.stream import RpcStream, StreamCallbacks
from .._grpc.framing import Metadata
from ..errors import EtcdUnavailableError
from ._calls import Call, arguments_of, kind_of
from ._cluster import Cluster
from ._faults import Fault, FaultyNetwork
from ._member import FakeMember
from ._stream import FakeStream


@dataclass(eq=False)
class _Answer:
    """The outcome of one call."""

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
        self._client = name
        self._network = network
        self._cluster = cluster
        self._member = member
        # A dict, because the iteration order of a set differs from run to run.
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
        """Deliver one request to etcd and its response to the caller, even if the caller has given up."""
        network, fault = self._network, self._network.fault_for(kind_of(request))
        held_up = not await network.arrival(anyio.current_time() + network.one_way() + fault.request_delay)
        if fault.lose == "request" or (held_up and answer.given_up):
            return
        outcome: Callable[[], None]
        try:
            value = await self._serve(request, fault)
        except Exception as error:  # noqa: BLE001 - a hook's exception, such as an AssertionError, goes to the caller
            failure = error
            outcome = lambda: answer.fail(failure)  # noqa: E731
        else:
            outcome = lambda: answer.succeed(value)  # noqa: E731
        if fault.lose != "answer":
            await network.arrival(anyio.current_time() + network.one_way() + fault.answer_delay)
            self.on_data()
            outcome()

    async def _serve(self, request: Any, fault: Fault) -> Any:
        """Let the member process a request, and call the hooks before and after."""
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

    async def open_stream(
        self, rpc: Rpc[Any, Any], metadata: Metadata, use: StreamCallbacks, timeout: float
    ) -> RpcStream:
        del timeout
        self._member.check_up()
        watches = rpc is WATCH
        return FakeStream(
            metadata, use, self._client, self._network, self._cluster, self._member, self.on_data, watches=watches
        )

    def drain(self) -> None:
        """Do nothing: calls in progress continue, and there is no connection to close."""

    def close(self) -> None:
        for answer in list(self._waiting):
            answer.fail(EtcdUnavailableError("the connection was closed"))

    async def wait_closed(self) -> None:
        """Return at once: an endpoint has no task. The cluster runs the requests in transit."""
