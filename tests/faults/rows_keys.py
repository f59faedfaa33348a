"""Faults of the election's keys, caused by an operator or a mistake, and an operator's requests to change them."""

from __future__ import annotations

import base64

from tests.faults.campaign import Campaign, identity_of
from tests.faults.cluster import OperatorError
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


def hand_over(campaign: Campaign) -> None:
    """Hand leadership over to the last in the queue: all others make way. This row is not in the must-have set."""
    holder = campaign.settle(everybody=True)
    named = {candidate.identity: candidate for candidate in campaign.candidates if candidate.running}
    last = next((one for kv in reversed(campaign.standing()) if (one := named.get(identity_of(kv["value"])))), holder)
    if last is holder:
        raise OperatorError("the last in the queue is the leader, or unknown")
    with campaign.injection("E1", f"{holder.name} hands leadership over to {last.name}") as injection:
        holder.send_command(f"hand-over {last.identity}")
        successor = campaign.wait_holder(campaign.lease + 6, above=injection.token)
        if successor is not last:
            campaign.complain(f"{successor.name} leads after a hand-over to {last.name}")
        campaign.sleep(0.2)


def advertise(campaign: Campaign) -> None:
    """Change the values of all keys. This row is not in the must-have set."""
    campaign.settle()
    value = f"http://{campaign.chance.randrange(2**32):x}:80"
    with campaign.injection("E2", f"every candidate advertises {value}", keeps=True):
        for candidate in campaign.candidates:
            candidate.send_command(f"advertise {value}")
        for _ in range(100):
            campaign.sleep(0.1)
            values = [base64.b64decode(kv["value"]).decode() for kv in campaign.standing()]
            if len(values) == len(campaign.candidates) and all(value in one for one in values):
                break
        else:
            campaign.complain(f"not every key has the advertised value {value}")
        campaign.sleep(campaign.options.renew * 2)  # a renewal must confirm the key with its new value


def _first(campaign: Campaign, injection: Injection) -> dict[str, str]:
    """Return the first key. Record it as taken away before that happens."""
    first = campaign.standing()[0]
    injection.deleted.append(int(first["create_revision"]))
    return first


def _await_next(campaign: Campaign, injection: Injection) -> None:
    campaign.wait_holder(campaign.lease + 6, above=injection.token)
    campaign.sleep(0.2)


ROWS = {
    "D1": delete_key,
    "D2": revoke_lease,
    "D3": delete_prefix,
    "E1": hand_over,
    "E2": advertise,
}
