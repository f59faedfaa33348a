"""Which etcd and which event loops the tests run on, and what Ctrl-C means in them."""

from __future__ import annotations

import gc
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.versions.choice import choose_built

# Started with nohup, or in the background of a script, a process ignores SIGINT, SIGQUIT or SIGHUP, and so do those that it starts. Python
# then makes no KeyboardInterrupt of it, and a test that sends it would wait for what never comes.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)  # a shell cannot trap what was ignored when it began

# Each collection of garbage goes through three thousand collected tests. Every test makes thousands of tasks and scopes, so
# collections are frequent. By default they take a tenth of the processor time of the tests on virtual time.
gc.set_threshold(20_000, 20, 20)


LONG_FILES = (
    "test_planted_bugs.py", "test_planted_bugs_in_leases.py",
    "test_random_schedules.py", "test_auth.py", "test_tls.py", "test_many_schedules.py", "test_refused_keep_alives.py",
    "test_doctor.py", "test_signals.py", "test_members.py", "test_status_commands.py", "test_registration.py",
    "test_run_faults.py", "test_run_done.py", "test_stopped_processes.py", "test_outages.py", "test_run.py",
    "test_death.py", "test_hand_over.py", "test_upgrades.py",
    "test_step_down.py", "test_etcd_server.py", "test_commands.py", "test_rounds.py", "test_many.py", "test_short_slice.py",
    "test_load_balancer.py", "test_run_once.py", "test_silent_watches.py", "test_demo.py", "test_health.py",
    "test_many_elections.py", "test_cancellation.py", "test_upgrade_of_the_library.py", "test_fork.py", "test_leases.py",
    "test_moves.py", "test_moving.py", "test_benchmarks.py",
)  # fmt: skip
"""Begun with, the longest first: one that is begun last keeps one process busy when the others have nothing to do any more."""


ETCD = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """The processes of pytest-xdist inherit the choice."""
    config.stash[ETCD] = "" if hasattr(config, "workerinput") else choose_built()
    if config.pluginmanager.hasplugin("hypothesispytest"):  # the planted bugs do without it: it takes long to import
        _allow_examples_any_time()


def _allow_examples_any_time() -> None:
    """By default an example has 0.2 s, and generating them one second. A busy machine may stop any of them for longer."""
    from hypothesis import HealthCheck, settings

    settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any machine")


def pytest_report_header(config: pytest.Config) -> str:
    return config.stash[ETCD]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Several processes take file after file, in this order (``--no-loadscope-reorder``)."""
    tests: Counter[Path] = Counter(item.path for item in items)

    def place(item: pytest.Item) -> tuple[int, int, str]:
        name = item.path.name
        return (
            (LONG_FILES.index(name), 0, "")
            if name in LONG_FILES
            else (len(LONG_FILES), -tests[item.path], str(item.path))
        )

    items.sort(key=place)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The real loops. Folders that run on virtual time have their own fixture."""
    name: str = request.param
    return name
