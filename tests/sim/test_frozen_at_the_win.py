"""A process is stopped between the check that shows that it has won, and the beginning of the term."""

from __future__ import annotations

import logging

import anyio
import pytest

from etcdleader import LossReason, Term
from etcdleader._managers.term_scope import TermScope
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock
from tests.sim.world import CONFIG, make

pytestmark = pytest.mark.anyio


async def test_a_term_that_has_expired_before_it_begins_is_reported_in_order(
    etcd: FakeEtcd, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    frozen: list[None] = []

    def freeze(*arguments: object, **named: object) -> TermScope:
        if not frozen:
            frozen.append(None)
            clock.advance(2 * CONFIG.lease)
        return TermScope(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("etcdleader._managers.elector.TermScope", freeze)
    manager = make(etcd.client(), clock)
    ousted: list[Term] = []
    manager.on_ousted(lambda _, term: ousted.append(term))
    with caplog.at_level(logging.INFO):
        async with manager:
            while not ousted:
                await anyio.sleep(0.1)
            assert ousted[0].loss_reason is LossReason.EXPIRED
            lines = [
                record.getMessage() for record in caplog.records if f"token {ousted[0].token}" in record.getMessage()
            ]
            assert ["lost leadership" in one for one in lines] == [False, True]
