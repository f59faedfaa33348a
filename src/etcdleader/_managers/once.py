"""Work that is done once for all candidates of an election, not once in each term.

The record of it is a key in etcd. ``done_record`` reads, watches and writes the key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..model import Term
from .work import run_work


def validate_name(name: object) -> None:
    """Check that work can have this name.

    Raises:
        ValueError: It is no text, is empty, begins or ends with whitespace, or has a control character.
    """
    if not isinstance(name, str) or not name.isprintable() or not name or name != name.strip():
        raise ValueError(
            f"name = {name!r}: must be text that is not empty, without control characters, and without whitespace at its "
            'ends, such as "v42"'
        )


def record_key(election_key: str, name: str) -> bytes:
    """Return the key of the record.

    It does not lie below the election's prefix, where it would be a candidate that never expires. It does not lie in the
    range of a fence of the same name either, which ends in ``#``.
    """
    return f"{election_key}@done/{name}".encode()


class Record(Protocol):
    """The record in etcd, as the work uses it."""

    async def done_by_this_process(self, term: Term) -> bool | None:
        """Return None if the work is not done. Raise an error if the record could not be written later."""
        ...

    async def write(self, term: Term) -> None:
        """Record that the work is done, unless leadership was lost."""
        ...

    def work_ended(self) -> None:
        """Act on a record that appeared while the work ran."""


class Once:
    """The work of a campaign of ``run_once``. Its result is True if this process did it.

    Attributes:
        name: The name of the work.
        record: The record in etcd; None if election is off.
        running: True while the user's work runs and is recorded.
    """

    __slots__ = ("_work", "name", "record", "running")

    def __init__(self, name: str, work: Callable[[Term], Any]) -> None:
        self.name = name
        self._work = work
        self.record: Record | None = None
        self.running = False

    async def __call__(self, term: Term) -> bool:
        """Do the work in this term, unless it is done already."""
        record = self.record
        if record is not None and (done := await record.done_by_this_process(term)) is not None:
            return done
        self.running = True
        try:
            await run_work(self._work, term)
            # After a loss, work may return as if it was done. If it was, etcd has no way to know.
            if record is not None and term.is_valid():
                await record.write(term)
        finally:
            self.running = False
            if record is not None:
                record.work_ended()
        return True
