"""From settings to a manager."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from ._managers.etcd import EtcdLeaderManager
from ._managers.noop import NoopLeaderManager
from .manager import LeaderManager

__all__ = ("must_new_leader_manager_from_config",)

_logger = logging.getLogger("etcdleader")


def must_new_leader_manager_from_config(
    election_key: str | None = None,
    *,
    client: Any = None,
    settings: Mapping[str, Any] | str | os.PathLike[str] | Any | None = None,
    section: str = "leader",
) -> LeaderManager:
    """Make the manager that the settings ask for, or raise.

    It may be called while a module is imported: it opens no connection, starts nothing, needs neither an event loop nor
    etcd, and the process may fork afterwards. One INFO line tells what was read and where it came from.

    Without ``settings`` these are read, relative to the working directory, later ones over earlier ones:
    ``settings.toml``, ``.secrets.toml``, ``config/settings.toml``, ``config/.secrets.toml``, ``.env``, and environment
    variables such as ``ETCDLEADER_LEADER__LEASE=30s``. Upper and lower case are one, and so are ``-`` and ``_``. Tables
    are merged, lists replace each other, and what is not set has its default. ``enabled`` must be set, and, where
    election is on, ``etcd.endpoints``: no process leads, and no password is sent, by accident.

    Args:
        election_key: What is campaigned for. By default the section's ``election_key``.
        client: How to reach etcd, for :class:`EtcdLeaderManager`. By default the ``[etcd]`` table says so.
        settings: A ``Dynaconf`` object, a mapping, or the path of a TOML file. Nothing else is read then.
        section: The table of this election's settings; may be dotted, as in ``"sync.election"``.

    Returns:
        A :class:`NoopLeaderManager` where ``enabled`` is false, else an :class:`EtcdLeaderManager`.

    Raises:
        ConfigError: The section or one of its two required settings is missing, or a setting is wrong. One
            error tells everything that is, each with its value, where it came from and what would do; secrets are not
            shown.
        TypeError: ``client`` or ``settings`` is none of the above.
    """
    # With what reads files: a program that makes its managers itself needs none of it.
    from ._settings.resolve import Purpose, resolve

    read = resolve(settings, section, election_key, purpose=Purpose(needs_etcd=client is None))
    config, etcd = read.checked(), read.etcd
    origins = dict.fromkeys(origin for each in read.sections for origin in each.origins)
    _logger.info(
        "election for %r: %s%s, from %s", read.election_key, config, f", {etcd}" if etcd else "", ", ".join(origins)
    )
    if not config.enabled:
        return NoopLeaderManager(config, read.election_key)
    return EtcdLeaderManager(client if etcd is None else etcd, config, read.election_key)
