"""A DNS server on loopback with the SRV records that a test gives it, and a resolver that asks it."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset

Record = tuple[int, int, int, str]
"""Priority, weight, port and target."""


class DnsServer:
    """Answers queries for SRV records.

    Attributes:
        records: Those of each name. A name that is missing does not exist.
        silent: It answers nothing.
        failing: It answers SERVFAIL.
        queries: The names that were asked for, in order.
    """

    def __init__(self) -> None:
        self.records: dict[str, list[Record]] = {}
        self.silent = self.failing = False
        self.queries: list[str] = []
        self.port = 0

    def publish(self, domain: str, *records: Record, tls: bool = False) -> None:
        """Replace the records of etcd's clients for a domain."""
        self.records[f"_etcd-client{'-ssl' if tls else ''}._tcp.{domain}."] = list(records)

    def point_to(self, domain: str, *endpoints: str, tls: bool = False) -> None:
        """Publish records of members on this machine, the first of them with the best priority."""
        ports = [int(endpoint.rpartition(":")[2]) for endpoint in endpoints]
        self.publish(domain, *((number, 0, port, "localhost.") for number, port in enumerate(ports)), tls=tls)

    def answer(self, query: bytes) -> bytes | None:
        asked = dns.message.from_wire(query)
        name = asked.question[0].name
        self.queries.append(name.to_text())
        if self.silent:
            return None
        response = dns.message.make_response(asked)
        response.flags |= dns.flags.RA
        found = self.records.get(name.to_text().lower())
        if self.failing:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif found is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif found:
            texts = [" ".join(map(str, record)) for record in found]
            response.answer.append(dns.rrset.from_text_list(name, 0, "IN", "SRV", texts))
        return response.to_wire()


@contextmanager
def dns_server() -> Iterator[DnsServer]:
    """A server for as long as the block lasts. All lookups of this process go to it."""
    served = DnsServer()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            data, sock = self.request
            if (response := served.answer(data)) is not None:
                sock.sendto(response, self.client_address)

    with socketserver.ThreadingUDPServer(("127.0.0.1", 0), Handler) as server:
        served.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], served.port
        resolver.timeout = 60  # by default it repeats a query after two seconds, and a slow machine changes `queries`
        before, dns.resolver.default_resolver = dns.resolver.default_resolver, resolver
        try:
            yield served
        finally:
            dns.resolver.default_resolver = before
            server.shutdown()
            thread.join()
