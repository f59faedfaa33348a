"""The frequency of connection attempts, and the pauses that outlast a connection. On virtual time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from etcdleader import EtcdConfig, EtcdUnavailableError
from etcdleader._etcd import endpoint as endpoints
from etcdleader._etcd.api import Range
from etcdleader._etcd.client import new_client
from etcdleader._grpc import RpcError, Status
from etcdleader.testing.virtual_time import VIRTUAL_BACKENDS, virtual_backend

pytestmark = pytest.mark.anyio


@pytest.fixture(params=VIRTUAL_BACKENDS, ids=lambda name: f"virtual-{name}")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, Mapping[str, Any]]:
    return virtual_backend(request.param)


class Network:
    """Connections that succeed or fail as the test orders.

    Attributes:
        attempts: The time and the address of each attempt.
        intervals: The ping interval of each.
        accepts: Whether a connection is opened. It is lost at its first call.
        lasts: The seconds until the loss.
        answers: Whether data is received on it before the loss.
        too_many_pings: Whether the member reports too many pings with the loss.
    """

    def __init__(self) -> None:
        self.attempts: list[tuple[float, str]] = []
        self.intervals: list[float] = []
        self.accepts = self.answers = self.too_many_pings = False
        self.lasts = 0.01

    def connection(network) -> type[Any]:  # noqa: N805 - the class below has its own self
        class Connection:
            def __init__(
                self,
                authority: str,
                *,
                ping_interval: float,
                on_received: Callable[[], None],
                on_too_many_pings: Callable[[], None],
                **_: object,
            ) -> None:
                self.ended = anyio.Event()
                self._authority = authority
                self._on_received, self._on_too_many_pings = on_received, on_too_many_pings
                self.is_open = False
                network.intervals.append(ping_interval)

            async def connect(self, tls: object) -> None:
                network.attempts.append((anyio.current_time(), self._authority))
                await anyio.sleep(0.004)  # without pauses, attempts also take time, so that a test of them ends
                if not network.accepts:
                    raise ConnectionRefusedError(111, "refused")
                self.is_open = True

            async def unary_unary(self, *_: object, **__: object) -> bytes:
                await anyio.sleep(network.lasts)
                if network.answers:
                    self._on_received()
                if network.too_many_pings:
                    self._on_too_many_pings()
                self.close()
                raise RpcError(Status("UNAVAILABLE", "hung up"))

            def close(self) -> None:
                self.is_open = False
                self.ended.set()

            async def wait_closed(self) -> None:
                await self.ended.wait()

        return Connection


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setattr(endpoints, "Connection", network.connection())
    monkeypatch.setattr(endpoints, "TlsDiagnosis", lambda *_, **__: Silent())
    return network


class Silent:
    async def reason(self) -> None:
        await anyio.lowlevel.checkpoint()


async def ask_on_and_on(callers: int, seconds: float, *addresses: str) -> list[str]:
    """Let many callers retry as soon as they fail. Return the errors."""
    client = new_client(EtcdConfig(addresses))
    errors: list[str] = []

    async def ask() -> None:
        while True:
            used = client.endpoint_number
            try:
                await client.range(Range(b"k"), timeout=1.5)
            except EtcdUnavailableError as error:
                errors.append(str(error))
                client.report_endpoint_failure(used)

    with anyio.move_on_after(seconds):
        async with anyio.create_task_group() as group:
            for _ in range(callers):
                group.start_soon(ask)
    await client.aclose()
    return errors


@pytest.mark.parametrize(
    ("accepts", "answers"),
    [(False, False), (True, False), (True, True)],
    ids=["refused", "accepted and lost", "answered and lost"],
)
@pytest.mark.parametrize("addresses", [("one:1",), ("one:1", "two:1", "three:1")], ids=["one endpoint", "three"])
async def test_each_endpoint_gets_one_connection_a_second_in_an_outage_however_many_callers_wait(
    network: Network, addresses: tuple[str, ...], *, accepts: bool, answers: bool
) -> None:
    network.accepts, network.answers = accepts, answers
    errors = await ask_on_and_on(50, 30, *addresses)
    for address in addresses:
        assert len([to for _, to in network.attempts if to == address]) <= 70, "a pause is at least half a second"
    assert len(network.attempts) >= 10
    reasons = ("refused", "hung up", "the connection was closed")
    unexplained = {error for error in errors if not any(reason in error for reason in reasons)}
    assert unexplained == set(), "callers learn why in a pause, too"


async def test_the_first_attempt_waits_for_nothing_and_the_next_one_only_a_moment(network: Network) -> None:
    started = anyio.current_time()
    await ask_on_and_on(1, 1, "one:1")
    first, second = (at - started for at, _ in network.attempts[:2])
    assert first == pytest.approx(0, abs=0.01)
    assert 0.02 < second < 0.06


async def test_a_member_that_answered_for_a_second_is_connected_to_at_once(network: Network) -> None:
    network.accepts = network.answers = True
    network.lasts = 1.01
    await ask_on_and_on(1, 30, "one:1")
    assert len(network.attempts) > 20
    gaps = [later - earlier for (earlier, _), (later, _) in zip(network.attempts, network.attempts[1:], strict=False)]
    assert max(gaps) < 1.03


async def test_a_member_that_receives_too_many_pings_is_pinged_less_on_the_next_connections(network: Network) -> None:
    network.accepts = network.answers = network.too_many_pings = True
    client = new_client(EtcdConfig(["one:1"]))
    for _ in range(4):
        used = client.endpoint_number
        with pytest.raises(EtcdUnavailableError):
            await client.range(Range(b"k"), timeout=5)
        client.report_endpoint_failure(used)
        await anyio.sleep(2)
    await client.aclose()
    assert network.intervals == [10, 20, 40, 80]
