"""The other side of a fencing token: the thing that is written to, refusing leaders that have been succeeded.

One rule, for each place that writes end up in: a token lower than the highest seen is refused, an equal one passes
(the same leader writes again), a higher one is remembered. :class:`Gate` does it inside a process; the functions do
it inside an etcd transaction; ``docs/fencing.md`` has it in SQL. Keys in the cluster of the election itself are better
off with ``term.guard()``, which refuses from the moment the seat is lost.

A *fence* stands for one election. Tokens of two elections, or of two clusters, say nothing about each other.

**Epochs.** Tokens are revisions of etcd. When the cluster is wiped or restored from a backup they start again from
below, and when the election moves to another cluster they start anywhere. A number that a person raises at each such
event puts the later tokens above the earlier ones: (epoch, token) pairs are compared, the epoch first.

**Token 0** is what a program has whose election is switched off. It fences nothing: it passes only while no other
was seen, in any epoch, and is not remembered.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .errors import EtcdLeaderError

__all__ = ("FencedError", "Gate", "fence_compares", "fence_operations", "fenced_transaction")

_HIGHEST = 2**63 - 1
"""Of a revision in etcd. A number above it is a fault of its sender, and would shut all others out for good."""

_WIDTH = len(str(_HIGHEST))
"""With leading zeros to a fixed width, the order of the names is the order of the numbers."""


class FencedError(EtcdLeaderError):
    """A write was refused: a leader with a higher token has been here since. Its sender must stop, not try again.

    Raise it yourself where a database does the comparing: ``FencedError(token, highest)``. Work or a callback that raises it
    after the end of its term does not end the campaign.

    Attributes:
        token: The token that was refused.
        highest: The highest one seen there.
        epoch: The epoch of ``token``; 0 where none are used.
        highest_epoch: The epoch of ``highest``.
        resource: What was to be written to, as far as known.
    """

    _follows_loss = True

    def __init__(self, token: int, highest: int, epoch: int = 0, highest_epoch: int = 0, resource: str = "") -> None:
        self.token = token
        self.highest = highest
        self.epoch = epoch
        self.highest_epoch = highest_epoch
        self.resource = resource
        super().__init__(token, highest, epoch, highest_epoch, resource)

    def __str__(self) -> str:
        where = f"{self.resource}: " if self.resource else ""
        if self.token == 0:
            seen = _called(self.highest, self.highest_epoch)
            return f"{where}token 0 (election is off) is refused, since {seen} was seen"
        epochs = bool(self.epoch or self.highest_epoch)
        refused = _called(self.token, self.epoch, epochs=epochs)
        return f"{where}{refused} is refused, since {_called(self.highest, self.highest_epoch, epochs=epochs)} was seen"


def _called(token: int, epoch: int, *, epochs: bool = False) -> str:
    return f"token {token} of epoch {epoch}" if epochs or epoch else f"token {token}"


class Gate:
    """Lets writers pass whose token is at least the highest seen; for one resource, inside one process, thread-safe.

    It remembers in memory only. A process that starts again should make it with the token it stored beside its data;
    until the first write it lets everybody pass otherwise.
    """

    def __init__(self, resource: str = "", *, token: int = 0, epoch: int = 0) -> None:
        """Make one.

        Args:
            resource: What it guards, for the error's text.
            token: The highest token known so far, such as the one stored beside the data. 0: none.
            epoch: The epoch of that token, or with token 0 the lowest that may write. 0 where none are used.

        Raises:
            ValueError: A negative number, or one that no token of etcd can be.
            TypeError: Not an int.
        """
        self._resource = resource
        _check(token, epoch)
        self._highest = (epoch, token)
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        epoch, token = self._highest
        return f"<Gate {self._resource!r}: token {token}, epoch {epoch}>"

    @property
    def token(self) -> int:
        """The highest token seen; 0 before the first."""
        return self._highest[1]

    @property
    def epoch(self) -> int:
        """The epoch that counts here: the highest seen, or the one it was made with; 0 where none are used."""
        return self._highest[0]

    def check(self, token: int, *, epoch: int = 0) -> None:
        """Refuse a token below the highest seen, else remember it.

        Between this and a write that follows it, a thread can be stopped while a higher token passes and writes. Do
        both under one lock: ``passing()``, or in async code an ``anyio.Lock`` of yours around the two.

        Args:
            token: The writer's ``term.token``. 0, of an election that is switched off, passes only while no other
                was seen, and is not remembered.
            epoch: The writer's epoch, which counts before the token. 0 where none are used.

        Raises:
            FencedError: A higher one was seen. Nothing is remembered.
            ValueError: A negative number, or one that no token of etcd can be.
            TypeError: Not an int.
        """
        _check(token, epoch)
        with self._lock:
            if token == 0 and self.token == 0:
                return
            if token == 0 or (epoch, token) < self._highest:
                raise FencedError(token, self.token, epoch, self.epoch, self._resource)
            self._highest = (epoch, token)

    @contextmanager
    def passing(self, token: int, *, epoch: int = 0) -> Iterator[None]:
        """``check()``, then keep all others out until the block, which writes, is left.

        It holds a thread's lock: do not ``await`` inside. A token stays remembered though its write fails.

        Args:
            token: As for ``check()``.
            epoch: As for ``check()``.

        Raises:
            FencedError: A higher one was seen, and the block is not entered.
            ValueError: A negative number, or one that no token of etcd can be.
            TypeError: Not an int.
        """
        with self._lock:
            self.check(token, epoch=epoch)
            yield


def fence_compares(key: str, token: int, *, epoch: int = 0) -> list[Any]:
    """The condition that no higher token has been at this fence, as etcd3 compares.

    It goes together with :func:`fence_operations`, and with compares of your own, if any::

        client.transaction(
            compare=[*fence_compares("report", token)],
            success=[client.transactions.put("report", "done"), *fence_operations("report", token)],
            failure=[],
        )

    It holds where no fence stands yet, so the first write is like all others.

    Args:
        key: The name of the fence. The range from ``key + "#"`` to ``key + "$"`` is its own; the client needs to read
            and write that.
        token: The writer's ``term.token``. 0, of an election that is switched off, passes only while no other was
            seen.
        epoch: The writer's epoch, which counts before the token. 0 where none are used.

    Raises:
        ValueError: A negative number, or one that no token of etcd can be; or a key that is empty or has a ``#``.
        TypeError: Not an int.
    """
    from .etcd3 import etcd3

    # "No key in the range above ours": a missing key has version 0. A single key that holds the token as its value
    # could not be asked for this, since a missing key fails every comparison of values.
    above = f"{_name(key, token, epoch)}\0"
    return [etcd3.transactions.Version(above, _range_end(key)) == 0]


def fence_operations(key: str, token: int, *, epoch: int = 0) -> list[Any]:
    """The etcd3 operations that raise the fence to this token, for the success of a transaction.

    The name of a key is the token, in fixed width; this writes one and deletes those of lower tokens, so it never
    lowers a fence. Empty for token 0. They go under :func:`fence_compares`, or into ``term.transaction()``, which has
    a condition of its own: then those who know no more than a token are held against it, too.

    Args:
        key: The name of the fence, as for :func:`fence_compares`.
        token: The writer's ``term.token``.
        epoch: The writer's epoch. 0 where none are used.

    Raises:
        ValueError: A negative number, or one that no token of etcd can be; or a key that is empty or has a ``#``.
        TypeError: Not an int.
    """
    from .etcd3 import etcd3

    name = _name(key, token, epoch)
    if token == 0:
        return []
    return [etcd3.transactions.Delete(_range_begin(key), name), etcd3.transactions.Put(name, str(token))]


def fenced_transaction(client: Any, key: str, token: int, success: Sequence[Any], *, epoch: int = 0) -> list[Any]:
    """Do some etcd3 operations in one transaction unless a higher token has been at this fence, and raise the fence.

    With no operations at all it raises the fence, which a new leader does before it reads what it will build on. It
    blocks, as ``client`` does; in async code call it in a thread.

    Args:
        client: An ``etcd3.Etcd3Client`` of any cluster, such as one where the election is not.
        key: The name of the fence, as for :func:`fence_compares`.
        token: The writer's ``term.token``.
        success: What to do: etcd3's ``Put``, ``Get``, ``Delete``, ``Txn``. There are two operations beside them.
        epoch: The writer's epoch. 0 where none are used.

    Returns:
        The responses to ``success``, as etcd3 gives them.

    Raises:
        FencedError: A higher token was seen, and nothing was done.
        ValueError: A negative number, or one that no token of etcd can be; a key that is empty or has a ``#``; or
            something in the fence's range that no fence wrote.
        TypeError: Not an int.
        Exception: What ``client`` raises when etcd does not answer or refuses. With no answer it may have been done;
            doing it again with the same token is safe for the fence.
    """
    from .etcd3 import etcd3

    passed, responses = client.transaction(
        compare=fence_compares(key, token, epoch=epoch),
        success=[*success, *fence_operations(key, token, epoch=epoch)],
        failure=[etcd3.transactions.Get(_range_begin(key), _range_end(key))],
    )
    if passed:
        return list(responses[: len(success)])
    # etcd's order is by key, so the last is the highest.
    found = responses[0][-1][1].key.decode(errors="replace")
    name = re.fullmatch(rf"(\d{{{_WIDTH}}})\.(\d{{{_WIDTH}}})", found.removeprefix(_range_begin(key)), re.ASCII)
    if name is None:
        raise ValueError(f"{found!r} lies where only the fence {key!r} may write")
    raise FencedError(token, int(name[2]), epoch, int(name[1]), key)


def _check(token: object, epoch: object) -> None:
    for what, number in (("token", token), ("epoch", epoch)):
        if not isinstance(number, int) or isinstance(number, bool):
            raise TypeError(f"{what} must be an int, not {type(number).__name__}")
        if not 0 <= number <= _HIGHEST:
            raise ValueError(f"{what} must be from 0 to {_HIGHEST}, not {number}")


def _name(key: str, token: int, epoch: int) -> str:
    """The key that stands for a token. Without an election there is no epoch either, so it comes before all others."""
    if not key or "#" in key:
        raise ValueError(f"a fence needs a key without '#', not {key!r}")
    _check(token, epoch)
    return f"{_range_begin(key)}{epoch if token else 0:0{_WIDTH}}.{token:0{_WIDTH}}"


def _range_begin(key: str) -> str:
    return key + "#"


def _range_end(key: str) -> str:
    """The first key after all that begin with ``key + "#"``."""
    return key + "$"
