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


ENVIRONMENTS_OF_ALL = frozenset({"default", "global"})
"""dynaconf's names for the environments that each process reads."""
ENVIRONMENTS = ENVIRONMENTS_OF_ALL.union(
    ("development", "dev", "local", "production", "prod", "qa", "stage", "staging", "test", "testing")
)
"""Usual names of dynaconf's environments."""
CASTS = frozenset({
    "bool", "capitalize", "casefold", "comment", "del", "empty", "float", "format", "get", "insert", "int", "jinja", "json",
    "lower", "lstrip", "merge", "merge_unique", "none", "note", "null", "read_file", "reset", "rstrip", "split", "str",
    "strip", "swapcase", "title", "upper",
})  # fmt: skip
"""The words that are commands in dynaconf if a text begins with ``@`` and one of them."""


def cast_in(value: object) -> str | None:
    """Return the cast of dynaconf with which a text, or a text in a list, begins; None if there is none."""
    for text in value if isinstance(value, list | tuple) else (value,):
        if isinstance(text, str) and text.lstrip().startswith("@"):
            word = text.split(maxsplit=1)[0]
            if word[1:] in CASTS:
                return word
    return None


def option_of(setting: str) -> str:
    """Return the option of the command line that gives a setting of an election."""
    return f"--{setting.replace('_', '-')}"
