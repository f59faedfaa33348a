"""The source from which a client and its users draw random numbers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from etcdleader import EtcdConfig
from etcdleader._etcd.client import new_client
from tests.helpers.child_script import CHILD

DRAW = """
from etcdleader import EtcdConfig, NoopLeaderManager
from etcdleader._etcd.client import new_client

uniform = {source}

def draw():
    print(*[uniform(0, 1) for _ in range(3)], flush=True)

assert [child(draw), child(draw)] == [0, 0]
draw()
"""


@pytest.mark.parametrize("source", ['new_client(EtcdConfig("one:1")).uniform', "NoopLeaderManager()._uniform"])
def test_a_forked_child_does_not_repeat_the_draws_of_its_parent(source: str) -> None:
    """Otherwise, all workers of a preloading server would retry at the same moments."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD + DRAW.format(source=source)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    draws = done.stdout.splitlines()
    assert len(draws) == 3
    assert len(set(draws)) == 3


def test_a_members_pauses_come_from_its_clients_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """So one source serves the connection attempts and all users of the connection."""
    drawn: list[object] = []
    monkeypatch.setattr("etcdleader._etcd.client.ConnectPolicy", drawn.append)
    client = new_client(EtcdConfig(["one:1", "two:1"]))
    assert drawn == [client.uniform, client.uniform]
