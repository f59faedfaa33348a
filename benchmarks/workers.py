"""The workers, as the parent has them: processes that are asked for things, and that never outlive their parent."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 180.0
"""Seconds; more than any command takes that is going to be answered."""
FAREWELL = 5.0


class WorkerError(Exception):
    """A worker could not do what it was asked, or is gone.

    Attributes:
        title: The peer's.
    """

    def __init__(self, title: str, words: str) -> None:
        super().__init__(words)
        self.title = title


class Pending:
    """An answer that is to come."""

    def __init__(self, title: str, op: str) -> None:
        self.future: Future[dict[str, Any]] = Future()
        self._title, self._op = title, op

    def result(self, seconds: float) -> dict[str, Any]:
        try:
            return self.future.result(seconds)
        except TimeoutError as error:
            raise WorkerError(self._title, f"{self._op} had no response in {seconds:g} s") from error


def environment() -> dict[str, str]:
    """That of a process that is measured: with its bytecode kept, as that of an installed package is."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def workers_environment() -> dict[str, str]:
    """That of a worker, which has to find `benchmarks`, whatever folder the parent was started in."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**environment(), "PYTHONPATH": path}


def python_peer(module: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"benchmarks.peers.{module}")


class Worker:
    """One process of one peer.

    It has its own process group, so that Ctrl-C reaches only the parent, which then ends its workers in order. The worker
    ends when its standard input is closed, even if the parent was killed.
    """

    def __init__(self, title: str, command: Sequence[str], options: dict[str, Any]) -> None:
        self._title = title
        self._process = subprocess.Popen(
            [*command, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=workers_environment(),
            start_new_session=True,
        )
        self._lock = threading.Lock()
        self._asked: dict[int, Pending] = {}
        self._number = 0
        self._over = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def begin(self, op: str, **arguments: Any) -> Pending:
        """Ask; the answer comes later."""
        pending = Pending(self._title, op)
        with self._lock:
            if self._over:
                raise WorkerError(self._title, f"the worker is gone, before {op}")
            self._number += 1
            self._asked[self._number] = pending
            line = json.dumps({"id": self._number, "op": op, **arguments}).encode() + b"\n"
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(line)
                self._process.stdin.flush()
            except OSError as error:
                raise WorkerError(self._title, f"the worker is gone, at {op}") from error
        return pending

    def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Ask, and wait for the answer."""
        return self.begin(op, **arguments).result(PATIENCE)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            with self._lock:
                future = self._asked.pop(answer.pop("id")).future
            if "error" in answer:
                future.set_exception(WorkerError(self._title, answer["error"]))
            else:
                future.set_result(answer)
        with self._lock:
            self._over = True
            left = [pending.future for pending in self._asked.values()]
            self._asked.clear()
        for future in left:
            future.set_exception(WorkerError(self._title, "the worker ended without a response"))

    def close(self) -> None:
        """Let it go; by force when it does not."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):  # it is gone already
            self._process.stdin.close()
        try:
            self._process.wait(FAREWELL)
        except subprocess.TimeoutExpired:
            # With what it has started itself.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._reader.join(FAREWELL)
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
