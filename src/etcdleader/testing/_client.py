"""One client of a fake etcd: the library's own client, on a network with injected faults."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from .._etcd.auth import Authenticator
from .._etcd.client import EtcdClient
from .._etcd.endpoint import Endpoint
from .._etcd.endpoint_selector import EndpointSelector
from ..errors import EtcdUnavailableError
from ._calls import CallKind
from ._cluster import Cluster
from ._endpoint import FakeEndpoint
from ._faults import FaultyNetwork
from ._member import FakeMember


class FakeClient(FaultyNetwork, EtcdClient):
    """A connection to a fake etcd, which implements the port :class:`~etcdleader._etcd.api.EtcdApi`.

    It is the same client as for a real etcd, with its streams, endpoint switches and authentication. Only the network
    below it and the members are fake.

    Attributes:
        name: Its name in the :class:`Call` that hooks receive.
        endpoints: The members that it may connect to.
        calls: The number of requests that it has sent, by kind. Each lease of a keep-alive counts, and so does each
            creation of a watch.
        uniform: Returns a random number between its arguments. The managers on the connection draw their pauses from it.
    """

    def __init__(self, name: str, cluster: Cluster, endpoints: Sequence[FakeMember]) -> None:
        FaultyNetwork.__init__(self, cluster.random)
        EtcdClient.__init__(
            self,
            self._dial_member,
            EndpointSelector(len(endpoints)),
            Authenticator(None, None),
            cluster.uniform,
            clock=anyio.current_time,
        )
        self.name = name
        self.cluster = cluster
        self.endpoints = tuple(endpoints)

    def __repr__(self) -> str:
        return f"<FakeClient {self.name!r}>"

    def _dial_member(self, number: int) -> Endpoint:
        del number
        return FakeEndpoint(self.name, self, self.cluster, self.member)

    @property
    def closed(self) -> bool:
        """True once it was closed. Leaving the fake closes all its clients."""
        return self._closed

    @property
    def member(self) -> FakeMember:
        """The member that it sends requests to now."""
        return self.endpoints[self.endpoint_number % len(self.endpoints)]

    def count(self, kind: CallKind) -> None:
        """Count a request that is being sent."""
        super().count(kind)
        self.cluster.controls.calls[kind] += 1

    def break_streams(self) -> None:
        """Break the watch stream and the keep-alive stream, and lose their messages in transit. Watches are resumed."""
        error = EtcdUnavailableError("the stream was broken")
        self._keep_alives.end(error)
        self._watches.break_(error)

    def report_endpoint_failure(self, used: int) -> None:
        before = self.endpoint_number
        super().report_endpoint_failure(used)
        if self.endpoint_number != before:
            self.count("report_endpoint_failure")
