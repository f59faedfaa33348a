"""The views from outside: the log, on_error, statistics, and is_leader() in threads."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import FrozenInstanceError
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from etcdleader import (
    Config,
    ElectionStatistics,
    EtcdConfig,
    EtcdLeaderManager,
    EtcdUnavailableError,
    LossReason,
    Term,
    must_new_leader_manager_from_config,
)
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import FakeClient
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.world import CONFIG, make, until

pytestmark = pytest.mark.anyio

CANARY = "canary-7f3a"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "etcdleader")
    return caplog


def lines(log: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.message for record in log.records if record.levelno == level]


async def test_elected_and_ousted_are_one_info_line_each_with_token_and_reason(
    etcd: FakeEtcd, clock: VirtualClock, log: pytest.LogCaptureFixture
) -> None:
    manager = make(etcd, clock)
    terms: list[Term] = []
    async with manager:
        for act in (etcd.delete, None):
            terms.append(await manager.wait_elected())
            await anyio.sleep(1)
            if act is not None:
                act(terms[-1].key)
                await until(lambda: not manager.is_leader())
    stories = [[record for record in log.records if getattr(record, "token", None) == term.token] for term in terms]
    for story, reason in zip(stories, ("DELETED", "STOPPED"), strict=True):
        assert [record.levelno for record in story] == [logging.INFO, logging.INFO]
        elected, ousted = (record.message for record in story)
        assert manager.identity in elected
        assert "leads 'jobs'" in elected
        assert reason in ousted
    assert lines(log, logging.WARNING) == lines(log, logging.ERROR) == []


async def test_an_outage_is_reported_per_outage_and_not_per_attempt(
    etcd: FakeEtcd, clock: VirtualClock, log: pytest.LogCaptureFixture
) -> None:
    """The log has a WARNING when renewals begin to fail, with the time left, and an INFO when they succeed again.

    It has one ERROR when less than a third of the lease is left. on_error gets each kind once; statistics count each.
    """
    client = etcd.client()
    manager = make(client, clock)
    errors: list[Exception] = []
    manager.on_error(lambda manager, error: errors.append(error))
    async with manager:
        term = await manager.wait_elected()
        for outage in range(1, 4):
            await anyio.sleep(1)
            log.clear()
            client.partition()
            await until(lambda: term.remaining() < 0.5)
            # The watches may detect it first, and log separate lines.
            (warning,) = (line for line in lines(log, logging.WARNING) if "etcd request failed" not in line)
            assert "began to fail" in warning
            assert " s left" in warning
            (alarm,) = lines(log, logging.ERROR)
            left = float(alarm.partition("only ")[2].partition(" s left")[0])
            assert left < CONFIG.lease / 3
            assert lines(log, logging.INFO) == []
            client.heal()
            await until(lambda: term.remaining() > 5)
            await anyio.sleep(5)
            assert len(lines(log, logging.INFO)) == 1
            assert len(lines(log, logging.WARNING)) <= 2
            assert len(lines(log, logging.ERROR)) == 1
            assert [type(error) for error in errors] == [EtcdUnavailableError] * outage
            assert manager.statistics().renewal_failures >= 3 * outage
        assert term.is_valid()
        assert manager.statistics().terms == 1


async def test_a_single_lost_renewal_is_a_warning_and_no_alarm(
    etcd: FakeEtcd, clock: VirtualClock, log: pytest.LogCaptureFixture
) -> None:
    client = etcd.client()
    manager = make(client, clock)
    async with manager:
        await manager.wait_elected()
        client.lose_request("lease_keep_alive")
        await anyio.sleep(3 * CONFIG.renew)
        assert len(lines(log, logging.WARNING)) == 1
        assert lines(log, logging.ERROR) == []
        assert manager.statistics().renewal_failures == 1


async def test_each_kind_of_error_is_reported_once_while_it_lasts(
    etcd: FakeEtcd, clock: VirtualClock, log: pytest.LogCaptureFixture
) -> None:
    client = etcd.client()
    manager = make(client, clock)
    errors: list[str] = []
    manager.on_error(lambda manager, error: errors.append(type(error).__name__))
    etcd.stop()
    async with anyio.create_task_group() as group:
        group.start_soon(manager.campaign)
        await anyio.sleep(20)
        assert errors == ["EtcdUnavailableError"]
        client.refuse(times=1e9)
        etcd.start()
        await anyio.sleep(20)
        assert errors == ["EtcdUnavailableError", "EtcdRefusedError"]
        assert len(lines(log, logging.WARNING)) == 2
        assert manager.statistics().etcd_errors >= 40
        client.clear_faults()
        await manager.wait_elected()
        assert sum("etcd connection restored" in line for line in lines(log, logging.INFO)) == 1
        await manager.stop()


async def test_a_watch_that_is_always_refused_is_reported_once(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    client.refuse("watch", times=1e9)
    manager = make(client, clock)
    errors: list[Exception] = []
    manager.on_error(lambda manager, error: errors.append(error))
    async with manager:
        await manager.wait_elected()
        await anyio.sleep(100)
        assert manager.is_leader()
        assert manager.statistics().etcd_errors >= 50
        assert len(errors) == 1


async def test_a_campaign_that_ends_by_an_exception_is_an_error_at_once_and_one_that_is_cancelled_is_none(
    etcd: FakeEtcd, clock: VirtualClock, log: pytest.LogCaptureFixture
) -> None:
    manager = make(etcd, clock)
    with anyio.move_on_after(5):
        await manager.campaign()
    assert lines(log, logging.ERROR) == []
    seen: list[list[str]] = []
    manager.on_ousted(lambda manager, term: seen.append(lines(log, logging.ERROR)))

    async def work(term: Term) -> None:
        raise ZeroDivisionError("of the work")

    with pytest.raises(ZeroDivisionError):
        await manager.run(work)
    (line,) = lines(log, logging.ERROR)
    assert "ZeroDivisionError: of the work" in line
    assert seen == [[line]], "at once: before leadership is released"


async def test_statistics_count_the_losses_by_reason(etcd: FakeEtcd, clock: VirtualClock) -> None:
    client = etcd.client()
    manager = make(client, clock)
    at_first = manager.statistics()
    assert at_first == ElectionStatistics()
    async with anyio.create_task_group() as group:
        group.start_soon(manager.campaign)

        async def next_term() -> Term:
            await until(manager.is_leader)
            await anyio.sleep(1)
            assert manager.term is not None
            return manager.term

        etcd.delete((await next_term()).key)
        await until(lambda: not manager.is_leader())
        await next_term()
        await manager.resign()
        await next_term()
        client.partition()
        await until(lambda: not manager.is_leader())
        client.heal()
        term = await next_term()
        client.stall_watches()
        etcd.revoke(term.lease_id)
        await until(lambda: not manager.is_leader())
        client.resume_watches()
        await next_term()
        await manager.stop()
    numbers = manager.statistics()
    assert numbers.terms == 5
    assert numbers.losses == {
        LossReason.DELETED: 1,
        LossReason.RESIGNED: 1,
        LossReason.EXPIRED: 1,
        LossReason.REVOKED: 1,
        LossReason.STOPPED: 1,
    }
    assert numbers.last_renewal_age is None
    assert numbers.queue_position is None
    assert numbers.overruns == 0
    assert at_first == ElectionStatistics(), "what was published does not change"
    with pytest.raises(FrozenInstanceError):
        numbers.terms = 6  # type: ignore[misc]


async def test_statistics_have_the_age_of_the_last_renewal_and_the_minimum_remaining_time(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    client = etcd.client()
    manager = make(client, clock)
    assert manager.statistics().last_renewal_age is None
    async with manager:
        term = await manager.wait_elected()
        assert manager.statistics().last_renewal_age == 0, "the grant counts"
        assert manager.statistics().min_remaining is None
        await anyio.sleep(CONFIG.renew + 1)
        assert manager.statistics().renewals == 1
        assert manager.statistics().last_renewal_age == pytest.approx(1)
        usual = CONFIG.lease - CONFIG.margin - CONFIG.renew
        assert manager.statistics().min_remaining == pytest.approx(usual, abs=0.01)
        client.partition()
        await until(lambda: term.remaining() < 1)
        assert manager.statistics().last_renewal_age == pytest.approx(CONFIG.lease - CONFIG.margin - 1, abs=0.01)
        client.heal()
        await anyio.sleep(10 * CONFIG.renew)
        least = manager.statistics().min_remaining
        assert least is not None
        assert 0 < least <= 1, "the least one is kept"
        assert manager.statistics().renewals >= 10


async def test_statistics_follow_the_queue(etcd: FakeEtcd, clock: VirtualClock) -> None:
    """The figures are those last seen. The third candidate watches the second only, and is not woken to count."""
    managers = [make(etcd, clock, name) for name in "abc"]
    last = managers[2]
    places: list[int | None] = [last.statistics().queue_position]
    async with anyio.create_task_group() as group:
        for manager in managers:
            await group.start(manager.campaign)
        places.append(last.statistics().queue_position)
        for manager in (managers[1], managers[0], last):
            await anyio.sleep(1)
            await manager.stop()
            await anyio.sleep(0.1)
            places.append(last.statistics().queue_position)
    assert places == [None, 2, 1, 0, None]


# From other threads


@contextmanager
def threads_looking(manager: EtcdLeaderManager, count: int) -> Iterator[tuple[list[int], list[BaseException]]]:
    """Threads that poll, checking that no token becomes valid again.

    Yields the numbers of polls of each thread, and the violations.
    """
    looks, wrong, over = [0] * count, list[BaseException](), threading.Event()

    def look(number: int) -> None:
        terms: dict[int, Term] = {}
        ended: set[int] = set()
        try:
            while not over.is_set():
                manager.is_leader()
                if (term := manager.term) is not None:
                    terms[term.token] = term
                for token, seen in terms.items():
                    valid = seen.is_valid()
                    assert not (valid and token in ended), "True after False"
                    assert valid or seen.remaining() <= 0
                    if not valid:
                        ended.add(token)
                numbers = manager.statistics()
                assert sum(numbers.losses.values()) <= numbers.terms
                assert numbers.last_renewal_age is None or numbers.last_renewal_age >= 0
                repr(manager)
                looks[number] += 1
        except BaseException as error:  # noqa: BLE001 - reported to the test
            wrong.append(error)

    threads = [threading.Thread(target=look, args=(number,), daemon=True) for number in range(count)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        yield looks, wrong
    finally:
        over.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)


async def test_eight_threads_may_call_is_leader_during_elections_and_losses(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    """No lock, no torn state, and no token is valid again. Every thread sees each change before the next one."""
    manager = make(etcd, clock)
    with threads_looking(manager, 8) as (looks, wrong):

        async def all_have_looked() -> None:
            before = list(looks)
            while not wrong and any(now < then + 2 for now, then in zip(looks, before, strict=True)):
                await anyio.lowlevel.checkpoint()

        for round_ in range(8):
            async with manager:
                term = await manager.wait_elected()
                await all_have_looked()
                await manager.extend()
                await all_have_looked()
                if round_ % 4 == 0:
                    etcd.delete(term.key)
                elif round_ % 4 == 1:
                    etcd.revoke(term.lease_id)
                elif round_ % 4 == 2:
                    clock.advance(CONFIG.lease)
                await all_have_looked()
            await all_have_looked()
    assert wrong == []
    assert manager.statistics().terms >= 8


class EndsMeanwhile(EtcdLeaderManager):
    """Ends its candidacy at the worst moment: just after another thread has checked whether there is one."""

    armed = False

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name == "_elector" and self.armed:
            self._elector = None
        return value


async def test_a_candidacy_that_ends_while_statistics_are_read_does_no_harm(
    etcd: FakeEtcd, clock: VirtualClock
) -> None:
    manager = EndsMeanwhile(etcd, CONFIG, "jobs", clock=clock)
    async with manager:
        await manager.wait_elected()
        elector = manager._elector
        manager.armed = True
        try:
            assert manager.statistics().last_renewal_age is not None
        finally:
            manager.armed = False
            manager._elector = elector


# Secrets


def test_no_secret_is_shown_by_any_description_of_a_manager(log: pytest.LogCaptureFixture) -> None:
    etcd = {"endpoints": ["127.0.0.1:1"], "user": "root", "password": CANARY, "allow_plaintext_password": True}
    settings = {"leader": {"enabled": True, "lease": 10, "renew": 2, "retry": 0.2}, "etcd": etcd}
    manager = must_new_leader_manager_from_config("jobs", settings=settings)
    errors: list[Exception] = []
    manager.on_error(lambda manager, error: errors.append(error))

    async def main() -> None:
        with anyio.move_on_after(0.5):
            await manager.campaign()
        for ask in (manager.leader, manager.candidates):
            with pytest.raises(EtcdUnavailableError) as caught:
                await ask()
            errors.append(caught.value)

    anyio.run(main)
    assert errors
    texts = [repr(manager), str(manager), log.text, *(repr(vars(record)) for record in log.records)]
    for error in errors:
        texts += [str(error), repr(error), repr(error.__cause__), str(error.__cause__), repr(error.__context__)]
    config = EtcdConfig(["127.0.0.1:1"], "root", CANARY)
    texts += [repr(config), str(config), f"{config}", repr(FakeClient), repr(Config())]
    assert log.records
    assert [text for text in texts if CANARY in text] == []
