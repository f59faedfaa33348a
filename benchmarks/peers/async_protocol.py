"""The protocol of workers (`protocol.py`) on an event loop: commands are read without a thread."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import anyio
import anyio.abc

from benchmarks.peers.protocol import say

STDIN = 0


async def run(peer: object, number: int, name: str, arguments: dict[str, Any]) -> None:
    """Run one command, a method `do_...` of the peer, and send its answer."""
    if name == "die":
        arguments["number"] = number
    try:
        operation = getattr(peer, f"do_{name}", None)
        answer = {"error": f"unknown command {name}"} if operation is None else await operation(**arguments) or {}
    except Exception as error:  # noqa: BLE001 - any error is sent to the parent
        answer = {"error": f"{type(error).__name__}: {error}"}
    say(number, answer)


async def serve(make_peer: Callable[[anyio.abc.TaskGroup], object]) -> None:
    """Start one task per command, until standard input ends."""
    unread = b""
    async with anyio.create_task_group() as group:
        peer = make_peer(group)
        while True:
            # No thread waits for the commands: those of the library are counted.
            await anyio.wait_readable(STDIN)
            some = os.read(STDIN, 65536)
            if not some:
                break
            *lines, unread = (unread + some).split(b"\n")
            for line in lines:
                command = json.loads(line)
                group.start_soon(run, peer, command.pop("id"), command.pop("op"), command)
        os._exit(0)  # what is held goes with the server
