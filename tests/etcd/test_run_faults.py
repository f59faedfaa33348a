"""``etcdleader run`` whose command, wrapper or supervisor goes wrong: never two commands of one election at once.

Counted from outside: every command appends lines to one file while it lives, so an overlap would stand there.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from etcdleader.testing import EtcdServer
from tests.etcd.wrapped_commands import LEASE, Trace, Wrapper, is_alive, signal_if_there, tracing, until, wrapped

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")

Fault = Callable[[Wrapper], None]
STEPS = 4


def freeze(wrapper: Wrapper) -> None:
    wrapper.process.send_signal(signal.SIGSTOP)


def kill(wrapper: Wrapper) -> None:
    wrapper.process.kill()


def cut_off(wrapper: Wrapper) -> None:
    wrapper.forwarder.cut = True


def block_the_event_loop(wrapper: Wrapper) -> None:
    wrapper.process.send_signal(signal.SIGALRM)


def freeze_the_supervisor(wrapper: Wrapper) -> None:
    """And end the term: now the wrapper has to do the supervisor's work."""
    signal_if_there(wrapper.supervisor(), signal.SIGSTOP)
    wrapper.forwarder.cut = True


def kill_the_supervisor(wrapper: Wrapper) -> None:
    signal_if_there(wrapper.supervisor(), signal.SIGKILL)


@contextmanager
def pair(server: EtcdServer, election_key: str, trace: Trace, kind: str) -> Iterator[dict[str, Wrapper]]:
    """Two wrappers of one election. ``a`` leads, and only its lease can run out while a test runs."""
    endpoint = server.endpoints[0]
    with ExitStack() as stack:
        a = stack.enter_context(wrapped("a", endpoint, election_key, *tracing(trace, "a", kind)))
        until(lambda: bool(trace.lines()))
        options = (*LEASE, "--lease=10m")
        b = stack.enter_context(wrapped("b", endpoint, election_key, *tracing(trace, "b", kind), options=options))
        yield {"a": a, "b": b}


def succession(pair: dict[str, Wrapper], trace: Trace, fault: Fault) -> Iterator[None]:
    """Inject a fault at the leader, and wait until the other one leads. In steps, so that several can run beside each other."""
    until(lambda: bool(trace.lines()))
    yield
    old = trace.lines()[-1]
    fault(pair[old.name])
    yield
    until(lambda: any(line.name != old.name and line.token > old.token for line in trace.lines()))
    for pid in {line.pid for line in trace.lines() if line.token == old.token}:
        assert not is_alive(pid)  # what is stopped writes nothing
    # A candidate that comes back must do nothing on behalf of the old term.
    pair[old.name].process.send_signal(signal.SIGCONT)
    pair[old.name].forwarder.cut = False
    yield  # the last of STEPS - 1
    count = len(trace.lines())
    until(lambda: trace.is_of_a_stopped_command() or len(trace.lines()) > count + 20)
    trace.check_that_no_two_ran_at_once()


@pytest.mark.parametrize(
    ("fault", "kinds"),
    [
        (freeze, ("ignoring", "daemon", "stopped")),
        (kill, ("daemon", "stopped")),
        (cut_off, ("ignoring", "daemon")),
        (block_the_event_loop, ("ignoring",)),
        (freeze_the_supervisor, ("daemon", "stopped")),
        (kill_the_supervisor, ("daemon", "stopped")),
    ],
    ids=lambda value: value.__name__.replace("_", " ") if callable(value) else "",
)
def test_nothing_is_left_of_the_command_when_the_next_one_begins(
    etcd_server: EtcdServer, election_key: str, tmp_path: Path, fault: Fault, kinds: Sequence[str]
) -> None:
    """Not of one that ignores SIGTERM, of one that forks away, nor of one that stops itself."""
    with ExitStack() as stack:
        stories = []
        for kind in kinds:
            trace = Trace(tmp_path / kind)
            wrappers = stack.enter_context(pair(etcd_server, f"{election_key}-{kind}", trace, kind))
            stories.append(succession(wrappers, trace, fault))
        for _ in range(STEPS):
            for story in stories:
                next(story, None)


def test_two_commands_at_once_would_be_seen(tmp_path: Path) -> None:
    """The other tests depend on it."""
    trace = Trace(tmp_path / "trace")
    trace.path.write_text("a 5 100 start\na 5 100 alive\nb 7 200 start\n")
    trace.check_that_no_two_ran_at_once()
    trace.path.write_text(trace.path.read_text() + "a 5 100 alive\n")
    with pytest.raises(AssertionError, match="came after a line of the term with token 7"):
        trace.check_that_no_two_ran_at_once()
