"""The network of a campaign's processes: separate network namespaces on one bridge, or loopback for all.

The machine's own network is not touched. Bridge, links and addresses exist only inside the namespaces, and are removed
with them.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

__all__ = ("LoopbackNetwork", "Network", "why_no_namespaces")

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000
_RANGE = "10.213.0."
"""A private range, used inside the namespaces only."""


def why_no_namespaces() -> str | None:
    """Return why this process cannot have network namespaces, or None if it can."""
    if os.geteuid() != 0:
        return "not root"
    if shutil.which("ip") is None:
        return "there is no `ip` (Debian's iproute2)"
    name = f"ef-{secrets.token_hex(3)}-try"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"`ip netns add` fails: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=False)
    return None


class Network:
    """A bridge in a separate namespace, and nodes around it. Leaving the block removes everything.

    End the processes first: a namespace exists until its last process ends.
    """

    isolates = True

    def __init__(self) -> None:
        self._ip = shutil.which("ip") or "ip"
        self._mark = f"ef-{secrets.token_hex(3)}"
        self._nodes: dict[str, str] = {}
        self._made: list[str] = []
        self._inside: dict[str, ThreadPoolExecutor] = {}
        self._holes: set[tuple[str, str]] = set()

    def __enter__(self) -> Self:
        try:
            self._add_namespace("hub")
            self._run("-n", self._name("hub"), "link", "add", "br0", "type", "bridge")
            self._run("-n", self._name("hub"), "link", "set", "br0", "up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the namespaces, and with them links and addresses."""
        for executor in self._inside.values():
            executor.shutdown(cancel_futures=True)
        while self._made:
            subprocess.run([self._ip, "netns", "del", self._made.pop()], capture_output=True, check=False)

    def add(self, node: str) -> str:
        """Make a node and return its address."""
        address = f"{_RANGE}{10 + len(self._nodes)}"
        self._nodes[node] = address
        self._add_namespace(node)
        name, hub = self._name(node), self._name("hub")
        self._run("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", f"v-{node}", "netns", hub)
        self._run("-n", hub, "link", "set", f"v-{node}", "master", "br0", "up")
        self._run("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        self._run("-n", name, "link", "set", "lo", "up")
        self._run("-n", name, "link", "set", "eth0", "up")
        return address

    def port(self, wanted: int) -> int:
        """Return a port to listen on. In a separate namespace every port is free."""
        return wanted

    def command(self, node: str, argv: Sequence[str]) -> list[str]:
        """Return the command that starts ``argv`` in the node."""
        return [self._ip, "netns", "exec", self._name(node), *argv]

    def inside(self, node: str, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function whose sockets belong to the node."""
        executor = self._inside.get(node)
        if executor is None:
            path = f"/run/netns/{self._name(node)}"
            executor = self._inside[node] = ThreadPoolExecutor(6, initializer=_enter, initargs=(path,))
        return executor.submit(function, *arguments).result()

    def set_link(self, node: str, *, up: bool) -> None:
        """Pull the node's cable at the bridge, or plug it in."""
        self._run("-n", self._name("hub"), "link", "set", f"v-{node}", "up" if up else "down")

    def set_blackhole(self, node: str, to: str, *, on: bool) -> None:
        """Drop silently what ``node`` sends to the node ``to``, in this direction only."""
        if ((node, to) in self._holes) is on:
            return
        self._run("-n", self._name(node), "route", "add" if on else "del", "blackhole", f"{self._nodes[to]}/32")
        (self._holes.add if on else self._holes.discard)((node, to))

    def heal(self) -> None:
        """Remove every blackhole."""
        for node, to in list(self._holes):
            self.set_blackhole(node, to, on=False)

    def _name(self, node: str) -> str:
        return f"{self._mark}-{node}"

    def _add_namespace(self, node: str) -> None:
        self._made.append(self._name(node))
        self._run("netns", "add", self._name(node))

    def _run(self, *arguments: str) -> None:
        done = subprocess.run([self._ip, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


class LoopbackNetwork(Network):
    """Everything on 127.0.0.1. Only the proxies can cut a connection."""

    isolates = False

    def __enter__(self) -> Self:
        return self

    def add(self, node: str) -> str:
        self._nodes[node] = "127.0.0.1"
        return "127.0.0.1"

    def port(self, wanted: int) -> int:
        import socket

        del wanted
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        return port

    def command(self, node: str, argv: Sequence[str]) -> list[str]:
        del node
        return list(argv)

    def inside(self, node: str, function: Callable[..., T], *arguments: Any) -> T:
        del node
        return function(*arguments)

    def set_link(self, node: str, *, up: bool) -> None:
        raise NotImplementedError("no cable to pull on loopback")

    def set_blackhole(self, node: str, to: str, *, on: bool) -> None:
        raise NotImplementedError("no routes on loopback")


def _enter(path: str) -> None:
    """Put this thread into a namespace: the sockets that it makes from now on are there."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(descriptor, _CLONE_NEWNET):
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), path)
    finally:
        os.close(descriptor)
