"""The check of endpoints that name a domain: the SRV records must name the members."""

from __future__ import annotations

import random
from dataclasses import replace

from .._etcd.srv import SrvMembers
from .._values.addresses import srv_domain
from ..config import EtcdConfig
from ..errors import EtcdLeaderError
from .findings import Finding, Report


async def with_members(etcd: EtcdConfig, report: Report) -> EtcdConfig | None:
    """Return the configuration with the members instead of their domains; None if no endpoint is left."""
    endpoints: list[str] = []
    for endpoint in etcd.endpoints:
        if (domain := srv_domain(endpoint)) is None:
            endpoints.append(endpoint)
            continue
        try:
            found = await SrvMembers(domain, etcd, random.uniform).all()
        except EtcdLeaderError as error:
            advice = f"publish the records that etcdctl --discovery-srv {domain} uses (docs/operating.md#endpoints)"
            report(Finding("dns", "problem", str(error), advice))
        else:
            report(Finding("dns", "ok", f"{endpoint} has {', '.join(found)}"))
            endpoints += found
    return replace(etcd, endpoints=tuple(endpoints)) if endpoints else None
