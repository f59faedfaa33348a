"""The members in the SRV records of a domain, in the order in which a client tries them. Pure.

The names of the records are those of etcd's own clients: ``_etcd-client-ssl._tcp`` for members with TLS, and
``_etcd-client._tcp`` for those without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from .._values.addresses import is_loopback, normalize_endpoint
from ..config import EtcdConfig
from ..errors import EtcdRefusedError

TLS_SERVICE = "_etcd-client-ssl._tcp"
PLAIN_SERVICE = "_etcd-client._tcp"
_MAX_MEMBERS = 64
"""A client tries no more members of one domain."""


class SrvRecord(NamedTuple):
    """One SRV record (RFC 2782). ``target`` is a host name."""

    priority: int
    weight: int
    port: int
    target: str


def services(config: EtcdConfig) -> tuple[str, ...]:
    """Return the services to look up, in order. The first with records counts.

    If the configuration requires TLS, a forged answer must not lead to connections without it.
    """
    return (TLS_SERVICE,) if config.tls else (TLS_SERVICE, PLAIN_SERVICE)


def members(
    domain: str,
    service: str,
    records: Iterable[SrvRecord],
    config: EtcdConfig,
    uniform: Callable[[float, float], float],
) -> tuple[str, ...]:
    """Return the members' endpoints in normal form, in the order of attempts.

    Args:
        domain: The domain of the records.
        service: The service of the records.
        records: The records. None of them may be usable.
        config: The client's configuration.
        uniform: Returns a random number between its arguments.

    Raises:
        EtcdRefusedError: The configuration does not allow connections to these members.
    """
    scheme = "https://" if service == TLS_SERVICE else ""
    found: dict[str, str] = {}
    for record in in_order(records, uniform):
        try:
            found[normalize_endpoint(f"{scheme}{record.target.removesuffix('.')}:{record.port}")] = record.target
        except ValueError:  # the target "." means that there is no such service; other names are no hosts
            continue
    if service == TLS_SERVICE:
        _check_names(domain, found, config)
    elif config.user is not None and not config.allow_plaintext_password and not all(map(is_loopback, found)):
        raise EtcdRefusedError(
            f"srv:{domain} has records without TLS only ({PLAIN_SERVICE}), and no password is sent there: publish "
            f"{TLS_SERVICE}, or set allow_plaintext_password = true"
        )
    return tuple(found)[:_MAX_MEMBERS]


def _check_names(domain: str, found: dict[str, str], config: EtcdConfig) -> None:
    """Leave out hosts outside the domain, unless ``ca_cert`` decides which members are genuine.

    Each member's certificate is checked against its own name. A forged answer could name a host of the attacker, for
    which a public authority has issued a certificate.
    """
    if config.ca_cert is not None or not found:
        return
    for endpoint, target in list(found.items()):
        if not f".{target.lower().removesuffix('.')}".endswith(f".{domain}"):
            del found[endpoint]
    if not found:
        raise EtcdRefusedError(
            f"the records of srv:{domain} name hosts outside {domain} only: set ca_cert, so that the authority of their "
            "certificates decides whether they are genuine"
        )


def in_order(records: Iterable[SrvRecord], uniform: Callable[[float, float], float]) -> Sequence[SrvRecord]:
    """Return records by priority. Those of one priority are in random order, by their weights (RFC 2782)."""
    ordered: list[SrvRecord] = []
    left = sorted(records)
    while left:
        equals = [record for record in left if record.priority == left[0].priority]
        at = uniform(0, sum(record.weight for record in equals))
        chosen = equals[0]
        for chosen in equals:
            at -= chosen.weight
            if at <= 0:
                break
        ordered.append(chosen)
        left.remove(chosen)
    return ordered
