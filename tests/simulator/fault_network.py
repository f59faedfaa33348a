"""Faults of one process's network, and of its single requests."""

from __future__ import annotations

import random

from tests.simulator.network import Link
from tests.simulator.service import KINDS, RequestFault
from tests.simulator.world import World

__all__ = (
    "delay",
    "fail",
    "go_away",
    "half_open",
    "lose_request",
    "lose_response",
    "one_way",
    "partition",
    "refuse",
    "reset",
    "slow",
)

_REQUESTS = (None, *(kind for kind in KINDS.values() if kind != "status"))


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
