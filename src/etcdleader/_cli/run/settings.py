"""What ``etcdleader run`` campaigns with, and what it tells its command."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import factory
from ..._managers.etcd import EtcdLeaderManager
from ..._managers.noop import NoopLeaderManager
from ..._settings.known import PREFIX, RESERVED, SECRETS
from ..._settings.sources import Settings
from ..._settings.tables import lay, normal
from ...errors import ConfigError
from ...model import Term
from ..options import DEFAULT_SECTION

__all__ = ("Overrides", "command_environment", "make_manager", "number_of_endpoints", "seconds_to_end")

_logger = logging.getLogger("etcdleader.run")


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line says; None: the settings, or the defaults, have it."""

    id: str | None = None
    lease: str | None = None
    retry: str | None = None
    renew: str | None = None
    margin: str | None = None
    endpoints: Sequence[str] | None = None

    def tree(self, section: str) -> dict[str, Any]:
        """As tables, to be laid over the others."""
        names = ("id", "lease", "retry", "renew", "margin")
        table: dict[str, Any] = {name: value for name in names if (value := getattr(self, name)) is not None}
        if table:
            for part in reversed(section.split(".")):
                table = {part: table}
        return {**table, "etcd": {"endpoints": list(self.endpoints)}} if self.endpoints else table


def make_manager(
    election: str | None, settings: Path | None, section: str | None, overrides: Overrides
) -> EtcdLeaderManager | NoopLeaderManager:
    """Make what the factory would make, with the command line above all settings.

    Election is on unless a setting switches it off: the user has typed ``run``.

    Args:
        election: The election key, or None for the setting.
        settings: A file, or None for the files and variables around here.
        section: The table of the election, which must exist; None: ``leader``, which need not.
        overrides: The settings of the command line.

    Raises:
        ConfigError: All that is wrong.
    """
    table = DEFAULT_SECTION if section is None else section
    read = Settings(table)
    if settings is None:
        read.read_around_here()
    else:
        read.read_toml(settings)
    problems = list(read.unreadable)
    if not read.has_section() and not read.unreadable and (section is not None or read.misspelled()):
        problems.append(read.no_section())
    lay(overrides.tree(table), "the command line", read._tree)  # noqa: SLF001 - of this package, as are all below
    lay(_enabled(table), "etcdleader run", read._tree, over=False)  # noqa: SLF001
    read.sort()
    config = factory._config(read, problems)  # noqa: SLF001
    key = factory._election_key(read.leader, election, problems, remedy="give it as --election NAME")  # noqa: SLF001
    if config is not None and not config.enabled:
        if problems:
            raise ConfigError(*problems)
        _logger.warning(
            "election is off: enabled = false from %s; the command runs on each machine that has this setting",
            read.leader.origin("enabled"),
        )
        return NoopLeaderManager(config, key)
    etcd = factory._etcd_config(read, problems, remedy="say --endpoint HOST:PORT")  # noqa: SLF001
    if config is None or etcd is None or problems:
        raise ConfigError(*problems)
    return EtcdLeaderManager(etcd, config, key)


def _enabled(section: str) -> dict[str, Any]:
    table: dict[str, Any] = {"enabled": True}
    for part in reversed(section.split(".")):
        table = {part: table}
    return table


def seconds_to_end(manager: EtcdLeaderManager | NoopLeaderManager, grace: float) -> tuple[float, float]:
    """How long before the deadline the command gets SIGTERM when renewals fail, and how long after it SIGKILL.

    The second is a quarter of the margin: three quarters are left for killing before the lease can pass on. The first
    is what ``grace`` needs beyond that, as far as a lost answer still costs no leadership.
    """
    config = manager.config
    after = config.margin / 4
    spare = config.lease - (config.renew + 2 * config.retry + config.margin)
    return max(0.0, min(grace - after, spare)), after


def number_of_endpoints(manager: EtcdLeaderManager | NoopLeaderManager) -> int:
    """Return how many endpoints etcd has; 1 if election is off."""
    return len(manager._client.endpoints) if isinstance(manager, EtcdLeaderManager) else 1  # noqa: SLF001


def command_environment(variables: Mapping[str, str], term: Term) -> dict[str, str]:
    """The variables for the command: those of this process, without secrets, and what it may know of its term."""
    kept = {name: value for name, value in variables.items() if not _secret(name, value)}
    return {**kept, **{f"{PREFIX}{name.upper()}": str(getattr(term, name)) for name in RESERVED}}


def _secret(name: str, value: str) -> bool:
    """Whether it sets a password: by its name, however it is spelled, or in a table that is its value."""
    told = f"{normal(name)} {value.lower()}"
    return name.upper().startswith(PREFIX) and any(secret in told for secret in SECRETS)
