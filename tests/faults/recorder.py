"""The recorder: a separate process that records etcd's own state, through etcd's own stubs.

It watches the election and the register on every member, from revision 1 with ``prev_kv``. It records each event from the
first member that delivers it. It reads the leader by linearizable reads. It shares only etcd3's message classes with the
candidates.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import grpc

from etcdleader.etcd3 import etcd3
from tests.faults.journal import Journal, now

etcdrpc = etcd3.etcdrpc
_READ_EVERY = 0.1
_READ_ALL_EVERY = 0.5
"""Seconds between two reads of all leaders, in a campaign of many elections."""
_TIMEOUT = 1.0
_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.http2.ping_timeout_ms", 2_000),
    ("grpc.enable_http_proxy", 0),
)


class Recorder:
    """Watches and reads until it is killed."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._journal = Journal(options["journal"])
        self._prefix = options["prefix"].encode()
        self._many = bool(options["many"])
        self._ranges = [self._prefix, options["register"].encode()]
        self._login = options.get("login")
        self._seen: set[tuple[int, bytes]] = set()
        self._lock = threading.Lock()
        self._tokens: dict[Any, list[tuple[str, str]]] = {}
        self._streams: dict[Any, Any] = {}
        self._channels = [grpc.insecure_channel(endpoint, options=_OPTIONS) for endpoint in options["endpoints"]]

    def run(self) -> None:
        """Start a thread for each watch, and read."""
        for number, channel in enumerate(self._channels):
            threading.Thread(target=self._watch_for_ever, args=(number, channel), daemon=True).start()
        print("ready", flush=True)
        while True:
            for channel in self._channels:
                self._read(channel)
                time.sleep(_READ_ALL_EVERY if self._many else _READ_EVERY)

    # Reads

    def _read(self, channel: Any) -> None:
        request = etcdrpc.RangeRequest(
            key=self._prefix, range_end=_end(self._prefix), limit=0 if self._many else 1, keys_only=True,
            sort_order=etcdrpc.RangeRequest.ASCEND, sort_target=etcdrpc.RangeRequest.CREATE,
        )  # fmt: skip
        sent = now()
        try:
            answer = etcdrpc.KVStub(channel).Range(request, timeout=_TIMEOUT, metadata=self._metadata(channel))
        except grpc.RpcError as error:
            self._tokens.pop(channel, None)
            if error.code() == grpc.StatusCode.UNAVAILABLE and (watch := self._streams.get(channel)) is not None:
                watch.cancel()  # a member that terminates waits for its streams, for seven seconds
            return
        received = now()
        facts: dict[str, Any] = {"owner": answer.kvs[0].create_revision if answer.kvs else 0}
        if self._many:
            oldest: dict[str, int] = {}
            for kv in answer.kvs:
                oldest.setdefault(kv.key[len(self._prefix) :].decode().rpartition("/")[0], kv.create_revision)
            facts = {"owners": oldest}
        self._journal.write("read", sent=sent, received=received, revision=answer.header.revision, **facts)

    def _metadata(self, channel: Any, *, anew: bool = False) -> list[tuple[str, str]]:
        if not self._login:
            return []
        if channel in self._tokens and not anew:
            return self._tokens[channel]
        user, password = self._login
        request = etcdrpc.AuthenticateRequest(name=user, password=password)
        try:
            token = etcdrpc.AuthStub(channel).Authenticate(request, timeout=_TIMEOUT).token
            self._tokens[channel] = [("token", token)]
            return self._tokens[channel]
        except grpc.RpcError:
            return []  # Authentication is off now, or etcd does not respond. The call will show it.

    # Watches

    def _watch_for_ever(self, number: int, channel: Any) -> None:
        following = [1] * len(self._ranges)
        while True:
            try:
                self._watch(number, channel, following)
            except grpc.RpcError as error:
                self._journal.write("watch broke", member=number, error=str(error.code()))
            time.sleep(0.1)

    def _watch(self, number: int, channel: Any, following: list[int]) -> None:
        requests: SimpleQueue[Any] = SimpleQueue()
        for index, key in enumerate(self._ranges):
            create = etcdrpc.WatchCreateRequest(
                key=key, range_end=_end(key), start_revision=following[index], prev_kv=True, progress_notify=True
            )
            requests.put(etcdrpc.WatchRequest(create_request=create))
        metadata = [*self._metadata(channel, anew=True), ("hasleader", "true")]
        stream = etcdrpc.WatchStub(channel).Watch(_taken_from(requests), metadata=metadata)
        self._streams[channel] = stream
        ids: dict[int, int] = {}
        try:
            for answer in stream:
                if answer.created and not answer.canceled:
                    ids[answer.watch_id] = len(ids)
                    continue
                if answer.canceled:
                    if answer.compact_revision:
                        self._after_compaction(channel, following)
                    return
                for event in answer.events:
                    self._event(number, event)
                    index = ids[answer.watch_id]
                    following[index] = max(following[index], event.kv.mod_revision + 1)
        finally:
            stream.cancel()
            requests.put(None)

    def _event(self, number: int, event: Any) -> None:
        kv = event.kv
        with self._lock:
            if (kv.mod_revision, kv.key) in self._seen:
                return
            self._seen.add((kv.mod_revision, kv.key))
        kind = "put" if event.type == 0 else "delete"
        self._journal.write(
            kind, member=number, key=kv.key.decode(), value=kv.value.decode(errors="replace"), mod=kv.mod_revision,
            create=kv.create_revision, lease=kv.lease, prev_create=event.prev_kv.create_revision,
            prev_lease=event.prev_kv.lease,
        )  # fmt: skip

    def _after_compaction(self, channel: Any, following: list[int]) -> None:
        """Record the existing keys and continue from there. Events were lost here, but another member may have delivered them."""
        request = etcdrpc.RangeRequest(key=self._prefix, range_end=_end(self._prefix))
        answer = etcdrpc.KVStub(channel).Range(request, timeout=_TIMEOUT, metadata=self._metadata(channel))
        standing = [[kv.key.decode(), kv.create_revision, kv.lease] for kv in answer.kvs]
        self._journal.write("state", revision=answer.header.revision, standing=standing)
        following[:] = [max(revision, answer.header.revision + 1) for revision in following]


def _taken_from(requests: SimpleQueue[Any]) -> Iterator[Any]:
    while (request := requests.get()) is not None:
        yield request


def _end(prefix: bytes) -> bytes:
    return prefix[:-1] + bytes([prefix[-1] + 1])


if __name__ == "__main__":
    Recorder(json.loads(sys.argv[1])).run()
