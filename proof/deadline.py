"""The lemma of the trusted deadline, for all leases, margins and clock rates: checked symbolically by z3.

The lemma: while a client trusts a lease, no member has applied the revocation of that lease. It holds if the clocks of
the client and of the member that counts down the lease keep their rates within ``margin / lease`` in total. The page on
safety has the proof in words. The model in ``LeaseTerm.tla`` has the same clocks for all, and no margin; this lemma
adds both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import z3 as _untyped

from etcdleader._lease.lease_deadline import LeaseDeadline

z3: Any = _untyped

ttl, margin = z3.Reals("ttl margin")
"""The TTL in the response, and the client's margin: seconds on either clock."""
client_drift, member_drift = z3.Reals("client_drift member_drift")
"""The greatest parts by which the clocks may be too slow or too fast. 0 is a clock that shows the true time."""
sent, counted, proposed, applied, checked = z3.Reals("sent counted proposed applied checked")
"""True times: ``sent_at`` is taken; a lessor starts the TTL; it proposes the revocation; a member applies it; the client
calls ``is_leader()``."""
sent_at, now = z3.Reals("sent_at now")
"""The client's clock at ``sent`` and at ``checked``."""
lessor_seconds = z3.Real("lessor_seconds")
"""The seconds that the lessor's clock counts from ``counted`` to ``proposed``."""

_deadline: Any = LeaseDeadline(sent_at, ttl, margin).deadline  # the client's own arithmetic

ASSUMPTIONS: Mapping[str, Any] = {
    "sent_at is taken before a lessor starts the TTL": sent <= counted,
    "a lessor lets the whole TTL pass": lessor_seconds >= ttl,
    "the member's clock is not too fast": lessor_seconds <= (1 + member_drift) * (proposed - counted),
    "a revocation is applied after it was proposed": proposed <= applied,
    "the client's clock is not too slow": now - sent_at >= (1 - client_drift) * (checked - sent),
    "the client trusts the lease": now < _deadline,
    "the margin covers the drift": margin * (1 + member_drift) >= ttl * (client_drift + member_drift),
}
"""Each of them is needed: without it there is a counterexample."""

_DOMAIN = z3.And(
    *(ttl > 0, margin > 0, margin < ttl), *(client_drift >= 0, client_drift < 1, member_drift >= 0, member_drift < 1)
)


def counterexample(*without: str, **values: float) -> Any:
    """Return values for which the lemma does not hold, as z3's model, or None if there are none.

    Args:
        *without: Assumptions to leave out.
        **values: Values of variables, such as ``ttl=60``.

    Raises:
        RuntimeError: z3 has not decided it.
    """
    solver = z3.Solver()
    solver.add(_DOMAIN, checked >= applied, *(fact for name, fact in ASSUMPTIONS.items() if name not in without))
    solver.add(*(z3.Real(name) == z3.RealVal(str(value)) for name, value in values.items()))
    return _decide(solver)


def simple_bound_counterexample() -> Any:
    """Return values that keep the total drift within ``margin / ttl``, and yet exceed the exact bound; None if there are none."""
    solver = z3.Solver()
    solver.add(_DOMAIN, ttl * (client_drift + member_drift) <= margin)
    solver.add(z3.Not(ASSUMPTIONS["the margin covers the drift"]))
    return _decide(solver)


def allowed_drift(lease: float, margin: float) -> float:
    """Return the total drift of both clocks for which the lemma holds, as a part: 0.05 are 5 %."""
    return margin / lease


def _decide(solver: Any) -> Any:
    result = solver.check()
    if result == z3.unknown:
        raise RuntimeError(f"z3 has not decided it: {solver.reason_unknown()}")
    return solver.model() if result == z3.sat else None
