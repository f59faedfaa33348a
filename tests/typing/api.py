"""The public names, used as their users do. Type checkers read this folder; it is never run."""

# etcd3 has no types.
# pyright: strict, reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, assert_type

import anyio

import etcdleader
from etcdleader import (
    Config,
    ConfigError,
    ElectionStatistics,
    EtcdConfig,
    EtcdLeaderError,
    EtcdLeaderManager,
    EtcdRefusedError,
    EtcdRegressedError,
    EtcdUnavailableError,
    HandOverError,
    LeaderManager,
    LeaderRecord,
    LeadershipLostError,
    LeaderStatus,
    LossReason,
    NoopLeaderManager,
    NotLeaderError,
    Term,
    from_settings,
    must_new_leader_manager_from_config,
)
from etcdleader.config import MIN_RECOMMENDED_LEASE_SECONDS, Duration, validate_advertised, validate_election_key
from etcdleader.etcd3 import etcd3
from etcdleader.manager import Step
from etcdleader.metrics import NullMetrics
from etcdleader.observation import ElectionObserver
from etcdleader.testing import FakeEtcd

# Settings

Config()
Config(enabled=True, id="{host}-{pid}", lease="1m", retry=5, renew=timedelta(seconds=15), margin=None)
config = Config(enabled=True, lease=10.5, retry="500ms", renew=2, margin="1s", exit_on_overrun=True, advertise="a:1")
assert_type(config.enabled, bool)
assert_type(config.id, str)
assert_type(config.lease, float)
assert_type(config.retry, float)
assert_type(config.renew, float)
assert_type(config.margin, float)
assert_type(config.exit_on_overrun, bool)
assert_type(config.advertise, str | None)

EtcdConfig("127.0.0.1:2379")
EtcdConfig(endpoints="10.0.0.1:2379,10.0.0.2:2379")
etcd = EtcdConfig(
    endpoints=["https://etcd-1:2379", "[::1]:2379"],
    user="jobs",
    password="swordfish",
    ca_cert="ca.pem",
    cert="cert.pem",
    key="key.pem",
    password_file=None,
    allow_plaintext_password=False,
    max_recv_bytes=2**24,
)
assert_type(etcd.endpoints, tuple[str, ...])
assert_type((etcd.user, etcd.password, etcd.password_file), tuple[str | None, str | None, str | None])
EtcdConfig("127.0.0.1:2379", user="jobs", password_file=Path("/run/secrets/etcd-password"))
assert_type((etcd.ca_cert, etcd.cert, etcd.key), tuple[str | None, str | None, str | None])
assert_type((etcd.tls, etcd.allow_plaintext_password, etcd.max_recv_bytes), tuple[bool, bool, int])
assert_type({etcd: 1}, dict[EtcdConfig, int])

durations: list[Duration] = [1, 1.5, "1m", timedelta(minutes=1)]
assert_type(config.lease < MIN_RECOMMENDED_LEASE_SECONDS, bool)
validate_election_key("jobs/nightly")
validate_advertised("http://10.0.0.1:8000")

# Managers

manager: LeaderManager = EtcdLeaderManager(etcd, config, "jobs/nightly")
EtcdLeaderManager(FakeEtcd(), config, "jobs/nightly", clock=lambda: 0.0, metrics=None)
NoopLeaderManager()
NoopLeaderManager(config, "jobs/nightly")
assert_type(must_new_leader_manager_from_config(), LeaderManager)
must_new_leader_manager_from_config("jobs/nightly", settings={"leader": {"enabled": False}}, section="leader")
must_new_leader_manager_from_config("jobs/nightly", client=etcd, settings="conf/app.toml", section="sync.election")
must_new_leader_manager_from_config(settings=Path("conf/app.toml"), advertise="http://10.0.0.1:8000")
assert_type(
    from_settings("jobs/nightly", client=etcd, settings="conf/app.toml", section="sync.election"), LeaderManager
)
must_new_leader_manager_from_config("jobs/nightly", metrics=NullMetrics())

assert_type(manager.config, Config)
assert_type(manager.election_key, str)
assert_type(manager.identity, str)
assert_type(manager.status, LeaderStatus)
assert_type(manager.term, Term | None)
assert_type(manager.known_leader, LeaderRecord | None)
observer: ElectionObserver = manager
assert_type(observer.known_leader, LeaderRecord | None)
assert_type(manager.known_leader_at, datetime | None)
assert_type(manager.advertised, str | None)
assert_type(manager.is_leader(), bool)
if manager.status is LeaderStatus.ELECTED or manager.status in {LeaderStatus.INIT, LeaderStatus.OUSTED}:
    print(int(manager.status))


with manager.step() as stepped:
    assert_type(stepped, Term | None)
    if stepped is not None:
        print(stepped.token)


def tick(step: Step) -> None:
    with step as stepped:
        assert_type(stepped, Term | None)


# Callbacks: callbacks.py has all that is accepted and refused


@manager.on_elected
async def elected(manager: LeaderManager, term: Term) -> None:
    print(manager.identity, term.token)


@manager.on_ousted
async def ousted(_: LeaderManager, term: Term) -> None:
    match term.loss_reason:
        case LossReason.EXPIRED | LossReason.DELETED | LossReason.REVOKED | LossReason.REGRESSED:
            print("lost")
        case LossReason.RESIGNED | LossReason.STOPPED | LossReason.FAILED | None:
            print("left")


manager.add_metrics(NullMetrics())


@manager.on_error
def failed(_: LeaderManager, error: EtcdLeaderError) -> None:
    print(error)


async def work(term: Term) -> str:
    return term.key


# Campaigning


async def campaign(manager: LeaderManager) -> None:
    async with anyio.create_task_group() as group:
        await group.start(manager.campaign)
        group.start_soon(manager.campaign)
        with anyio.move_on_after(10):
            assert_type(await manager.wait_elected(), Term)
        await manager.stop()
        await manager.resign()
        await manager.advertise("http://10.0.0.1:8000")
        await manager.advertise(None)
        try:
            await manager.resign(to="web-2#1f2e3d4c")
        except HandOverError as error:
            assert_type(error.ahead, tuple[str, ...])
    async with manager.step() as term:
        assert_type(term, Term | None)
    assert_type(await manager.extend(), Term)
    await manager.extend(manager.term)


async def block(manager: LeaderManager, on_etcd: EtcdLeaderManager, switched_off: NoopLeaderManager) -> None:
    async with on_etcd as same_on_etcd, switched_off as same_switched_off:
        assert_type(same_on_etcd, EtcdLeaderManager)
        assert_type(same_switched_off, NoopLeaderManager)
    async with manager as same:
        assert_type(same, LeaderManager)
        try:
            async with manager.leading() as term:
                assert_type(term, Term)
        except LeadershipLostError as lost:
            assert_type(lost.term, Term)
        except NotLeaderError:
            raise


async def run(manager: LeaderManager) -> None:
    assert_type(await manager.run(work), str | None)
    assert_type(await manager.run_once("v42", work), bool)

    async def count(term: Term) -> int:
        return term.token

    assert_type(await manager.run(count), int | None)

    def count_in_a_thread(term: Term) -> int:
        while term.wait(10.5):
            print(term.token)
        return term.token

    assert_type(await manager.run(count_in_a_thread), int | None)
    assert_type(await manager.run(lambda term: term.key), str | None)


def run_all(manager: LeaderManager) -> None:
    assert_type(manager.main(work), str | None)
    assert_type(manager.main(lambda term: term.token, backend="trio"), int | None)


# A term


async def use(term: Term) -> None:
    assert_type(term.token, int)
    assert_type(term.identity, str)
    assert_type(term.election, str)
    assert_type(term.key, str)
    assert_type(term.lease_id, int)
    assert_type(term.elected_at, datetime)
    assert_type(term.loss_reason, LossReason | None)
    assert_type(term.is_valid(), bool)
    assert_type(term.remaining(), float)
    assert_type(term.wait(1), bool)
    compares: Sequence[Any] = [*term.guard()]
    client: Any = etcd3.client(host="etcd-1", port=2379)
    client.transaction(compare=compares, success=[client.transactions.put("report", "done")], failure=[])
    EtcdLeaderManager(client, config, "jobs/nightly")
    done, responses = await term.transaction([client.transactions.put("report", "done")])
    assert_type(done, bool)
    assert_type(responses, list[Any])
    await term.transaction([], failure=[client.transactions.get("report")])
    await term.attach("endpoint", "http://10.0.0.1:8000")
    await term.attach(b"endpoint", b"http://10.0.0.1:8000")
    print(datetime.now(UTC) - term.elected_at)


# Looking on


async def look(manager: LeaderManager) -> None:
    assert_type(await manager.leader(), LeaderRecord | None)
    assert_type(await manager.candidates(), list[LeaderRecord])
    async with manager.observe() as leaders:
        assert_type(leaders, AsyncIterator[LeaderRecord | None])
        async for leader in leaders:
            if leader is not None:
                assert_type((leader.identity, leader.token, leader.key, leader.lease_id), tuple[str, int, str, int])


def count(statistics: ElectionStatistics) -> None:
    assert_type(statistics.terms, int)
    assert_type(statistics.losses, Mapping[LossReason, int])
    assert_type(statistics.renewals, int)
    assert_type(statistics.last_renewal_age, float | None)
    assert_type(statistics.queue_position, int | None)
    assert_type(statistics.min_remaining, float | None)
    assert_type((statistics.renewal_failures, statistics.etcd_errors, statistics.overruns), tuple[int, int, int])
    assert_type(statistics.lease_moves, int)


count(manager.statistics())


# Errors


async def fail(manager: LeaderManager) -> None:
    try:
        await manager.campaign()
    except EtcdRegressedError as error:
        assert_type((error.cluster_id, error.known, error.found), tuple[int, int, int])
    except (EtcdUnavailableError, EtcdRefusedError):
        pass
    except ConfigError as error:
        assert_type(error.problems, tuple[str, ...])
        as_value_error: ValueError = error
        raise as_value_error from None
    except EtcdLeaderError as error:
        assert_type((error.retry_other_endpoint, error.caused_by_loss), tuple[bool, bool])
        raise


def mistype() -> None:
    """A name that there is not is found, though the package is loaded when it is used."""
    etcdleader.EtcdLeaderManger  # type: ignore[attr-defined]  # noqa: B018 - it is not run
