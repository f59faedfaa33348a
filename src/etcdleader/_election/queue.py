"""Where a candidate stands in the queue of an election, and what events do to that. Pure.

The queue is every key under the prefix, in order of create_revision, whoever wrote it and whatever it is called. What
is known of it is what one linearizable read, or our own transaction, showed at a revision, plus the events after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from .._lease.leased_key import LeasedKey

if TYPE_CHECKING:
    from .._etcd.api import Event, KeyValue

__all__ = ("Place", "Rank", "candidate_key", "election_prefix", "prefix_end")


def election_prefix(election_key: str) -> bytes:
    """The prefix of all candidate keys, as etcd's Go client makes it: the name and a slash, literally."""
    return f"{election_key}/".encode()


def candidate_key(election_key: str, lease_id: int) -> bytes:
    """The candidate key of a lease: lower-case hex without padding, as etcd's Go client writes it."""
    return election_prefix(election_key) + f"{lease_id:x}".encode()


def prefix_end(prefix: bytes) -> bytes:
    """The first key after all keys with this prefix. Ours end in a slash, so the last byte can always be raised."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


class Rank(Enum):
    """What a candidate waits for."""

    LEADER = 0
    NEXT = 1
    """Only the leader is ahead."""
    LATER = 2
    """At least two are ahead."""


@dataclass(frozen=True, slots=True)
class Place:
    """Our place in the queue.

    Attributes:
        revision: Of the linearizable read that showed it. Events do not raise it: two watches may bring theirs in
            any order, and a later one of the one must not hide an earlier one of the other.
        ahead: How many stand before us; exact when 0 or 1, else as last counted.
        predecessor: The key just before ours; None for the leader.
        stale: Something happened that only a new read can tell: events may have been missed, or a predecessor that
            was waiting itself went away.
        lost: Our own key was deleted, overwritten or taken off our lease.
        blocker: A key ahead of ours that has no lease, the nearest one. It leaves the queue only if an operator deletes it.
        asked_to_resign: Our key was put without changing anything: an operator's request to step down.
        touched: The mod_revision of the own key, as last read or received. A read may show a step-down request that no
            watch has delivered. An event or a read with a lower mod_revision is out of date.
        requests: The step-down requests seen so far: the PUTs on the own key that were not ours.
    """

    revision: int
    ahead: int
    predecessor: bytes | None
    stale: bool = False
    lost: bool = False
    blocker: bytes | None = None
    asked_to_resign: bool = False
    touched: int = field(default=0, compare=False)
    requests: int = field(default=0, compare=False)

    @property
    def rank(self) -> Rank:
        """What we are, and so what must be watched."""
        return Rank(min(self.ahead, 2))

    @property
    def watched(self) -> Sequence[bytes]:
        """The keys ahead of ours whose deletion matters to us."""
        return tuple(dict.fromkeys(key for key in (self.predecessor, self.blocker) if key is not None))

    def after(self, own: LeasedKey, events: Sequence[Event]) -> Place:
        """The place after whole revisions of events. Those that the read has shown already change nothing: a lagging
        member sends them late."""
        place = self
        for event in events:
            kv = event.kv
            if kv.mod_revision <= self.revision:
                continue
            if kv.key == own.key:
                if kv.mod_revision <= place.touched:
                    continue
                if event.type != "put" or not own.is_ours(kv):
                    return replace(place, lost=True)
                place = place.own_key_seen(own, kv)
            elif event.type == "delete" and kv.key == place.predecessor:
                if place.rank is Rank.NEXT:
                    place = replace(place, ahead=0, predecessor=None, blocker=None)
                else:
                    place = replace(place, stale=True)
            elif kv.key in place.watched:
                place = place.ahead_changed(kv, deleted=event.type == "delete")
        return place

    def ahead_changed(self, kv: KeyValue, *, deleted: bool) -> Place:
        """Return the place after a watched key ahead of ours was put, or deleted without a change of our rank."""
        if not deleted and kv.lease == 0:
            return replace(self, blocker=kv.key)
        # There may be another one behind the key that blocks no more.
        return (
            self if kv.key != self.blocker else replace(self, blocker=None, stale=self.stale or self.rank is Rank.LATER)
        )

    def own_key_seen(self, own: LeasedKey, kv: KeyValue) -> Place:
        """Return the place after a read or an event has shown the own key, still valid, at a later mod_revision."""
        requests = own.puts_by_others(kv)
        return replace(
            self,
            asked_to_resign=self.asked_to_resign or requests > self.requests,
            requests=requests,
            touched=kv.mod_revision,
        )

    def own_key_moved(self, mod_revision: int, *, first: bool) -> Place:
        """Return the place after the own key has moved to another lease. ``first``: the move's Txn read no older key, and no
        older key can be created later."""
        place = replace(self, touched=max(self.touched, mod_revision))
        return replace(place, ahead=0, predecessor=None, blocker=None) if first else place

    def after_creation(self, revision: int, *, resumed: bool) -> Place:
        """The place when a watch from "now" was created at ``revision``: what happened between our read and that
        revision may be missing, so a larger one needs a read; so does a stream that broke in between."""
        return replace(self, stale=True) if resumed or revision > self.revision else self

    @classmethod
    def joined(cls, revision: int, newest: Sequence[KeyValue], count: int) -> Place:
        """The place that the Txn shows which has put our own key.

        Args:
            revision: Of the Txn.
            newest: The newest keys of the queue, at least two of them if there are two, our own first.
            count: The length of the queue.
        """
        place = cls(revision, count - 1, None, touched=revision)
        return place if len(newest) < 2 else replace(place, predecessor=newest[1].key, blocker=_blocker(newest[1:]))

    def after_read(self, own: LeasedKey, revision: int, newest: Sequence[KeyValue]) -> Place:
        """The place that one linearizable read shows, after this one."""
        return Place.read(own, revision, newest, self.ahead, self.touched, self.requests)

    @classmethod
    def read(
        cls,
        own: LeasedKey,
        revision: int,
        newest: Sequence[KeyValue],
        counted: int,
        touched: int = 0,
        requests: int = 0,
    ) -> Place:
        """The place that one linearizable read shows.

        Args:
            own: Our own key.
            revision: Of the answer.
            newest: The newest keys of the queue that are not newer than ours, newest first: at least three of them if there are
                three.
            counted: How many were ahead before: what is said when there are at least two, since etcd does not count
                up to a create_revision.
            touched: The mod_revision of our own key as it was known before; 0 when it was not.
            requests: The step-down requests seen before.
        """
        if revision < touched:
            # The read is older than the last known PUT on the own key.
            return cls(revision, counted, None, stale=True, touched=touched, requests=requests)
        if not newest or newest[0].key != own.key or not own.is_ours(newest[0]):
            return cls(revision, counted, None, lost=True)
        place = cls(revision, 0, None, requests=requests).own_key_seen(own, newest[0])
        if len(newest) == 1:
            return place
        ahead = 1 if len(newest) == 2 else max(2, counted - 1)
        return replace(place, ahead=ahead, predecessor=newest[1].key, blocker=_blocker(newest[1:]))


def _blocker(ahead: Sequence[KeyValue]) -> bytes | None:
    return next((kv.key for kv in ahead if kv.lease == 0), None)
