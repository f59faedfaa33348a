"""The schedule that TLC reports for a violated invariant, as Python values, and each of its steps in words. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ("State", "Step", "parse_value", "read_states", "steps")

State: TypeAlias = Mapping[str, Any]
"""The value of each variable of the model. Functions and records are dicts, tuples are lists, sets are frozensets."""

_TOKEN = re.compile(r'"[^"]*"|<<|>>|\|->|:>|@@|/\\|[\[\](){},=]|[\w-]+')
_STATE = re.compile(r"^State \d+: .*\n((?:.+\n)+)", re.MULTILINE)

_ENTRIES = {
    "grant": "the grant of lease {lease}",
    "join": "the Txn that puts the key on lease {lease}",
    "move": "the Txn that moves the key from lease {lease} to lease {other}",
    "revoke": "the revocation of lease {lease}",
    "proposal": "the client's proposal",
    "first": "the first entry of term {term}",
}
_ROUND = {
    "keep-alive": "the client sends a keep-alive",
    "proposed": "etcd commits the client's proposal",
    "again": "the client receives the response to its proposal",
    "proposed again": "etcd commits the client's second proposal, its read",
    "read": "the client receives the response to its proposal",
    "index": "the client's read gets its index from etcd's leader",
    "answered": "a member answers the client's read",
    "failed": "a member answers the client's read, which confirms nothing",
}
_LIFE = {
    "granting": "the client sends a LeaseGrant",
    "joining": "the client receives its lease, and sends the Txn that puts its key",
    "in": "the client receives that its key is behind another one",
    "over": "the client resigns: its leases are to be revoked",
}
_MOVE = {
    "granting": "the client begins to move its key: it sends a LeaseGrant",
    "sent": "the client receives the new lease, and sends the Txn of the move",
    "no": "the client receives the response to the move: its key is on the new lease",
}


@dataclass(frozen=True)
class Step:
    """One step of the schedule.

    Attributes:
        text: What happens in it.
        state: The state after it.
    """

    text: str
    state: State


def parse_value(text: str) -> Any:
    """Parse one value in TLC's notation.

    Raises:
        ValueError: It is none.
    """
    tokens = _TOKEN.findall(text)
    value, end = _value(tokens, 0)
    if end != len(tokens):
        raise ValueError(f"not one value of TLA+: {text!r}")
    return value


def _value(tokens: Sequence[str], at: int) -> tuple[Any, int]:
    token = tokens[at]
    if token in ("<<", "{"):
        values, at = _list(tokens, at + 1, ">>" if token == "<<" else "}")
        return (values if token == "<<" else frozenset(values)), at
    if token in ("[", "("):
        return _function(tokens, at + 1)
    if token.startswith('"'):
        return token[1:-1], at + 1
    if token.isdigit():
        return int(token), at + 1
    return {"TRUE": True, "FALSE": False}.get(token, token), at + 1


def _list(tokens: Sequence[str], at: int, closing: str) -> tuple[list[Any], int]:
    values = []
    while tokens[at] != closing:
        value, at = _value(tokens, at)
        values.append(value)
        at += tokens[at] == ","
    return values, at + 1


def _function(tokens: Sequence[str], at: int) -> tuple[dict[Any, Any], int]:
    """Parse ``name |-> value, ...]`` or ``argument :> value @@ ...)``."""
    found = {}
    while tokens[at] not in ("]", ")"):
        name, at = _value(tokens, at)
        found[name], at = _value(tokens, at + 1)  # past the arrow
        at += tokens[at] in (",", "@@")
    return found, at + 1


def read_states(log: str) -> list[State]:
    """Return the states of the schedule in TLC's output; none if TLC found no violation."""
    return [_state(block) for block in _STATE.findall(log)]


def _state(block: str) -> State:
    parts = re.split(r"^/\\ ", block, flags=re.MULTILINE)[1:]
    return {name: parse_value(value) for name, _, value in (part.partition(" = ") for part in parts)}


def steps(states: Sequence[State]) -> Iterator[Step]:
    """Yield each step, beginning with the initial state."""
    for before, after in zip((None, *states), states, strict=False):
        yield Step("the beginning" if before is None else _text(before, after), after)


def _text(before: State, after: State) -> str:
    found = [text for describe in (_raft, _client, _lessor) for text in describe(before, after)]
    return "; ".join(dict.fromkeys(found)) or "a step that changes nothing in this picture"


def _raft(before: State, after: State) -> Iterator[str]:
    if after["term"] > before["term"]:
        yield f"{after['leader']} becomes leader of term {after['term']}"
    elif after["head"] != before["head"] or len(after["log"]) > len(before["log"]):
        yield f"etcd commits {_entry(after['log'][-1])}"
    for member, reported in after["reported"].items():
        if after["state"][member] != before["state"][member] or _applied(before, after, member):
            yield f"{member} applies {_applied(before, after, member) or 'a snapshot'}"
        elif reported != before["reported"][member]:
            yield f"{member} restarts, and reports no term" if not reported else f"{member} reports term {reported}"


def _applied(before: State, after: State, member: str) -> str:
    """Return the entry that a member has applied in this step, or an empty string."""
    forgotten = len(before["log"]) - len(after["log"])
    if after["applied"][member] + max(forgotten, 0) != before["applied"][member] + 1:
        return ""
    return _entry(before["log"][before["applied"][member]])


def _entry(entry: Sequence[Any]) -> str:
    term, kind, _, lease, other = entry
    return str(_ENTRIES[kind]).format(term=term, lease=lease, other=other)


def _client(before: State, after: State) -> Iterator[str]:
    several = len(after["phase"]) > 1
    for number in range(len(after["phase"])):
        for text in _client_step(before, after, number):
            yield text.replace("the client", f"client {number + 1}", 1) if several else text


def _client_step(before: State, after: State, number: int) -> Iterator[str]:
    def changed(name: str) -> bool:
        return bool(after[name][number] != before[name][number])

    if changed("highest"):
        yield f"the client receives term {after['highest'][number]}"
    if changed("phase") and changed("won"):
        yield "the client receives that its key is the first: it leads"
    elif changed("phase") and after["phase"][number] in _LIFE:
        yield _LIFE[after["phase"][number]]
    if changed("won") and not changed("phase"):
        yield "the client receives the deletion of the key before its own: it leads"
    if changed("move") and after["move"][number] in _MOVE:
        gave_up = after["move"][number] == "no" and not changed("lease")
        yield "the client gives the move up, and revokes the new lease" if gave_up else _MOVE[after["move"][number]]
    if changed("step") and before["step"][number] == "keep-alive" and after["step"][number] != "idle":
        yield f"{_renewing(before, after)} acknowledges the client's keep-alive"
    elif changed("step") and after["step"][number] in _ROUND:
        yield _ROUND[after["step"][number]]
    elif changed("step") and not changed("move") and not changed("phase"):
        extended = after["left"][number] > before["left"][number]
        yield "the client's renewal counts" if extended else "the client's round ends without an extension"


def _lessor(before: State, after: State) -> Iterator[str]:
    for member in sorted(after["primary"] - before["primary"]):
        yield f"the lessor of {member} becomes primary"
    for member in sorted(before["primary"] - after["primary"]):
        yield f"the lessor of {member} is demoted"
    ticks = any(
        now < then
        for member in after["expiry"]
        for now, then in _pairs(after["expiry"][member], before["expiry"][member])
    ) or any(now < then for now, then in _pairs(after["left"], before["left"]))
    if (
        ticks
        and after["log"] == before["log"]
        and after["move"] == before["move"]
        and after["primary"] == before["primary"]
    ):
        yield "time passes"
    for lease in sorted(after["due"] - before["due"]):
        expired = [
            member
            for member, ticks in after["expiry"].items()
            if ticks[lease - 1] < before["expiry"][member][lease - 1]
        ]
        who = f"the lessor of {expired[0]} proposes" if expired else "the client asks etcd"
        yield f"{who} to revoke lease {lease}"


def _renewing(before: State, after: State) -> str:
    """Return the member whose lessor has renewed a lease in this step."""
    renewed = (member for member, ticks in after["expiry"].items() if ticks != before["expiry"][member])
    return next(renewed, "a primary")


def _pairs(left: Sequence[Any], right: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(left, right, strict=True)
