"""Faults between a candidate and the members: cut, half open, slow, lost responses, a stalled watch."""

from __future__ import annotations

from tests.faults.campaign import Campaign

__all__ = ("ROWS",)


def cut_off(campaign: Campaign) -> None:
    holder = campaign.settle()
    seconds = campaign.chance.choice([3.0, campaign.lease + 1.5])
    with campaign.injection(
        "B1", f"the network cuts off {holder.name} for {seconds:g} s", keeps=seconds < 4
    ) as injection:
        campaign.network.set_link(holder.name, up=False)
        try:
            with campaign.cut(injection, holder):
                campaign.sleep(seconds)
        finally:
            campaign.network.set_link(holder.name, up=True)


def half_open(campaign: Campaign) -> None:
    holder = campaign.settle()
    if campaign.chance.random() < 0.5:
        used = holder.used_member()
        with campaign.injection("B2", f"m{used}, which {holder.name} uses, is half open for 4 s", keeps=True):
            holder.link(used, stall=True)
            campaign.sleep(4.0)
            holder.clear()
        return
    with campaign.injection("B2", f"all members are half open for {holder.name}") as injection:
        holder.link(stall=True)
        with campaign.cut(injection, holder):
            campaign.wait_until_over(holder, injection.token, campaign.lease + 1)
            campaign.sleep(1.0)
        holder.clear()


def slow_answers(campaign: Campaign) -> None:
    holder = campaign.settle()
    if campaign.chance.random() < 0.4:
        # A renewal takes two round trips, and an attempt lasts at most `retry`, which is 1 s.
        delay = campaign.chance.choice([0.05, 0.1, 0.2]) * campaign.options.retry
        with campaign.injection("B3", f"each request and each response of {holder.name} takes {delay:g} s", keeps=True):
            holder.link(delay_up=delay, delay_down=delay)
            campaign.sleep(4.0)
            holder.clear()
        return
    delay = campaign.chance.uniform(0.35, 0.45) * campaign.options.retry
    with campaign.injection(
        "B3", f"responses to {holder.name} take {delay:.2f} s, then its requests are lost"
    ) as injection:
        holder.link(delay_down=delay)
        campaign.sleep(3 * campaign.options.renew)
        # Responses in flight still arrive. Counted from their arrival, they would seem newer than they are.
        holder.link(drop_up=True)
        with campaign.cut(injection, holder):
            campaign.wait_until_over(holder, injection.token, campaign.lease + 2)
            campaign.sleep(1.0)
        holder.clear()


def answers_lost(campaign: Campaign) -> None:
    holder = campaign.settle()
    if campaign.chance.random() < 0.5:
        with campaign.injection(
            "B4", f"responses to {holder.name} are lost for 1.2 s, then its connections end", keeps=True
        ):
            holder.link(drop_down=True)
            campaign.sleep(1.2)
            holder.clear()
            campaign.sleep(1.5)
        return
    newcomer = campaign.chance.choice([candidate for candidate in campaign.candidates if candidate is not holder])
    with campaign.injection("B4", f"responses to {newcomer.name} are lost while it joins", keeps=True):
        newcomer.send_command("stop")
        newcomer.wait(5)
        campaign.died(newcomer)
        newcomer.link(drop_down=True)
        campaign.start(newcomer)
        campaign.sleep(2.5)
        newcomer.clear()
        campaign.sleep(1.5)


def stalled_watch(campaign: Campaign) -> None:
    holder = campaign.settle()
    with campaign.injection(
        "B9", f"the watches of {holder.name} receive nothing, and the operator deletes its key"
    ) as injection:
        holder.link(drop_watch=True)
        campaign.sleep(0.2)
        injection.deleted.append(injection.token)
        _delete_key_of(campaign, injection.token)
        campaign.wait_until_over(holder, injection.token, campaign.lease)
        holder.clear()


def reset(campaign: Campaign) -> None:
    """Reset connections, and close them slowly, at any moment. This row is not in the must-have set."""
    campaign.settle()
    with campaign.injection("B5", "every connection is reset, again and again", keeps=True):
        for _ in range(5):
            for candidate in campaign.candidates:
                candidate.link(slow_close=0.5)
                candidate.link(reset=True)
            campaign.sleep(0.4)


def _delete_key_of(campaign: Campaign, token: int) -> None:
    for kv in campaign.standing():
        if int(kv["create_revision"]) == token:
            campaign.cluster.call("kv/deleterange", {"key": kv["key"]})


ROWS = {"B1": cut_off, "B2": half_open, "B3": slow_answers, "B4": answers_lost, "B5": reset, "B9": stalled_watch}
NEEDS_NAMESPACES = {"B1"}
