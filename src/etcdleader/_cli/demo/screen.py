"""The output of the demo: permanent lines and, on a terminal, a live table below them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Column, Table

from .processes import CandidateProcess


class Screen:
    """The output of the demo.

    Attributes:
        interactive: Whether the output is a terminal. Then there is a live table, and there are pauses to read.
    """

    def __init__(self, console: Console) -> None:
        self.interactive = console.is_interactive
        self._console = console
        self._began_at = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line, with the time since the start."""
        self._console.print(f"[dim]{time.monotonic() - self._began_at:5.1f} s[/]  {text}", soft_wrap=True)

    def add(self, text: str) -> None:
        """Print a line that continues the previous one."""
        self._console.print(f"         {text}", soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a permanent table."""
        table = Table(*columns, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        self._console.print(table)

    @contextmanager
    def live(self, cast: Sequence[CandidateProcess]) -> Iterator[Self]:
        """Show the live table of candidates during the block. Without a terminal, show nothing."""
        if not self.interactive:
            yield self
            return
        with Live(console=self._console, get_renderable=lambda: _state_of(cast), refresh_per_second=10, transient=True):
            yield self


def _state_of(cast: Sequence[CandidateProcess]) -> Table:
    table = Table(
        "candidate", "process", Column("state", min_width=28), Column("token", min_width=5), "lease valid for"
    )
    for candidate in cast:
        token, left, style = "", "", ""
        if candidate.killed:
            state, style = "killed", "red"
        elif candidate.leadership is not None:
            state, style, token = "leads", "bold green", str(candidate.leadership.token)
            left = f"{candidate.remaining:.1f} s" if candidate.remaining is not None else ""
        elif candidate.position is not None:
            state = f"waits, number {candidate.position} in the queue"
        else:
            state, style = "joins", "dim"
        table.add_row(candidate.name, str(candidate.pid), state, token, left, style=style)
    return table
