"""Runs pytest repeatedly, each time in a process forked from this one, which has loaded the slow libraries.

It receives orders and sends responses as lines of JSON; see ``Forker`` in ``bug.py``. It never loads the tested
package: each order names the folder of a copy.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from typing import Any, NoReturn

# For the forked processes.
import anyio._backends._asyncio
import anyio._backends._trio  # noqa: F401
import grpc  # noqa: F401
import pytest
import trio.testing  # noqa: F401
from google.protobuf import descriptor_pool, message_factory  # noqa: F401

HUNG, BROKEN = -1, 70


def _run(order: dict[str, Any]) -> NoReturn:
    os.setpgid(0, 0)  # the processes that it starts end with it if it hangs
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(output, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ["PYTHONPATH"] = order["folder"]  # of the processes that its tests start
    sys.path.insert(0, order["folder"])
    code = BROKEN
    try:
        code = int(pytest.main(order["arguments"]))
    except BaseException:  # noqa: BLE001 - it must not continue as the forking process
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(pid: int, seconds: float) -> int:
    give_up_at = time.monotonic() + seconds
    try:
        while time.monotonic() < give_up_at:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
    except KeyboardInterrupt:
        os.killpg(pid, signal.SIGKILL)
        raise
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return HUNG


def _main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if not pid:
            _run(order)
        print(json.dumps(_wait(pid, order["seconds"])), flush=True)


if __name__ == "__main__":
    _main()
