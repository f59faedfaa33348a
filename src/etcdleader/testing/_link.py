"""The link between one client and one member of a fake etcd, for single requests and for those on streams."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Literal

from ._calls import Call, arguments_of, kind_of
from ._cluster import Cluster
from ._faults import Fault, FaultyNetwork
from ._member import FakeMember


@dataclass(frozen=True, slots=True)
class Link:
    """A client's network, and the member at its other end.

    Attributes:
        client: The client's name, for hooks.
        network: The client's network.
        cluster: Runs the tasks of requests in transit, and calls the hooks.
        member: The member that receives the requests.
    """

    client: str
    network: FaultyNetwork
    cluster: Cluster
    member: FakeMember

    async def serve(self, request: Any, fault: Fault) -> Any:
        """Let the member process a request, and call the hooks before and after. Return the response."""
        self.member.check_up()
        await self.tell_hooks(request, "before")
        if fault.error is not None and not fault.applied:
            raise fault.error
        response = await self.member.handle(request)
        await self.tell_hooks(request, "after")
        if fault.error is not None:
            raise fault.error
        return response

    async def tell_hooks(self, request: Any, stage: Literal["before", "after"]) -> None:
        """Call the test's hooks with a request, and await those that are async."""
        call = Call(self.client, kind_of(request), stage, arguments_of(request))
        for hook in list(self.cluster.controls.hooks):
            result = hook(call)
            if inspect.isawaitable(result):
                await result
