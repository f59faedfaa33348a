"""A candidate's position in an election's queue, and its changes by events. Pure.

The queue consists of all keys under the prefix, in the order of their create_revision. A key's name and the client that
put it do not matter. The state comes from one linearizable read, or from our own Txn, and from the events after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from .._lease.leased_key import LeasedKey

if TYPE_CHECKING:
    from .._etcd.api import KeyValue, WatchEvent


def election_prefix(election_key: str) -> bytes:
    """Return the prefix of all candidate keys, as in etcd's Go client: the election key and a slash."""
    return f"{election_key}/".encode()


def candidate_key(election_key: str, lease_id: int) -> bytes:
    """Return the candidate key for a lease, as in etcd's Go client: the prefix and the id in hex, without padding."""
    return election_prefix(election_key) + f"{lease_id:x}".encode()


def prefix_end(prefix: bytes) -> bytes:
    """Return the first key after all keys with this prefix. Ours ends in a slash, so its last byte can be incremented."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


class Rank(Enum):
    """The rank of a candidate, which decides what it waits for."""

    LEADER = 0
    NEXT_IN_LINE = 1
    """Only the leader is in front."""
    WAITING = 2
    """At least two candidates are in front."""


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """Our position in the queue.

    Attributes:
        revision: The revision of the linearizable read or Txn that showed the queue. Events do not raise it. Two watches
            may deliver their events in any order, and a later event of one must not hide an earlier event of the other.
        position: The number of candidates in front of us. It is exact if it is 0 or 1; otherwise it is the last count.
        predecessor: The key directly in front of our key; None for the leader.
        stale: True if a new read is needed. Events may have been missed, or a predecessor that was waiting has left.
        lost: True if our key was deleted, overwritten or detached from our lease.
        blocker: The nearest known key in front of our key that has no lease. It stays in the queue until a client deletes it.
        asked_to_resign: True if our key was put without a change. This is an operator's step-down request.
        own_mod_revision: The last known mod_revision of our key, from a read or an event. A read may show a step-down request that
            no watch has delivered. An event or a read with a lower mod_revision is out of date.
        requests: The number of step-down requests received: the PUTs on our key by other clients.
        shows_new_value: True if etcd has applied the Txn that puts our new value.
    """

    revision: int
    position: int
    predecessor: bytes | None
    stale: bool = False
    lost: bool = False
    blocker: bytes | None = None
    asked_to_resign: bool = False
    own_mod_revision: int = field(default=0, compare=False)
    requests: int = field(default=0, compare=False)
    shows_new_value: bool = field(default=False, compare=False)

    @property
    def rank(self) -> Rank:
        """Our rank, which decides what to watch."""
        return Rank(min(self.position, 2))

    @property
    def watched(self) -> Sequence[bytes]:
        """The keys in front of our key whose deletion matters to us: the predecessor and the blocker."""
        return tuple(dict.fromkeys(key for key in (self.predecessor, self.blocker) if key is not None))

    def ranges_to_watch(
        self, own_key: bytes, prefix: tuple[bytes, bytes], *, prefix_is_watched: bool
    ) -> Sequence[tuple[bytes, bytes]]:
        """Return the ranges to watch at our rank, each as its first key and its end. A single key has an empty end.

        - Third or later: our key and the predecessor, so that one deletion wakes one candidate only. If a key in front of
          us has no lease, that key as well.
        - Next in line: the prefix. Its events show the deletion that elects us in order with a deletion of our key.
        - Leader: the prefix if that watch is open already, otherwise our key, which is enough.
        """
        if self.rank is Rank.WAITING:
            return ((own_key, b""), *((key, b"") for key in self.watched))
        if self.rank is Rank.LEADER and not prefix_is_watched:
            return ((own_key, b""),)
        return (prefix,)

    def apply(self, own: LeasedKey, events: Sequence[WatchEvent]) -> QueuePosition:
        """Return the position after these events, which must be whole revisions.

        Events up to the revision of the read change nothing. A lagging member may deliver them late.
        """
        position = self
        for event in events:
            kv = event.kv
            if kv.mod_revision <= self.revision:
                continue
            if kv.key == own.key:
                if kv.mod_revision <= position.own_mod_revision:
                    continue
                if event.type != "put" or not own.matches(kv):
                    return replace(position, lost=True)
                position = position.on_own_key(own, kv)
            elif event.type == "delete" and kv.key == position.predecessor:
                if position.rank is Rank.NEXT_IN_LINE:
                    position = replace(position, position=0, predecessor=None, blocker=None)
                else:
                    position = replace(position, stale=True)
            elif kv.key in position.watched:
                position = position.ahead_changed(kv, deleted=event.type == "delete")
        return position

    def leader_puts(self, events: Sequence[WatchEvent]) -> Sequence[KeyValue]:
        """Return the PUTs on the leader's key among these events, such as those of its advertised value."""
        if self.rank is not Rank.NEXT_IN_LINE:
            return ()
        puts = (event.kv for event in events if event.type == "put" and event.kv.key == self.predecessor)
        return [kv for kv in puts if kv.mod_revision > self.revision]

    def ahead_changed(self, kv: KeyValue, *, deleted: bool) -> QueuePosition:
        """Return the position after a watched key in front of our key was put, or was deleted without a change of our rank."""
        if not deleted and kv.lease == 0:
            return replace(self, blocker=kv.key)
        # Another key without a lease may be behind the one that no longer blocks us.
        return (
            self
            if kv.key != self.blocker
            else replace(self, blocker=None, stale=self.stale or self.rank is Rank.WAITING)
        )

    def on_own_key(self, own: LeasedKey, kv: KeyValue) -> QueuePosition:
        """Return the position after a read or an event has shown our key, still valid, at a later mod_revision."""
        requests = own.puts_by_others(kv)
        return replace(
            self,
            asked_to_resign=self.asked_to_resign or requests > self.requests,
            requests=requests,
            own_mod_revision=kv.mod_revision,
            shows_new_value=self.shows_new_value or kv.value == own.new_value,
        )

    def on_own_key_updated(self, mod_revision: int) -> QueuePosition:
        """Return the position after our new value was put."""
        return replace(self, own_mod_revision=max(self.own_mod_revision, mod_revision))

    def on_own_key_moved(self, mod_revision: int, *, first: bool) -> QueuePosition:
        """Return the position after our key has moved to another lease.

        ``first`` means that the move's Txn read no older key. No older key can be created later.
        """
        position = self.on_own_key_updated(mod_revision)
        return replace(position, position=0, predecessor=None, blocker=None) if first else position

    def on_watch_created(self, revision: int, *, resumed: bool) -> QueuePosition:
        """Return the position after a watch without a start revision was created at ``revision``.

        If that revision is later than our read, events between the two may be missing, so a new read is needed. The same
        is true if the watch was resumed after its stream broke.
        """
        return replace(self, stale=True) if resumed or revision > self.revision else self

    @classmethod
    def joined(cls, revision: int, newest: Sequence[KeyValue], count: int) -> QueuePosition:
        """Return the position shown by the Txn that put our key.

        Args:
            revision: The revision of the Txn.
            newest: The newest keys of the queue, beginning with our own: at least two if the queue has two.
            count: The length of the queue.
        """
        position = cls(revision, count - 1, None, own_mod_revision=revision)
        return (
            position if len(newest) < 2 else replace(position, predecessor=newest[1].key, blocker=_blocker(newest[1:]))
        )

    def on_read(self, own: LeasedKey, revision: int, newest: Sequence[KeyValue]) -> QueuePosition:
        """Return the position that a linearizable read after this position shows."""
        return QueuePosition.read(own, revision, newest, self.position, self.own_mod_revision, self.requests)

    @classmethod
    def read(
        cls,
        own: LeasedKey,
        revision: int,
        newest: Sequence[KeyValue],
        counted: int,
        own_mod_revision: int = 0,
        requests: int = 0,
    ) -> QueuePosition:
        """Return the position that one linearizable read shows.

        Args:
            own: Our key.
            revision: The revision of the response.
            newest: The newest keys of the queue up to ours, newest first: at least three if there are three.
            counted: The number of candidates in front of us before the read. It is used if there are at least two, because
                etcd does not count the keys up to a create_revision.
            own_mod_revision: The mod_revision of our key that was known before the read; 0 if there was none.
            requests: The number of step-down requests received before the read.
        """
        if revision < own_mod_revision:
            # The read is older than the last known PUT on our key.
            return cls(revision, counted, None, stale=True, own_mod_revision=own_mod_revision, requests=requests)
        if not newest or newest[0].key != own.key or not own.matches(newest[0]):
            return cls(revision, counted, None, lost=True)
        position = cls(revision, 0, None, requests=requests).on_own_key(own, newest[0])
        if len(newest) == 1:
            return position
        ahead = 1 if len(newest) == 2 else max(2, counted - 1)
        return replace(position, position=ahead, predecessor=newest[1].key, blocker=_blocker(newest[1:]))


def _blocker(ahead: Sequence[KeyValue]) -> bytes | None:
    return next((kv.key for kv in ahead if kv.lease == 0), None)
