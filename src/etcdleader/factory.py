"""From settings to a manager."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ._managers.etcd import EtcdLeaderManager
from ._managers.noop import NoopLeaderManager
from .config import Config, EtcdConfig, check_election_key
from .errors import ConfigError
from .manager import LeaderManager

if TYPE_CHECKING:
    from ._settings.sources import Settings
    from ._settings.tables import Section

__all__ = ("must_new_leader_manager_from_config",)

_T = TypeVar("_T")
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
    from ._settings.sources import (
        read_settings,
    )  # with what reads files: an app that makes its managers itself needs none of it

    read = read_settings(settings, section)
    problems = list(read.unreadable)
    config = _config(read, problems)
    election_key = _election_key(read.leader, election_key, problems)
    etcd: EtcdConfig | None = None
    sections = [read.leader]
    if read.leader.values.get("enabled") is not False and client is None:
        sections.append(read.etcd)
        etcd = _etcd_config(read, problems)
    if config is None or problems:
        raise ConfigError(*problems)
    origins = dict.fromkeys(origin for each in sections for origin in each.origins)
    _logger.info(
        "election for %r: %s%s, from %s", election_key, config, f", {etcd}" if etcd else "", ", ".join(origins)
    )
    if not config.enabled:
        return NoopLeaderManager(config, election_key)
    return EtcdLeaderManager(client if etcd is None else etcd, config, election_key)


def _config(read: Settings, problems: list[str]) -> Config | None:
    leader = read.leader
    problems += leader.problems
    if not leader.exists:
        # What could not be read may have it.
        if not read.unreadable:
            problems.append(read.no_section())
        return None
    if "enabled" not in leader.values:
        problems.append(read.nowhere(f"{leader.name}.enabled is missing: say true or false"))
    values = {name: value for name, value in leader.values.items() if name != "election_key"}
    return _made(leader, Config, values, problems)


def _election_key(
    leader: Section, election_key: str | None, problems: list[str], *, remedy: str = "give it as an argument"
) -> str:
    if election_key is None and "election_key" in leader.values:
        given = leader.values["election_key"]
        _made(leader, check_election_key, {"election_key": given}, problems)
        return str(given)
    if election_key is None:
        # Without an election nothing is campaigned for, so it need not have a name.
        if leader.exists and leader.values.get("enabled") is not False:
            problems.append(f"election_key is missing: {remedy} or as {leader.name}.election_key")
        return ""
    try:
        check_election_key(election_key)
    except ConfigError as error:
        problems += error.problems
    return election_key


def _etcd_config(read: Settings, problems: list[str], *, remedy: str = "") -> EtcdConfig | None:
    etcd = read.etcd
    problems += etcd.problems
    if "endpoints" in etcd.values:
        return _made(etcd, EtcdConfig, etcd.values, problems)
    # Without an election they are not needed, and whether there is one may not be known.
    if read.leader.values.get("enabled") is True and not read.unreadable:
        missing = 'etcd.endpoints is missing: say where etcd is, such as ["127.0.0.1:2379"]'
        if not etcd.exists:
            missing = "there is no [etcd] section" + ("" if remedy else ", and no client was given")
        problems.append(read.nowhere(missing) + (f"; or {remedy}" if remedy else ""))
    if etcd.exists:
        # The other settings are checked all the same. Nothing is connected with this endpoint.
        _made(etcd, EtcdConfig, {**etcd.values, "endpoints": "127.0.0.1:1"}, problems)
    return None


def _made(section: Section, make: Callable[..., _T], values: Mapping[str, Any], problems: list[str]) -> _T | None:
    """What ``make`` makes of the values, or None and its problems."""
    try:
        return make(**values)
    except ConfigError as error:
        problems += [section.explain(problem) for problem in error.problems]
        return None
