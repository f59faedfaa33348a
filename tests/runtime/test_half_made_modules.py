"""Another thread imports a library at this moment: its module is in ``sys.modules`` and is not whole."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import anyio
import pytest

from etcdleader import EtcdLeaderManager
from etcdleader.testing import FakeEtcd
from etcdleader.testing.virtual_time import VirtualClock, virtual_backend
from tests.sim.world import CONFIG, ELECTION


def half_made_trio(*, lowlevel: bool) -> ModuleType:
    trio = ModuleType("trio")
    if lowlevel:
        trio.lowlevel = ModuleType("trio.lowlevel")  # type: ignore[attr-defined]
    return trio


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [pytest.param(virtual_backend("asyncio"), id="virtual-asyncio")])
@pytest.mark.parametrize("lowlevel", [False, True])
async def test_a_campaign_on_asyncio_goes_on_while_another_thread_imports_trio(
    monkeypatch: pytest.MonkeyPatch, lowlevel: bool
) -> None:
    async with FakeEtcd() as etcd:
        manager = EtcdLeaderManager(etcd.client(), CONFIG, ELECTION, clock=VirtualClock())
        monkeypatch.setitem(sys.modules, "trio", half_made_trio(lowlevel=lowlevel))
        async with manager, manager.leading() as term:
            await anyio.sleep(3 * CONFIG.lease)
            assert term.is_valid()
        assert manager.statistics().terms == 1
        assert manager.statistics().renewal_failures == 0


def test_etcd3s_messages_are_whole_although_another_thread_is_importing_etcd3() -> None:
    script = """
import sys, threading
from etcdleader._etcd import etcd3_finder

begun, go_on = threading.Event(), threading.Event()

class Slow:
    def find_spec(self, name, path, target=None):
        if name == "etcd3.etcdrpc.rpc_pb2":
            begun.set()
            go_on.wait()

etcd3_finder.install()
sys.meta_path.insert(0, Slow())
importing = threading.Thread(target=__import__, args=("etcd3",), daemon=True)
importing.start()
begun.wait()
threading.Timer(0.3, go_on.set).start()
print(hasattr(etcd3_finder.messages(), "LeaseGrantRequest"))
importing.join()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "True\n", done.stderr
