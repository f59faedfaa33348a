"""HAProxy and promtool from Debian's packages, unpacked into the user's cache directory and not installed.

``python -m tests.helpers.debian`` fetches the programs that the machine lacks; ``make test`` calls it. A test calls
:func:`find_program`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ("PACKAGES", "fetch", "find_program")

PACKAGES = {"haproxy": "haproxy", "promtool": "prometheus"}
"""The Debian package of each program."""
_TIME_LIMIT = 300
"""Seconds, for one package and its dependencies."""


def find_program(name: str) -> str | None:
    """Return the path of a program: the installed one, otherwise the fetched one. Return None if there is neither."""
    installed = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin")))
    fetched = _folder() / name
    return installed or (str(fetched) if os.access(fetched, os.X_OK) else None)


def fetch(name: str) -> str:
    """Unpack the package of a program, and the libraries that the machine lacks. Return the path of the program.

    Raises:
        OSError: There is no apt-get, or no package, or the program does not run. The text names the cause.
    """
    home = _folder()
    home.mkdir(parents=True, exist_ok=True)
    files = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=home))
    try:
        start = _unpack(name, files)
        _run([str(start), "-v" if name == "haproxy" else "--version"], files)
    except BaseException:
        shutil.rmtree(files, ignore_errors=True)
        raise
    # Another process may have fetched it meanwhile: the last one counts.
    link = files / "link"
    link.symlink_to(start)
    link.replace(home / name)
    return str(home / name)


def _unpack(name: str, folder: Path) -> Path:
    """Unpack the package of a program into a folder. Return a script that starts the program with its libraries."""
    package = PACKAGES[name]
    _download(folder, [package, *_missing(package)])
    program = next((path for path in folder.glob(f"usr/*bin/{name}")), None)
    if program is None:
        raise OSError(f"Debian's package {package} has no {name}")
    libraries = os.pathsep.join(sorted({str(path.parent) for path in folder.rglob("lib*.so*")}))
    start = folder / name
    start.write_text(
        f'#!/bin/sh\nLD_LIBRARY_PATH={shlex.quote(libraries)} exec {shlex.quote(str(program))} "$@"\n',
        encoding="utf-8",
    )
    start.chmod(0o755)
    return start


def _folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "etcdleader" / "debian"


def _missing(package: str) -> list[str]:
    """Return the libraries that a package depends on, directly or through others, and that are not installed."""
    kinds = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
    command = ["apt-cache", "depends", "--recurse", *(f"--no-{kind}" for kind in kinds), package]
    # A package stands at the beginning of its line. Its dependencies are indented, and a virtual one is in brackets.
    wanted = sorted({line for line in _run(command, Path.cwd()).splitlines() if line.startswith("lib")})
    installed = _run(
        ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\\n"], Path.cwd()
    ).splitlines()
    return [one for one in wanted if f"{one} installed" not in installed]


def _download(folder: Path, packages: list[str]) -> None:
    try:
        _run(["apt-get", "download", *packages], folder)
    except OSError:
        if os.geteuid():
            raise
        _run(["apt-get", "update", "-qq"], folder)  # a new machine has no list of packages
        _run(["apt-get", "download", *packages], folder)
    for archive in folder.glob("*.deb"):
        _run(["dpkg", "-x", str(archive), str(folder)], folder)
        archive.unlink()


def _run(command: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_TIME_LIMIT,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{shlex.join(command[:2])} did not end within {_TIME_LIMIT} s") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise OSError(f"{shlex.join(command[:2])}: {lines[-1]}")
    return done.stdout


def main() -> None:
    """Fetch the programs that the machine lacks.

    Name each one that is unavailable; its tests are skipped with that reason.
    """
    for name, package in PACKAGES.items():
        if find_program(name) is None:
            try:
                print(f"{name}: {fetch(name)}")
            except OSError as error:
                print(f"{name} is left out, and its tests are skipped: {error} (Debian: {package})", file=sys.stderr)


if __name__ == "__main__":
    main()
