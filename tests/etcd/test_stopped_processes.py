"""Processes that are frozen, or whose work does not let go, beside a real etcd."""

from __future__ import annotations

import signal
import subprocess
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from etcdleader.etcd3 import etcd3
from etcdleader.testing import EtcdServer
from tests.etcd.programs import line, python

PROGRAM = """
    import select, sys, time
    import anyio
    from etcdleader import Config, EtcdConfig, EtcdLeaderManager, EtcdUnavailableError
    from etcdleader.etcd3 import etcd3

    endpoint, election, backend = sys.argv[1:4]
    config = Config(enabled=True, id="stopped", lease=LEASE, renew=0.5, retry=0.25, margin=MARGIN, exit_on_overrun=EXIT)
    manager = EtcdLeaderManager(EtcdConfig(endpoints=[endpoint]), config, election)

    def say(*words):
        print(*words, flush=True)

    async def main():
        async with manager:
            term = await manager.wait_elected()
            say("elected", term.token)
            BODY

    anyio.run(main, backend=backend)
"""

FROZEN = """
            # What stands on stdin was written while this process was frozen: this look is the first one after that.
            say("looking")
            while not select.select([sys.stdin], [], [], 0)[0]:
                assert manager.is_leader() or not term.is_valid()
                await anyio.sleep(0.01)
            say("first look", term.is_valid(), manager.term is term)
            while True:
                try:
                    late, _ = await term.transaction([etcd3.Transactions().put(election + "-data", "late")])
                    break
                except EtcdUnavailableError:
                    pass  # a busy machine takes longer than `retry`
            say("late write", late)
"""

BLOCKED = """
            say("blocking")
            time.sleep(60)
"""

SWALLOWED = """
            async with manager.leading():
                say("swallowing")
                with anyio.CancelScope(shield=True):
                    await manager.resign()
                    await anyio.sleep(60)
"""


@contextmanager
def program(
    server: EtcdServer, election_key: str, backend: str, body: str, *, exit_on_overrun: bool, margin: float = 1
) -> Iterator[subprocess.Popen[str]]:
    """Run it with a lease that leaves it three seconds to lead. So it can stand still for one without losing leadership."""
    source = textwrap.dedent(PROGRAM).replace("EXIT", str(exit_on_overrun))
    source = source.replace("LEASE", str(3 + margin)).replace("MARGIN", str(margin))
    source = source.replace("        BODY\n", textwrap.indent(textwrap.dedent(body), "        "))
    with python(source, server.endpoints[0], election_key, backend) as process:
        yield process


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_first_look_after_a_freeze_past_the_lease_is_false_and_the_late_write_is_refused(
    etcd_server: EtcdServer, election_key: str, backend: str
) -> None:
    with program(etcd_server, election_key, backend, FROZEN, exit_on_overrun=False) as leader:
        token = int(line(leader).split()[1])
        assert line(leader) == "looking"
        with program(etcd_server, election_key, backend, FROZEN, exit_on_overrun=False) as successor:
            leader.send_signal(signal.SIGSTOP)
            assert int(line(successor).split()[1]) > token
            assert leader.stdin is not None
            leader.stdin.write("look\n")
            leader.stdin.flush()
            leader.send_signal(signal.SIGCONT)
            assert line(leader) == "first look False False"
            assert line(leader) == "late write False"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("body", [BLOCKED, SWALLOWED], ids=["blocked loop", "swallowed cancellation"])
def test_a_process_whose_work_does_not_end_is_ended_before_leadership_can_pass_on(
    etcd_server: EtcdServer, election_key: str, backend: str, body: str
) -> None:
    """Status 70, and one line that says why; the lease runs out by itself, so its key still stands at that moment."""
    host, _, port = etcd_server.endpoints[0].rpartition(":")
    with (
        closing(etcd3.client(host, int(port))) as client,
        # Half of the margin is left when the process ends, for this process to look.
        program(etcd_server, election_key, backend, body, exit_on_overrun=True, margin=5) as process,
    ):
        line(process)
        assert line(process) in ("blocking", "swallowing")
        assert next(value for value, _ in client.get_prefix(f"{election_key}/")).startswith(b"stopped#")
        process.wait(timeout=60)
        # At once, on a connection that is open.
        keys = [value for value, _ in client.get_prefix(f"{election_key}/")]
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 70
        assert "outlived its lease" in errors
        assert len(keys) == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_process_that_was_stopped_past_its_overrun_is_ended_when_it_goes_on(
    etcd_server: EtcdServer, election_key: str, backend: str
) -> None:
    with program(etcd_server, election_key, backend, BLOCKED, exit_on_overrun=True) as process:
        line(process)
        assert line(process) == "blocking"
        process.send_signal(signal.SIGSTOP)
        with program(etcd_server, election_key, backend, BLOCKED, exit_on_overrun=False) as successor:
            assert line(successor).startswith("elected")
        process.send_signal(signal.SIGCONT)
        assert process.wait(timeout=60) == 70
