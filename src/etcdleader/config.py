"""The settings of an election and of etcd, as valid values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol, TypeAlias, runtime_checkable

from ._values.addresses import is_loopback, normalize_endpoint, srv_domain
from ._values.durations import parse_duration
from ._values.kinds import Kind, kinds
from ._values.placeholders import placeholder_problem
from ._values.problems import Problem
from .errors import ConfigError

__all__ = (
    "MIN_RECOMMENDED_LEASE_SECONDS",
    "Config",
    "Duration",
    "EtcdConfig",
    "validate_advertised",
    "validate_election_key",
)

Duration: TypeAlias = float | str | timedelta
"""Seconds, a Go duration string such as ``"1m30s"``, or a ``timedelta``."""

FilePath: TypeAlias = str
"""The path of a file: of PEM, or of a password."""

MIN_RECOMMENDED_LEASE_SECONDS = 5.0
"""A shorter lease can be lost whenever etcd elects another leader."""

_MAX_LEASE_SECONDS = 9e9
"""etcd's limit on a TTL, in seconds."""
_LEAST_BYTES, _MOST_BYTES = 2**20, 2**31
"""The bounds of ``max_recv_bytes``: etcd allows requests of 1.5 MiB, and protobuf messages of 2 GiB."""
_MAX_ADVERTISED_BYTES = 1024
"""Each read of a queue has the values of all its candidates."""
_ROUNDING_FACTOR = 1 + 1e-9
"""0.6 + 0.2 + 0.3 may come out above 1.1."""
# The metadata of a field. `common`: other libraries and programs have settings of this name, too. `help`: the help of the
# option of `etcdleader run` for this setting.
_COMMON = {"common": True}


@dataclass(frozen=True, init=False, slots=True)
class Config:
    """The settings of an election. All durations are stored as seconds.

    Attributes:
        enabled: Election is on or off; only the factory reads this.
        id: The prefix of the identity; ``{host}`` and ``{pid}`` in it are replaced.
        lease: The TTL of the lease: how long leadership outlives a crashed leader. etcd counts it in whole seconds.
        retry: The timeout of a request, and the maximum back-off between retries.
        renew: The interval from a confirmed renewal to the start of the next one.
        margin: The safety margin: leadership ends this long before the lease can end in etcd.
        exit_on_overrun: End the process if work ignores its cancellation past the deadline.
        advertise: The text that the candidate advertises in etcd, such as its address; ``{host}`` and ``{pid}`` in it are
            replaced. None: nothing.
    """

    enabled: bool
    id: str = field(metadata={**_COMMON, "help": "Prefix of the identity; {host} and {pid} in it are replaced."})
    lease: float = field(metadata={"help": "Lease TTL: how long leadership outlives a crashed leader."})
    retry: float = field(metadata={**_COMMON, "help": "Request timeout, and maximum back-off between retries."})
    renew: float = field(metadata={"help": "Interval between renewals."})
    margin: float = field(metadata={**_COMMON, "help": "Safety margin: leadership ends this long before the lease."})
    exit_on_overrun: bool
    advertise: str | None = field(
        metadata={"help": "Text for other programs, such as an address; {host} and {pid} in it are replaced."}
    )

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
        advertise: str | None = None,
    ) -> None:
        """Check and store the settings.

        Args:
            enabled: Election is on or off; only the factory reads this.
            id: Not empty, without control characters, and without any other ``{name}``.
            lease: From 1 s to 9e9 s, and at least ``renew + 2 * retry + margin``.
            retry: Positive.
            renew: Positive.
            margin: Positive. By default 5 % of the lease, at least 1 s, at most a quarter of the lease.
            exit_on_overrun: End the process if work ignores its cancellation past the deadline.
            advertise: As ``id``, and at most 1024 bytes in UTF-8. Braces that no word follows, as in JSON, are text.

        Raises:
            ConfigError: One or more settings are not valid; it names each.
        """
        values = _given(locals())
        problems: list[Problem] = []
        seconds = {
            name: checked
            for name in _of_kind(Kind.DURATION, Config)
            if (name != "margin" or margin is not None)
            and (checked := _checked_duration(name, values[name], problems)) is not None
        }
        if margin is None and "lease" in seconds:
            seconds["margin"] = min(max(1.0, 0.05 * seconds["lease"]), seconds["lease"] / 4)
        problems += _check_budget(seconds)
        problems += _check_shown("id", id, "must be a name, without control characters")
        for name in _of_kind(Kind.FLAG, Config):
            _check_flag(name, values[name], problems)
        if advertise is not None:
            problems += _check_advertised(advertise)
        if problems:
            raise ConfigError(*problems)
        _fill(self, {**values, **seconds})


def _given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings among a constructor's arguments."""
    return {name: value for name, value in arguments.items() if name != "self"}


def _of_kind(kind: Kind, config: type) -> list[str]:
    return [name for name, its_kind in kinds(config).items() if its_kind is kind]


def _checked_duration(name: str, value: Duration, problems: list[Problem]) -> float | None:
    """Return the seconds, or None if a problem was found."""
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        problems.append(Problem.of(name, value, str(error)))
        return None
    if seconds <= 0:
        problems.append(Problem.of(name, value, "must be positive"))
        return None
    if name == "lease" and not 1 <= seconds <= _MAX_LEASE_SECONDS:
        problems.append(Problem.of(name, value, f"must be from 1s to {_MAX_LEASE_SECONDS:g}s"))
        return None
    return seconds


def _check_budget(seconds: Mapping[str, float]) -> list[Problem]:
    """Return the problem of a lease that is too short for one lost renewal. A setting that is wrong itself counts as 0."""
    parts = {"renew": 1, "retry": 2, "margin": 1}
    known = [name for name in parts if name in seconds]
    needed = sum(parts[name] * seconds[name] for name in known)
    if "lease" not in seconds or needed <= seconds["lease"] * _ROUNDING_FACTOR:
        return []
    terms = " + ".join(name if parts[name] == 1 else f"{parts[name]} * {name}" for name in known)
    what = f"must be at most lease = {seconds['lease']:g}s, so that one lost answer does not cost leadership"
    return [Problem(f"{terms} = {needed:g}s: {what}", *known, "lease")]


def _is_text(value: object) -> bool:
    """Return True for a string that is not empty. Annotations are not relied on."""
    return isinstance(value, str) and bool(value)


def _check_flag(name: str, value: object, problems: list[Problem]) -> None:
    if not isinstance(value, bool):
        problems.append(Problem.of(name, value, "must be true or false"))


def _check_shown(name: str, value: object, what: str | None) -> list[Problem]:
    """Return the problem of a text that logs, terminals and other programs show. ``what`` describes a valid one."""
    if _is_text(value) and str(value).strip() and str(value).isprintable():
        what = placeholder_problem(str(value))
    return [] if what is None else [Problem.of(name, value, what)]


def _check_advertised(value: object) -> list[Problem]:
    problems = _check_shown("advertise", value, "must be text, not empty and without control characters")
    if not problems and (length := len(str(value).encode())) > _MAX_ADVERTISED_BYTES:
        return [Problem.of("advertise", value, f"has {length} bytes, and must have at most {_MAX_ADVERTISED_BYTES}")]
    return problems


def _check_size(name: str, value: object, problems: list[Problem]) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not _LEAST_BYTES <= value <= _MOST_BYTES:
        problems.append(
            Problem.of(name, value, f"must be a whole number of bytes, from {_LEAST_BYTES} to {_MOST_BYTES}")
        )


def _fill(config: object, values: dict[str, object]) -> None:
    """Set the fields of a frozen dataclass, as its generated ``__init__`` would."""
    for name, value in values.items():
        object.__setattr__(config, name, value)


@runtime_checkable
class _PathLike(Protocol):
    """``os.PathLike``, without ``os``."""

    def __fspath__(self) -> str: ...


@dataclass(frozen=True, init=False, slots=True)
class EtcdConfig:
    """The addresses and credentials of one etcd cluster. Hashable: managers with equal values share a connection.

    Attributes:
        endpoints: The members of one cluster, each as ``host:port``, ``https://host:port`` or ``unix:/path``; or
            ``srv:domain`` for the members in the SRV records of a domain. Any of them may be used.
        user: The user that logs in, or None without a login.
        password: The user's password. It is not shown.
        password_file: Path of a file with the user's password, which is read at each login. None: ``password`` is used.
        ca_cert: Path of the CA certificates (PEM) that verify etcd's certificate. None: with TLS, the system's.
        cert: Path of the client's certificate (PEM).
        key: Path of the client's key (PEM).
        allow_plaintext_password: Log in over a network without TLS.
        max_recv_bytes: The largest message that is accepted from etcd.
    """

    endpoints: tuple[str, ...]
    user: str | None
    password: str | None = field(repr=False)
    password_file: FilePath | None
    ca_cert: FilePath | None
    cert: FilePath | None
    key: FilePath | None
    allow_plaintext_password: bool
    max_recv_bytes: int

    def __init__(
        self,
        endpoints: str | Iterable[str],
        user: str | None = None,
        password: str | None = None,
        ca_cert: str | _PathLike | None = None,
        cert: str | _PathLike | None = None,
        key: str | _PathLike | None = None,
        *,
        password_file: str | _PathLike | None = None,
        allow_plaintext_password: bool = False,
        max_recv_bytes: int = 2**24,
    ) -> None:
        """Check and store the settings. No file is opened: files are read when a connection is opened.

        Args:
            endpoints: ``host:port``, ``[v6]:port``, ``http(s)://host:port``, ``unix:/path`` or ``srv:domain`` each; one
                string may hold several, with commas between them. ``https`` in one of them, or ``ca_cert``, means TLS
                for all, except for unix sockets. ``srv:domain`` needs the extra ``etcdleader[srv]``.
            user: With ``password`` or ``password_file``, or none of them.
            password: With ``user``, or neither.
            ca_cert: A path.
            cert: A path; with ``key``, or neither.
            key: A path; with ``cert``, or neither.
            password_file: A path, instead of ``password``. The file has the password in one line. It is read at each
                login, so a changed password takes effect without a restart.
            allow_plaintext_password: Send the password without TLS. By default that is done to this machine only.
            max_recv_bytes: From 1 MiB to 2 GiB. A longer message is refused, and its call or stream fails. A message
                that lists a queue grows by some hundred bytes with each candidate.

        Raises:
            ConfigError: One or more settings are not valid; it names each, and never shows the password.
        """
        values = _given(locals())
        problems: list[Problem] = []
        values["endpoints"] = _checked_endpoints(endpoints, problems)
        for name in _of_kind(Kind.PATH, EtcdConfig):
            values[name] = _checked_path(name, values[name], problems)
        problems += [
            Problem(f"{name}: must be a string, and not empty", name)
            for name in _of_kind(Kind.TEXT, EtcdConfig)
            if values[name] is not None and not _is_text(values[name])
        ]
        for name, other in (("password", "user"), ("password_file", "user"), ("cert", "key"), ("key", "cert")):
            if values[name] is not None and values[other] is None:
                problems.append(Problem(f"{name} without {other}: give both or neither", name))
        problems += _check_secret(values)
        for name in _of_kind(Kind.FLAG, EtcdConfig):
            _check_flag(name, values[name], problems)
        _check_size("max_recv_bytes", max_recv_bytes, problems)
        _fill(self, values)
        if user is not None and not self.tls and allow_plaintext_password is False:
            # A lookup shows whether the members of a domain use TLS. It is checked then.
            addresses = [endpoint for endpoint in self.endpoints if srv_domain(endpoint) is None]
            exposed = [endpoint for endpoint in addresses if not is_loopback(endpoint)]
            secret = "password" if password_file is None else "password_file: the password"
            if exposed and not any("endpoints" in problem.settings for problem in problems):
                problems.append(
                    Problem(
                        f"{secret} would be sent to {', '.join(exposed)} without TLS: use https endpoints or ca_cert, "
                        "or set allow_plaintext_password = true",
                        *(secret.partition(":")[0], "endpoints"),
                    )
                )
        if problems:
            raise ConfigError(*problems)

    @property
    def tls(self) -> bool:
        """True if connections are encrypted: all of them or none.

        Connections to unix sockets never are. Those to members of a domain are if its SRV records are for TLS.
        """
        return self.ca_cert is not None or any(endpoint.startswith("https://") for endpoint in self.endpoints)


def _check_secret(values: Mapping[str, object]) -> list[Problem]:
    """Return the problem of a user without a secret, or with two."""
    given = [name for name in ("password", "password_file") if values[name] is not None]
    if len(given) == 2:
        return [Problem("password together with password_file: set one of them", *given)]
    if values["user"] is not None and not given:
        return [Problem("user without password: set password or password_file, or no user", "user")]
    return []


def _checked_path(name: str, value: object, problems: list[Problem]) -> str | None:
    path = value.__fspath__() if isinstance(value, _PathLike) else value
    if path is None or (isinstance(path, str) and path.isprintable() and path and "-----BEGIN" not in path):
        return path
    # The value is not shown: it may be the key itself.
    kind = "file" if name == "password_file" else "PEM file"
    problems.append(Problem(f"{name}: must be the path of a {kind} (not what is in it)", name))
    return ""  # present, though wrong: otherwise its other half would be a second problem


def _checked_endpoints(endpoints: object, problems: list[Problem]) -> tuple[str, ...]:
    if isinstance(endpoints, str):
        parts: list[object] = [part for part in endpoints.split(",") if part.strip()]
    elif isinstance(endpoints, Iterable) and not isinstance(endpoints, bytes | Mapping):
        parts = list(endpoints)
    else:
        problems.append(Problem('endpoints: must be a list such as ["127.0.0.1:2379"]', "endpoints"))
        return ()
    if not parts:
        problems.append(Problem('endpoints: there is none; give at least one, such as "127.0.0.1:2379"', "endpoints"))
    # Userinfo in an endpoint is a password. If it contains a comma, it was split above.
    secret = any("@" in repr(part) for part in parts)
    checked: dict[str, None] = {}  # keeps the order, without duplicates
    for part in parts:
        try:
            endpoint = normalize_endpoint(part)
        except ValueError as error:
            problems.append(Problem.of("endpoints", "***" if secret else part, str(error)))
            continue
        if srv_domain(endpoint) is not None and not _has_dnspython():
            missing = "needs the package dnspython: pip install 'etcdleader[srv]'"
            problems.append(Problem.of("endpoints", endpoint, missing))
        checked[endpoint] = None
    return tuple(checked)


def _has_dnspython() -> bool:
    from importlib.util import find_spec

    return find_spec("dns") is not None  # found, not loaded


def validate_election_key(election_key: str) -> None:
    """Check that this key can be the name of an election.

    Raises:
        ConfigError: The key is not valid. It must be a string that is not empty, and must not end in ``/``. It must not
            begin or end with whitespace or an invisible character. It must not contain a NUL or a lone surrogate.
    """
    what = None
    if not _is_text(election_key):
        what = "must be a string, and not empty"
    elif election_key.endswith("/"):
        what = 'must not end in "/"'
    elif election_key != election_key.strip():
        what = "must not begin or end with whitespace: that would be another election"
    elif "\0" in election_key:
        what = "must not hold a NUL"
    elif any("\ud800" <= character <= "\udfff" for character in election_key):
        what = "must be text that can be written as UTF-8"
    elif any(_is_invisible(character) for character in (election_key[0], election_key[-1])):
        what = "must not begin or end with an invisible character: that would be another election"
    if what is not None:
        raise ConfigError(Problem.of("election_key", election_key, what))


def validate_advertised(value: str) -> None:
    """Check that a candidate can advertise this text.

    Raises:
        ConfigError: The text is not valid, as for the setting ``advertise``.
    """
    if problems := _check_advertised(value):
        raise ConfigError(*problems)


def _is_invisible(character: str) -> bool:
    """Return True for a control or format character, such as the byte order mark that some editors put into files."""
    if character.isprintable():
        return False
    from unicodedata import category

    return category(character) in {"Cc", "Cf"}
