"""One member, without the client that chooses among several."""

from __future__ import annotations

from etcdleader import EtcdConfig
from etcdleader._etcd.connect_policy import ConnectPolicy
from etcdleader._etcd.endpoint import Http2Endpoint, open_endpoint
from etcdleader._etcd.tls import ClientContexts

__all__ = ("endpoint_of",)


def endpoint_of(address: str, config: EtcdConfig) -> Http2Endpoint:
    return open_endpoint(address, config, ConnectPolicy(lambda low, high: (low + high) / 2), ClientContexts(config))
