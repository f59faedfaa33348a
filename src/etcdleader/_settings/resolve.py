"""Resolution of settings: the values for a manager or a client, or all problems."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from .._etcd.password_file import read_password
from .._values.problems import Problem
from ..config import Config, EtcdConfig, validate_election_key
from ..errors import ConfigError, EtcdRefusedError
from .sources import Overrides, Settings, read_settings
from .tables import Section

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """The purpose of reading settings: which are required, and how else a missing one can be given.

    Attributes:
        key_remedy: Another way to give the election key, besides the setting; None: the key may be missing.
        endpoints_remedy: Another way to give the endpoints, besides the setting; empty: there is none.
        needs_section: The election's table must exist. False: it may be missing, unless another table seems to be a
            misspelling of it.
        needs_etcd: If election is on, ``[etcd]`` must have endpoints. False: the program has a client.
        checks_etcd_when_off: ``[etcd]`` is checked even if election is off.
    """

    key_remedy: str | None = "give it as an argument"
    endpoints_remedy: str = ""
    needs_section: bool = True
    needs_etcd: bool = True
    checks_etcd_when_off: bool = False


@dataclass(frozen=True, slots=True)
class Resolved:
    """The result of reading settings.

    Attributes:
        problems: All problems that were found.
        config: The settings of the election; None if they are not valid.
        etcd: The settings of ``[etcd]``; None if they have no endpoints, are not valid, or were not checked.
        election_key: Empty if it is not set, or not valid.
        sections: The tables that were checked.
        places: The places that were searched.
        no_section: The problem that there is no table of the election. None if there is one, or if another table seems
            to be a misspelling of it.
    """

    problems: tuple[str, ...]
    config: Config | None = None
    etcd: EtcdConfig | None = None
    election_key: str = ""
    sections: tuple[Section, ...] = ()
    places: tuple[str, ...] = ()
    no_section: str | None = None

    def checked(self) -> Config:
        """Return the settings of the election.

        Raises:
            ConfigError: There are problems; it lists all.
        """
        if self.config is None or self.problems:
            raise ConfigError(*self.problems)
        return self.config


def resolve(
    settings: object,
    section: str,
    election_key: str | None = None,
    *,
    overrides: Overrides | None = None,
    purpose: Purpose,
) -> Resolved:
    """Read settings once, and check them.

    Args:
        settings: As for ``read_settings``.
        section: The table of the election; may be dotted.
        election_key: The name of the election; None: the one in the settings.
        overrides: The options of a command line.
        purpose: The purpose of reading them.

    Raises:
        TypeError: ``settings`` has none of the types of ``read_settings``.
    """
    try:
        read = read_settings(settings, section, overrides)
    except ConfigError as error:
        return Resolved(error.problems)
    problems = list(read.unreadable)
    config = _config(read, problems, purpose)
    election_key = _election_key(read.leader, election_key, problems, purpose.key_remedy)
    enabled = read.leader.values.get("enabled")
    etcd: EtcdConfig | None = None
    sections: tuple[Section, ...] = (read.leader,)
    if purpose.needs_etcd and (enabled is not False or purpose.checks_etcd_when_off):
        etcd, sections = _etcd_config(read, enabled, problems, purpose.endpoints_remedy), (read.leader, read.etcd)
    no_section = None if read.found or read.misspelled() else read.no_section()
    return Resolved(tuple(problems), config, etcd, election_key, sections, tuple(read.places), no_section)


def resolve_etcd(settings: object, endpoints: Sequence[str] | None, *, remedy: str) -> EtcdConfig:
    """Read the settings of ``[etcd]``, for a command that takes part in no election.

    Args:
        settings: As for ``read_settings``.
        endpoints: Replace those in the settings.
        remedy: Another way to give the endpoints, besides the setting.

    Raises:
        ConfigError: There are problems; it lists all.
    """
    read = read_settings(settings, "leader", Overrides(endpoints=endpoints))
    problems = list(read.unreadable)
    etcd = _etcd_config(read, True, problems, remedy)  # noqa: FBT003 - the value of the setting
    if etcd is None or problems:
        raise ConfigError(*problems)
    return etcd


def _config(read: Settings, problems: list[str], purpose: Purpose) -> Config | None:
    leader = read.leader
    problems += leader.problems
    # A source that could not be read may have the section.
    if not read.found and not read.unreadable and (purpose.needs_section or read.misspelled()):
        problems.append(read.no_section())
    if not leader.exists:
        return None
    if "enabled" not in leader.values:
        problems.append(read.nowhere(f"{leader.name}.enabled is missing: say true or false", leader))
    values = {name: value for name, value in leader.values.items() if name != "election_key"}
    return _made(leader, Config, values, problems)


def _election_key(leader: Section, given: str | None, problems: list[str], remedy: str | None) -> str:
    key: Any = leader.values.get("election_key") if given is None else given
    if key is None:
        # If election is off, it needs no name.
        if remedy is not None and leader.exists and leader.values.get("enabled") is not False:
            problems.append(f"election_key is missing: {remedy} or as {leader.name}.election_key")
        return ""
    if given is None and "election_key" in leader.casts:
        return ""
    try:
        validate_election_key(key)
    except ConfigError as error:
        problems += error.problems if given is not None else map(leader.explain, error.problems)
        return ""
    return str(key)


def _etcd_config(read: Settings, enabled: object, problems: list[str], remedy: str) -> EtcdConfig | None:
    etcd = read.etcd
    problems += etcd.problems
    if "endpoints" in etcd.values:
        config = _made(etcd, EtcdConfig, etcd.values, problems)
        if config is not None and config.password_file is not None:
            try:
                read_password(config.password_file)  # it is read at each login; a process without it must not start
            except EtcdRefusedError as error:
                problems.append(etcd.explain(Problem(str(error), "password_file")))
        return config
    # Endpoints are needed only if election is on. After a read error, that may be unknown.
    if enabled is True and not read.unreadable:
        missing = 'etcd.endpoints is missing: say where etcd is, such as ["127.0.0.1:2379"]'
        if not etcd.exists:
            missing = "there is no [etcd] section" + ("" if remedy else ", and no client was given")
        problems.append(read.nowhere(missing, etcd if etcd.exists else None) + (f"; or {remedy}" if remedy else ""))
    if etcd.exists and enabled is not False:
        # The other settings are still checked. No connection to this endpoint is opened.
        _made(etcd, EtcdConfig, {**etcd.values, "endpoints": "127.0.0.1:1"}, problems)
    return None


def _made(section: Section, make: Callable[..., _T], values: Mapping[str, Any], problems: list[str]) -> _T | None:
    """Return ``make(**values)``. If the values are not valid, add its problems and return None."""
    try:
        return make(**values)
    except ConfigError as error:
        problems += [
            section.explain(problem)
            for problem in error.problems
            if not (isinstance(problem, Problem) and section.casts.intersection(problem.settings))
        ]
        return None
