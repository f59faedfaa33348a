"""Addresses of etcd members in a normal form, so that equal addresses compare equal."""

from __future__ import annotations

import re

_HOST = re.compile(r"[^\s/?#@:\[\],\\]+")
_DOMAIN = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\.?")
_AFTER_PORT = re.compile(r":[0-9]+[/?#]")
_PORT = re.compile(r"[0-9]{1,5}")
_UNIX, _SRV = "unix:", "srv:"
_MAX_UNIX_PATH_BYTES = 107
"""Linux's limit on the path of a socket."""
MAX_SRV_TRIES = 3
"""The number of members that a command expects behind one name of SRV records."""


def normalize_endpoint(endpoint: object) -> str:
    """Return an endpoint in normal form, one of these. ``http://`` is removed. A host is in lower case.

    - ``host:port`` or ``https://host:port``
    - ``unix:/path``, from ``unix:///path`` too
    - ``srv:domain``

    Raises:
        ValueError: The endpoint is invalid. The message describes a valid one. It does not quote the endpoint, which
            may contain a password.
    """
    if not isinstance(endpoint, str):
        raise ValueError("must be host:port")  # noqa: TRY004 - a wrong setting, of any type
    endpoint = endpoint.strip()
    kind, separator, rest = endpoint.partition(":")
    if not rest.isdecimal():  # a host may have the name unix or srv
        if (kind := kind.lower() + separator) == _UNIX:
            return _normalize_unix(rest)
        if kind == _SRV:
            return _normalize_srv(rest.lower())
    return _normalize_tcp(endpoint.lower())


def _normalize_tcp(endpoint: str) -> str:
    scheme, separator, address = endpoint.rpartition("://")
    if "@" in address:
        raise ValueError("must not contain a user or password: use the settings user and password")
    if scheme not in (("http", "https") if separator else ("",)):
        raise ValueError("must be host:port, http://host:port, https://host:port, unix:/path or srv:domain")
    address = address.removesuffix("/")
    if "," in address:
        raise ValueError("must be one address: give several as a list, or as one string with commas")
    if _AFTER_PORT.search(address):
        raise ValueError('must end after the port, such as "127.0.0.1:2379": etcd is not reached by a path')
    host, separator, port = address.rpartition(":")
    if not separator or not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
        raise ValueError('must have a port from 1 to 65535, such as "127.0.0.1:2379"')
    return f"{'https://' if scheme == 'https' else ''}{_normalize_host(host)}:{int(port)}"


def _normalize_unix(path: str) -> str:
    path = path.removeprefix("//")
    if not path.startswith("/") or path.endswith("/") or not path.isprintable():
        raise ValueError('must have the absolute path of a socket, such as "unix:/run/etcd/client.sock"')
    if len(path.encode()) > _MAX_UNIX_PATH_BYTES:
        raise ValueError(f"must have a path of at most {_MAX_UNIX_PATH_BYTES} bytes: a socket cannot have a longer one")
    return f"{_UNIX}/{path.lstrip('/')}"


def _normalize_srv(domain: str) -> str:
    if not _DOMAIN.fullmatch(domain) or ".." in domain:
        raise ValueError('must be srv: and a domain, without a port, such as "srv:example.org"')
    return f"{_SRV}{domain.removesuffix('.')}"


def _normalize_host(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        from ipaddress import AddressValueError, IPv6Address

        try:
            return f"[{IPv6Address(host[1:-1])}]"
        except AddressValueError:
            raise ValueError("must have an IPv6 address in its brackets") from None
    if ":" in host:
        raise ValueError('must have brackets around an IPv6 address, such as "[::1]:2379"')
    if not _HOST.fullmatch(host):
        raise ValueError('must have a host name or address before the port, such as "127.0.0.1:2379"')
    return host


def unix_path(endpoint: str) -> str | None:
    """Return the path of a unix socket, from an endpoint in normal form; None for any other endpoint."""
    return endpoint.removeprefix(_UNIX) if endpoint.startswith(_UNIX) else None


def srv_domain(endpoint: str) -> str | None:
    """Return the domain with SRV records, from an endpoint in normal form; None for any other endpoint."""
    return endpoint.removeprefix(_SRV) if endpoint.startswith(_SRV) else None


def needs_tls(endpoint: str, *, tls: bool) -> bool:
    """Return whether connections to an endpoint in normal form use TLS.

    Args:
        endpoint: A member's address, and no domain with SRV records.
        tls: The configuration's TLS setting. A unix socket does not leave the machine, and never uses TLS.
    """
    return unix_path(endpoint) is None and (tls or endpoint.startswith("https://"))


def is_loopback(endpoint: str) -> bool:
    """Return whether an endpoint in normal form is on this machine's loopback interface, or a unix socket."""
    if unix_path(endpoint) is not None:
        return True
    from ipaddress import ip_address

    host = endpoint.removeprefix("https://").rpartition(":")[0].strip("[]").removesuffix(".")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def most_tries(endpoints: tuple[str, ...]) -> int:
    """Return how many members to try before all are considered down. A domain counts as several members."""
    return sum(1 if srv_domain(endpoint) is None else MAX_SRV_TRIES for endpoint in endpoints)
