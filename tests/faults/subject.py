"""A candidate under test: a process on the public interface only, that writes down what it believes and does.

Its argument is JSON (see :class:`tests.faults.candidate.Options`); commands come on stdin, a line each: ``stop``,
``resign``, ``raise``, ``fork``, ``block SECONDS``, ``swallow SECONDS``.

What it believes is asked from outside of the manager: a thread calls ``is_leader()`` every few milliseconds, with a
stamp before and after each call. A belief is written down as lasting from the stamp after the first True to the stamp
before the last one: no longer than it truly lasted. So what the checker finds to overlap, has overlapped.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from etcdleader import Config, EtcdConfig, EtcdLeaderError, EtcdLeaderManager, EtcdRegressedError, Term
from etcdleader.etcd3 import etcd3
from tests.faults.journal import Journal, now

_ASK_EVERY = 0.004
_STILL_EVERY = 0.05
_LOOK = 0.05
_STEP = 0.07


class PlannedError(Exception):
    """What the work raises when it is told to."""


class Subject:
    """One process's manager, its work, and what is known of both."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._name = str(options["name"])
        self._journal = Journal(options["journal"])
        self._shared = os.open(options["shared_list"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._wish: tuple[str, float] | None = None
        self._stopped = False
        self._number = 0
        config = Config(
            enabled=True,
            id=self._name,
            lease=options["lease"],
            renew=options["renew"],
            retry=options["retry"],
            margin=options["margin"],
        )
        client = EtcdConfig(endpoints=options["endpoints"], user=options.get("user"), password=options.get("password"))
        self._manager = EtcdLeaderManager(client, config, options["election"])
        self._manager.on_elected(self._work)
        self._manager.on_ousted(self._ousted)
        self._manager.on_error(self._error)

    # What it believes

    def watch_belief(self) -> None:
        """Ask for ever; a thread."""
        token, last, told = 0, 0.0, 0.0
        while True:
            before = now()
            term = self._manager.term
            leads = self._manager.is_leader()
            after = now()
            asked = term.token if leads and term is not None else token if leads else 0
            if token and asked != token:
                self._journal.write("over", token=token, last=last, first_false=after)
                token = 0
            if asked and not token:
                self._journal.write("belief", token=asked, since=after)
                token, told = asked, after
            if token:
                last = before
                if before - told > _STILL_EVERY:
                    self._journal.write("still", token=token, last=last)
                    told = before
            time.sleep(_ASK_EVERY)

    # What it does

    async def run(self) -> None:
        """Campaign until told to stop, again after each failure that was asked for."""
        self._journal.write("start", identity=self._manager.identity, pid=os.getpid())
        async with anyio.create_task_group() as group:
            group.start_soon(self._obey)
            while not self._stopped:
                try:
                    await self._manager.campaign()
                except EtcdRegressedError as error:
                    self._journal.write("regressed", error=str(error))
                    break
                except PlannedError:
                    self._journal.write("campaign failed as planned")
            self._journal.write("end", statistics=_plain(self._manager.statistics()))
            group.cancel_scope.cancel()

    async def _obey(self) -> None:
        while True:
            line = await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
            if not line:
                return
            command, _, argument = line.strip().partition(" ")
            if command == "stop":
                self._stopped = True
                self._journal.write("stopping")
                await self._manager.stop()
                self._journal.write("stopped")
            elif command == "resign":
                self._journal.write("resigning")
                await self._manager.resign()
                self._journal.write("resigned")
            else:
                self._wish = (command, float(argument or 0))

    async def _work(self, manager: object, term: Term) -> None:
        late: list[float] = []
        last = now()
        self._journal.write("work", token=term.token, key=term.key, lease=term.lease_id)
        try:
            while True:
                last = now()
                if not term.is_valid():
                    late.append(last)
                await self._grant_wish(term)
                if term.is_valid():
                    # The very gap that fencing is for: looked, then waited, then wrote.
                    await anyio.sleep(_LOOK)
                    os.write(self._shared, f"{term.token} {now():.6f}\n".encode())
                await self._write_fenced(term)
                await anyio.sleep(_STEP)
        finally:
            self._journal.write("work over", token=term.token, last=last, late=late[:1] + late[-1:])

    async def _write_fenced(self, term: Term) -> None:
        self._number += 1
        put = etcd3.Transactions().put(self._options["register"], f"{term.token}:{self._name}:{self._number}")
        with suppress(EtcdLeaderError):
            done, _ = await term.transaction([put])
            if not done:
                self._journal.write("write refused", token=term.token)

    async def _grant_wish(self, term: Term) -> None:
        if self._wish is None:
            return
        (wish, seconds), self._wish = self._wish, None
        self._journal.write("wish", wish=wish, seconds=seconds, token=term.token)
        if wish == "raise":
            raise PlannedError
        if wish == "fork":
            await self._fork(term)
        elif wish == "block":
            time.sleep(seconds)  # noqa: ASYNC251 - a blocked loop is the fault
        elif wish == "swallow":
            until = now() + seconds
            with anyio.CancelScope(shield=True):
                while now() < until:
                    await anyio.sleep(_LOOK)

    async def _fork(self, term: Term) -> None:
        pid = os.fork()
        if pid == 0:
            believed = 0
            for _ in range(20):
                believed += self._manager.is_leader() or term.is_valid() or self._manager.term is not None
                time.sleep(0.02)  # noqa: ASYNC251 - this is the child: there is no loop any more
            self._journal.write("child", believed=believed)
            os._exit(0)
        await anyio.to_thread.run_sync(os.waitpid, pid, 0)

    async def _ousted(self, manager: object, term: Term) -> None:
        self._wish = None  # it was meant for that term
        reason = term.loss_reason
        self._journal.write("ousted", token=term.token, reason=reason.value if reason else None)

    async def _error(self, manager: object, error: EtcdLeaderError) -> None:
        self._journal.write("error", error=f"{type(error).__name__}: {error}")


def _plain(statistics: Any) -> dict[str, Any]:
    return {
        "terms": statistics.terms,
        "losses": {reason.value: count for reason, count in statistics.losses.items()},
        "renewals": statistics.renewals,
        "renewal_failures": statistics.renewal_failures,
        "etcd_errors": statistics.etcd_errors,
        "closest_call": statistics.closest_call,
        "overruns": statistics.overruns,
    }


def main() -> None:
    """Be a candidate."""
    options = json.loads(sys.argv[1])
    logging.basicConfig(
        filename=Path(options["journal"]).with_suffix(".log"), level=logging.INFO, format="%(created).3f %(message)s"
    )
    subject = Subject(options)
    threading.Thread(target=subject.watch_belief, name="belief", daemon=True).start()
    try:
        anyio.run(subject.run, backend=options["backend"])
    except BaseException:  # noqa: BLE001 - it ends the process, and who looks finds it
        traceback.print_exc()
        os._exit(1)
    # A thread still waits for commands, and asyncio would wait for it.
    os._exit(0)


if __name__ == "__main__":
    main()
