"""The tests that depend on Python and on the libraries, on other Pythons and on the lowest and newest dependencies.

    python tools/python_matrix.py [name ...]

Each entry has a separate virtual environment. A Python that the machine lacks is left out, and a line reports it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENTRIES = {"3.11-lowest": ("3.11", True), "3.12-newest": ("3.12", False), "3.13-newest": ("3.13", False)}
"""The Python of each entry, and whether its dependencies are the lowest that pyproject.toml allows."""
EXTRAS = ("cli", "embedded", "opentelemetry", "prometheus", "srv", "trio")
TOOLS = (
    "h2",
    "hypothesis",
    "hyperframe",
    "opentelemetry-sdk",
    "pytest>=9",
    "pytest-xdist",
    "PyYAML",
    "trustme",
    "uvloop",
)
FOLDERS = ("core", "runtime", "grpc", "client", "settings", "contract", "public")
SLICE = (
    "candidacy",
    "cancellation",
    "clock",
    "losing",
    "observe",
    "renewal",
    "scope",
    "unrequested_cancellation",
    "work",
)
"""Of ``tests/sim``, where the rest finds the same faults of Python, anyio and trio: cancellation, clocks and scopes."""
TESTS = (*(f"tests/{one}" for one in FOLDERS), *(f"tests/sim/test_{one}.py" for one in SLICE))
PYTEST = ("-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "-m", "not etcd", *TESTS)
"""Tests that meet a server, or start many processes, run on one Python, by ``make test``."""
INSTALL = ("-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-compile")
"""Without compiling: most of it is never loaded."""
TIME_LIMIT = 1200


def find_python(version: str) -> str | None:
    """Return an interpreter of this version: on the PATH, or one that pyenv keeps."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    kept = sorted(pyenv.glob(f"versions/{version}.*/bin/python"))
    for found in (shutil.which(f"python{version}"), *map(str, reversed(kept))):
        if found is not None:
            command = [found, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            if done.stdout.strip() == version:
                return found
    return None


def lowest() -> list[str]:
    """Return what pyproject.toml asks for, each at the lowest version that it allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(one for extra in EXTRAS for one in project["optional-dependencies"][extra])]
    return [re.sub(r">=([\d.]+).*", r"==\1.*", one) for one in asked]


def run(name: str, command: list[str | Path]) -> str | None:
    """Run a step of an entry. Return the last line of its output; None if it failed, and then print the output."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    if done.returncode:
        print(f"{name:12} FAILED\n{done.stdout[-20_000:]}{done.stderr[-5_000:]}", flush=True)
        return None
    return (done.stdout.strip().splitlines() or [""])[-1].strip("= ")


def prepare(name: str, folder: Path) -> bool:
    """Make the virtual environment of an entry. False: the machine has no such Python, or it failed."""
    version, is_lowest = ENTRIES[name]
    python = find_python(version)
    if python is None:
        print(f"{name:12} left out: Python {version} is not installed", flush=True)
        return False
    packages = [f"{ROOT}[{','.join(EXTRAS)}]", *TOOLS, *(lowest() if is_lowest else ())]
    install: list[str | Path] = [folder / "bin" / "python", *INSTALL, *packages]
    return run(name, [python, "-m", "venv", folder]) is not None and run(name, install) is not None


def main(names: list[str]) -> int:
    """Prepare all entries at once, which waits for the network, and test one after another."""
    if unknown := [name for name in names if name not in ENTRIES]:
        print(f"no such entry: {', '.join(unknown)}; there are {', '.join(ENTRIES)}", file=sys.stderr)
        return 2
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="etcdleader-python-") as home, ThreadPoolExecutor() as pool:
        os.environ["PYTHONPYCACHEPREFIX"] = str(Path(home, "cache"))  # the tests start hundreds of Pythons
        folders = {name: Path(home, name) for name in names}
        prepared = dict(zip(folders, pool.map(prepare, folders, folders.values()), strict=True))
        print(f"virtual environments: {time.monotonic() - began:.0f} s", flush=True)
        failed = [name for name in names if not prepared[name] and find_python(ENTRIES[name][0]) is not None]
        for name in names:
            if prepared[name] and (counts := run(name, [folders[name] / "bin" / "python", *PYTEST])) is not None:
                print(f"{name:12} {counts}", flush=True)
            elif prepared[name]:
                failed.append(name)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(ENTRIES)))
