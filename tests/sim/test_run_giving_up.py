"""``etcdleader run`` gives up within its time limit, with the exit status of the actual cause."""

from __future__ import annotations

import math
from collections.abc import Callable

import anyio
import pytest

from etcdleader import EtcdLeaderError, EtcdRefusedError, EtcdUnavailableError
from etcdleader._cli.run.child import Limits
from etcdleader._cli.run.plan import Plan, status_without_leadership
from etcdleader._cli.run.runner import Runner
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import FakeClient
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.world import CONFIG, leading, make

pytestmark = pytest.mark.anyio

UNAVAILABLE, ANOTHER_LEADS, REFUSED = 69, 75, 77
RELEASE = 0.5
DENIED = EtcdRefusedError("etcdserver: permission denied")


async def give_up(
    client: FakeClient, clock: VirtualClock, *, nowait: bool = False, wait: float | None = None, endpoints: int = 1
) -> tuple[int, float]:
    """Return the exit status, and after how many seconds the process would have exited."""
    ends: list[tuple[int, float]] = []
    began_at = anyio.current_time()

    def end(status: int) -> None:
        ends.append((status, anyio.current_time() - began_at))

    manager = make(client, clock)
    limits = Limits(grace=1, sigterm_before_deadline=0, sigkill_after_deadline=0.25)
    plan = Plan(command=["false"], limits=limits, nowait=nowait, wait=wait, endpoints=endpoints)
    end(await Runner(manager, plan, end).run())
    return ends[0]


def cut_off(client: FakeClient) -> None:
    client.partition()


def refuse_connections(client: FakeClient) -> None:
    client.fail(None, EtcdUnavailableError("connection refused"), times=math.inf)


def deny(client: FakeClient) -> None:
    client.fail(None, DENIED, times=math.inf)


@pytest.mark.parametrize(
    ("trouble", "status"), [(cut_off, UNAVAILABLE), (refuse_connections, UNAVAILABLE), (deny, REFUSED)]
)
async def test_without_etcd_the_wait_lasts_its_whole_time_and_reports_no_leader(
    etcd: FakeEtcd, clock: VirtualClock, trouble: Callable[[FakeClient], None], status: int
) -> None:
    client = etcd.client("a")
    trouble(client)
    found, seconds = await give_up(client, clock, wait=2.0)
    assert found == status
    assert 2 <= seconds <= 2 + RELEASE


@pytest.mark.parametrize("how", [{"nowait": True}, {"wait": 0.0}], ids=str)
@pytest.mark.parametrize(
    ("trouble", "status", "within"),
    [(cut_off, UNAVAILABLE, CONFIG.retry), (refuse_connections, UNAVAILABLE, CONFIG.retry), (deny, REFUSED, 0.1)],
)
async def test_a_command_that_does_not_wait_sends_each_endpoint_one_request(
    etcd: FakeEtcd,
    clock: VirtualClock,
    trouble: Callable[[FakeClient], None],
    status: int,
    within: float,
    how: dict[str, float],
) -> None:
    client = etcd.client("a")
    trouble(client)
    found, seconds = await give_up(client, clock, **how)  # type: ignore[arg-type]
    assert found == status
    assert seconds <= within + RELEASE


async def test_one_failure_is_no_outage(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """A connection that breaks, or an election of etcd's leader, costs one request."""
    async with leading(etcd, clock):
        client = etcd.client("b")
        client.fail(None, EtcdUnavailableError("connection reset"))
        assert (await give_up(client, clock, nowait=True))[0] == ANOTHER_LEADS


@pytest.mark.parametrize(
    ("how", "seconds"), [({"nowait": True}, 0.0), ({"wait": 0.0}, 0.0), ({"wait": 2.0}, 2.0)], ids=str
)
async def test_the_status_reports_that_another_candidate_leads(
    etcd: FakeEtcd, clock: VirtualClock, how: dict[str, float], seconds: float
) -> None:
    async with leading(etcd, clock):
        found, took = await give_up(etcd.client("b"), clock, **how)  # type: ignore[arg-type]
    assert found == ANOTHER_LEADS
    assert took == pytest.approx(seconds, abs=0.1)


async def test_a_leader_known_before_the_outage_is_not_reported(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """The leader may have left since."""
    async with leading(etcd, clock):
        client = etcd.client("b")

        async def cut_off_soon() -> None:
            await anyio.sleep(1)
            client.partition()

        async with anyio.create_task_group() as group:
            group.start_soon(cut_off_soon)
            found, seconds = await give_up(client, clock, wait=9.0)
        client.heal()
    assert found == UNAVAILABLE
    assert 9 <= seconds <= 9 + RELEASE


@pytest.mark.parametrize(
    ("position", "outage", "status"),
    [
        (None, set(), UNAVAILABLE),
        (0, set(), ANOTHER_LEADS),
        (3, set(), ANOTHER_LEADS),
        (None, {EtcdUnavailableError}, UNAVAILABLE),
        (3, {EtcdUnavailableError}, UNAVAILABLE),
        (None, {EtcdRefusedError}, REFUSED),
        (3, {EtcdUnavailableError, EtcdRefusedError}, REFUSED),
    ],
)
async def test_the_exit_status_is_that_of_the_worst_error(
    position: int | None, outage: set[type[EtcdLeaderError]], status: int
) -> None:
    assert status_without_leadership(position, outage) == status
