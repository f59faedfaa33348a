"""Faults of etcd: its members, its data and its users."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import anyio

from etcdleader.testing.fake_etcd import FakeMember
from tests.simulator.world import World

__all__ = (
    "compact",
    "depose",
    "expire_tokens",
    "freeze_member",
    "kill_member",
    "lag",
    "no_leader",
    "no_space",
    "restore",
    "revoke_rights",
    "transfer",
    "unapplied",
)


def _member(world: World, name: str, rng: random.Random) -> FakeMember | None:
    """Return the member that a process uses, etcd's leader or any other, unless it has a fault."""
    number = rng.randrange(len(world.etcd.members))
    drawn = rng.random()
    if drawn < 0.4:
        number = next(
            (place for (process, place), link in world.links.items() if process == name and link.connections), number
        )
    elif drawn < 0.8 and world.etcd.leader is not None:
        number = world.etcd.members.index(world.etcd.leader)
    member = world.etcd.members[number]
    return None if world.wounded or world.quiet or not member.is_well else member


def _harm(
    world: World,
    fault: str,
    name: str,
    member: FakeMember | None,
    begin: Callable[[FakeMember], None],
    recover: Callable[[FakeMember], Awaitable[None]],
) -> None:
    """Begin a fault of a member, and let it recover. One member at a time has a fault."""
    if member is None:
        return
    number = world.etcd.members.index(member)
    line = world.inject(fault, name, repr(member))
    world.wounded.add(number)
    begin(member)

    async def run() -> None:
        await recover(member)
        world.wounded.discard(number)
        line["end"] = world.journal.now()

    world.group.start_soon(run)


async def _elections(world: World, rng: random.Random) -> None:
    """Let the followers elect a leader after their election timeout, as they do if etcd's leader is silent."""
    await anyio.sleep(world.plan.election_timeout * rng.uniform(1, 2))
    leader = world.etcd.leader
    if leader is not None and not leader.is_running:
        world.etcd.change_leader()


async def freeze_member(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Freeze a member. If it led, another one is elected, and it revokes what it remembers when it wakes up."""

    async def thaw(member: FakeMember) -> None:
        await _elections(world, rng)
        await anyio.sleep(seconds)
        member.recover(by_snapshot=rng.random() < 0.2)

    _harm(world, "freeze_member", name, _member(world, name, rng), FakeMember.freeze, thaw)


async def kill_member(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Kill a member, and start it again."""

    async def restart(member: FakeMember) -> None:
        await _elections(world, rng)
        await anyio.sleep(seconds)
        member.recover(by_snapshot=rng.random() < 0.5)

    _harm(world, "kill_member", name, _member(world, name, rng), FakeMember.kill, restart)


async def lag(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Let a member lag. It catches up by entries or by a snapshot, maybe after a change of etcd's leader."""

    async def catch_up(member: FakeMember) -> None:
        await anyio.sleep(seconds)
        if rng.random() < 0.5 and len(world.etcd.members) > 1:
            world.etcd.change_leader()
            await anyio.sleep(seconds * rng.random())
        member.recover(by_snapshot=rng.random() < 0.5)

    _harm(world, "lag", name, _member(world, name, rng), FakeMember.lag, catch_up)


async def depose(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Cut off etcd's leader, which goes on answering keep-alives for up to two election timeouts."""
    if len(world.etcd.members) == 1:
        return

    async def step_down(member: FakeMember) -> None:
        await anyio.sleep(world.plan.election_timeout * rng.uniform(0.1, 2))
        member.recover(by_snapshot=rng.random() < 0.1)

    _harm(world, "depose", name, _member(world, name, rng), FakeMember.depose, step_down)


async def transfer(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Transfer etcd's leadership. The former leader stays up to date."""
    if not world.wounded:
        world.inject("transfer", name, "")
        world.etcd.change_leader()


async def no_leader(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Leave etcd without a leader."""
    if world.wounded or world.quiet:
        return
    line = world.inject("no_leader", name, "")
    world.wounded.add(-1)
    world.etcd.lose_leader()

    def elect() -> None:
        world.wounded.discard(-1)
        world.etcd.change_leader()

    world.for_a_while(seconds, elect, line)


async def unapplied(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Let etcd's leader commit entries without applying them: it renews leases whose revocation is committed."""
    line = world.inject("unapplied", name, "")
    world.etcd.apply_no_more()
    world.for_a_while(min(seconds, 2 * world.plan.election_timeout), world.etcd.apply, line)


async def compact(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Compact etcd's history."""
    if world.etcd._cluster.store.compacted < world.etcd.revision:
        world.inject("compact", name, "")
        world.etcd.compact()


async def no_space(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Raise the alarm NOSPACE."""
    line = world.inject("no_space", name, "")
    world.etcd.no_space = True

    def disarm() -> None:
        world.etcd.no_space = False

    world.for_a_while(seconds, disarm, line)


async def restore(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Wipe etcd, or restore a backup of it."""
    if world.wounded or world.quiet:
        return
    snapshot = world.etcd.snapshot()
    if rng.random() < 0.5:
        await anyio.sleep(world.plan.timing.renew * rng.random())
        if world.wounded:
            return
    tokens = [kv.create_revision for kv in world.etcd.keys().values()]
    world.inject("restore", name, "", deleted=tokens)
    world.journal.replace()
    if rng.random() < 0.5:
        world.etcd.wipe()
    else:
        world.etcd.restore(snapshot)
    world.poll()


# Authentication


async def expire_tokens(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Invalidate all tokens, as a change of any user does."""
    world.inject("expire_tokens", name, "")
    world.auth.expire()


async def revoke_rights(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Take the user's rights away for a while."""
    line = world.inject("revoke_rights", name, "")
    world.auth.allowed = False

    def give_back() -> None:
        world.auth.allowed = True

    world.for_a_while(seconds, give_back, line)
