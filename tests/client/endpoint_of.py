"""One member, without the client that chooses among several."""

from __future__ import annotations

from etcdleader import EtcdConfig
from etcdleader._etcd.connect_policy import ConnectPolicy
from etcdleader._etcd.endpoint import DirectEndpoint, open_endpoint
from etcdleader._etcd.tls import ClientContexts

__all__ = ("endpoint_of",)


def endpoint_of(address: str, config: EtcdConfig) -> DirectEndpoint:
    return open_endpoint(address, config, ConnectPolicy(lambda low, high: (low + high) / 2), ClientContexts(config))
