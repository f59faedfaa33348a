"""The environment of a contract test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from etcdleader._etcd.api import EtcdApi

Etcd = Literal["fake", "server", "client"]
"""The last one is a server, too, reached by the user's client: its streams are grpcio's."""
Loop = Literal["asyncio", "trio"]
ETCDS: tuple[Etcd, ...] = ("fake", "server", "client")
LOOPS: tuple[Loop, ...] = ("asyncio", "trio")


@dataclass(frozen=True)
class Subject:
    """An etcd and an event loop."""

    etcd: Etcd
    loop: Loop


@dataclass
class World:
    """One etcd and two connections to it.

    Attributes:
        api: The port.
        other: Another connection to the same etcd, for the actions of other clients.
        compact: Compacts the history before a revision.
    """

    api: EtcdApi
    other: EtcdApi
    compact: Callable[[int], None]
