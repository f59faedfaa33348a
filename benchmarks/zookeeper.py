"""A separate standalone ZooKeeper for kazoo. Its data is deleted with it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from etcdleader.testing._children import kill, spawn

ZOOKEEPER = Path("/usr/share/java/zookeeper.jar")
STARTS_WITHIN = 60.0

# fsync is off as it is for the etcd beside it.
CONFIG = """
dataDir={folder}
clientPort={port}
clientPortAddress=127.0.0.1
tickTime=500
admin.enableServer=false
maxClientCnxns=0
"""


class ZooKeeper:
    """A Java process; it is ready when the block is entered."""

    def __init__(self) -> None:
        self._folder = ""
        self._process: subprocess.Popen[bytes] | None = None
        self.endpoints: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        self._folder = tempfile.mkdtemp(prefix="bench-zookeeper-")
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        config = Path(self._folder, "zoo.cfg")
        config.write_text(CONFIG.format(folder=self._folder, port=port), encoding="ascii")
        java = shutil.which("java")
        assert java is not None
        self._process = spawn(
            [
                *(java, "-Xmx256m", "-Dzookeeper.forceSync=no", "-Dlog4j.threshold=OFF", "-cp", str(ZOOKEEPER)),
                "org.apache.zookeeper.server.ZooKeeperServerMain",
                str(config),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.endpoints = (f"127.0.0.1:{port}",)
        try:
            self._wait(port)
        except BaseException:
            self.close()
            raise
        return self

    def _wait(self, port: int) -> None:
        ends_at = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < ends_at:
            assert self._process is not None
            if self._process.poll() is not None:
                raise RuntimeError(f"ZooKeeper ended at its start, with {self._process.returncode}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise TimeoutError("ZooKeeper did not start")

    def close(self) -> None:
        if self._process is not None:
            kill(self._process)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
