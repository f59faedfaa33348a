"""One candidacy's way through the rooms, recorded while a manager runs on a fake etcd, in virtual time.

A profiler notes each entry of the functions in ``STEPS``, and where the call came from. So order, callers and requests in
the picture are what the code does.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

import anyio

from etcdleader import Config, EtcdLeaderManager, Term
from etcdleader.testing import FakeEtcd
from etcdleader.testing.fake_etcd import Call
from etcdleader.testing.virtual_time import VirtualClock, virtual_backend

from .rooms import colours
from .svg import Svg, wrap

__all__ = ("STEPS", "Entry", "Step", "draw_candidacy", "record")


@dataclass(frozen=True)
class Step:
    """A part of the way.

    Attributes:
        name: A word.
        what: What happens in it.
        functions: What is shown of it, below ``etcdleader``; the run must enter each. ``a > b`` is ``b`` where ``a`` calls
            it. A step begins when the run enters the first of them after the step before, or where ``scenario`` begins it.
    """

    name: str
    what: str
    functions: tuple[str, ...]


# If a function gets another name, this table is the one place to change; then `make pictures`.
STEPS = (
    Step(
        "grant",
        "etcd grants a lease under an id we draw",
        (
            "_managers.base.BaseManager.run",
            "_managers.elector.Elector._run_candidacy",
            "_election.candidacy.Candidacy.join",
            "_lease.session.Session.open",
            "_lease.lease.Lease.grant",
            "_etcd.client.EtcdClient.lease_grant",
        ),
    ),
    Step(
        "join",
        "one Txn puts our key, reads the queue",
        (
            "_election.candidacy.Candidacy._try_join",
            "_etcd.client.EtcdClient.txn",
            "_election.queue.QueuePosition.joined",
            "_lease.session.Session.keep_alive",
        ),
    ),
    Step(
        "wait",
        "another candidate leads: watch both keys",
        (
            "_election.candidacy.Candidacy.wait_until_first",
            "_election.watched_range.WatchedRange.open",
            "_etcd.client.EtcdClient.watch",
        ),
    ),
    Step(
        "win",
        "the other key is deleted: ours is oldest",
        (
            "_etcd.watch_stream._Watch.deliver",
            "_election.candidacy.Candidacy._received",
            "_election.queue.QueuePosition.apply",
        ),
    ),
    Step(
        "lead",
        "the work runs; each renewal is a keep-alive, a proposal and a read",
        (
            "_managers.serving.ServingManager._serve_term",
            "_election.candidacy.Candidacy.monitor",
            "_managers.serving.ServingManager._run_work",
            "work",
            "_lease.renewal_round.RenewalRound.run",
            "_etcd.client.EtcdClient.lease_keep_alive",
            "_lease.renewal_round.RenewalRound._propose",
            "_lease.renewal_round.RenewalRound._confirm",
            "_etcd.client.EtcdClient.txn",
            "_lease.session.Session.on_response",
            "_lease.lease_deadline.check_renewal",
        ),
    ),
    Step(
        "move",
        "etcd has elected another leader among its members: our key moves to a new lease, and the term continues",
        (
            "_lease.session.Session.start_move",
            "_lease.lease.Lease.grant",
            "_etcd.client.EtcdClient.lease_grant",
            "_lease.key_mover.KeyMover._move",
            "_lease.key_mover.KeyMover._move > _etcd.client.EtcdClient.txn",
            "_lease.key_move.KeyMove.on_response",
            "_lease.session.Session.on_moved_to",
            "_election.candidacy.Candidacy.on_key_moved",
        ),
    ),
    Step(
        "release",
        "stop: the work is cancelled and joined, and then the lease is revoked",
        (
            "_managers.base.BaseManager.stop",
            "_managers.base.BaseManager.stop > _managers.term_scope.TermScope.close",
            "_managers.term_scope.TermScope.join",
            "_election.candidacy.Candidacy.release",
            "_lease.session.Session.close",
            "_lease.lease.Lease.revoke",
            "_etcd.client.EtcdClient.lease_revoke",
        ),
    ),
)

PROGRAM, ETCD = "your program", "etcd"
"""The lanes of what calls the package, and of what it calls."""


async def work(term: Term) -> None:
    """Be the work of a program, which lasts until the term ends."""
    await anyio.sleep(term.remaining() * 10)


async def scenario(recorder: _Recorder) -> None:
    """Take a manager from its start to its stop; another candidate, a key put by hand, leads first."""
    config = Config(enabled=True, lease=10, renew=2, retry=1, margin=1)
    async with FakeEtcd(members=3) as etcd, anyio.create_task_group() as group:
        etcd.hooks.append(recorder.request)
        etcd.grant(1, 60)
        etcd.put("jobs/1", lease=1)
        manager = EtcdLeaderManager(etcd, config, "jobs", clock=VirtualClock())

        async def run() -> None:
            await manager.run(work)

        with recorder.recording():
            group.start_soon(run)
            await anyio.sleep(1)
            recorder.begin("win")
            etcd.revoke(1)
            await anyio.sleep(2)
            etcd.change_leader()
            await anyio.sleep(4)
            await manager.stop()


@dataclass(frozen=True)
class Entry:
    """A function was entered.

    Attributes:
        function: Which, below ``etcdleader``.
        caller: The nearest caller that is known; ``PROGRAM`` or ``ETCD``; or None if a task or a timer entered it.
    """

    function: str
    caller: str | None

    @property
    def lane(self) -> str:
        """The room of the function, or ``PROGRAM``."""
        return _lane(self.function)

    @property
    def shown_for(self) -> set[str]:
        """The ways in which ``STEPS`` may name it."""
        return {self.function, f"{self.caller} > {self.function}"}


@dataclass
class _Recorder:
    """The entries of each step, and the requests that etcd has received."""

    entries: dict[str, list[Entry]] = field(default_factory=lambda: {step.name: [] for step in STEPS})
    received: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        names = {name for step in STEPS for function in step.functions for name in function.split(" > ")}
        self._names = {_code(name): name for name in names}
        self._step = 0
        self._seen: set[FrameType] = set()

    @contextmanager
    def recording(self) -> Iterator[None]:
        before = sys.getprofile()
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(before)

    def begin(self, name: str) -> None:
        """Begin a step here: its first function may have been entered before."""
        self._step = [step.name for step in STEPS].index(name)

    def request(self, call: Call) -> None:
        """Take in that etcd has received a request."""
        self.received.add(call.kind)

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
        function = self._names.get(frame.f_code)
        # A coroutine is entered again after each wait.
        if function is None or event != "call" or frame in self._seen:
            return
        self._seen.add(frame)
        if self._step + 1 < len(STEPS) and STEPS[self._step + 1].functions[0] == function:
            self._step += 1
        step, entry = STEPS[self._step], Entry(function, self._caller(frame))
        if entry.shown_for & set(step.functions) and entry not in self.entries[step.name]:
            self.entries[step.name].append(entry)

    def _caller(self, frame: FrameType) -> str | None:
        caller = frame.f_back
        while caller is not None:
            module = str(caller.f_globals.get("__name__"))
            if caller.f_code in self._names:
                return self._names[caller.f_code]
            if module == "asyncio.events":  # the event loop calls: below are only this tool and Python's start
                return None
            if module == __name__:
                return PROGRAM
            if module.startswith("etcdleader.testing."):
                return ETCD
            caller = caller.f_back
        return None


def _lane(function: str) -> str:
    if function == ETCD:
        return ETCD
    room, dot, _ = function.partition(".")
    return room if dot else PROGRAM


def _code(function: str) -> CodeType:
    """Return the code by which the profiler recognizes a function."""
    try:
        if "." not in function:
            found = globals()[function]
        else:
            room, module, *names = function.split(".")
            found = functools.reduce(getattr, names, importlib.import_module(f"etcdleader.{room}.{module}"))
        code = found.__code__
    except (AttributeError, ImportError, KeyError) as error:
        raise SystemExit(
            f"tools/candidacy.py: STEPS names {function}, which is not there ({error}). If it has another name, change the table."
        ) from error
    assert isinstance(code, CodeType)
    return code


def record() -> _Recorder:
    """Run the scenario.

    Raises:
        SystemExit: A function of ``STEPS`` does not exist, or the run does not enter it in its step.
    """
    recorder = _Recorder()
    backend, options = virtual_backend("asyncio")
    anyio.run(scenario, recorder, backend=backend, backend_options=dict(options))
    for step in STEPS:
        entered = {name for entry in recorder.entries[step.name] for name in entry.shown_for}
        if missing := [function for function in step.functions if function not in entered]:
            raise SystemExit(
                f"tools/candidacy.py: STEPS names {', '.join(missing)} for the step {step.name!r}, where the run does not "
                "enter it. Name what the code enters there instead."
            )
    return recorder


_COLUMN = 430
_FIRST, _APART = 20.0, 20.0
"""The place of the first lane in a column, and the distance from lane to lane."""
_ROW = 19
_SIZE = 12


def draw_candidacy(*, wide: bool) -> str:
    """Draw a lane for each room, and a row for each function, with an arrow from the lane that called it.

    Args:
        wide: In two columns, for a screen that shows 860 pixels side by side; otherwise in one, for a phone.
    """
    recorder = record()
    columns = [STEPS[:4], STEPS[4:]] if wide else [STEPS]
    svg = Svg(_COLUMN * len(columns), "One candidacy's way through the rooms of etcdleader, recorded from a run")
    svg.text(16, 28, "One candidacy's way through the rooms", size=16, style="text bold")
    top = 50.0
    legend = (
        "Recorded from a run on a fake etcd. An arrow is a call into another room, or a message from etcd. "
        "A ring is entered from a task or a timer."
    )
    for line in wrap(legend, svg.width - 32, _SIZE):
        svg.text(16, top, line, size=_SIZE, style="faint")
        top += 16
    ends = [
        _draw_column(svg, steps, recorder, left=number * _COLUMN, top=top + 10) for number, steps in enumerate(columns)
    ]
    return svg.render(max(ends) + 2)


def _draw_column(svg: Svg, steps: Sequence[Step], recorder: _Recorder, *, left: float, top: float) -> float:
    colour_of = {PROGRAM: "c1", ETCD: "c1", **colours()}
    used = {entry.lane for entries in recorder.entries.values() for entry in entries}
    lanes = [PROGRAM, *[room for room in colour_of if room in used - {PROGRAM}], ETCD]
    x_of = {lane: left + _FIRST + number * _APART for number, lane in enumerate(lanes)}
    text_x = left + _FIRST + len(lanes) * _APART

    # First the bands and the lanes, which all else lies on: so the rows are laid out before anything of them is drawn.
    y = top + 16 * len(lanes)
    headings: list[tuple[float, Step, list[str]]] = []
    rows: list[tuple[float, Entry]] = []
    for number, step in enumerate(steps):
        lines = wrap(step.what, left + _COLUMN - text_x - 16, _SIZE)
        headings.append((y, step, lines))
        start, y = y, y + 26 + 16 * len(lines)
        for entry in recorder.entries[step.name]:
            rows.append((y + 8, entry))
            y += _ROW
        y += 10
        if number % 2 == 0:
            svg.band(start, y - start, x=left, width=_COLUMN)
    for number, lane in enumerate(lanes):
        name_y, x = top + 16 * number, x_of[lane]
        svg.text(text_x, name_y, lane, size=_SIZE, style=f"{colour_of[lane]} bold", mono=lane not in (PROGRAM, ETCD))
        svg.line((text_x - 6, name_y - 4), (x, name_y - 4), (x, y), style="guide")
    for heading_y, step, lines in headings:
        svg.text(text_x, heading_y + 19, step.name, size=14, style="text bold")
        for number, line in enumerate(lines):
            svg.text(text_x, heading_y + 36 + 16 * number, line, size=_SIZE, style="faint")
    for row_y, entry in rows:
        to_etcd = entry.lane == "_etcd" and entry.function.rpartition(".")[2] in recorder.received
        _draw_entry(svg, row_y, entry, x_of, colour_of[entry.lane], to_etcd=to_etcd)
        name = f"{entry.function.removeprefix(f'{entry.lane}.')}()"
        svg.text(text_x, row_y + 4, name, size=_SIZE, style=colour_of[entry.lane], mono=True)
    return y


def _draw_entry(svg: Svg, y: float, entry: Entry, x_of: dict[str, float], colour: str, *, to_etcd: bool) -> None:
    x = x_of[entry.lane]
    if entry.caller is not None and (start := x_of[_lane(entry.caller)]) != x:
        svg.line((start, y), (x - 4 if start < x else x + 4, y), style=f"{colour} arrow")
    svg.dot(x, y, style=colour, hollow=entry.caller is None)
    if to_etcd:
        svg.line((x, y), (x_of[ETCD] - 1, y), style=f"{colour} arrow")
