"""The queue of an election as etcd has it, read with etcd3's client and none of the tested libraries."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

import grpc

from etcdleader.etcd3 import etcd3
from tests.interop.program import PATIENCE_SECONDS, Record

__all__ = ("QueueReader",)


class QueueReader:
    """Reads queues and leases."""

    def __init__(self, endpoint: str) -> None:
        host, _, port = endpoint.rpartition(":")
        self.client: Any = etcd3.client(host, int(port))

    def read(self, election: str) -> list[Record]:
        """Return all candidates, the leader first."""
        found = self.client.get_prefix(f"{election}/", sort_order="ascend", sort_target="create")
        return [Record(kv.key.decode(), value.decode(), kv.create_revision, kv.lease_id) for value, kv in found]

    def wait(self, election: str, holds: Callable[[list[Record]], bool]) -> list[Record]:
        """Wait until the queue is as described, and return it. A watch says when to read again."""
        prefix = f"{election}/".encode()
        watch = etcd3.etcdrpc.WatchCreateRequest(key=prefix, range_end=prefix[:-1] + b"0")
        requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        requests.put(etcd3.etcdrpc.WatchRequest(create_request=watch))
        stub = etcd3.etcdrpc.WatchStub(self.client.channel)
        changes = stub.Watch(iter(requests.get, None), timeout=PATIENCE_SECONDS)
        records: list[Record] = []
        try:
            for _ in changes:  # the first response says that the watch is created
                records = self.read(election)
                if holds(records):
                    return records
        except grpc.RpcError as error:
            raise AssertionError(f"the queue of {election} stayed {records}") from error
        finally:
            requests.put(None)
            changes.cancel()
        raise AssertionError(f"etcd ended the watch of {election}")

    def wait_length(self, election: str, length: int) -> list[Record]:
        """Wait until so many candidates are in the queue, and return them."""
        return self.wait(election, lambda records: len(records) == length)

    def has_lease(self, lease: int) -> bool:
        return bool(self.client.get_lease_info(lease).TTL >= 0)

    def touch(self, record: Record) -> None:
        """Put a key without changing anything: an operator's request to step down."""
        request = etcd3.etcdrpc.PutRequest(key=record.key.encode(), ignore_value=True, ignore_lease=True)
        self.client.kvstub.Put(request, self.client.timeout)

    def close(self) -> None:
        self.client.close()
