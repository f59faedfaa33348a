"""``etcdleader step-down``: request that the leader step down, and wait until it has left."""

from __future__ import annotations

import select
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._values.exit_codes import ExitCode
from .exit_on_error import exit_on_error
from .options import EndpointOption, JsonOption, NameArgument, SettingsOption, duration_option, etcd_config, examples
from .output import printable, write_json
from .status import candidate_json

if TYPE_CHECKING:
    from .._election.admin import Candidate
    from .._lease.shared_connection import SharedConnection
    from ..config import EtcdConfig

_CALL_TIMEOUT_SECONDS = 5.0
_FORCED = (
    "Its work may still run: etcdleader watches its own key and stops, but Go's election library does not. "
    "Writes whose target does not check the token can collide with the next leader's."
)


@dataclass(frozen=True, slots=True)
class _Outcome:
    before: Candidate | None = None
    how: str | None = None
    """``resigned``, ``deleted``, or ``gone`` if it had left before the request; None if it still leads."""
    seconds: float = 0
    after: Candidate | None = None


@examples(
    "etcdleader step-down jobs/nightly",
    "etcdleader step-down jobs/nightly --timeout 5m",
    "etcdleader step-down jobs/nightly --to web-2#1f2e3d4c",
    "etcdleader step-down jobs/nightly --force --yes",
)
def step_down(
    name: NameArgument,
    timeout: Annotated[
        Any,
        duration_option('Time to wait until the leader has left: "30s", "5m".'),
    ] = "30s",
    to: Annotated[
        str | None,
        typer.Option(
            metavar="IDENTITY",
            show_default=False,
            help="The candidate that leads next. Those in front of it are asked to queue again behind it.",
        ),
    ] = None,
    force: Annotated[  # noqa: FBT002 - typer's way
        bool, typer.Option("--force", help="Delete the leader's key, for a leader that does not react to the request.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --force: do not ask for confirmation.")] = False,  # noqa: FBT002
    settings: SettingsOption = None,
    endpoint: EndpointOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - typer's way
) -> None:
    """Request that the leader step down, and wait until its work has ended and its key is deleted.

    Every etcdleader accepts the request, and stays a candidate at the end of the queue. Leaders of the Go library, of
    etcdctl elect and of the v3election service ignore it: use --force for them. It deletes the key, if the same leader
    still holds it. That ends the leadership in etcd, but not the leader's work.

    With --to, the named candidate leads next. Candidates of other libraries in front of it cannot make way. Then the
    command names them, and the leader is not asked.

    Exit status: 0 if it has left; 1 if there is no leader or you declined the confirmation; 75 if it still leads after
    --timeout. With --to, it is 1 if the candidate cannot be the next one, and 75 if another one stays in front of it.
    """
    if yes and not force:
        raise typer.BadParameter("--yes requires --force")
    if to is not None and force:
        raise typer.BadParameter("--to and --force exclude each other")
    import anyio

    with exit_on_error():
        config = etcd_config(settings, endpoint)
        leader = anyio.run(_leader, config, name) if force else None
        if leader is not None and not yes:
            _confirm(name, leader)
        outcome = _Outcome() if force and leader is None else anyio.run(_depose, config, name, timeout, leader, to)
        if as_json:
            write_json(_json(name, outcome))
        elif outcome.how is not None:
            print(_outcome_text(name, outcome))
    if outcome.before is None:
        typer.echo(f"There is no leader of {printable(name)}.", err=True)
        raise typer.Exit(ExitCode.NO)
    if outcome.how is None:
        typer.echo(_still_leads(name, outcome.before, timeout), err=True)
        raise typer.Exit(ExitCode.NOT_YET)


def _confirm(name: str, leader: Candidate) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter("--force needs a terminal for its confirmation: without one, use --yes")
    typer.echo(f"{_who(leader)} leads {printable(name)}. {_FORCED}", err=True)
    typer.echo("Delete its key? [y/N]: ", err=True, nl=False)
    # typer.confirm would take Ctrl-C for a no.
    # The loop waits before the read: Python handles a Ctrl-C that arrives just before a read only after it. That read
    # would end only when the user has typed a line.
    while not select.select([sys.stdin], [], [], 0.2)[0]:
        pass
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        typer.echo("Cancelled. The key was not deleted.", err=True)
        raise typer.Exit(ExitCode.NO)


async def _leader(config: EtcdConfig, name: str) -> Candidate | None:
    from .._election.admin import connected

    async with connected(config, timeout=_CALL_TIMEOUT_SECONDS) as connection:
        return await _first(connection, name)


async def _depose(config: EtcdConfig, name: str, timeout: float, forced: Candidate | None, to: str | None) -> _Outcome:
    """Delete the key of ``forced``. If that is None, request that the leader step down, and wait for ``timeout`` seconds.

    With ``to``, first let this candidate be the next in line.
    """
    import anyio

    from .._election.admin import ask_to_step_down, connected, delete_key, wait_until_gone
    from .._election.hand_over import check_library, clear_way

    began_at = time.monotonic()
    async with connected(config, timeout=_CALL_TIMEOUT_SECONDS) as connection:
        leader = forced or await _first(connection, name)
        if leader is None:
            return _Outcome()
        if to is not None:
            check_library([leader], to)
            if (last := await clear_way(connection, name, to, timeout=_CALL_TIMEOUT_SECONDS)) is None:
                return _Outcome(leader, "gone", time.monotonic() - began_at, await _first(connection, name))
            leader = last
        how: str | None = "gone"
        if forced is not None:
            if await delete_key(connection, leader, timeout=_CALL_TIMEOUT_SECONDS):
                how = "deleted"
        elif await ask_to_step_down(connection, leader, timeout=_CALL_TIMEOUT_SECONDS):
            how = None
            with anyio.move_on_after(timeout):
                await wait_until_gone(connection, leader, timeout=_CALL_TIMEOUT_SECONDS)
                how = "resigned"
        seconds = time.monotonic() - began_at
        return _Outcome(leader, how, seconds, await _first(connection, name))


async def _first(connection: SharedConnection, name: str) -> Candidate | None:
    from .._election.admin import read_queue

    return (await read_queue(connection, name, timeout=_CALL_TIMEOUT_SECONDS, most=1)).leader


def _who(candidate: Candidate) -> str:
    return f"{printable(candidate.identity) or '(no value)'} (token {candidate.token})"


def _outcome_text(name: str, outcome: _Outcome) -> str:
    assert outcome.before is not None
    who, now = _who(outcome.before), outcome.after
    what = {
        "resigned": f"{who} has left {printable(name)}, after {outcome.seconds:.2f} s.",
        "deleted": f"The key of {who} was deleted. It no longer leads {printable(name)}.",
        "gone": f"{who} had left {printable(name)} before the request.",
    }[outcome.how or ""]
    return f"{what} {'There is no leader now.' if now is None else f'{_who(now)} leads now.'}"


def _still_leads(name: str, leader: Candidate, timeout: float) -> str:
    anomalies = "".join(f" This key {anomaly}." for anomaly in leader.anomalies)
    return (
        f"{_who(leader)} still leads {printable(name)}, {timeout:g} s after the request.{anomalies} Its work may need longer to end. "
        "Or it is not an etcdleader: Go's election library, etcdctl elect and the v3election service ignore the "
        "request. To depose it, use step-down --force, which deletes its key. " + _FORCED
    )


def _json(name: str, outcome: _Outcome) -> dict[str, Any]:
    return {
        "election": name,
        "asked": None if outcome.before is None else candidate_json(outcome.before),
        "left": outcome.how is not None,
        "how": outcome.how,
        "seconds": round(outcome.seconds, 3),
        "leader": None if outcome.after is None else candidate_json(outcome.after),
    }
