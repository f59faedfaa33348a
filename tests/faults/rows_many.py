"""Faults that take some elections of many, and must not touch the others."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor

from tests.faults.campaign import Campaign
from tests.faults.cluster import unb64
from tests.faults.history import Injection
from tests.faults.many import ManyCampaign
from tests.faults.rows_members import freeze

__all__ = ("ROWS",)

_SHARE = 3
"""The fraction of elections that is hit: one in this many."""


def delete_some_keys(campaign: Campaign) -> None:
    many, victims = _settled(campaign)
    with many.injection("M1", f"the operator deletes the keys of the leaders of {len(victims)} elections") as injection:
        _take_away(many, injection, victims, "kv/deleterange", lambda kv: {"key": kv["key"]})


def revoke_some_leases(campaign: Campaign) -> None:
    many, victims = _settled(campaign)
    with many.injection(
        "M2", f"the operator revokes the leases of the leaders of {len(victims)} elections"
    ) as injection:
        _take_away(many, injection, victims, "lease/revoke", lambda kv: {"ID": kv["lease"]})


def revoke_behind_stalled_watches(campaign: Campaign) -> None:
    """Only the response to its keep-alive, one among hundreds on the stream, shows that a lease is gone."""
    many, _ = _settled(campaign)
    holder = many.wait_holder()
    with many.injection(
        "M3", f"the watches of {holder.name} receive nothing, and the operator revokes one lease"
    ) as injection:
        holder.link(drop_watch=True)
        many.sleep(0.2)
        first = many.standing()[0]
        injection.deleted.append(int(first["create_revision"]))
        many.cluster.call("lease/revoke", {"ID": first["lease"]})
        many.wait_until_over(holder, injection.token, many.lease)
        holder.clear()


def freeze_used_member(campaign: Campaign) -> None:
    """Freeze it in the middle of a round: with hundreds of leases one is always in progress."""
    many, _ = _settled(campaign)
    holder = many.wait_holder()
    used = holder.used_member()
    with many.injection("M4", f"m{used}, which {holder.name} uses, is frozen for 3 s", keeps=True) as injection:
        freeze(many, injection, used, 3.0)


def _settled(campaign: Campaign) -> tuple[ManyCampaign, Collection[str]]:
    """Wait until all elections are led again, and choose some."""
    assert isinstance(campaign, ManyCampaign)
    campaign.settle()
    some = campaign.chance.sample(campaign.elections, max(1, len(campaign.elections) // _SHARE))
    return campaign, set(some)


def _take_away(
    many: ManyCampaign, injection: Injection, victims: Collection[str], path: str,
    request: Callable[[dict[str, str]], dict[str, str]],
) -> None:  # fmt: skip
    """Return the first key of each of these elections, and record it as taken away before it is."""
    firsts: dict[str, dict[str, str]] = {}
    for kv in many.standing_anywhere():
        firsts.setdefault(unb64(kv["key"]).split("/")[-2], kv)
    chosen = [kv for name, kv in firsts.items() if name in victims]
    injection.deleted += [int(kv["create_revision"]) for kv in chosen]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda kv: many.cluster.call(path, request(kv)), chosen))
    many.sleep(0.3)
    many.wait_all_led(victims, many.lease + 6)
    many.sleep(0.2)


ROWS = {
    "M1": delete_some_keys,
    "M2": revoke_some_leases,
    "M3": revoke_behind_stalled_watches,
    "M4": freeze_used_member,
}
