"""etcd3's messages, wherever Python finds etcd3."""

from __future__ import annotations

import compileall
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = """
import sys

sys.path.insert(0, sys.argv[1])
from etcdleader._etcd.etcd3_messages import etcdrpc

request = etcdrpc.RangeRequest(key=b"k", sort_target=etcdrpc.RangeRequest.CREATE)
assert etcdrpc.RangeRequest.FromString(request.SerializeToString()) == request
from etcdleader.etcd3 import etcd3

assert etcd3.__file__.startswith(sys.argv[1]), etcd3.__file__
assert etcd3.etcdrpc.RangeRequest is etcdrpc.RangeRequest
print("imported")
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a copy of the installed etcd3."""
    found = find_spec("etcd3")
    assert found is not None
    assert found.submodule_search_locations
    installed = Path(found.submodule_search_locations[0])
    for file in installed.rglob("*.py"):
        copy = tmp_path / "packages" / "etcd3" / file.relative_to(installed)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    return tmp_path / "packages"


def without_source(package: Path) -> None:
    assert compileall.compile_dir(package, quiet=1, legacy=True)
    for file in package.rglob("*.py"):
        file.unlink()


def zipped(package: Path) -> Path:
    path = package.parent / "packages.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in package.rglob("*.py*"):
            archive.write(file, file.relative_to(package))
    return path


@pytest.mark.parametrize("in_zip", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("source", [True, False], ids=["source", "compiled"])
def test_messages_need_neither_files_nor_source(package: Path, *, in_zip: bool, source: bool) -> None:
    """Programs are shipped as zips, as images without source, and frozen."""
    if not source:
        without_source(package)
    place = zipped(package) if in_zip else package
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(place)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout, done.stderr) == ("imported\n", "")


def test_another_etcd3_is_named(tmp_path: Path) -> None:
    """Its generated code has no descriptor that could be found."""
    folder = tmp_path / "etcd3" / "etcdrpc"
    folder.mkdir(parents=True)
    for file in (folder.parent / "__init__.py", *(folder / f"{name}.py" for name in ("__init__", "kv_pb2"))):
        file.write_text("")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert "ImportError: etcd3.etcdrpc.kv_pb2 has no serialized descriptor: is this etcd3 0.12?" in done.stderr
