"""The settings of ``etcdleader run``, and the environment of its command."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from ..._managers.etcd_manager import EtcdLeaderManager
from ..._managers.noop_manager import NoopLeaderManager
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
        settings: A settings file, or None for the default files and the environment.
        section: The table of the election, which must exist; None for ``leader``, which may be missing.
        overrides: The values from the command line.

    Raises:
        ConfigError: The settings are wrong. It lists all problems.
    """
    purpose = Purpose(
        key_remedy="give it as --election NAME",
        endpoints_remedy="use --endpoint HOST:PORT",
        needs_section=section is not None,
    )
    table = DEFAULT_SECTION if section is None else section
    read = resolve(settings, table, election, overrides=overrides, purpose=purpose)
    read.checked()
    return read


def make_manager(read: Resolved) -> EtcdLeaderManager | NoopLeaderManager:
    """Return the manager that the factory would create from these settings."""
    config = read.checked()
    if read.etcd is not None:
        return EtcdLeaderManager(read.etcd, config, read.election_key)
    _logger.warning(
        "election is off: enabled = false from %s; the command runs on each machine that has this setting",
        read.sections[0].origin("enabled"),
    )
    return NoopLeaderManager(config, read.election_key)


def seconds_to_end(manager: EtcdLeaderManager | NoopLeaderManager, grace: float) -> tuple[float, float]:
    """Return the seconds between SIGTERM and the deadline if renewals fail, and those between the deadline and SIGKILL.

    The second is a quarter of the margin. Three quarters remain to kill the processes before another candidate can
    lead. The first is the part of ``grace`` that exceeds the second. It is limited by the lease's spare time, so that
    one lost response costs no leadership.
    """
    config = manager.config
    sigkill_after_deadline = config.margin / 4
    spare = config.lease - (config.renew + 2 * config.retry + config.margin)
    return max(0.0, min(grace - sigkill_after_deadline, spare)), sigkill_after_deadline


def command_environment(variables: Mapping[str, str], term: Term) -> dict[str, str]:
    """Return the command's environment: the variables of this process without secrets, and those of its term."""
    kept = {name: value for name, value in variables.items() if not _secret(name, value)}
    return {**kept, **{f"{PREFIX}{name.upper()}": str(getattr(term, name)) for name in RESERVED}}


def _secret(name: str, value: str) -> bool:
    """Return whether a variable sets a password, by its name in any spelling or in a table that is its value."""
    text = f"{normal(name)} {value.lower()}"
    return name.upper().startswith(PREFIX) and any(secret in text for secret in SECRETS)
