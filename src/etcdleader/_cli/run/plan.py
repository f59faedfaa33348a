"""The user's choices on the command line of ``etcdleader run``, and the exit status without leadership."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..._values.exit_codes import ExitCode
from ...errors import EtcdLeaderError, EtcdRefusedError
from .child import Limits

__all__ = ("Plan", "status_without_leadership")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The user's choices on the command line.

    Attributes:
        command: The program and its arguments.
        limits: The time limits of the command.
        restart: Whether to campaign again after the command has ended itself.
        nowait: Whether to end if another candidate leads.
        wait: The seconds to wait for leadership, each time; None for no limit.
        done: The name of the work, which is done once for all; None for work that is done by each leader.
        at_least: The seconds for which leadership is kept after it was won, even if the command ends earlier.
        on_elected: The shell command to run after an election, before ``command``.
        on_lost: The shell command to run after a loss of leadership.
        endpoints: The number of configured endpoints.
    """

    command: Sequence[str]
    limits: Limits
    restart: bool = False
    nowait: bool = False
    wait: float | None = None
    done: str | None = None
    at_least: float = 0.0
    on_elected: str | None = None
    on_lost: str | None = None
    endpoints: int = 1


def status_without_leadership(position: int | None, outage: Collection[type[EtcdLeaderError]]) -> ExitCode:
    """Return the exit status of a wrapper that gives up before it leads.

    Args:
        position: The position in the queue, or None before etcd has reported it.
        outage: The kinds of errors since etcd last responded.
    """
    if any(issubclass(kind, EtcdRefusedError) for kind in outage):
        return ExitCode.REFUSED
    return ExitCode.UNAVAILABLE if outage or position is None else ExitCode.NOT_YET
