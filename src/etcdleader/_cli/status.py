"""``etcdleader status``: show the leader and the queue of an election."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._values.exit_codes import ExitCode
from .exit_on_error import exit_on_error
from .options import (
    EndpointOption,
    JsonOption,
    OptionalNameArgument,
    SettingsOption,
    TimeoutOption,
    etcd_config,
    examples,
)
from .output import console, print_whole, printable, write_json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Column, Table

    from .._election.admin import Candidate, Queue
    from ..config import EtcdConfig


@examples(
    "etcdleader status jobs/nightly",
    "etcdleader status --prefix jobs/",
    "etcdleader status jobs/nightly --json | jq -r .leader.identity",
)
def status(
    name: OptionalNameArgument = None,
    prefix: Annotated[
        str, typer.Option(metavar="PREFIX", help="Without NAME: show only elections whose names begin with PREFIX.")
    ] = "",
    timeout: TimeoutOption = "5s",
    settings: SettingsOption = None,
    endpoint: EndpointOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - typer's way
) -> None:
    """Show the leader of an election and the waiting candidates in order. Without NAME, show all elections.

    If a key differs from a candidate's, its anomalies are shown. It is in the queue even so. A key without a lease
    blocks the election until it is deleted.

    Exit status: 0; with NAME, 1 if there is no leader.
    """
    if name is not None and prefix:
        raise typer.BadParameter("NAME and --prefix exclude each other")
    with exit_on_error():
        queues = _read(etcd_config(settings, endpoint), name, prefix, timeout)
        if as_json:
            write_json(
                {"elections": [queue_json(queue) for queue in queues]} if name is None else queue_json(queues[0])
            )
        else:
            screen = console()
            if name is None:
                print_whole(screen, elections_table(queues, screen) if queues else "There are no elections.")
            else:
                print_whole(screen, queue_table(queues[0], screen))
    if name is not None and queues[0].leader is None:
        raise typer.Exit(ExitCode.NO)


def _read(config: EtcdConfig, name: str | None, prefix: str, timeout: float) -> list[Queue]:
    import anyio

    from .._election.admin import connected, find_elections, gather, read_queue

    async def read() -> list[Queue]:
        async with connected(config, timeout=timeout) as connection:
            if name is not None:
                return [await read_queue(connection, name, timeout=timeout)]
            names = await find_elections(connection, prefix, timeout=timeout)
            queues = await gather(names, lambda one: read_queue(connection, one, timeout=timeout))
            return [queue for queue in queues if queue.candidates]

    return anyio.run(read)


def queue_json(queue: Queue) -> dict[str, Any]:
    """Return a queue as JSON values."""
    candidates = [candidate_json(candidate) for candidate in queue.candidates]
    return {
        "election": queue.election,
        "revision": queue.revision,
        "leader": candidates[0] if candidates else None,
        "candidates": candidates,
    }


def candidate_json(candidate: Candidate) -> dict[str, Any]:
    """Return a candidate as JSON values."""
    return {
        "identity": candidate.identity,
        "advertised": candidate.advertised,
        "token": candidate.token,
        "key": candidate.key.decode(errors="replace"),
        # The same digits as in the key. A number would lose digits in JavaScript.
        "lease_id": f"{candidate.lease_id:x}" if candidate.lease_id else None,
        "lease_ttl": candidate.lease_ttl,
        "lease_left": candidate.lease_left,
        "anomalies": list(candidate.anomalies),
    }


def queue_table(queue: Queue, screen: Console, *, most: int | None = None, caption: str = "") -> RenderableType:
    """Return a queue for people: a table on a terminal, plain columns elsewhere."""
    from rich.console import Group
    from rich.table import Column
    from rich.text import Text

    leader = queue.leader
    said = (
        f"{printable(leader.identity)} leads with token {leader.token}, {len(queue.candidates) - 1} waiting"
        if leader is not None
        else "no leader and no candidates"
    )
    title = Text.assemble((printable(queue.election), "bold"), ": ", said)
    parts: list[RenderableType] = [title]
    if leader is not None:
        # If the width is fixed, as in a live display, names are folded and never cut.
        candidate_column = Column("candidate", overflow="fold")
        table = _table(screen, "", candidate_column, Column("token", justify="right"), "lease left", "lease")
        advertised = any(candidate.advertised is not None for candidate in queue.candidates[:most])
        if advertised:
            table.add_column("advertised", overflow="fold")
        for position, candidate in enumerate(queue.candidates[:most]):
            table.add_row(
                "leader" if position == 0 else str(position),
                Text(printable(candidate.identity) or "(no value)"),
                str(candidate.token),
                _left(candidate),
                f"{candidate.lease_id:x}" if candidate.lease_id else "none",
                *([Text(printable(candidate.advertised or ""))] if advertised else []),
                style="bold green" if position == 0 else "",
            )
        parts.append(table)
        if most is not None and len(queue.candidates) > most:
            parts.append(Text(f"and {len(queue.candidates) - most} more"))
        parts += [
            Text(
                f"! {_position(position)}, {printable(candidate.key.decode(errors='replace'))}: {anomaly}",
                style="yellow",
            )
            for position, candidate in enumerate(queue.candidates[:most])
            for anomaly in candidate.anomalies
        ]
    if caption:
        parts.append(Text(caption, style="dim"))
    return Group(*parts)


def elections_table(queues: list[Queue], screen: Console) -> RenderableType:
    """Return a table of elections for people, with one line for each."""
    from rich.table import Column
    from rich.text import Text

    table = _table(
        screen,
        Column("election", overflow="fold"),
        Column("leader", overflow="fold"),
        Column("token", justify="right"),
        "lease left",
        Column("waiting", justify="right"),
        "anomalies",
    )
    for queue in queues:
        leader = queue.candidates[0]
        anomalies = sum(bool(candidate.anomalies) for candidate in queue.candidates)
        table.add_row(
            Text(printable(queue.election)),
            Text(printable(leader.identity) or "(no value)"),
            str(leader.token),
            _left(leader),
            str(len(queue.candidates) - 1),
            Text(f"{anomalies}: see status {printable(queue.election)}" if anomalies else "", style="yellow"),
        )
    return table


def _table(screen: Console, *columns: Column | str) -> Table:
    from rich import box
    from rich.table import Table

    plain = not screen.is_terminal
    return Table(*columns, box=None if plain else box.SIMPLE_HEAD, pad_edge=not plain)


def _left(candidate: Candidate) -> str:
    if not candidate.lease_id:
        return "never expires"
    if candidate.lease_left is None:
        return "unknown"
    return f"{candidate.lease_left} s" + (f" of {candidate.lease_ttl} s" if candidate.lease_ttl is not None else "")


def _position(position: int) -> str:
    return "leader" if position == 0 else f"number {position} in the queue"
