"""Assemble the history of a campaign from the journals of all its processes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.faults.history import Belief, Cut, History, Injection, Key, Overtrust, Read, Stop, Work, Write

__all__ = ("load", "read_lines")


def read_lines(path: Path) -> Iterable[dict[str, Any]]:
    """Yield the lines of a journal, except for an incomplete last one."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def load(lines: Iterable[dict[str, Any]]) -> dict[str, History]:
    """Assemble the history of each campaign."""
    loaders: dict[str, _Loader] = {}
    for line in lines:
        name = line["campaign"]
        if line["kind"] == "settings":
            loaders[name] = _ManyLoader(line) if line.get("elections") else _Loader(line)
        else:
            loaders[name].take(line)
    return {name: loader.finish() for name, loader in loaders.items()}


class _Loader:
    def __init__(self, settings: dict[str, Any], name: str = "") -> None:
        durations = {what: settings[what] for what in ("lease", "renew", "retry", "margin")}
        rare = {what: settings[what] for what in ("tail", "slowest") if what in settings}
        self._history = History(name=name or settings["campaign"], **durations, **rare)
        self._running: dict[str, Belief] = {}
        self._works: dict[tuple[str, int], Work] = {}
        self._asked: dict[str, float] = {}
        self._states: list[dict[str, Any]] = []
        self._created: dict[tuple[int, str], int] = {}

    def take(self, line: dict[str, Any]) -> None:
        history, kind, run, era = self._history, line["kind"], line.get("run", ""), line.get("era", 0)
        if kind == "belief":
            self._close(run)
            self._running[run] = Belief(
                run=run, subject=line["subject"], token=line["token"], start=line["since"], end=line["since"], era=era
            )
        elif kind in ("still", "over"):
            if (running := self._running.get(run)) is not None:
                self._running[run] = replace(running, end=max(running.end, line["last"]))
            if kind == "over":
                self._close(run)
        elif kind == "put":
            self._put(line, era)
        elif kind == "delete":
            self._gone(line["prev_create"], line["at"], line["mod"], era)
        elif kind == "state":
            self._states.append(line)
            for key, create, lease in line["standing"]:
                # Its PUT may have been compacted before any member reported it.
                seen = Key(token=create, key=key, lease=lease, put_seen=line["at"], era=era)
                history.keys.setdefault((era, create), seen).leases.setdefault(lease, line["at"])
        elif kind == "read":
            history.reads.append(
                Read(
                    sent=line["sent"],
                    received=line["received"],
                    revision=line["revision"],
                    owner=line["owner"],
                    era=era,
                )
            )
        elif kind == "work":
            work = Work(run=run, token=line["token"], key=line["key"], lease=line["lease"], start=line["at"], era=era)
            self._works[run, work.token] = work
            history.works.append(work)
        elif kind == "work over":
            work = self._works[run, line["token"]]
            work.end, work.late = line["at"], tuple(line["late"])
        elif kind == "ousted":
            if (found := self._works.get((run, line["token"]))) is not None:
                found.ousted += 1
                found.reason = line["reason"]
        elif kind == "injection":
            cuts = [Cut(**cut) for cut in line["cuts"]]
            facts = {name: line[name] for name in Injection.__slots__ if name != "cuts" and name in line}
            history.injections.append(Injection(**facts, cuts=cuts))
        elif kind == "candidate":
            history.backends[line["subject"]] = line["backend"]
        elif kind == "keep-alive":
            for lease in line["leases"]:
                history.keep_alives.setdefault((line["subject"], lease), []).append(line["at"])
        elif kind == "renewed":
            history.renewals.setdefault((run, line["token"]), []).append(line["sent"])
        elif kind == "stopping":
            self._asked[run] = line["at"]
        elif kind == "stopped":
            history.stops.append(Stop(run=run, asked=self._asked[run], done=line["at"]))
        elif kind == "revoking":
            history.revocations.setdefault(line["lease"], line["at"])
        elif kind == "trusted too long":
            history.overtrusted.append(Overtrust(**{name: line[name] for name in Overtrust.__slots__}))
        elif kind == "stuck":
            history.stuck.append(line["what"])
        elif kind == "died":
            history.died[run] = line["at"]
        elif kind == "child":
            history.believing_children += [run] if line["believed"] else []
        elif kind == "secret":
            history.secrets.append(line["where"])
        elif kind == "leftover":
            history.leftovers.append(line["what"])
        elif kind == "error":
            # Candidate and election are left out: with many elections, each would add a line.
            text = re.sub(r"\w+#[0-9a-f]{8} for '[^']*'", "a candidate", line["error"]).partition("(")[0][:90]
            history.errors[text] = history.errors.get(text, 0) + 1
        elif kind == "unfenced":
            history.unfenced = (line["written"], line["late"])
        elif kind == "write refused":
            history.refused_writes += 1
        elif kind == "fault of the suite":
            history.faults_of_the_suite.append(line["what"])

    def finish(self) -> History:
        for run in list(self._running):
            self._close(run)
        for state in self._states:
            era = state.get("era", 0)
            standing = {create for _, create, _ in state["standing"]}
            for seen in self._history.keys.values():
                if seen.era == era and seen.token <= state["revision"] and seen.token not in standing:
                    self._gone(seen.token, state["at"], None, era)
        self._history.injections.sort(key=lambda injection: injection.start)
        if self._history.corrupted is not None and not self._history.of_many:
            self._history.faults_of_the_suite.append(_CORRUPTED)
        return self._history

    def _close(self, run: str) -> None:
        if (belief := self._running.pop(run, None)) is not None:
            self._history.beliefs.append(belief)

    def _put(self, line: dict[str, Any], era: int) -> None:
        if line["register"]:
            token = int(line["value"].split(":")[0])
            self._history.writes.append(Write(revision=line["mod"], token=token, era=era))
            return
        seen = Key(token=line["create"], key=line["key"], lease=line["lease"], put_seen=line["at"], era=era)
        self._history.keys.setdefault((era, seen.token), seen).leases.setdefault(seen.lease, line["at"])
        # Each lease, and so each candidate's key, is created once.
        if self._created.setdefault((era, seen.key), seen.token) != seen.token and line["mod"] == seen.token:
            at, revision = self._history.corrupted or (line["at"], seen.token)
            lower = min(seen.token, self._created[era, seen.key])
            self._history.corrupted = (min(at, line["at"]), min(revision, lower))

    def _gone(self, token: int, at: float, revision: int | None, era: int) -> None:
        seen = self._history.keys.get((era, token))
        if seen is not None and (seen.gone_seen is None or at < seen.gone_seen):
            seen.gone_seen = at
            seen.gone_revision = revision if revision is not None else seen.gone_revision


class _ManyLoader(_Loader):
    """Loads a campaign with many elections: each line goes to the elections that it is about."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self._parts = {name: _Loader(settings, name) for name in settings["elections"]}
        for part in self._parts.values():
            part._history.of_many = True

    def take(self, line: dict[str, Any]) -> None:
        kind = line["kind"]
        if kind == "read":
            for name, part in self._parts.items():
                part.take({**line, "owner": line["owners"].get(name, 0)})
        elif kind == "state":
            standing: dict[str, list[Any]] = {name: [] for name in self._parts}
            for key, create, lease in line["standing"]:
                standing[_election_of(key)].append([key, create, lease])
            for name, part in self._parts.items():
                part.take({**line, "standing": standing[name]})
        elif kind == "still":
            for part in self._parts.values():
                part.take(line)
        elif (part_or_none := self._parts.get(line.get("election", ""))) is not None and kind not in _OF_ALL:
            part_or_none.take(line)
        else:
            super().take(line)

    def finish(self) -> History:
        whole = super().finish()
        whole.parts = [part.finish() for part in self._parts.values()]
        corrupted = [part.corrupted for part in whole.parts if part.corrupted is not None]
        if corrupted:
            whole.corrupted = (min(at for at, _ in corrupted), min(revision for _, revision in corrupted))
            whole.faults_of_the_suite.append(_CORRUPTED)
        subjects = {belief.token: belief.subject for part in whole.parts for belief in part.beliefs}
        for part in whole.parts:
            # Facts common to all elections are recorded once.
            part.corrupted = whole.corrupted
            part.backends, part.died, part.keep_alives = whole.backends, whole.died, whole.keep_alives
            part.injections = [_as_seen_by(part, injection, subjects) for injection in whole.injections]
        return whole


_CORRUPTED = "etcd's members disagree about their data (etcd#13766); nothing after that was checked"
_OF_ALL = ("error", "write refused", "child")
"""Kinds of lines that are counted for all elections together."""


def _election_of(key: str) -> str:
    """Return the last part but one: ``faults/many/017/694d8f`` is a key of the election 017."""
    return key.split("/")[-2]


def _as_seen_by(part: History, injection: Injection, subjects: Mapping[int, str]) -> Injection:
    """Return a fault as one of many elections saw it: the process that it hit may not have led there."""
    token = injection.tokens.get(part.name, 0)
    return replace(
        injection,
        token=token,
        tokens={},
        crashed=injection.crashed and token > 0 and subjects.get(token) == subjects.get(injection.token),
        deleted=[deleted for deleted in injection.deleted if (0, deleted) in part.keys],
        woken=[woken for woken in injection.woken if (0, woken) in part.keys],
    )
