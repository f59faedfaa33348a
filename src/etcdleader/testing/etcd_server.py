"""A real etcd for tests and demonstrations. Its members can be killed, frozen and restarted."""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shutil
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TypeAlias

import anyio
import anyio.from_thread
import anyio.to_thread

from .._runtime.fork import process_id
from ..config import EtcdConfig
from ._etcd_binary import find_etcd, find_etcdctl, find_etcdutl, supports, version_of
from ._etcd_builder import normal_version
from ._etcd_member import EtcdMember, EtcdServerError, PortTakenError

__all__ = ("EtcdMember", "EtcdServer", "EtcdServerError")

# Below the range from which Linux assigns ephemeral ports (32768 and up). So while a member is down, no process's
# outgoing connection can occupy its port.
_PORTS = range(15000, 32000)
_ATTEMPTS = 10
_Path: TypeAlias = str | os.PathLike[str]
_ABSTRACT = sys.platform == "linux"
"""True if a socket can have an abstract name, which is not in the file system and ends with its process."""


class EtcdServer:
    """A private etcd on free ports of 127.0.0.1. Its data are deleted when it stops, unless ``data_dir`` is given.

    ::

        with EtcdServer() as etcd:
            manager = EtcdLeaderManager(etcd.config, Config(enabled=True), "jobs")

    ``async with`` works the same on asyncio and trio, and does not block the loop. The processes end when the block is
    left and when the interpreter ends. On Linux they end even if this process is killed.

    It is fast because it does not sync its data to the disk. Do not store anything in it that must last.
    """

    def __init__(
        self,
        members: int = 1,
        *,
        binary: str | os.PathLike[str] | None = None,
        version: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        extra_args: Sequence[str] = (),
        cert: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        client_ca: str | os.PathLike[str] | None = None,
        start_timeout: float = 60.0,
    ) -> None:
        """Create a server that is not started yet.

        Args:
            members: The number of members of the cluster, one process each.
            binary: The etcd to run. By default the one of the extra ``etcdleader[embedded]``, else the one on the
                PATH. The environment variable ``ETCD_BINARY`` overrides this and ``version``.
            version: The version of etcd to run, such as ``3.7.3``, instead of ``binary``. Unless this machine has it, it
                is built from its Go modules, which takes about a minute. It is kept in the user's cache directory
                (``~/.cache/etcdleader/etcd``). The default is the version in ``$ETCD_TEST_VERSION``, if it is set.
            data_dir: The directory for data and logs, which is kept afterwards. By default a temporary directory,
                which is removed.
            extra_args: More options for every member, such as ``--auto-compaction-retention=1``.
            cert: The members' certificate, a PEM file. If it is given, they use TLS with clients. They read it at each
                handshake, so a replaced file takes effect at once.
            key: The certificate's private key.
            client_ca: Require client certificates of this authority.
            start_timeout: Seconds that a start, or a restart of a member, may take.
        """
        if members < 1:
            raise ValueError(f"members must be at least 1, not {members}")
        if (cert is None) is not (key is None) or (client_ca is not None and cert is None):
            raise ValueError("cert and key must be given together, and client_ca requires both")
        if binary is not None and version is not None:
            raise ValueError("binary and version must not be given together")
        self._size = members
        self._binary = binary
        self._wanted = None if version is None else normal_version(version)
        self._etcd: Path | None = None
        self._data_dir = None if data_dir is None else Path(data_dir).absolute()
        self._extra_args = tuple(extra_args)
        self._tls = _tls_options(cert, key, client_ca)
        self._start_timeout = start_timeout
        self._members: tuple[EtcdMember, ...] = ()
        self._folder: Path | None = None
        self._owner: tuple[int, int] | None = None
        self._reserved: list[int] = []
        self._version = ""

    def __repr__(self) -> str:
        return f"<EtcdServer {list(self._members)}>"

    @property
    def members(self) -> tuple[EtcdMember, ...]:
        """The members; empty before the start and after the stop."""
        return self._members

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The members' client addresses, as ``host:port``."""
        return tuple(member.endpoint for member in self._members)

    @property
    def config(self) -> EtcdConfig:
        """The value for a manager's ``client``.

        With TLS, create an ``EtcdConfig`` with the certificates' authority instead: the server does not have it.
        """
        return EtcdConfig(endpoints=self.endpoints)

    @property
    def version(self) -> str:
        """The version of the running etcd, such as ``3.5.1``; empty before the first start."""
        return self._version

    @property
    def etcdctl(self) -> Path:
        """The etcdctl that came with this etcd, or else another one on this machine.

        Raises:
            FileNotFoundError: There is no etcdctl.
        """
        return find_etcdctl(self._etcd or find_etcd(self._binary, self._wanted))

    @property
    def etcdutl(self) -> Path | None:
        """The etcdutl that came with this etcd; None before 3.5, which has none, or if it is not installed.

        From 3.6 on, etcdutl restores snapshots instead of etcdctl.
        """
        return find_etcdutl(self._etcd or find_etcd(self._binary, self._wanted))

    def start(self) -> None:
        """Start all members and block until each is healthy.

        Raises:
            FileNotFoundError: There is no etcd on this machine. The message explains how to install one.
            FileExistsError: ``data_dir`` is not empty.
            EtcdServerError: It did not start, and the message has the path of its logs. Or its version could not be
                built.
        """
        self._start(lambda: None)

    def stop(self) -> None:
        """Kill all members and remove the temporary folder. A no-op if it is not started, or in a forked child.

        If a member had already ended without ``kill()``, this method warns and keeps the logs. That end may explain a
        test's failure.
        """
        if self._owner != process_id():
            return
        fallen = [words for member in self._members if (words := member.last_words) is not None]
        for member in self._members:
            member.kill()
        if self._data_dir is None and self._folder is not None and self._folder.exists() and not fallen:
            shutil.rmtree(self._folder)
        self._members, self._folder, self._owner, self._etcd = (), None, None, None
        while self._reserved:
            os.close(self._reserved.pop())
        # The last step, so that an interrupted stop is repeated at the interpreter's end.
        atexit.unregister(self.stop)
        if fallen:
            warnings.warn("\n".join(fallen), RuntimeWarning, stacklevel=2)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await anyio.to_thread.run_sync(self._start, anyio.from_thread.check_cancelled)
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.stop)

    def _start(self, checkpoint: Callable[[], object]) -> None:
        if self._owner == process_id():
            raise RuntimeError("this EtcdServer is already running")
        binary = self._etcd = find_etcd(self._binary, self._wanted, checkpoint)
        folder = self._data_dir or Path(tempfile.gettempdir()) / f"etcdleader-{secrets.token_hex(8)}"
        self._folder, self._owner = folder, process_id()
        # Recorded and registered before anything is created or started: Ctrl-C may come in between.
        atexit.register(self.stop)
        try:
            self._make_folder(folder)
            self._bring_up(binary, folder, checkpoint)
        except EtcdServerError:
            for member in self._members:
                member.kill()
                shutil.rmtree(member.data_dir, ignore_errors=True)
            self._members, self._folder = (), None  # the logs stay, because the error refers to them
            self.stop()
            raise
        except BaseException:
            self.stop()
            raise

    def _bring_up(self, binary: Path, folder: Path, checkpoint: Callable[[], object]) -> None:
        for attempt in range(_ATTEMPTS):
            self._members = self._make_members(binary, folder / str(attempt))
            try:
                for member in self._members:
                    member.launch()
                for member in self._members:
                    member.wait_healthy(checkpoint)
            except PortTakenError:
                for member in self._members:
                    member.kill()
            else:
                self._version = version_of(binary)
                return
        raise EtcdServerError(f"other processes took etcd's ports in {_ATTEMPTS} attempts. The logs are in {folder}")

    def _make_folder(self, folder: Path) -> None:
        if self._data_dir is None:
            folder.mkdir(mode=0o700)
            return
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise FileExistsError(f"{folder} is not empty: a start creates a new cluster, in an empty or new data_dir")

    def _make_members(self, binary: Path, folder: Path) -> tuple[EtcdMember, ...]:
        addresses = [f"127.0.0.1:{port}" for port in _free_ports(3 * self._size, self._reserve)]
        clients = addresses[: self._size]
        peers = [f"http://{address}" for address in addresses[self._size : 2 * self._size]]
        # If clients need TLS, the health of a member is checked at another address.
        monitors = addresses[2 * self._size :] if self._tls else clients
        scheme = "https" if self._tls else "http"
        cluster = ",".join(f"m{number}={peer}" for number, peer in enumerate(peers))
        # etcd computes the cluster's id from the token and the peers, so two servers never have the same id.
        token = secrets.token_hex(8)
        sync = ["--unsafe-no-fsync"] if supports(binary, "--unsafe-no-fsync") else []
        members = []
        for number, (client, peer, monitor) in enumerate(zip(clients, peers, monitors, strict=True)):
            name = f"m{number}"
            home = folder / name
            home.mkdir(parents=True, mode=0o700)
            data, log, timeout = home / "data", home / "etcd.log", self._start_timeout
            command = [
                str(binary),
                f"--name={name}",
                f"--data-dir={data}",
                f"--listen-client-urls={scheme}://{client}",
                f"--advertise-client-urls={scheme}://{client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster={cluster}",
                f"--initial-cluster-token={token}",
                *([f"--listen-metrics-urls=http://{monitor}"] if monitor != client else ()),
                *sync,
                *self._tls,
                *self._extra_args,
            ]
            members.append(
                EtcdMember(name, client, command, data_dir=data, log=log, monitor=monitor, start_timeout=timeout)
            )
        return tuple(members)

    def _reserve(self, port: int) -> bool:
        """Reserve a port on Linux, so that no other ``EtcdServer`` uses it. Return False if it is reserved already.

        Another server that chose the port at the same time would be mistaken for ours. One that chose it while a member
        is down would take that member's place.
        """
        if not _ABSTRACT:
            return True
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as name:
            try:
                name.bind(f"\0etcdleader/port/{port}")
            except OSError:
                return False
            self._reserved.append(name.detach())
        return True


def _tls_options(cert: _Path | None, key: _Path | None, client_ca: _Path | None) -> list[str]:
    files = {"--cert-file": cert, "--key-file": key, "--trusted-ca-file": client_ca}
    options = [f"{name}={Path(path).absolute()}" for name, path in files.items() if path is not None]
    return options if client_ca is None else [*options, "--client-cert-auth=true"]


def _free_ports(count: int, reserve: Callable[[int], bool] = lambda _: True) -> list[int]:
    """Return ports that are free and not reserved. etcd binds them later, so they are only checked here."""
    ports: set[int] = set()
    while len(ports) < count:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in ports and reserve(port):
                ports.add(port)
    return list(ports)
