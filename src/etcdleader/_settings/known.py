"""The names of settings: their kinds, the environment prefix, and which are reserved or secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from .._values.kinds import Kind, kinds
from ..config import Config, EtcdConfig

PREFIX = "ETCDLEADER_"
"""The prefix of the environment variables."""
RESERVED = ("token", "election", "key", "identity", "lease_id")
"""Attributes of the term that ``etcdleader run`` passes to its command, as ``ETCDLEADER_TOKEN`` and so on.

The command may campaign, too, so these variables are no settings.
"""

LEADER: Mapping[str, Kind] = {**kinds(Config), "election_key": Kind.TEXT}
"""The settings in the table of an election."""
ETCD: Mapping[str, Kind] = kinds(EtcdConfig)
"""The settings in ``[etcd]``."""
SCALARS = frozenset(name for name, kind in (*LEADER.items(), *ETCD.items()) if kind is not Kind.LIST)
SECRETS = frozenset(each.name for each in fields(EtcdConfig) if not each.repr)
"""Their values are never shown."""
TELLING = frozenset(LEADER) - {each.name for each in fields(Config) if each.metadata.get("common")}
"""A table with one of these settings is probably that of an election."""


def option_of(setting: str) -> str:
    """Return the option of the command line that gives a setting of an election."""
    return f"--{setting.replace('_', '-')}"
