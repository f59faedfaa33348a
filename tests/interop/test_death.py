"""Candidates of all libraries that are killed: the next one leads when the lease has ended, and not before."""

from __future__ import annotations

import pytest

from tests.interop.libraries import LIBRARIES, LONG_TTL, OURS, Library
from tests.interop.queue_reader import QueueReader
from tests.interop.steps import Find, join, lead

SHORT_TTL = 4
"""Seconds: how long a test waits for a dead leader's lease, and longer than a healthy process stalls.

``etcdctl elect`` always takes a minute. Its leases are revoked, which is also how etcd ends a lease that has run out.
"""


@pytest.mark.parametrize("killed", LIBRARIES)
def test_a_killed_process_is_succeeded_where_it_led_and_passed_over_where_it_waited(
    library: Find, present: list[Library], queues: QueueReader, election: str, killed: str
) -> None:
    """Before it is killed, it leads an election for each other library, and waits in one between two of our candidates."""
    dying = library(killed)
    ttl = SHORT_TTL if dying.short_lease else LONG_TTL
    heirs = {f"{election}-{heir.name}": heir for heir in present if heir is not dying}
    leaders = {name: join(queues, name, dying, ttl=ttl) for name in heirs}
    led = {name: lead(queues, name, leader) for name, leader in leaders.items()}
    waiting = {name: join(queues, name, heir) for name, heir in heirs.items()}

    ours = library(next(name for name in OURS if name != killed))
    first = join(queues, election, ours)
    token = lead(queues, election, first).token
    join(queues, election, dying, ttl=ttl)
    last = join(queues, election, ours)
    between = queues.read(election)[1]

    assert all(candidate.is_silent() for candidate in (*leaders.values(), *waiting.values()))
    dying.kill()
    if not dying.short_lease:
        for record in (*led.values(), between):
            assert queues.has_lease(record.lease)
            queues.client.revoke_lease(record.lease)

    for name, heir in waiting.items():
        assert lead(queues, name, heir).token > led[name].token
        assert not queues.has_lease(led[name].lease), "it led before the dead leader's lease had ended"
        heir.resign()
    queues.wait_length(election, 2)
    assert last.is_silent()
    first.resign()
    assert lead(queues, election, last).token > token
    last.resign()


@pytest.mark.parametrize("revoked", [*OURS, "go", "jetcd"])
def test_a_leader_whose_lease_is_revoked_reports_its_loss_and_the_next_one_leads(
    library: Find, queues: QueueReader, election: str, revoked: str
) -> None:
    """The libraries report it at once (etcdleader) or at their next keep-alive (the others)."""
    leader = join(queues, election, library(revoked), ttl=SHORT_TTL)
    first = lead(queues, election, leader)
    waiting = join(queues, election, library("go" if revoked in OURS else "etcdleader-asyncio"))
    queues.client.revoke_lease(first.lease)
    assert lead(queues, election, waiting).token > first.token
    leader.inbox.get("lost")
    waiting.resign()
    if revoked in OURS:
        assert lead(queues, election, leader).token > first.token
        leader.resign()
