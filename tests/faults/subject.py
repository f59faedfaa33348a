"""A candidate under test: a process that uses only the public interface, and records its leadership and its work.

It campaigns in one election, or in hundreds at once, like the managers of one program. Its argument is JSON (see
:class:`tests.faults.candidate.Options`). Commands come on stdin, one a line: an election's name and an action. The
actions are ``stop`` (of all elections), ``resign``, ``hand-over IDENTITY``, ``advertise VALUE``, ``raise``, ``fork``,
``block SECONDS`` and ``swallow SECONDS``.

It works in one of three ways: in a task, as a plain function in a thread, or step by step. A step is a block of
``manager.step()`` in a thread that polls.

A thread outside the managers calls ``is_leader()`` every few milliseconds, and takes a timestamp before and after each
call. A belief lasts from the timestamp after the first True to the timestamp before the last one. So it is never
recorded as longer than it was, and an overlap that the checker finds was a real one.
"""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread

from etcdleader import Config, EtcdConfig, EtcdLeaderError, EtcdLeaderManager, EtcdRegressedError, HandOverError, Term
from etcdleader.etcd3 import etcd3
from tests.faults.journal import Journal, now

_POLL_SECONDS = 0.004
_POLL_ALL_SECONDS = 0.02
"""Seconds, with hundreds of elections: calling all of them blocks the process for a millisecond."""
_STILL_SECONDS = 0.05
_LOOK = 0.05
_STEP = 0.07
_SAME_RENEWAL = 0.1
"""Seconds by which one deadline, computed twice, may seem to differ."""


class PlannedError(Exception):
    """Raised by the work on command."""


class ElectionSubject:
    """One election of this process: its manager, its work, and the state of both."""

    def __init__(self, options: dict[str, Any], client: EtcdConfig, journal: Journal, shared: int, name: str) -> None:
        self.name = name
        self.stopped = False
        self._options = options
        self._journal = journal
        self._shared = shared
        self._step = _STEP * options["pace"]
        self._register = "/".join(filter(None, (options["register"], name)))
        self._command: tuple[str, float] | None = None
        self._number = 0
        self._token = 0
        self._last = 0.0
        self._renewed = 0.0
        config = Config(
            enabled=True,
            id=options["name"],
            lease=options["lease"],
            renew=options["renew"],
            retry=options["retry"],
            margin=options["margin"],
        )
        self.manager = EtcdLeaderManager(client, config, "/".join(filter(None, (options["election"], name))))
        self._steps_of: Term | None = None
        if options["work"] == "task":
            self.manager.on_elected(self._work)
        elif options["work"] == "step":
            self.manager.on_elected(self._obey_in_a_task)
        self.manager.on_ousted(self._ousted)
        self.manager.on_error(self._error)

    def _write(self, kind: str, **facts: Any) -> None:
        self._journal.write(kind, election=self.name, **facts)

    # Beliefs

    def poll(self) -> bool:
        """Call ``is_leader()``, record a change, and return the result."""
        before = now()
        term = self.manager.term
        leads = self.manager.is_leader()
        after = now()
        token = term.token if leads and term is not None else self._token if leads else 0
        if self._token and token != self._token:
            self._write("over", token=self._token, last=self._last, first_false=after)
            self._token = 0
        if token and not self._token:
            self._write("belief", token=token, since=after)
            self._token = token
        if self._token:
            self._last = before
            if self._options["renewals"] and term is not None:
                self._note_renewal(term, before)
        return self._token > 0

    def _note_renewal(self, term: Term, before: float) -> None:
        """Record when the newest confirmed renewal was sent. The deadline is counted from there."""
        sent = before + term.remaining() - (self._options["lease"] - self._options["margin"])
        if sent > self._renewed + _SAME_RENEWAL:
            self._renewed = sent
            self._write("renewed", token=term.token, sent=sent)

    # Work

    async def run(self) -> None:
        """Campaign until a stop command, and again after each planned failure."""
        if self._options["work"] == "step":
            token = anyio.lowlevel.current_token()
            threading.Thread(target=self._step_forever, args=[token], name="steps", daemon=True).start()
        while not self.stopped:
            try:
                await (
                    self.manager.run(self._work_in_a_thread)
                    if self._options["work"] == "thread"
                    else self.manager.campaign()
                )
            except EtcdRegressedError as error:
                self._write("regressed", error=str(error))
                break
            except PlannedError:
                self._write("campaign failed as planned")
        self._write("end", statistics=_plain(self.manager.statistics()))

    async def stop(self) -> None:
        """Stop permanently."""
        self.stopped = True
        self._write("stopping")
        await self.manager.stop()
        self._write("stopped")

    async def execute(self, command: str, argument: str) -> None:
        """Execute a command here, or let the work execute it at its next step."""
        if command in ("resign", "hand-over"):
            self._write("resigning", to=argument)
            try:
                await self.manager.resign(to=argument or None)
            except HandOverError as error:
                self._write("hand-over failed", error=str(error))
            else:
                self._write("resigned", to=argument)
        elif command == "advertise":
            with suppress(EtcdLeaderError):
                await self.manager.advertise(argument)
        else:
            self._command = (command, float(argument or 0))

    async def _work(self, manager: object, term: Term) -> None:
        late: list[float] = []
        last = now()
        self._write("work", token=term.token, key=term.key, lease=term.lease_id)
        try:
            while True:
                last = now()
                if not term.is_valid():
                    late.append(last)
                await self._execute_command(term)
                if term.is_valid():
                    # Fencing exists for this gap: the work checks, then waits, then writes.
                    await anyio.sleep(_LOOK)
                    os.write(self._shared, f"{term.token} {now():.6f} {self.name}\n".encode())
                await self._write_fenced(term)
                # The pause is random, so that hundreds of works that began together do not stay in step.
                await anyio.sleep(self._step * random.uniform(0.5, 1.5))
        finally:
            self._write("work over", token=term.token, last=last, late=late[:1] + late[-1:])

    def _work_in_a_thread(self, term: Term) -> None:
        late: list[float] = []
        last = now()
        self._write("work", token=term.token, key=term.key, lease=term.lease_id)
        try:
            while True:
                last = now()
                if not term.is_valid():
                    late.append(last)
                self._execute_in_a_thread(term)
                if term.is_valid():
                    time.sleep(_LOOK)
                    os.write(self._shared, f"{term.token} {now():.6f} {self.name}\n".encode())
                anyio.from_thread.run(self._write_fenced, term)
                if not term.wait(self._step * random.uniform(0.5, 1.5)):
                    return
        finally:
            self._write("work over", token=term.token, last=last, late=late[:1] + late[-1:])

    def _execute_in_a_thread(self, term: Term) -> None:
        if self._command is None:
            return
        (command, seconds), self._command = self._command, None
        self._write("command", command=command, seconds=seconds, token=term.token)
        if command == "raise":
            raise PlannedError
        if command == "fork":
            os.waitpid(self._fork_child(term), 0)
        elif command == "block":
            anyio.from_thread.run_sync(time.sleep, seconds)  # a blocked loop is the fault
        elif command == "swallow":
            time.sleep(seconds)

    def _step_forever(self, token: anyio.lowlevel.EventLoopToken) -> None:
        """Poll, and do one step of the work whenever this process leads: what is planned, and what is asked."""
        while True:
            with self.manager.step() as term:
                if term is not None:
                    self._take_step(term, token)
            time.sleep(self._step * random.uniform(0.5, 1.5))

    def _take_step(self, term: Term, token: anyio.lowlevel.EventLoopToken) -> None:
        if self._steps_of is not term:
            self._steps_of = term
            self._write("work", token=term.token, key=term.key, lease=term.lease_id)
        if self._command is not None and self._command[0] == "swallow":
            (command, seconds), self._command = self._command, None
            self._write("command", command=command, seconds=seconds, token=term.token)
            time.sleep(seconds)
        if term.is_valid():
            time.sleep(_LOOK)
            os.write(self._shared, f"{term.token} {now():.6f} {self.name}\n".encode())
        with suppress(RuntimeError):  # the loop has ended
            anyio.from_thread.run(self._write_fenced, term, token=token)
        # The end of the last step is that of the work: leadership is not released before.
        self._write("work over", token=term.token, last=now(), late=[])

    async def _obey_in_a_task(self, manager: object, term: Term) -> None:
        while True:
            if self._command is not None and self._command[0] != "swallow":
                await self._execute_command(term)
            await anyio.sleep(self._step)

    async def _write_fenced(self, term: Term) -> None:
        self._number += 1
        value = f"{term.token}:{self._options['name']}:{self._number}"
        put = etcd3.Transactions().put(self._register, value)
        with suppress(EtcdLeaderError):
            done, _ = await term.transaction([put])
            if not done:
                self._write("write refused", token=term.token)

    async def _execute_command(self, term: Term) -> None:
        if self._command is None:
            return
        (command, seconds), self._command = self._command, None
        self._write("command", command=command, seconds=seconds, token=term.token)
        if command == "raise":
            raise PlannedError
        if command == "fork":
            await self._fork(term)
        elif command == "block":
            time.sleep(seconds)  # noqa: ASYNC251 - a blocked loop is the fault
        elif command == "swallow":
            until = now() + seconds
            with anyio.CancelScope(shield=True):
                while now() < until:
                    await anyio.sleep(_LOOK)

    async def _fork(self, term: Term) -> None:
        await anyio.to_thread.run_sync(os.waitpid, self._fork_child(term), 0)

    def _fork_child(self, term: Term) -> int:
        pid = os.fork()
        if pid == 0:
            believed = 0
            for _ in range(20):
                believed += self.manager.is_leader() or term.is_valid() or self.manager.term is not None
                time.sleep(0.02)
            self._write("child", believed=believed)
            os._exit(0)
        return pid

    async def _ousted(self, manager: object, term: Term) -> None:
        self._command = None  # it was meant for that term
        reason = term.loss_reason
        self._write("ousted", token=term.token, reason=reason.value if reason else None)

    async def _error(self, manager: object, error: EtcdLeaderError) -> None:
        self._write("error", error=f"{type(error).__name__}: {error}")


class Subject:
    """One process, and all its elections."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._journal = Journal(options["journal"])
        self._work = options["work"]
        shared = os.open(options["shared_list"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        client = EtcdConfig(endpoints=options["endpoints"], user=options.get("user"), password=options.get("password"))
        names: Sequence[str] = options["elections"] or [""]
        self._elections = {name: ElectionSubject(options, client, self._journal, shared, name) for name in names}

    def watch_beliefs(self) -> None:
        """Call ``is_leader()`` of all elections forever, in a thread."""
        elections = list(self._elections.values())
        pause = _POLL_SECONDS if len(elections) == 1 else _POLL_ALL_SECONDS
        reported = 0.0
        while True:
            begun = now()
            leading = [election for election in elections if election.poll()]
            if leading and begun - reported > _STILL_SECONDS:
                # The line applies to all leaders: each was called after this moment.
                self._journal.write("still", last=begun)
                reported = begun
            time.sleep(pause)

    async def run(self) -> None:
        """Campaign in all elections until a stop command, or until all campaigns have ended."""
        identities = {name: election.manager.identity for name, election in self._elections.items()}
        self._journal.write("start", identities=identities, pid=os.getpid(), work=self._work)
        async with anyio.create_task_group() as group:
            group.start_soon(self._execute_commands)
            async with anyio.create_task_group() as elections:
                for election in self._elections.values():
                    elections.start_soon(election.run)
            group.cancel_scope.cancel()

    async def _execute_commands(self) -> None:
        while True:
            line = await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
            if not line:
                return
            name, command, *argument = line.split()
            if command == "stop":
                async with anyio.create_task_group() as group:
                    for election in self._elections.values():
                        group.start_soon(election.stop)
            else:
                await self._elections[name.removeprefix("-")].execute(command, *argument or [""])


def _plain(statistics: Any) -> dict[str, Any]:
    return {
        "terms": statistics.terms,
        "losses": {reason.value: count for reason, count in statistics.losses.items()},
        "renewals": statistics.renewals,
        "renewal_failures": statistics.renewal_failures,
        "etcd_errors": statistics.etcd_errors,
        "min_remaining": statistics.min_remaining,
        "overruns": statistics.overruns,
    }


def main() -> None:
    """Run a candidate."""
    options = json.loads(sys.argv[1])
    if not hasattr(EtcdLeaderManager, "step"):
        options["work"] = "task"  # an older package, which has neither threads nor steps
    logging.basicConfig(
        filename=Path(options["journal"]).with_suffix(".log"), level=logging.INFO, format="%(created).3f %(message)s"
    )
    subject = Subject(options)
    threading.Thread(target=subject.watch_beliefs, name="belief", daemon=True).start()
    try:
        anyio.run(subject.run, backend=options["backend"])
    except BaseException:  # noqa: BLE001 - it ends the process, and the campaign reports it
        traceback.print_exc()
        os._exit(1)
    # A thread still waits for commands, and asyncio would wait for it.
    os._exit(0)


if __name__ == "__main__":
    main()
