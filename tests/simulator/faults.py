"""The faults of the simulator. Each is a function of the world, the process that it is aimed at, and its own seed."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias

import anyio

from etcdleader import EtcdLeaderError
from etcdleader.testing.fake_etcd import FakeMember
from tests.simulator.network import Link
from tests.simulator.process import ELECTION
from tests.simulator.service import KINDS, RequestFault
from tests.simulator.world import World

__all__ = ("FAULTS", "GROUPS")

Fault: TypeAlias = Callable[[World, str, float, random.Random], Awaitable[None]]

_REQUESTS = (None, *(kind for kind in KINDS.values() if kind != "status"))


# The network of one process


def _links(world: World, name: str, rng: random.Random) -> list[Link]:
    """Return all links of a process, or one of them."""
    links = world.links_of(name)
    return links if rng.random() < 0.6 else [rng.choice(links)]


async def partition(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Hold back all packets between a process and etcd, or one member."""
    links = _links(world, name, rng)
    _block(world, "partition", name, seconds, links, up=True, down=True)


async def one_way(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Hold back all packets in one direction."""
    up = rng.random() < 0.5
    _block(world, "one_way", name, seconds, _links(world, name, rng), up=up, down=not up)


def _block(world: World, fault: str, name: str, seconds: float, links: list[Link], *, up: bool, down: bool) -> None:
    links = [link for link in links if not link.cut]
    line = world.inject(fault, name, f"{len(links)} links, up {up}, down {down}")
    if len(links) == len(world.links_of(name)):
        # Until it heals, the process can receive no confirmation.
        line["cuts"] = [{"subject": name, "start": line["start"], "end": line["start"] + seconds}]
    for link in links:
        link.up.blocked, link.down.blocked = up, down

    def heal() -> None:
        for link in links:
            link.up.blocked = link.down.blocked = False

    world.for_a_while(seconds, heal, line)


async def reset(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Reset the connections of a process."""
    world.inject("reset", name, "")
    for link in _links(world, name, rng):
        link.reset()


async def half_open(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Let the member discard the connections of a process without a packet to it."""
    world.inject("half_open", name, "")
    for link in _links(world, name, rng):
        link.half_open()


async def go_away(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Close the connections of a process gracefully."""
    world.inject("go_away", name, "")
    for end in world.ends[name]:
        end.go_away()


async def refuse(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Refuse new connections of a process, and reset the present ones."""
    line = world.inject("refuse", name, "")
    links = [link for link in _links(world, name, rng) if not link.refuses]
    for link in links:
        link.refuses = True
        link.reset()

    def accept() -> None:
        for link in links:
            link.refuses = False

    world.for_a_while(seconds, accept, line)


async def slow(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Delay the packets of a process in both directions, or in one."""
    low, high = rng.choice(((0.0, 0.2), (0.2, 1.0), (1.0, world.plan.timing.margin * 1.5 + 1)))
    line = world.inject("slow", name, f"{low} to {high} s")
    links = world.links_of(name)
    ways = rng.choice(((True, True), (True, False), (False, True)))
    for link in links:
        for direction, is_slow in zip((link.up, link.down), ways, strict=True):
            if is_slow:
                direction.latency = (low, high)

    def speed_up() -> None:
        for link in links:
            link.set_latency(*world.plan.latency)

    world.for_a_while(seconds, speed_up, line)


# Single requests


def _add(world: World, fault: str, name: str, request_fault: RequestFault) -> None:
    world.inject(fault, name, f"{request_fault.kind}, {request_fault.times} times")
    world.request_faults[name].append(request_fault)


async def lose_request(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Lose the next requests of one kind."""
    _add(world, "lose_request", name, RequestFault(rng.choice(_REQUESTS), rng.randint(1, 6), lose="request"))


async def lose_response(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Lose the responses to the next requests of one kind."""
    _add(world, "lose_response", name, RequestFault(rng.choice(_REQUESTS), rng.randint(1, 6), lose="response"))


async def delay(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Delay the responses to the next requests of one kind. Other streams overtake them."""
    _add(world, "delay", name, RequestFault(rng.choice(_REQUESTS), rng.randint(1, 4), delay=seconds))


async def fail(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Respond to the next requests of one kind with an error, before or after they were done."""
    error = rng.choice(
        (
            ("UNAVAILABLE", "etcdserver: request timed out"),
            ("UNAVAILABLE", "etcdserver: no leader"),
            ("RESOURCE_EXHAUSTED", "etcdserver: too many requests"),
            ("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded"),
            ("UNAUTHENTICATED", "etcdserver: invalid auth token"),
            ("PERMISSION_DENIED", "etcdserver: permission denied"),
        )
    )
    applied = rng.random() < 0.5
    _add(
        world, "fail", name,
        RequestFault(rng.choice(_REQUESTS), rng.randint(1, 3), error=error, applied=applied),
    )  # fmt: skip


# etcd's members


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


# Processes


async def freeze(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Stop a process for a while, as SIGSTOP or a blocked loop does."""
    process = world.processes[name]
    if world.freezer.is_frozen(name) or not process.alive:
        return
    line = world.inject("freeze", name, "")
    world.freezer.freeze(name)
    world.for_a_while(seconds, lambda: world.freezer.thaw(name), line)


async def crash(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Kill a process, and start it again."""
    if not world.processes[name].alive or world.processes[name].stopping:
        return
    line = world.inject("crash", name, "", crashed=True)
    world.crash(name)

    process = world.processes[name]
    world.for_a_while(seconds, lambda: world.start_again(name, process), line)


async def stop(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Stop a process in order, and start it again."""
    process = world.processes[name]
    if not process.alive or process.stopping:
        return
    process.stopping = True
    line = world.inject("stop", name, "")

    async def stop_and_start() -> None:
        await process.stop()
        await process.ended.wait()
        await anyio.sleep(seconds)
        world.start_again(name, process)
        line["end"] = world.journal.now()

    process.spawn(world.group, stop_and_start)


async def resign(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Resign, or hand over to another candidate."""
    process = world.processes[name]
    if not process.alive or process.resigning:
        return
    others = [other.manager.identity for other in world.processes.values() if other is not process]
    to = rng.choice(others) if rng.random() < 0.5 else None
    world.inject("resign", name, "to another" if to else "")

    async def do() -> None:
        process.resigning = True
        world.look(name)
        with suppress(EtcdLeaderError):
            await process.manager.resign(to=to)
        process.resigning = False

    process.spawn(world.group, do)


async def jump(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Let a process's clock jump, as it does after a suspend."""
    world.inject("jump", name, f"{seconds:.3f} s")
    world.processes[name].clock.advance(seconds)


async def drift(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Change the rate of a process's clock, within what the margin allows."""
    timing = world.plan.timing
    world.inject("drift", name, "")
    world.processes[name].clock.rate = rng.uniform(timing.slowest, timing.fastest)


# Operators


def _candidates(world: World) -> list[bytes]:
    return [key for key in world.etcd.keys() if key.startswith(f"{ELECTION}/".encode())]


async def touch(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Delete or overwrite a candidate's key, revoke its lease or detach the key from it."""
    keys = _candidates(world)
    if not keys or not world.etcd.leader:
        return
    key = keys[0] if rng.random() < 0.5 else rng.choice(keys)
    kv = world.etcd.keys()[key]
    what = rng.choice(("delete", "revoke", "overwrite", "detach", "halfway"))
    world.inject("touch", name, f"{what} {kv.create_revision}", deleted=[kv.create_revision])
    with suppress(EtcdLeaderError):
        if what == "delete":
            world.etcd.delete(key)
        elif what == "revoke":
            world.etcd.revoke(kv.lease)
        elif what == "halfway":
            world.etcd.revoke_halfway(kv.lease)
        elif what == "overwrite":
            world.etcd.put(key, "another", lease=kv.lease)
        else:
            world.etcd.put(key, kv.value)
            await anyio.sleep(rng.random())
            world.etcd.delete(key)


async def step_down(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Request a step-down."""
    if keys := _candidates(world):
        world.inject("step_down", name, "")
        with suppress(EtcdLeaderError):
            world.etcd.request_step_down(keys[0])


async def foreign(world: World, name: str, seconds: float, rng: random.Random) -> None:
    """Put a foreign candidate into the queue, and delete it after a while."""
    key = f"{ELECTION}/{rng.randrange(1 << 62):x}"
    line = world.inject("foreign", name, "")
    with suppress(EtcdLeaderError):
        world.etcd.put(key, "foreign")
        world.for_a_while(seconds, lambda: world.delete(key), line)


GROUPS: dict[str, tuple[Fault, ...]] = {
    "network": (partition, partition, one_way, reset, half_open, go_away, refuse, slow),
    "requests": (lose_request, lose_response, lose_response, delay, delay, fail, fail),
    "members": (
        freeze_member, freeze_member, kill_member, lag, lag, depose, depose, transfer, no_leader, unapplied, compact,
        no_space,
    ),
    "data": (restore,),
    "auth": (expire_tokens, revoke_rights),
    "processes": (freeze, freeze, crash, stop, resign, resign, jump, drift),
    "operators": (touch, step_down, foreign),
}  # fmt: skip
"""All faults. One that is there twice is drawn twice as often."""

FAULTS: dict[str, Fault] = {fault.__name__: fault for group in GROUPS.values() for fault in group}
"""The faults by their names."""
