"""The settings of an election and of the way to etcd, as values that cannot be wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias

from ._core.durations import parse_duration
from .errors import ConfigError

__all__ = ("Config", "Duration", "EtcdConfig", "check_election_key")

Duration: TypeAlias = float | str | timedelta
"""Seconds, a Go duration string such as ``"1m30s"``, or a ``timedelta``."""

_LONGEST_LEASE = 9e9
"""etcd's own limit on a TTL, in seconds."""


@dataclass(frozen=True, init=False, slots=True)
class Config:
    """The settings of an election. All durations are kept as seconds.

    Attributes:
        enabled: Election on or off, for the factory.
        id: What the identity begins with; ``{host}`` and ``{pid}`` in it are replaced.
        lease: How long the seat stays taken when its holder is gone; etcd counts it in whole seconds.
        retry: Bound of one attempt, and the longest pause between two.
        renew: From one confirmed renewal to the start of the next.
        margin: How long before etcd may give the seat away its holder stops believing.
        exit_on_overrun: End the process when work ignores its cancellation past the deadline.
    """

    enabled: bool
    id: str
    lease: float
    retry: float
    renew: float
    margin: float
    exit_on_overrun: bool

    def __init__(
        self,
        *,
        enabled: bool = False,
        id: str = "leader",  # noqa: A002 - the name in Go and in the settings
        lease: Duration = 60,
        retry: Duration = 5,
        renew: Duration = 15,
        margin: Duration | None = None,
        exit_on_overrun: bool = False,
    ) -> None:
        """Check and keep them.

        Args:
            margin: By default 5 % of the lease, at least 1 s, at most a quarter of the lease.

        Raises:
            ConfigError: One or more of them cannot be; it names each.
        """
        problems: list[str] = []
        seconds = {
            name: _seconds(name, value, problems)
            for name, value in (("lease", lease), ("retry", retry), ("renew", renew), ("margin", margin))
            if value is not None
        }
        length = seconds["lease"]
        seconds.setdefault("margin", min(max(1.0, 0.05 * length), length / 4))
        for name, flag in (("enabled", enabled), ("exit_on_overrun", exit_on_overrun)):
            if not isinstance(flag, bool):
                problems.append(f"{name} = {flag!r}: must be true or false")
        if not isinstance(id, str) or not id or not id.isprintable():
            problems.append(f"id = {id!r}: must be a name without control characters")
        if not problems and not 1 <= length <= _LONGEST_LEASE:
            problems.append(f"lease = {lease!r}: must be from 1s to {_LONGEST_LEASE:g}s")
        needed = seconds["renew"] + 2 * seconds["retry"] + seconds["margin"]
        if not problems and needed > length:
            problems.append(
                f"lease = {lease!r}: must be at least renew + 2 * retry + margin = {needed:g}s, "
                "so that one lost answer does not cost leadership"
            )
        if problems:
            raise ConfigError(*problems)
        values = {"enabled": enabled, "id": id, **seconds, "exit_on_overrun": exit_on_overrun}
        for name, value in values.items():
            object.__setattr__(self, name, value)


def _seconds(name: str, value: Duration, problems: list[str]) -> float:
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        problems.append(f"{name} = {value!r}: {error}")
        return math.nan
    if seconds <= 0:
        problems.append(f"{name} = {value!r}: must be positive")
    return seconds


@dataclass(frozen=True, init=False, slots=True)
class EtcdConfig:
    """How to reach one etcd cluster. Hashable: managers with an equal one share a connection."""

    endpoints: tuple[str, ...]
    user: str | None
    password: str | None = field(repr=False)
    ca_cert: str | None
    cert: str | None
    key: str | None
    allow_plaintext_password: bool

    def __init__(
        self,
        endpoints: str | Iterable[str] = ("127.0.0.1:2379",),
        user: str | None = None,
        password: str | None = None,
        ca_cert: str | None = None,
        cert: str | None = None,
        key: str | None = None,
        *,
        allow_plaintext_password: bool = False,
    ) -> None:
        values = {
            "endpoints": tuple(endpoints.split(",") if isinstance(endpoints, str) else endpoints),
            "user": user,
            "password": password,
            "ca_cert": ca_cert,
            "cert": cert,
            "key": key,
            "allow_plaintext_password": allow_plaintext_password,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.ca_cert is not None or any(endpoint.startswith("https://") for endpoint in self.endpoints)


def check_election_key(election_key: str) -> None:
    """Raise ConfigError unless this can be an election key."""
    checks: tuple[tuple[Callable[[str], bool], str], ...] = (
        (lambda key: not key, "is empty"),
        (lambda key: key.endswith("/"), "ends in /"),
        (lambda key: "\0" in key, "holds a NUL"),
    )
    for wrong, what in checks:
        if wrong(election_key):
            raise ConfigError(f"election_key = {election_key!r}: {what}")
