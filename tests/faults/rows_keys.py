"""Faults of the election's keys, caused by an operator or a mistake."""

from __future__ import annotations

from tests.faults.campaign import Campaign
from tests.faults.history import Injection

__all__ = ("ROWS",)


def delete_key(campaign: Campaign) -> None:
    holder = campaign.settle()
    with campaign.injection("D1", f"the operator deletes the key of {holder.name}") as injection:
        kv = _first(campaign, injection)
        campaign.cluster.call("kv/deleterange", {"key": kv["key"]})
        _await_next(campaign, injection)


def revoke_lease(campaign: Campaign) -> None:
    holder = campaign.settle()
    with campaign.injection("D2", f"the operator revokes the lease of {holder.name}") as injection:
        kv = _first(campaign, injection)
        campaign.cluster.call("lease/revoke", {"ID": kv["lease"]})
        _await_next(campaign, injection)


def delete_prefix(campaign: Campaign) -> None:
    campaign.settle()
    with campaign.injection("D3", "the operator deletes every key of the election") as injection:
        injection.deleted += [int(kv["create_revision"]) for kv in campaign.standing()]
        campaign.cluster.call("kv/deleterange", campaign.range)
        _await_next(campaign, injection)


def _first(campaign: Campaign, injection: Injection) -> dict[str, str]:
    """Return the first key. Record it as taken away before that happens."""
    first = campaign.standing()[0]
    injection.deleted.append(int(first["create_revision"]))
    return first


def _await_next(campaign: Campaign, injection: Injection) -> None:
    campaign.wait_holder(campaign.lease + 6, above=injection.token)
    campaign.sleep(0.2)


ROWS = {"D1": delete_key, "D2": revoke_lease, "D3": delete_prefix}
