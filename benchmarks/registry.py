"""Who is measured, what each can do, and what is missing for those who are not."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.workers import ROOT, python_peer
from benchmarks.zookeeper import ZOOKEEPER
from etcdleader.testing._etcd_binary import find_etcd, find_etcdctl

GO_PATH = Path("/usr/share/gocode")
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
    """One that is measured.

    Attributes:
        slug: Its name on the command line.
        title: Its name in the tables.
        command: How its worker is started.
        does: The rows that it takes part in.
        missing: Says what is missing on this machine; empty when nothing is.
        options: What its worker is told beside the rest.
        on_etcd: Whether it is etcd that it talks to.
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
    if shutil.which("go") is None:
        return "Go is not installed (Debian: golang-go)"
    if not (GO_PATH / "src/go.etcd.io/etcd/clientv3").is_dir():
        return "the source of etcd's Go client is not installed (Debian: golang-etcd-server-dev)"
    BUILD.mkdir(parents=True, exist_ok=True)
    built = subprocess.run(
        ["go", "build", "-o", str(GO_PEER), str(ROOT / "benchmarks/go/main.go")],
        env={
            **os.environ,
            "GO111MODULE": "off",
            "GOPATH": str(GO_PATH),
            "GOFLAGS": "",
            "GOCACHE": str(ROOT / "build" / "go-cache"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return f"its worker does not build: {built.stderr.strip()[-300:]}" if built.returncode else ""


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
    """Return a gRPC client. If it has a codec of its own, the codec is measured alone, too."""
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
