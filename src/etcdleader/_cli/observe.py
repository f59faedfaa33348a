"""``etcdleader observe``: follow the leader of an election."""

from __future__ import annotations

import json
import math
import select
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from .._values.exit_codes import ExitCode
from .exit_on_error import exit_on_error
from .options import EndpointOption, JsonOption, NameArgument, SettingsOption, TimeoutOption, etcd_config, examples
from .output import console, printable, write_all
from .status import queue_table

if TYPE_CHECKING:
    from rich.console import Console

    from .._election.admin import Queue
    from ..config import EtcdConfig
    from ..model import LeaderRecord

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_READER_CHECK_SECONDS = 0.5
_REFRESH_SECONDS = 1.0
_BETWEEN_READS_SECONDS = 0.05
_MAX_LINES_SHOWN = 20


@examples(
    "etcdleader observe jobs/nightly",
    "etcdleader observe jobs/nightly --watch",
    "etcdleader observe jobs/nightly --json | while read -r line; do ...; done",
)
def observe(
    name: NameArgument,
    watch: Annotated[bool, typer.Option("--watch", help="On a terminal, also show the queue as a live table.")] = False,  # noqa: FBT002
    timeout: TimeoutOption = "5s",
    settings: SettingsOption = None,
    endpoint: EndpointOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - typer's way
) -> None:
    """Follow the leader: print one line at once, and one for each change.

    A line has the time, and the leader with its token, or "no leader". It is always the newest state: changes that
    follow each other too fast to print are left out. If etcd is unavailable, the command reports that on stderr and
    continues.

    Exit status: 128 plus the number of the signal that ended it (130 after Ctrl-C); 0 if the reader has exited.
    """
    if watch and as_json:
        raise typer.BadParameter("--watch and --json exclude each other")
    with exit_on_error():
        config = etcd_config(settings, endpoint)
        screen = console()

        def line(leader: LeaderRecord | None) -> str:
            if as_json:
                return json.dumps(_json(name, leader)) + "\n"
            with screen.capture() as captured:
                _print_change(screen, None if leader is None else (leader.identity, leader.token))
            return captured.get()

        import anyio

        if watch and screen.is_terminal:
            follow = partial(_show_queue, config, name, screen, timeout)
        else:
            follow = partial(_print_changes, config, name, line, timeout)
        code = anyio.run(_until_ended, follow)
    raise typer.Exit(code)


async def _until_ended(follow: Callable[[], Awaitable[None]]) -> int:
    """Follow until a signal arrives or the reader exits. Without a check, only the next write would fail."""
    import anyio

    code = 0
    failure: Exception | None = None
    async with anyio.create_task_group() as group:

        async def end_at_signal() -> None:
            nonlocal code
            with anyio.open_signal_receiver(*_SIGNALS) as signals:
                async for number in signals:
                    code = ExitCode.SIGNAL + number
                    group.cancel_scope.cancel()
                    return

        async def end_without_reader() -> None:
            while not _reader_gone():  # noqa: ASYNC110 - there is no event to wait for
                await anyio.sleep(_READER_CHECK_SECONDS)
            group.cancel_scope.cancel()

        group.start_soon(end_at_signal)
        group.start_soon(end_without_reader)
        try:
            await follow()
        except Exception as error:  # noqa: BLE001 - raised below, outside the exception group
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return code


def _reader_gone() -> bool:
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # poll always reports errors and hang-ups
    return any(what & (select.POLLERR | select.POLLHUP) for _, what in poll.poll(0))


async def _print_changes(
    config: EtcdConfig, name: str, line: Callable[[LeaderRecord | None], str], timeout: float
) -> None:
    from .._managers.etcd_manager import EtcdLeaderManager
    from .._runtime.threads import run_in_thread
    from ..config import Config

    # This manager never campaigns. Only retry, the timeout of a call, and id, the prefix of log lines, have an effect.
    lease = max(60, math.ceil(timeout * 4))
    settings = Config(id="etcdleader observe", lease=lease, renew=lease / 4, retry=timeout)
    manager = EtcdLeaderManager(config, settings, name)
    async with manager.observe() as leaders:
        async for leader in leaders:
            # Signals must end the command even if the reader does not read, such as a pager. So a thread writes. It
            # writes to the descriptor and takes no lock on stdout, because the interpreter flushes stdout at exit.
            data = line(leader).encode(sys.stdout.encoding, "backslashreplace")
            await run_in_thread(partial(write_all, sys.stdout.fileno(), data), "etcdleader output")


async def _show_queue(config: EtcdConfig, name: str, screen: Console, timeout: float) -> None:
    import anyio
    from rich.live import Live

    from .._election.admin import Changes, connected, read_queue
    from .._election.queue import election_prefix, prefix_end
    from ..errors import EtcdUnavailableError

    prefix = election_prefix(name)
    printed = None
    queue: Queue | None = None
    since = time.monotonic()
    async with connected(config, timeout=None) as connection:
        with (
            Changes(connection.api, prefix, prefix_end(prefix), timeout=timeout) as changes,
            Live(console=screen, auto_refresh=False, vertical_overflow="ellipsis") as live,
        ):
            while True:
                try:
                    queue = await read_queue(connection, name, timeout=timeout, most=_MAX_LINES_SHOWN)
                except EtcdUnavailableError as error:
                    caption = f"etcd has not responded for {time.monotonic() - since:.0f} s: {printable(str(error))}"
                else:
                    since, caption = time.monotonic(), "Ctrl-C to end"
                    leader = None if queue.leader is None else (queue.leader.identity, queue.leader.token)
                    if (leader,) != printed:
                        printed = (leader,)
                        _print_change(screen, leader)
                shown = caption if queue is None else queue_table(queue, screen, most=_MAX_LINES_SHOWN, caption=caption)
                live.update(shown, refresh=True)
                with anyio.move_on_after(_REFRESH_SECONDS):  # after that time, the leases are read again
                    await anyio.sleep(_BETWEEN_READS_SECONDS)
                    await changes.wait()


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def _print_change(screen: Console, leader: tuple[str, int] | None) -> None:
    from rich.text import Text

    said = ("no leader", "yellow") if leader is None else (f"{printable(leader[0])}  token {leader[1]}", "bold green")
    screen.print(Text.assemble((_now(), "dim"), "  ", said), soft_wrap=True)
    sys.stdout.flush()


def _json(name: str, leader: LeaderRecord | None) -> dict[str, object]:
    return {
        "time": _now(),
        "election": name,
        "leader": None
        if leader is None
        else {
            "identity": leader.identity,
            "advertised": leader.advertised,
            "token": leader.token,
            "key": leader.key,
            "lease_id": f"{leader.lease_id:x}" if leader.lease_id else None,
        },
    }
