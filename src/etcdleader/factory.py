"""The factory: it makes a manager from settings."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ._managers.etcd_manager import EtcdLeaderManager
from ._managers.noop_manager import NoopLeaderManager
from .manager import LeaderManager
from .metrics import Metrics

__all__ = ("from_settings", "must_new_leader_manager_from_config")

_logger = logging.getLogger("etcdleader")


def must_new_leader_manager_from_config(
    election_key: str | None = None,
    *,
    client: Any = None,
    settings: Mapping[str, Any] | str | os.PathLike[str] | Any | None = None,
    section: str = "leader",
    metrics: Metrics | None = None,
    advertise: str | None = None,
) -> LeaderManager:
    """Make the manager that the settings describe, or raise.

    It may be called while a module is imported. It opens no connection, starts no task or thread, and needs neither an
    event loop nor etcd. The process may fork afterwards. One INFO line has the settings and their origins.

    Without ``settings`` these are read, relative to the working directory, later ones over earlier ones:
    ``settings.toml``, ``settings.local.toml``, ``.secrets.toml``, the same three under ``config/``, ``.env``, and
    environment variables such as ``ETCDLEADER_LEADER__LEASE=30s``. In names, case makes no difference, and ``-`` equals ``_``.
    Tables are merged, lists replace each other, and missing settings have their defaults. ``enabled`` must be set. If
    election is on, ``etcd.endpoints`` must be set, too. So no process leads, and no password is sent, by accident.

    Args:
        election_key: The name of the election. By default the section's ``election_key``.
        client: The way to etcd, as for :class:`EtcdLeaderManager`. By default it comes from the ``[etcd]`` table.
        settings: A ``Dynaconf`` object, a mapping, or the path of a TOML file. Then no other source is read.
        section: The table of this election's settings; may be dotted, as in ``"sync.election"``.
        metrics: Receives the events of this manager. Add each further object by ``manager.add_metrics()``.
        advertise: The text that the candidate advertises, such as its address. By default the section's ``advertise``.
            ``{host}`` and ``{pid}`` in either are replaced.

    Returns:
        A :class:`NoopLeaderManager` if ``enabled`` is false, otherwise an :class:`EtcdLeaderManager`.

    Raises:
        ConfigError: The section or one of its two required settings is missing, or a setting is wrong. One
            error lists all problems, each with the value, its origin and the remedy. Secrets are not shown.
        TypeError: ``client``, ``settings`` or ``metrics`` has none of the above types.
    """
    # Imported here, because it imports the readers of files. A program that makes its managers itself does not need them.
    from ._settings.resolve import Purpose, resolve

    read = resolve(settings, section, election_key, purpose=Purpose(needs_etcd=client is None))
    config, etcd = read.checked(), read.etcd
    if advertise is not None:
        config = replace(config, advertise=advertise)
    origins = dict.fromkeys(origin for each in read.sections for origin in each.origins)
    _logger.info(
        "election for %r: %s%s, from %s", read.election_key, config, f", {etcd}" if etcd else "", ", ".join(origins)
    )
    manager: LeaderManager
    if config.enabled:
        manager = EtcdLeaderManager(client if etcd is None else etcd, config, read.election_key)
    else:
        manager = NoopLeaderManager(config, read.election_key)
    if metrics is not None:
        manager.add_metrics(metrics)
    return manager


from_settings = must_new_leader_manager_from_config
"""The same function, by its Python name."""
