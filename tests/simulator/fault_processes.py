"""Faults of processes, and the actions of operators."""

from __future__ import annotations

import random
from contextlib import suppress

import anyio

from etcdleader import EtcdLeaderError
from tests.simulator.process import ELECTION
from tests.simulator.world import World

__all__ = ("crash", "drift", "foreign", "freeze", "jump", "resign", "step_down", "stop", "touch")


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
        world.in_state(name)
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
