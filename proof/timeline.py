"""Draw the schedule in which TLC finds a violated invariant: one row a step, as an SVG.

    python -m proof.timeline variant-g                    # from build/proof/variant-g.log, to build/proof/variant-g.svg
    python -m proof.timeline variant-g docs/images/g.svg

``python -m proof.check`` writes the log, and draws each violated configuration.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from proof.configurations import CONFIGURATIONS, Configuration
from proof.trace import State, Step, read_states, steps
from tools.svg import Svg

__all__ = ("draw", "draw_log", "main")

BUILD = Path(__file__).parent.parent / "build" / "proof"

_ROW = 24
_TOP = 96
_NUMBER, _CLIENT = 30, 62
_COLUMN = 78
_TEXT_WIDTH = 620
_TRUSTED, _KEPT, _WRONG = "c8", "c1", "c5"
_TERMS = ("c1", "c2", "c6", "c3", "c9")
"""A colour for each raft term that a member's raft has recorded, from 0."""


def draw(title: str, schedule: Sequence[Step]) -> str:
    """Return the picture.

    Args:
        title: What the schedule shows.
        schedule: Its steps. The last one violates the invariant.
    """
    first = schedule[0].state
    members = sorted(first["applied"])
    clients = range(len(first["phase"]))
    columns = 2 * len(clients) + len(members)
    text_at = _CLIENT + _COLUMN * columns
    svg = Svg(text_at + _TEXT_WIDTH, title)
    svg.text(16, 28, title, size=15, style="text bold")
    svg.text(
        16,
        48,
        "Deadline: ticks until the client's trust ends. Key: the lease that it is on, after all committed entries.",
    )
    svg.text(
        16,
        66,
        "Member: the raft term that it has recorded; L: etcd's leader; P: its lessor is primary; and its ticks for each lease.",
    )
    heads = [f"{name}{of}" for of in _numbers(clients) for name in ("deadline", "key")] + members
    for column, head in enumerate(heads):
        svg.text(_CLIENT + column * _COLUMN, _TOP - 8, head, style="faint")
    for number, step in enumerate(schedule):
        y = _TOP + number * _ROW
        if number % 2 == 0:
            svg.band(y, _ROW)
        svg.text(_NUMBER, y + 16, str(number), style="faint end")
        for client in clients:
            _draw_client(svg, step.state, client, _CLIENT + 2 * client * _COLUMN, y)
        for column, member in enumerate(members, 2 * len(clients)):
            _draw_member(svg, step.state, member, _CLIENT + column * _COLUMN, y)
        svg.text(text_at, y + 16, step.text)
    bottom = _TOP + len(schedule) * _ROW
    svg.text(text_at, bottom + 20, _conclusion(schedule[-1].state), style=f"bold {_WRONG}")
    return svg.render(bottom + 36)


def _numbers(clients: Sequence[int]) -> list[str]:
    return [f" {client + 1}" for client in clients] if len(clients) > 1 else [""]


def _trusts(state: State, client: int) -> bool:
    return bool(state["phase"][client] == "in" and state["left"][client] > 0)


def _draw_client(svg: Svg, state: State, client: int, x: int, y: int) -> None:
    left, opened = state["left"][client], state["nextLeft"][client]
    key = state["head"]["key"][client]
    if _trusts(state, client):
        colour = _TRUSTED if key else _WRONG
        svg.line((x - 12, y + 1), (x - 12, y + _ROW - 1), style=colour)
        svg.text(
            x, y + 16, f"{left} and {opened}" if state["move"][client] in ("sent", "done") else str(left), style=colour
        )
    elif left:
        svg.text(x, y + 16, str(left), style="faint")
    if key:
        svg.text(x + _COLUMN, y + 16, f"lease {key}")
    elif state["phase"][client] in ("in", "over"):
        svg.text(x + _COLUMN, y + 16, "gone", style=_WRONG)


def _draw_member(svg: Svg, state: State, member: str, x: int, y: int) -> None:
    roles = "L" * (member == state["leader"]) + "P" * (member in state["primary"])
    ticks = [f"{lease}:{left}" for lease, left in enumerate(state["expiry"][member], 1) if left]
    svg.dot(x + 4, y + 12, style=_TERMS[state["known"][member] % len(_TERMS)])
    svg.text(x + 12, y + 16, " ".join(filter(None, (str(state["known"][member]), roles, " ".join(ticks)))), size=11)


def _conclusion(last: State) -> str:
    leaders = [client + 1 for client in range(len(last["phase"])) if _trusts(last, client) and last["won"][client]]
    if len(leaders) > 1:
        return f"Clients {' and '.join(map(str, leaders))} lead at the same time."
    return "A client still trusts its lease, and its key is gone: another candidate can lead."


def draw_log(configuration: Configuration, log: Path, picture: Path) -> bool:
    """Draw the schedule in TLC's output. Return False if there is none, because no invariant was violated."""
    schedule = list(steps(read_states(log.read_text(errors="replace"))))
    if schedule:
        picture.write_text(draw(f"{configuration.name}: {configuration.about}", schedule))
    return bool(schedule)


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw one schedule. Return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m proof.timeline", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    listed = {one.name: one for one in CONFIGURATIONS}
    parser.add_argument("configuration", choices=listed, metavar="CONFIGURATION")
    parser.add_argument("picture", nargs="?", type=Path)
    options = parser.parse_args(arguments)
    log = BUILD / f"{options.configuration}.log"
    if not log.exists():
        print(f"{log} does not exist: python -m proof.check {options.configuration} writes it", file=sys.stderr)
        return 2
    picture = options.picture or log.with_suffix(".svg")
    if not draw_log(listed[options.configuration], log, picture):
        print(f"{log} has no schedule: no invariant was violated", file=sys.stderr)
        return 1
    print(picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
