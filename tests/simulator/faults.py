"""The faults of the simulator. Each is a function of the world, the process that it is aimed at, and its own seed."""

from __future__ import annotations

from tests.simulator.fault_etcd import (
    compact,
    depose,
    expire_tokens,
    freeze_member,
    kill_member,
    lag,
    no_leader,
    no_space,
    restore,
    revoke_rights,
    transfer,
    unapplied,
)
from tests.simulator.fault_network import (
    delay,
    fail,
    go_away,
    half_open,
    lose_request,
    lose_response,
    one_way,
    partition,
    refuse,
    reset,
    slow,
)
from tests.simulator.fault_processes import crash, drift, foreign, freeze, jump, resign, step_down, stop, touch
from tests.simulator.world import Fault

__all__ = ("FAULTS", "GROUPS")

GROUPS: dict[str, tuple[Fault, ...]] = {
    "network": (partition, partition, one_way, reset, half_open, go_away, refuse, slow),
    "requests": (lose_request, lose_response, lose_response, delay, delay, fail, fail),
    "members": (
        freeze_member, freeze_member, kill_member, lag, lag, depose, depose, transfer, no_leader, unapplied, compact,
        no_space,
    ),
    "data": (restore,),
    "auth": (expire_tokens, revoke_rights),
    "processes": (freeze, freeze, crash, stop, resign, resign, jump, drift),
    "operators": (touch, step_down, foreign),
}  # fmt: skip
"""All faults. One that is there twice is drawn twice as often."""

FAULTS: dict[str, Fault] = {fault.__name__: fault for group in GROUPS.values() for fault in group}
"""The faults by their names."""
