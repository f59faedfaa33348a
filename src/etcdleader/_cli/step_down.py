"""``etcdleader step-down``: ask a leader to leave, and see that it has."""

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
from .output import clean, write_json
from .status import candidate_json

if TYPE_CHECKING:
    from .._election.admin import Candidate
    from ..config import EtcdConfig

EPILOG = examples(
    "etcdleader step-down jobs/nightly",
    "etcdleader step-down jobs/nightly --timeout 5m",
    "etcdleader step-down jobs/nightly --force --yes",
)

_CALL = 5.0
_FORCED = (
    "Its work may still run: only a leader that watches its key is told (etcdleader is, at once; Go's election library "
    "is not). What the work writes without checking the token can collide with the next leader's."
)


@dataclass(frozen=True, slots=True)
class _Outcome:
    before: Candidate | None
    how: str | None
    """``resigned``, ``deleted``, ``gone`` (it was, before anything was done), or None: it still leads."""
    seconds: float
    after: Candidate | None


def step_down(
    name: NameArgument,
    timeout: Annotated[
        Any,
        duration_option('How long to wait until the leader has left: "30s", "5m".'),
    ] = "30s",
    force: Annotated[  # noqa: FBT002 - typer's way
        bool, typer.Option("--force", help="Delete the leader's key instead of asking: for a leader that is deaf.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --force: do not ask whether to.")] = False,  # noqa: FBT002
    settings: SettingsOption = None,
    endpoint: EndpointOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - typer's way
) -> None:
    """Ask the leader to step down, and wait until it has: its work has ended then, and its key is gone.

    Every etcdleader answers. It stays a candidate, at the end of the queue. Leaders of Go's election library, of
    etcdctl elect and of the v3election service do not know the request: for them there is --force. It deletes the key,
    if it is still that leader's; that ends the leadership in etcd, but not what the leader is doing.

    Exit status: 0 it has left; 1 nobody leads, or the question was answered with no; 75 it still leads after --timeout.
    """
    if yes and not force:
        raise typer.BadParameter("--yes answers the question of --force")
    import anyio

    with exit_on_error():
        config = etcd_config(settings, endpoint)
        if force:
            leader = anyio.run(_leader, config, name)
            if leader is not None and not yes:
                _confirm(name, leader)
            outcome = anyio.run(_delete, config, name, leader)
        else:
            outcome = anyio.run(_ask, config, name, timeout)
        if as_json:
            write_json(_json(name, outcome))
        elif outcome.how is not None:
            print(_told(name, outcome))
    if outcome.before is None:
        typer.echo(f"Nobody leads {clean(name)}.", err=True)
        raise typer.Exit(ExitCode.NO)
    if outcome.how is None:
        typer.echo(_deaf(name, outcome.before, timeout), err=True)
        raise typer.Exit(ExitCode.NOT_YET)


def _confirm(name: str, leader: Candidate) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter("--force asks first, and there is no terminal to ask on: say --yes")
    typer.echo(f"{_who(leader)} leads {clean(name)}. {_FORCED}", err=True)
    typer.echo("Delete its key? [y/N]: ", err=True, nl=False)
    # Not typer.confirm: to it Ctrl-C is a no. And not reading at once: a Ctrl-C that comes just before Python begins to
    # read would not be looked at before somebody has typed something.
    while not select.select([sys.stdin], [], [], 0.2)[0]:
        pass
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        typer.echo("Nothing was done.", err=True)
        raise typer.Exit(ExitCode.NO)


async def _leader(config: EtcdConfig, name: str) -> Candidate | None:
    from .._election.admin import connected, read_queue

    async with connected(config, timeout=_CALL) as connection:
        return (await read_queue(connection, name, timeout=_CALL, most=1)).leader


async def _delete(config: EtcdConfig, name: str, leader: Candidate | None) -> _Outcome:
    from .._election.admin import connected, delete_key

    if leader is None:
        return _Outcome(None, None, 0, None)
    began_at = time.monotonic()
    async with connected(config, timeout=_CALL) as connection:
        deleted = await delete_key(connection, leader, timeout=_CALL)
    after = await _leader(config, name)
    return _Outcome(leader, "deleted" if deleted else "gone", time.monotonic() - began_at, after)


async def _ask(config: EtcdConfig, name: str, timeout: float) -> _Outcome:
    import anyio

    from .._election.admin import ask_to_step_down, connected, read_queue, wait_until_gone

    began_at = time.monotonic()
    async with connected(config, timeout=_CALL) as connection:
        leader = (await read_queue(connection, name, timeout=_CALL, most=1)).leader
        if leader is None:
            return _Outcome(None, None, 0, None)
        how: str | None = "gone"
        if await ask_to_step_down(connection, leader, timeout=_CALL):
            how = None
            with anyio.move_on_after(timeout):
                await wait_until_gone(connection, leader, timeout=_CALL)
                how = "resigned"
        seconds = time.monotonic() - began_at
        after = (await read_queue(connection, name, timeout=_CALL, most=1)).leader
        return _Outcome(leader, how, seconds, after)


def _who(candidate: Candidate) -> str:
    return f"{clean(candidate.identity) or '(no value)'} (token {candidate.token})"


def _told(name: str, outcome: _Outcome) -> str:
    assert outcome.before is not None
    who, now = _who(outcome.before), outcome.after
    what = {
        "resigned": f"{who} has left {clean(name)}, after {outcome.seconds:.2f} s.",
        "deleted": f"The key of {who} is deleted: it leads {clean(name)} no longer.",
        "gone": f"{who} had left {clean(name)} before anything was done.",
    }[outcome.how or ""]
    return f"{what} {'Nobody leads now.' if now is None else f'{_who(now)} leads now.'}"


def _deaf(name: str, leader: Candidate, timeout: float) -> str:
    odd = "".join(f" This key {oddity}." for oddity in leader.anomalies)
    return (
        f"{_who(leader)} was asked, and still leads {clean(name)} after {timeout:g} s.{odd} Its work may need longer to "
        "end; or it is no etcdleader: Go's election library, etcdctl elect and the v3election service do not know the "
        "request. To depose it all the same: step-down --force, which deletes its key. " + _FORCED
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
