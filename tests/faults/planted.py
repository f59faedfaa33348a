"""Planted bugs: the suite must find each of them. ``python -m tests.faults.planted [NAME ...]``.

Each is put into a copy of the package, and the faults that provoke it are injected until an invariant breaks. Exit
status 0: every one was found.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.checker import check
from tests.faults.loader import load
from tests.faults.network import why_no_namespaces
from tests.faults.schedule import run_campaign
from tests.planted.bugs.lease import COUNTED_FROM_THE_ANSWER
from tests.planted.bugs.queue import ONE_FOR_ALL
from tests.planted.change import Change, plant
from tests.versions.choice import choose

__all__ = ("BUGS", "Bug", "own_package")

_ATTEMPTS = 6
_TRUST = """\
def trust(self, sent_at, answer):
    now = self.now()
    if not self.trusted_deadline.confirm(sent_at, answer.ttl, now):
        self.invalidate(LossReason.EXPIRED)
        return
    self._kept_deadline.confirm(sent_at, answer.ttl, now)
    self._schedule.succeeded()
    self._confirmed_at = now
    if self._on_tick is not None:
        self._on_tick(math.inf)

\\g<0>"""
_LET_GO = """\
async def monitor_and_let_go(self):
    try:
        await self.monitor()
    finally:
        with anyio.CancelScope(shield=True):
            await self.release()

\\g<0>"""


@dataclass(frozen=True, slots=True)
class Bug:
    """A bug, and the faults that reveal it.

    Attributes:
        changes: The changes to the package.
        rows: The faults that provoke it.
        rules: The invariants of which at least one must break.
        options: The differences from the candidates' usual options.
        campaign: The campaign in which those faults are injected.
        candidates: The number of candidates.
    """

    name: str
    changes: tuple[Change, ...]
    rows: tuple[str, ...]
    rules: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    campaign: str = "main"
    candidates: int = 3


BUGS = (
    Bug(
        "deadline from the response's arrival",
        (COUNTED_FROM_THE_ANSWER,),
        rows=("B3",),
        rules=("S1", "S3"),
    ),
    Bug(
        "a keep-alive alone counts",
        (
            Change(within="Session.on_error", pattern="def on_error", replacement=_TRUST),
            Change(
                within="_attempt",
                pattern=r"answered\.append\(.+\)",
                replacement="lease.trust(sent_at[answer.lease_id], answer)",
            ),
        ),
        rows=("A9", "A10"),
        rules=("S1", "S3"),
    ),
    Bug(
        "no check of the own key",
        (
            Change(
                within="apply",
                pattern=r"(if \S+ == \S+):",
                replacement=r"\g<1> and self.rank is not Rank.LEADER:",
            ),
            Change(within="on_response", pattern=r"key_is_ours=\w+", replacement="key_is_ours=True"),
        ),
        rows=("D1",),
        rules=("S1", "S3"),
    ),
    Bug(
        "released before the work has ended",
        (
            Change(within="Candidacy.release", pattern="async def release", replacement=_LET_GO),
            Change(within="_run_candidacy", pattern=r"\.monitor\b", replacement=".monitor_and_let_go"),
        ),
        rows=("C8",),
        rules=("S7",),
    ),
    Bug(
        "released before a step has ended",
        (
            Change(within="TermScope.join", pattern=r"while self\._scopes or .+:", replacement="while self._scopes:"),
            Change(within="request_end", pattern=r"if self\._steps\.refuse\(\):", replacement="if True:"),
        ),
        rows=("C8",),
        rules=("S7",),
    ),
    Bug(
        "one existing key confirms all keys of the same read",
        (ONE_FOR_ALL,),
        rows=("B9",),
        rules=("S1", "S3"),
        campaign="many",
    ),
    Bug(
        "renewals are confirmed without a proposal",
        (
            Change(within="_propose", pattern=r"for first,", replacement="return answered\n\\g<0>"),
            Change(within="_confirm", pattern=r" if header\.member_id == \S+ else 0", replacement=""),
            # A read through raft's log is also a proposal, one entry late. So are reads of several keys, for up to a
            # minute after a switch of the endpoint. These two changes remove both.
            Change(within="_confirm", pattern=r", \(EMPTY_TXN,\)", replacement=""),
            Change(within="EtcdClient.txn", pattern=r"through_log = .+", replacement="through_log = False"),
        ),
        rows=("A19",),
        rules=("S1", "S3", "S10"),
        campaign="five",
        candidates=2,
    ),
)


def own_package() -> Path:
    """Return the folder of the package that this Python imports."""
    spec = importlib.util.find_spec("etcdleader")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def find(bug: Bug, package: Path, folder: Path, aborted: threading.Event) -> str | None:
    """Provoke a bug until it is found. Return the findings."""
    source = plant(package, folder / "src", *bug.changes)
    for attempt in range(_ATTEMPTS):
        lines = run_campaign(
            bug.campaign,
            folder / f"attempt-{attempt}",
            until=time.monotonic() + 120,
            seed=f"{bug.name} {attempt}",
            isolate=True,
            options={"source": source, **bug.options},
            aborted=aborted,
            rows=bug.rows,
            rounds=2,
            candidates=bug.candidates,
        )
        for violation in check(load(lines)[bug.campaign]):
            if violation.rule in bug.rules:
                return f"{violation.rule}: {violation.text}"
    return None


def main(names: Sequence[str]) -> int:
    """Look for every bug, or for those whose names contain one of these words."""
    if (reason := why_no_namespaces()) is not None:
        print(f"not possible here: {reason}")
        return 2
    print(choose())
    missed, aborted = [], threading.Event()
    for bug in BUGS:
        if names and not any(name in bug.name for name in names):
            continue
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="etcdleader-planted-") as folder:
            found = find(bug, own_package(), Path(folder), aborted)
        print(f"{bug.name}: {found or 'NOT FOUND'} ({time.monotonic() - begun:.0f} s)", flush=True)
        if found is None:
            missed.append(bug.name)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
