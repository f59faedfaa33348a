"""The tests that need no server, on other Pythons and on the lowest and newest dependencies.

    python tools/python_matrix.py [name ...]

Each entry has a virtual environment of its own. A Python that the machine lacks is left out, by a line that says so.
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
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENTRIES = {"3.11-lowest": ("3.11", True), "3.12-newest": ("3.12", False), "3.13-newest": ("3.13", False)}
"""The Python of each entry, and whether its dependencies are the lowest that pyproject.toml allows."""
EXTRAS = ("cli", "embedded", "prometheus", "trio")
TOOLS = ("h2", "hypothesis", "hyperframe", "pytest>=9", "pytest-xdist", "PyYAML", "trustme", "uvloop")
TESTS = ("core", "runtime", "grpc", "client", "settings", "sim", "contract", "public")
"""Folders of tests. Those that start many servers or processes run on one Python, by ``make test``."""
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


def try_entry(name: str) -> bool:
    """Run the tests of one entry. Print a line with what was installed and the counts, or the end of what failed."""
    version, is_lowest = ENTRIES[name]
    python = find_python(version)
    if python is None:
        print(f"{name:12} left out: Python {version} is not installed", flush=True)
        return True
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="etcdleader-python-") as folder:
        own = Path(folder, "bin", "python")
        packages = [f"{ROOT}[{','.join(EXTRAS)}]", *TOOLS, *(lowest() if is_lowest else ())]
        commands: list[list[str | Path]] = [
            [python, "-m", "venv", folder],
            [own, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *packages],
            [own, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", *(f"tests/{one}" for one in TESTS)],
        ]
        last = ""
        for command in commands:
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=TIME_LIMIT, check=False,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            )  # fmt: skip
            if done.returncode:
                print(f"{name:12} FAILED\n{done.stdout[-20_000:]}{done.stderr[-5_000:]}", flush=True)
                return False
            last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    print(f"{name:12} {last.strip('= ')}; with the virtual environment {time.monotonic() - began:.0f} s", flush=True)
    return True


if __name__ == "__main__":
    unknown = [name for name in sys.argv[1:] if name not in ENTRIES]
    if unknown:
        sys.exit(f"no such entry: {', '.join(unknown)}; there are {', '.join(ENTRIES)}")
    outcomes = [try_entry(name) for name in sys.argv[1:] or ENTRIES]  # all of them, also after a failure
    sys.exit(0 if all(outcomes) else 1)
