"""Work that is done once, on a real etcd: by processes that are killed in the middle, and under a small role."""

from __future__ import annotations

import signal
import subprocess
import textwrap
from contextlib import ExitStack
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from etcdleader import Config, EtcdConfig, EtcdLeaderManager, EtcdRefusedError, Term
from etcdleader.testing import EtcdServer
from tests.etcd.programs import line, python

CONFIG = Config(enabled=True, id="once", lease=4, renew=0.5, retry=0.5)
PATIENCE = 60

PROGRAM = """
    import sys
    import anyio
    from etcdleader import Config, EtcdConfig, EtcdLeaderManager

    endpoint, election, backend, seconds = sys.argv[1:]
    config = Config(enabled=True, id="once", lease=4, renew=0.5, retry=1.2)  # for a release, etcd may be late by a second
    manager = EtcdLeaderManager(EtcdConfig([endpoint]), config, election)

    WORK

    print(anyio.run(manager.run_once, "v42", work, backend=backend), flush=True)
"""


ASYNC = """
    async def work(term):
        print("began", flush=True)
        await anyio.sleep(float(seconds))
        print("done", flush=True)
"""

PLAIN = """
    def work(term):
        print("began", flush=True)
        if term.wait(float(seconds)):
            print("done", flush=True)
"""


@pytest.mark.parametrize("work", [ASYNC, PLAIN], ids=["async", "plain"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_leader_killed_in_the_middle_is_followed_by_one_that_does_it(
    etcd_server: EtcdServer, operator: Any, election_key: str, backend: str, work: str
) -> None:
    source = textwrap.dedent(PROGRAM.replace("    WORK\n", work))
    endpoint = etcd_server.endpoints[0]
    with ExitStack() as stack:
        first = stack.enter_context(python(source, endpoint, election_key, backend, "600"))
        assert line(first) == "began"
        others = [stack.enter_context(python(source, endpoint, election_key, backend, "0.5")) for _ in range(3)]
        first.send_signal(signal.SIGKILL)
        said = [other.communicate(timeout=PATIENCE)[0].split() for other in others]
        assert sorted(said) == [["False"], ["False"], ["began", "done", "True"]]
        assert first.wait() == -signal.SIGKILL
        assert [kv.key for _, kv in operator.get_prefix(election_key)] == [f"{election_key}@done/v42".encode()]
        late = stack.enter_context(python(source, endpoint, election_key, backend, "0"))
        assert late.communicate(timeout=PATIENCE)[0].split() == ["False"]


def test_etcdctl_deletes_a_record(etcd_server: EtcdServer, election_key: str) -> None:
    def run() -> bool:
        manager = EtcdLeaderManager(etcd_server.config, CONFIG, election_key)
        return anyio.run(manager.run_once, "v42", anyio_sleep)

    async def anyio_sleep(term: Term) -> None:
        await anyio.lowlevel.checkpoint()

    assert [run(), run()] == [True, False]
    record, endpoint = f"{election_key}@done/v42", f"--endpoints={etcd_server.endpoints[0]}"
    command = [str(etcd_server.etcdctl), endpoint, "del", record]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "1"
    assert [run(), run()] == [True, False]


@pytest.mark.anyio
async def test_the_smallest_role_needs_the_prefix_of_the_records_too() -> None:
    """And is notified of it before the work begins."""
    begun = 0

    async def work(term: Term) -> None:
        nonlocal begun
        begun += 1

    with EtcdServer() as server:

        async def etcdctl(*arguments: str, stdin: str = "", user: str = "") -> None:
            login = [f"--user={user}"] if user else []
            command = [str(server.etcdctl), f"--endpoints={server.endpoints[0]}", *login, *arguments]
            with anyio.fail_after(PATIENCE):
                await anyio.run_process(command, input=stdin.encode())

        for name in ("root", "jobs"):
            await etcdctl("user", "add", name, "--interactive=false", stdin="secret")
        await etcdctl("user", "grant-role", "root", "root")
        await etcdctl("role", "add", "jobs")
        await etcdctl("role", "grant-permission", "jobs", "readwrite", "--prefix", "jobs/")
        await etcdctl("user", "grant-role", "jobs", "jobs")
        await etcdctl("auth", "enable")
        client = EtcdConfig(server.endpoints, user="jobs", password="secret")
        with anyio.fail_after(PATIENCE):
            with pytest.raises(EtcdRefusedError, match="readwrite for the prefix 'jobs@done/'"):
                await EtcdLeaderManager(client, CONFIG, "jobs").run_once("v42", work)
            assert begun == 0
            grant = ("role", "grant-permission", "jobs", "readwrite", "--prefix", "jobs@done/")
            await etcdctl(*grant, user="root:secret")
            assert await EtcdLeaderManager(client, CONFIG, "jobs").run_once("v42", work)
            assert not await EtcdLeaderManager(client, CONFIG, "jobs").run_once("v42", work)
        assert begun == 1
