"""An election under each major version of protobuf, each in a separate virtual environment.

etcd3's message classes are rebuilt at import. This tool checks that they work with every protobuf of an application.

    python tools/protobuf_matrix.py [version ...]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.20.*", "4.*", "5.*", "6.*", "7.*")
TIME_LIMIT = 300

ELECTION = """
import anyio, google.protobuf
from google.protobuf.internal import api_implementation
from etcdleader import Config, EtcdLeaderManager
from etcdleader.etcd3 import etcd3
from etcdleader.testing import EtcdServer

async def main():
    async with EtcdServer() as etcd:
        manager = EtcdLeaderManager(etcd.config, Config(enabled=True, lease=10, retry=2, renew=3), "matrix")
        async with manager, manager.leading() as term:
            taken, _ = await term.transaction([etcd3.transactions.Put("late", "no")])
            assert taken
            assert (await manager.leader()).token == term.token
            await manager.extend(term)
        taken, _ = await term.transaction([etcd3.transactions.Put("late", "yes")])
        assert not taken

anyio.run(main)
print(google.protobuf.__version__, api_implementation.Type())
"""


def try_version(protobuf: str) -> bool:
    """Return whether an election succeeds. Print the version and the result, or the error."""
    with tempfile.TemporaryDirectory(prefix="etcdleader-protobuf-") as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder, "bin", "python")
        install = ["-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        packages = [f"{ROOT}[embedded]", f"protobuf=={protobuf}"]
        said = ""
        for arguments in ([*install, *packages], ["-W", "error", "-c", ELECTION]):
            done = subprocess.run(
                [python, *arguments], capture_output=True, text=True, timeout=TIME_LIMIT, cwd=folder, check=False
            )
            if done.returncode:
                print(f"protobuf {protobuf:6} FAILED\n{done.stderr}")
                return False
            said = done.stdout.strip()
    print(f"protobuf {protobuf:6} works ({said})")
    return True


if __name__ == "__main__":
    outcomes = [try_version(version) for version in sys.argv[1:] or VERSIONS]  # all of them, also after a failure
    sys.exit(0 if all(outcomes) else 1)
