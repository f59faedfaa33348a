"""The campaigns, and the order of their faults."""

from __future__ import annotations

import random
import secrets
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from etcdleader.testing import EtcdServerError
from etcdleader.testing._etcd_binary import find_etcd
from tests.faults import (
    rows_auth,
    rows_five,
    rows_keys,
    rows_many,
    rows_members,
    rows_memory,
    rows_network,
    rows_processes,
    rows_versions,
)
from tests.faults.campaign import ELECTION, REGISTER, AbortedError, Campaign, NoHolderError
from tests.faults.candidate import Options
from tests.faults.cluster import OperatorError
from tests.faults.go_candidate import add_go_candidate
from tests.faults.many import MANY_ELECTIONS, ManyCampaign
from tests.faults.network import LoopbackNetwork, Network

__all__ = ("IN_WHOLE_RUNS", "MUST_HAVE", "PLANS", "UPGRADES", "run_campaign")

Row = Callable[[Campaign], None]

MAIN: Mapping[str, Row] = {**rows_members.ROWS, **rows_network.ROWS, **rows_processes.ROWS, **rows_keys.ROWS}
PLANS: Mapping[str, Mapping[str, Row]] = {
    "main": MAIN,
    "auth": rows_auth.ROWS,
    "memory": rows_memory.ROWS,
    "many": {**MAIN, **rows_many.ROWS},
    "five": rows_five.ROWS,
    "upgrade": rows_versions.ROWS,
    "upgrade-many": rows_versions.ROWS,
}
"""A campaign's name, and its rows."""
UPGRADES = ("upgrade", "upgrade-many")
"""Campaigns whose rows come in order, once for each member, without a time limit."""
IN_WHOLE_RUNS = ("five", *UPGRADES)
"""Campaigns that shorter runs leave out unless they are named. They come last, without a time limit."""
MUST_HAVE = (
    *(f"A{number}" for number in (*range(1, 11), 13, 15, 17)),
    *("B1", "B2", "B3", "B4", "B9", "C1", "C2", "C3", "C4", "C5", "C6", "C8", "C13", "D1", "D2", "D3", "D8", "D9"),
)
_NEED_NAMESPACES = rows_members.NEEDS_NAMESPACES | rows_network.NEEDS_NAMESPACES | set(rows_five.ROWS)
_FAILURES_IN_A_ROW = 5
_ETCD_ARGS = {
    "main": ("--quota-backend-bytes", str(24 * 1024 * 1024)),
    "auth": rows_auth.ETCD_ARGS,
    "memory": (),
    "many": ("--quota-backend-bytes", str(48 * 1024 * 1024)),
    **dict.fromkeys(UPGRADES, rows_versions.ETCD_ARGS),
}
_CANDIDATES = {"main": 4, "auth": 2, "memory": 2, "many": 3, "five": 2, "upgrade": 3, "upgrade-many": 2}
_ELECTIONS = {"many": 200, "five": 20, "upgrade-many": 300}
_MANY_RENEW = 2.0
"""Seconds.

With a lease of one second, three processes of two hundred leases each and their etcd would keep two processors busy
with renewals.
"""
_PACE = 30.0
"""All works together should write some hundred times a second, not thousands of times."""
_NO_PACE = 10_000.0
"""A pace at which each work writes once when its term begins, and then not for minutes.

Each write would bring the lagging member up to date.
"""
_FIVE_ROUNDS = 3
_FIVE_LEASE = 12.0
"""Seconds. etcd must elect another leader, and all keys must move, in the time that a lease has left."""


def in_rounds(rows: Sequence[str], chance: random.Random) -> Iterator[str]:
    """Yield every row once in each round. Each round has another order."""
    while True:
        yield from chance.sample(rows, len(rows))


def run_campaign(
    name: str, folder: Path, *, until: float, seed: str, isolate: bool, options: Mapping[str, Any],
    aborted: threading.Event, rows: Sequence[str] | None = None, rounds: int | None = None,
    say: Callable[[str], None] = print, candidates: int | None = None, elections: int | None = None,
    etcd_args: Sequence[str] = (), go: bool = True,
) -> list[dict[str, Any]]:  # fmt: skip
    """Run one campaign to its end and return its history.

    Args:
        name: One of ``PLANS``.
        folder: The folder of journals and etcd's data.
        until: The end on the monotonic clock. No fault begins later, except those of ``IN_WHOLE_RUNS``.
        seed: The seed of the schedule.
        isolate: Use namespaces. Without them, the rows that need them are left out.
        options: The options that differ from the candidates' usual ones.
        aborted: Set to end the campaign at once.
        rows: Only these.
        rounds: The greatest number of rounds; for "five" three by default.
        say: Called with each line of progress.
        candidates: The number of candidates; by default that of the campaign.
        elections: For "many" and "upgrade-many": the number of elections of each candidate.
        etcd_args: More options for each member. The upgrades ignore them.
        go: For "upgrade": whether a candidate on etcd's Go client joins the queue.
    """
    plan = PLANS[name]
    chosen = [row for row in plan if (rows is None or row in rows) and (isolate or row not in _NEED_NAMESPACES)]
    if not chosen:
        return []
    setting = Options(election=ELECTION, register=REGISTER, shared_list=str(folder / "shared"), **options)
    canary = f"canary-{secrets.token_hex(8)}"
    if name == "auth":
        setting = replace(setting, user=rows_auth.USER, password=canary)
    many, upgrade = name in _ELECTIONS, name in UPGRADES
    if name == "five":
        rounds = rounds or _FIVE_ROUNDS
    setting = replace(setting, renewals=upgrade)
    version = rows_versions.starts_on(chosen) if upgrade else None
    if many:
        names = tuple(f"{number:03}" for number in range(elections or _ELECTIONS[name]))
        setting = replace(setting, election=MANY_ELECTIONS, elections=names, renew=_MANY_RENEW, pace=_PACE)
    if name == "five":
        setting = replace(setting, renew=1.0, lease=_FIVE_LEASE, pace=_NO_PACE)
    of_campaign = rows_five.etcd_args(find_etcd()) if name == "five" else _ETCD_ARGS[name]
    kind = ManyCampaign if many else Campaign
    more_args = () if upgrade else etcd_args
    with (
        (Network() if isolate else LoopbackNetwork()) as network,
        kind(
            name, network, folder, setting, seed=seed, etcd_args=(*of_campaign, *more_args), aborted=aborted,
            candidates=candidates or _CANDIDATES[name], version=version,
            members=rows_five.MEMBERS if name == "five" else 3,
        ) as campaign,
    ):  # fmt: skip
        try:
            if name == "auth":
                rows_auth.switch_on(campaign, canary)
            campaign.record()
            campaign.field()
            if name == "upgrade" and go and (reason := add_go_candidate(campaign)):
                say(f"{name}: without a candidate on etcd's Go client: {reason}")
            if name == "many" and rows_members.corrupts_when_killed(version := campaign.cluster.version()):
                say(f"{name}: without {', '.join(sorted(rows_members.KILLS))}: etcd {version} does not survive them")
                chosen = [row for row in chosen if row not in rows_members.KILLS]
            failed = 0
            order = rows_versions.in_order(chosen) if upgrade else in_rounds(chosen, campaign.chance)
            for number, row in enumerate(order if chosen else ()):
                late = name not in IN_WHOLE_RUNS and time.monotonic() >= until
                if late or (not upgrade and rounds is not None and number >= rounds * len(chosen)):
                    break
                campaign.look()
                failed = 0 if _inject(campaign, row, plan[row], say) else failed + 1
                if failed == _FAILURES_IN_A_ROW:
                    campaign.complain(f"it ended early: {failed} faults in a row could not be injected")
                    break
            _settle(campaign)
            campaign.finish()
        except AbortedError:
            say(f"{name}: aborted")
            campaign.abandon()
        except Exception as error:  # noqa: BLE001 - the history until then is still checked
            traceback.print_exc()
            campaign.complain(f"the campaign ended early: {type(error).__name__}: {error}")
            campaign.abandon()
        campaign.look_for(canary)
        return list(campaign.history())


def _inject(campaign: Campaign, row: str, act: Row, say: Callable[[str], None]) -> bool:
    try:
        act(campaign)
    except (NoHolderError, OperatorError, EtcdServerError, OSError) as error:
        campaign.complain(f"{row}: {type(error).__name__}: {error}")
        say(f"{campaign.name}: {row}: {type(error).__name__}: {error}")
        return False
    holder = campaign.holder()
    led = f"{holder.name} leads with {holder.token}" if holder else "there is no leader"
    say(f"{campaign.name}: {row}: {campaign.injections[-1].note}; then {led}")
    return True


def _settle(campaign: Campaign) -> None:
    try:
        campaign.settle()
    except (NoHolderError, EtcdServerError) as error:
        campaign.complain(f"at the end: {error}")
