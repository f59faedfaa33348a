"""Check fencing tokens where writes arrive, and refuse the writes of former leaders.

The target of a write applies one rule. A token lower than the highest known token is refused. An equal token passes: the same
leader writes again. A higher token passes and is recorded. :class:`Gate` applies the rule inside a process. The functions
apply it inside an etcd transaction. ``docs/fencing.md`` has it in SQL. For keys in the election's own cluster prefer
``term.guard()``, which refuses from the moment when leadership is lost.

A *fence* belongs to one election. Tokens of two elections, or of two clusters, are not comparable.

**Epochs.** Tokens are etcd revisions. If the cluster is wiped or restored from a backup, they start again from a lower number.
If the election moves to another cluster, they start from any number. An operator raises the epoch at each such event. Pairs of
(epoch, token) are compared, the epoch first.

**Token 0** is the token of a program whose election is switched off. It protects nothing: it passes only while no other token
is known, in any epoch, and is not recorded.
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
"""The highest revision of etcd. A number above it is the sender's mistake, and would lock out all others for good."""

_WIDTH = len(str(_HIGHEST))
"""The fixed width of the numbers in names, with leading zeros: names then sort like their numbers."""


class FencedError(EtcdLeaderError):
    """A write was refused: a leader with a higher token has written since. Its sender must stop, and not retry.

    Raise it in your code where a database compares the tokens: ``FencedError(token, highest)``. Work or a callback that raises
    it after the end of its term does not end the campaign.

    Attributes:
        token: The token that was refused.
        highest: The highest known token.
        epoch: The epoch of ``token``; 0 without epochs.
        highest_epoch: The epoch of ``highest``.
        resource: The target of the write, if known.
    """

    caused_by_loss = True

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
    """Admits writers whose token is at least the highest known token. For one resource, inside one process, thread-safe.

    It records tokens in memory only. After a restart, create it with the token that is stored beside the data. Otherwise it
    admits any token until the first write.
    """

    def __init__(self, resource: str = "", *, token: int = 0, epoch: int = 0) -> None:
        """Create a gate.

        Args:
            resource: The name of the protected resource, for the error's text.
            token: The highest known token, such as the one stored beside the data. 0: none.
            epoch: The epoch of that token, or with token 0 the lowest epoch that may write. 0 without epochs.

        Raises:
            ValueError: A number is negative, or above etcd's highest revision.
            TypeError: An argument is not an int.
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
        """The highest known token; 0 before the first."""
        return self._highest[1]

    @property
    def epoch(self) -> int:
        """The epoch in force: the highest known epoch, or the initial one; 0 without epochs."""
        return self._highest[0]

    def check(self, token: int, *, epoch: int = 0) -> None:
        """Record the token, or refuse it if a higher one is known.

        A thread can be stopped between this check and its write, while a higher token passes and writes. Do both under one
        lock: ``passing()``, or in async code your own ``anyio.Lock`` around the two.

        Args:
            token: The writer's ``term.token``. Token 0, of an election that is switched off, passes only while no other
                token is known, and is not recorded.
            epoch: The writer's epoch, which is compared before the token. 0 without epochs.

        Raises:
            FencedError: A higher token is known. Nothing is recorded.
            ValueError: A number is negative, or above etcd's highest revision.
            TypeError: An argument is not an int.
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
        """Check the token, then admit no other writer until the block, which writes, is left.

        It holds a thread lock: do not ``await`` inside. The token stays recorded even if the write fails.

        Args:
            token: As for ``check()``.
            epoch: As for ``check()``.

        Raises:
            FencedError: A higher token is known, and the block is not entered.
            ValueError: A number is negative, or above etcd's highest revision.
            TypeError: An argument is not an int.
        """
        with self._lock:
            self.check(token, epoch=epoch)
            yield


def fence_compares(key: str, token: int, *, epoch: int = 0) -> list[Any]:
    """Return etcd3 compares that hold if this fence has recorded no higher token.

    Use them together with :func:`fence_operations`, and with your own compares, if any::

        client.transaction(
            compare=[*fence_compares("report", token)],
            success=[client.transactions.put("report", "done"), *fence_operations("report", token)],
            failure=[],
        )

    They also hold if the fence does not exist yet, so the first write is like all others.

    Args:
        key: The name of the fence. It owns the range from ``key + "#"`` to ``key + "$"``, which the client must be allowed to
            read and write.
        token: The writer's ``term.token``. Token 0, of an election that is switched off, passes only while no other token is
            known.
        epoch: The writer's epoch, which is compared before the token. 0 without epochs.

    Raises:
        ValueError: A number is negative or above etcd's highest revision, or the key is empty or has a ``#``.
        TypeError: A number is not an int.
    """
    from .etcd3 import etcd3

    # "No key in the range above ours": a missing key has version 0. A single key with the token as its value would not do,
    # because every comparison of values fails for a missing key.
    above = f"{_name(key, token, epoch)}\0"
    return [etcd3.transactions.Version(above, _range_end(key)) == 0]


def fence_operations(key: str, token: int, *, epoch: int = 0) -> list[Any]:
    """Return the etcd3 operations that raise the fence to this token, for the ``success`` of a transaction.

    Each key of a fence is named after a token, in fixed width. The operations put one key and delete the keys of lower
    tokens, so they never lower a fence. There are none for token 0. Use them under :func:`fence_compares` or in
    ``term.transaction()``, which has its own guard. In the second case the fence also refuses writers that have only a token.

    Args:
        key: The name of the fence, as for :func:`fence_compares`.
        token: The writer's ``term.token``.
        epoch: The writer's epoch. 0 without epochs.

    Raises:
        ValueError: A number is negative or above etcd's highest revision, or the key is empty or has a ``#``.
        TypeError: A number is not an int.
    """
    from .etcd3 import etcd3

    name = _name(key, token, epoch)
    if token == 0:
        return []
    return [etcd3.transactions.Delete(_range_begin(key), name), etcd3.transactions.Put(name, str(token))]


def fenced_transaction(client: Any, key: str, token: int, success: Sequence[Any], *, epoch: int = 0) -> list[Any]:
    """Apply etcd3 operations and raise the fence in one transaction, unless the fence has recorded a higher token.

    Without operations it only raises the fence. A new leader does that before it reads the data that it builds on. The call
    blocks, as ``client`` does; in async code call it in a thread.

    Args:
        client: An ``etcd3.Etcd3Client`` of any cluster, including one without the election.
        key: The name of the fence, as for :func:`fence_compares`.
        token: The writer's ``term.token``.
        success: The operations: etcd3's ``Put``, ``Get``, ``Delete``, ``Txn``. The transaction has two more.
        epoch: The writer's epoch. 0 without epochs.

    Returns:
        The responses to ``success``, as etcd3 returns them.

    Raises:
        FencedError: A higher token is known, and nothing was applied.
        ValueError: A number is negative or above etcd's highest revision. The key is empty or has a ``#``. Or the fence's
            range has a key that no fence wrote.
        TypeError: A number is not an int.
        Exception: ``client`` raised it because etcd did not answer or refused. Without an answer the transaction may have
            been applied. Repeating it with the same token is safe for the fence.
    """
    from .etcd3 import etcd3

    passed, responses = client.transaction(
        compare=fence_compares(key, token, epoch=epoch),
        success=[*success, *fence_operations(key, token, epoch=epoch)],
        failure=[etcd3.transactions.Get(_range_begin(key), _range_end(key))],
    )
    if passed:
        return list(responses[: len(success)])
    # etcd sorts by key, so the last one is the highest.
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
    """Return the key of a token. Token 0 has no epoch, so its key sorts before all others."""
    if not key or "#" in key:
        raise ValueError(f"a fence needs a key without '#', not {key!r}")
    _check(token, epoch)
    return f"{_range_begin(key)}{epoch if token else 0:0{_WIDTH}}.{token:0{_WIDTH}}"


def _range_begin(key: str) -> str:
    return key + "#"


def _range_end(key: str) -> str:
    """Return the first key after all keys that begin with ``key + "#"``."""
    return key + "$"
