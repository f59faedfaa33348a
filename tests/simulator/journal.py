"""The journal of a run, in the form of the fault suite's: so one checker reads both."""

from __future__ import annotations

from typing import Any

import anyio

from etcdleader.testing.fake_etcd import Commit

__all__ = ("Journal",)

_TICK = 1e-9
"""Seconds between two lines at the same virtual time, so that no two have the same time."""


class Journal:
    """The lines of one run.

    Attributes:
        lines: The lines.
        era: The number of times that etcd's history was replaced. Tokens of different eras do not compare.
    """

    def __init__(self, **settings: Any) -> None:
        self.lines: list[dict[str, Any]] = [{"kind": "settings", "campaign": "sim", **settings}]
        self.era = 0
        self._last = 0.0
        self._created: dict[str, int] = {}
        self._eras: dict[str, int] = {}

    def now(self) -> float:
        """Return the present time, later than every time before."""
        self._last = max(anyio.current_time(), self._last + _TICK)
        return self._last

    def write(self, kind: str, **facts: Any) -> float:
        """Write a line and return its time."""
        at = facts.setdefault("at", self.now())
        self.lines.append({"kind": kind, "campaign": "sim", **facts})
        return float(at)

    def era_of(self, key: str) -> int:
        """Return the era in which a key was put. Each candidate's key has another name."""
        return self._eras.get(key, self.era)

    def replace(self) -> None:
        """Begin a new era: etcd's history is about to be replaced."""
        self.era += 1
        self._created.clear()

    def commit(self, commit: Commit, register: str) -> None:
        """Write the events of a commit."""
        for event in commit.events:
            kv, key = event.kv, event.kv.key.decode()
            if event.type == "put":
                self._created[key] = kv.create_revision
                self._eras[key] = self.era
                # A candidate's value has a random part.
                value = kv.value.decode(errors="replace") if key == register else ""
                self.write(
                    "put", key=key, value=value, mod=kv.mod_revision, create=kv.create_revision, lease=kv.lease,
                    register=key == register, era=self.era,
                )  # fmt: skip
            else:
                self.write("delete", key=key, mod=kv.mod_revision, prev_create=self._created.pop(key, 0), era=self.era)
