"""Faults of etcd: its members, its data and its users."""

from __future__ import annotations

import random
from collections.abc import Callable

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


def _wound(world: World, member: FakeMember) -> Callable[[], None]:
    number = world.etcd.members.index(member)
    world.wounded.add(number)
    return lambda: world.wounded.discard(number)


async def _elections(world: World, rng: random.Random) -> None:
    """Let the followers elect a leader after their election timeout, as they do if etcd's leader is silent."""
    await anyio.sleep(world.plan.election_timeout * rng.uniform(1, 2))
    leader = world.etcd.leader
    if leader is not None and not leader.is_running:
        world.etcd.change_leader()


async def freeze_member(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Freeze a member. If it led, another one is elected, and it revokes what it remembers when it wakes up."""
    if (member := _member(world, name, rng)) is None:
        return
    line = world.inject("freeze_member", name, repr(member))
    healed = _wound(world, member)
    silent = rng.random() < 0.3
    member.freeze()

    async def thaw() -> None:
        await _elections(world, rng)
        await anyio.sleep(seconds)
        member.recover(by_snapshot=rng.random() < 0.2)
        healed()
        line["end"] = world.journal.now()

    del silent
    world.group.start_soon(thaw)


async def kill_member(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Kill a member, and start it again."""
    if (member := _member(world, name, rng)) is None:
        return
    line = world.inject("kill_member", name, repr(member))
    healed = _wound(world, member)
    member.kill()

    async def recover() -> None:
        await _elections(world, rng)
        await anyio.sleep(seconds)
        member.recover(by_snapshot=rng.random() < 0.5)
        healed()
        line["end"] = world.journal.now()

    world.group.start_soon(recover)


async def lag(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Let a member lag. It catches up by entries or by a snapshot, maybe after a change of etcd's leader."""
    if (member := _member(world, name, rng)) is None:
        return
    line = world.inject("lag", name, repr(member))
    healed = _wound(world, member)
    member.lag()

    async def catch_up() -> None:
        await anyio.sleep(seconds)
        if rng.random() < 0.5 and len(world.etcd.members) > 1:
            world.etcd.change_leader()
            await anyio.sleep(seconds * rng.random())
        member.recover(by_snapshot=rng.random() < 0.5)
        healed()
        line["end"] = world.journal.now()

    world.group.start_soon(catch_up)


async def depose(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Cut off etcd's leader, which goes on answering keep-alives for up to two election timeouts."""
    if (member := _member(world, name, rng)) is None or len(world.etcd.members) == 1:
        return
    line = world.inject("depose", name, repr(member))
    healed = _wound(world, member)
    member.depose()

    async def recover() -> None:
        await anyio.sleep(world.plan.election_timeout * rng.uniform(0.1, 2))
        member.recover(by_snapshot=rng.random() < 0.1)
        healed()
        line["end"] = world.journal.now()

    world.group.start_soon(recover)


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
