"""Faults of authentication, on a cluster that has it switched on, with tokens that last five seconds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from tests.faults.campaign import ELECTION, REGISTER, Campaign
from tests.faults.cluster import OperatorError, b64

__all__ = ("ETCD_ARGS", "ROWS", "TOKEN_TTL", "USER", "switch_on")

TOKEN_TTL = 5
ETCD_ARGS = ("--auth-token", "simple", "--auth-token-ttl", str(TOKEN_TTL), "--bcrypt-cost", "4")
USER = "app"
_ROOT = ("root", "root-of-the-fault-suite")


def switch_on(campaign: Campaign, password: str) -> None:
    """Create a user with exactly the permissions of an election, then enable authentication."""
    call = campaign.cluster.call
    call("auth/user/add", {"name": _ROOT[0], "password": _ROOT[1]})
    call("auth/role/add", {"name": "root"})
    call("auth/user/grant", {"user": "root", "role": "root"})
    call("auth/user/add", {"name": USER, "password": password})
    call("auth/role/add", {"name": USER})
    _grant(campaign, f"{ELECTION}/", f"{ELECTION}0")
    _grant(campaign, REGISTER, "")
    call("auth/user/grant", {"user": USER, "role": USER})
    campaign.cluster.use_login(*_ROOT)
    campaign.login = _ROOT
    call("auth/enable", {})


def change(campaign: Campaign) -> None:
    campaign.settle()
    kind = sum(injection.row == "D8" for injection in campaign.injections) % len(_CHANGES)
    note, act = _CHANGES[kind]
    with campaign.injection("D8", note, keeps=True):
        act(campaign)
        campaign.sleep(1.5 * campaign.options.renew)


def expire_tokens(campaign: Campaign) -> None:
    """A token's time is renewed only on the member that uses it. On the others it has expired."""
    holder = campaign.settle()
    campaign.sleep(TOKEN_TTL + 1)
    used = holder.used_member()
    with campaign.injection(
        "D9", f"m{used} refuses {holder.name}, whose token has expired on the other members", keeps=True
    ):
        holder.link(used, refuse=True)
        campaign.sleep(3 * campaign.options.renew)
        holder.clear()


def _add_user(campaign: Campaign) -> None:
    campaign.cluster.call("auth/user/add", {"name": "another", "password": "one"})
    campaign.cluster.call("auth/user/delete", {"name": "another"})


def _rotate(campaign: Campaign) -> None:
    campaign.cluster.call("auth/user/changepw", {"name": USER, "password": campaign.options.password})


def _switch_off_and_on(campaign: Campaign) -> None:
    campaign.cluster.call("auth/disable", {})
    campaign.sleep(2.0)
    campaign.cluster.call("auth/enable", {})


def _take_permission(campaign: Campaign) -> None:
    body = {"role": USER, "key": b64(f"{ELECTION}/"), "range_end": b64(f"{ELECTION}0")}
    with contextlib.suppress(OperatorError):
        campaign.cluster.call("auth/role/revoke", body)
    campaign.sleep(2.0)
    _grant(campaign, f"{ELECTION}/", f"{ELECTION}0")


def _grant(campaign: Campaign, key: str, end: str) -> None:
    permission = {"permType": "READWRITE", "key": b64(key), "range_end": b64(end)}
    campaign.cluster.call("auth/role/grant", {"name": USER, "perm": permission})


_CHANGES: tuple[tuple[str, Callable[[Campaign], None]], ...] = (
    ("the operator adds and deletes a user", _add_user),
    ("the operator changes the password, which invalidates every token", _rotate),
    ("the operator disables authentication for 2 s", _switch_off_and_on),
    ("the operator revokes the permission for 2 s", _take_permission),
)

ROWS = {"D8": change, "D9": expire_tokens}
