"""What ``etcdleader run`` campaigns with, and what it tells its command."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from ..._managers.etcd import EtcdLeaderManager
from ..._managers.noop import NoopLeaderManager
from ..._settings.known import PREFIX, RESERVED, SECRETS
from ..._settings.resolve import Purpose, Resolved, resolve
from ..._settings.sources import Overrides
from ..._settings.tables import normal
from ...model import Term
from ..options import DEFAULT_SECTION

_logger = logging.getLogger("etcdleader.run")


def resolve_run(election: str | None, settings: Path | None, section: str | None, overrides: Overrides) -> Resolved:
    """Read the settings of ``run``.

    Args:
        election: The election key, or None for the setting.
        settings: A file, or None for the files and variables around here.
        section: The table of the election, which must exist; None: ``leader``, which need not.
        overrides: What the command line says.

    Raises:
        ConfigError: All that is wrong.
    """
    purpose = Purpose(
        key_remedy="give it as --election NAME",
        endpoints_remedy="say --endpoint HOST:PORT",
        needs_section=section is not None,
    )
    table = DEFAULT_SECTION if section is None else section
    read = resolve(settings, table, election, overrides=overrides, purpose=purpose)
    read.checked()
    return read


def make_manager(read: Resolved) -> EtcdLeaderManager | NoopLeaderManager:
    """Make what the factory would make of these settings."""
    config = read.checked()
    if read.etcd is not None:
        return EtcdLeaderManager(read.etcd, config, read.election_key)
    _logger.warning(
        "election is off: enabled = false from %s; the command runs on each machine that has this setting",
        read.sections[0].origin("enabled"),
    )
    return NoopLeaderManager(config, read.election_key)


def seconds_to_end(manager: EtcdLeaderManager | NoopLeaderManager, grace: float) -> tuple[float, float]:
    """How long before the deadline the command gets SIGTERM when renewals fail, and how long after it SIGKILL.

    The second is a quarter of the margin: three quarters are left for killing before the lease can pass on. The first
    is what ``grace`` needs beyond that, as far as a lost answer still costs no leadership.
    """
    config = manager.config
    after = config.margin / 4
    spare = config.lease - (config.renew + 2 * config.retry + config.margin)
    return max(0.0, min(grace - after, spare)), after


def command_environment(variables: Mapping[str, str], term: Term) -> dict[str, str]:
    """The variables for the command: those of this process, without secrets, and what it may know of its term."""
    kept = {name: value for name, value in variables.items() if not _secret(name, value)}
    return {**kept, **{f"{PREFIX}{name.upper()}": str(getattr(term, name)) for name in RESERVED}}


def _secret(name: str, value: str) -> bool:
    """Whether it sets a password: by its name, however it is spelled, or in a table that is its value."""
    told = f"{normal(name)} {value.lower()}"
    return name.upper().startswith(PREFIX) and any(secret in told for secret in SECRETS)
