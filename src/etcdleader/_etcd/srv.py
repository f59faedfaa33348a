"""Find the members of a cluster by the SRV records of a domain, without blocking the event loop."""

from __future__ import annotations

import functools
from collections.abc import Callable

import anyio

from .._runtime.threads import run_in_thread
from .._values.addresses import srv_domain
from ..config import EtcdConfig
from ..errors import EtcdUnavailableError
from .srv_records import SrvRecord, members, services

_FIRST_LOOKUP_SECONDS = 4.0
"""Timeout in seconds of a lookup, with all its queries, if no members are known."""
_NEXT_LOOKUP_SECONDS = 0.5
"""Timeout in seconds of a later lookup. After it the members of the last lookup are used: an outage of DNS must not cost
leadership."""


class SrvMembers:
    """The members of one domain. The records are looked up each time that a connection needs a member.

    Attributes:
        count: The number of members of the last lookup; 1 before the first one.
    """

    def __init__(
        self,
        domain: str,
        config: EtcdConfig,
        uniform: Callable[[float, float], float],
        on_found: Callable[[], None] = lambda: None,
    ) -> None:
        self.count = 1
        self._domain = domain
        self._config = config
        self._uniform = uniform
        self._on_found = on_found
        self._last: tuple[str, ...] = ()
        self._used: dict[str, int] = {}
        self._uses = 0

    async def next(self) -> str:
        """Return the member that was returned least recently, as an endpoint in normal form.

        Raises:
            EtcdUnavailableError: DNS does not respond, or has no records, and no members are known.
            EtcdRefusedError: The configuration does not allow connections to these members.
        """
        found = await self.all()
        member = min(found, key=lambda each: self._used.get(each, 0))
        self._uses += 1
        self._used = {each: uses for each, uses in self._used.items() if each in found} | {member: self._uses}
        return member

    async def all(self) -> tuple[str, ...]:
        """Return all members, in the order of attempts.

        Raises:
            EtcdUnavailableError: As in ``next``.
            EtcdRefusedError: As in ``next``.
        """
        try:
            found = await self._look_up()
        except EtcdUnavailableError:
            if not self._last:
                raise
            return self._last
        self._last, self.count = found, len(found)
        self._on_found()
        return found

    async def _look_up(self) -> tuple[str, ...]:
        timeout = _NEXT_LOOKUP_SECONDS if self._last else _FIRST_LOOKUP_SECONDS
        # In a thread on every loop: dnspython's resolvers for event loops bring their own timers and sockets.
        with anyio.move_on_after(timeout):
            return await run_in_thread(
                functools.partial(look_up, self._domain, self._config, self._uniform, timeout), "etcdleader SRV records"
            )
        raise EtcdUnavailableError(f"srv:{self._domain}: no response from DNS within {timeout:g} s")


def look_up(
    domain: str, config: EtcdConfig, uniform: Callable[[float, float], float], timeout: float
) -> tuple[str, ...]:
    """Look up the members of a domain. It blocks.

    Raises:
        EtcdUnavailableError: DNS does not respond, or has no records.
        EtcdRefusedError: The configuration does not allow connections to these members.
    """
    names = services(config)
    for service in names:
        records = _query(f"{service}.{domain}.", timeout / len(names))
        if found := members(domain, service, records, config, uniform):
            return found
    missing = " or ".join(f"{service}.{domain}" for service in names)
    needed = ", which TLS needs (ca_cert, or https in an endpoint)" if config.tls else ""
    raise EtcdUnavailableError(f"srv:{domain}: there are no SRV records {missing}{needed}")


def _query(name: str, timeout: float) -> list[SrvRecord]:
    from dns.exception import DNSException
    from dns.resolver import NXDOMAIN, NoAnswer, resolve

    try:
        answer = resolve(name, "SRV", lifetime=timeout)
    except (NXDOMAIN, NoAnswer):
        return []
    except (DNSException, OSError) as error:
        raise EtcdUnavailableError(f"the SRV records {name} cannot be looked up: {error}") from error
    return [SrvRecord(each.priority, each.weight, each.port, each.target.to_text()) for each in answer]


def srv_members(
    config: EtcdConfig, uniform: Callable[[float, float], float], on_count: Callable[[int], None]
) -> dict[str, SrvMembers]:
    """Return the members behind each endpoint that names a domain.

    Args:
        config: The client's configuration.
        uniform: The source of random numbers.
        on_count: Receives the number of all members after each lookup, those with an address included.
    """

    def found() -> None:
        on_count(len(config.endpoints) - len(domains) + sum(each.count for each in domains.values()))

    domains = {
        endpoint: SrvMembers(domain, config, uniform, found)
        for endpoint in config.endpoints
        if (domain := srv_domain(endpoint)) is not None
    }
    return domains
