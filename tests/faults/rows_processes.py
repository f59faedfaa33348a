"""Faults of the leading process: killed, stopped, frozen, blocked, failing, ignoring cancellation, forked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.faults.campaign import Campaign
from tests.faults.candidate import Candidate

__all__ = ("ROWS",)

_FREEZER = Path("/sys/fs/cgroup/freezer")


def kill(campaign: Campaign) -> None:
    holder = campaign.settle()
    with campaign.injection("C1", f"{holder.name} is killed") as injection:
        injection.crashed = True
        holder.kill()
        campaign.died(holder)
        campaign.start(holder)
        campaign.wait_holder(campaign.lease + 6, above=injection.token)


def stop_briefly(campaign: Campaign) -> None:
    campaign.settle()
    # The lease must be fresh, whatever the last fault was.
    campaign.sleep(campaign.options.renew + campaign.options.retry)
    holder = campaign.wait_holder()
    seconds = campaign.chance.uniform(1.0, campaign.lease - campaign.options.margin - campaign.options.renew - 2)
    with campaign.injection("C2", f"{holder.name} is stopped for {seconds:.1f} s", keeps=True):
        holder.freeze()
        try:
            campaign.sleep(seconds)
        finally:
            holder.thaw()
        campaign.sleep(1.0)


def stop_past_lease(campaign: Campaign) -> None:
    holder = campaign.settle()
    with campaign.injection("C3", f"{holder.name} is stopped until another one leads") as injection:
        injection.crashed = True
        holder.freeze()
        try:
            campaign.sleep(campaign.lease - 1)
            _wait_for_successor(campaign, holder, injection.token)
        finally:
            holder.thaw()
        campaign.sleep(0.5)


def freeze_cgroup(campaign: Campaign) -> None:
    holder = campaign.settle()
    with campaign.injection("C4", f"{holder.name} is frozen by its cgroup until another one leads") as injection:
        injection.crashed = True
        with _frozen(campaign, holder):
            campaign.sleep(campaign.lease - 1)
            _wait_for_successor(campaign, holder, injection.token)
        campaign.sleep(0.5)


def block_loop(campaign: Campaign) -> None:
    holder = campaign.settle()
    seconds = campaign.lease + 1.5
    with campaign.injection("C5", f"the loop of {holder.name} is blocked for {seconds:g} s"):
        holder.send_command(f"block {seconds}")
        campaign.sleep(seconds + 0.5)


def raise_in_work(campaign: Campaign) -> None:
    holder = campaign.settle()
    with campaign.injection("C6", f"the work of {holder.name} raises") as injection:
        holder.send_command("raise")
        campaign.wait_until_over(holder, injection.token, 3)
        campaign.wait_holder(campaign.lease + 6, above=injection.token)


def swallow_cancellation(campaign: Campaign) -> None:
    holder = campaign.settle()
    seconds = campaign.chance.uniform(2.0, 4.0)
    with campaign.injection(
        "C8", f"the work of {holder.name} continues for {seconds:.1f} s after it resigned"
    ) as injection:
        begun = holder.commands_begun
        holder.send_command(f"swallow {seconds + 0.2}")
        for _ in range(60):
            campaign.sleep(0.05)
            if holder.commands_begun > begun or holder.token != injection.token:
                break
        holder.send_command("resign")
        campaign.sleep(seconds + 0.5)


def fork(campaign: Campaign) -> None:
    holder = campaign.settle()
    with campaign.injection("C13", f"{holder.name} forks", keeps=True):
        holder.send_command("fork")
        campaign.sleep(1.5)


def stop(campaign: Campaign) -> None:
    """Stop the leader normally, for the figures. This row is not in the must-have set."""
    holder = campaign.settle()
    with campaign.injection("stop", f"the operator stops {holder.name}") as injection:
        holder.send_command("stop")
        if holder.wait(5):
            campaign.died(holder)
            campaign.start(holder)
        campaign.wait_holder(campaign.lease + 6, above=injection.token)


def _wait_for_successor(campaign: Campaign, frozen: Candidate, token: int) -> None:
    """Wait for a leader other than the frozen one, whose last report is that it leads."""
    for _ in range(200):
        campaign.sleep(0.05)
        if any(candidate.token > token for candidate in campaign.candidates if candidate is not frozen):
            return


@contextlib.contextmanager
def _frozen(campaign: Campaign, candidate: Candidate) -> Iterator[None]:
    """Freeze a candidate by cgroup v1's freezer, or by a signal if there is none. The difference does not matter here."""
    group = _FREEZER / f"ef-{campaign.name}-{candidate.pid}"
    try:
        group.mkdir()
    except OSError:
        candidate.freeze()
        try:
            yield
        finally:
            candidate.thaw()
        return
    try:
        (group / "cgroup.procs").write_text(str(candidate.pid))
        (group / "freezer.state").write_text("FROZEN")
        yield
    finally:
        (group / "freezer.state").write_text("THAWED")
        with contextlib.suppress(OSError):
            (_FREEZER / "cgroup.procs").write_text(str(candidate.pid))
        group.rmdir()


ROWS = {
    "C1": kill,
    "C2": stop_briefly,
    "C3": stop_past_lease,
    "C4": freeze_cgroup,
    "C5": block_loop,
    "C6": raise_in_work,
    "C8": swallow_cancellation,
    "C13": fork,
    "stop": stop,
}
