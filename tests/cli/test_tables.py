"""Tables on terminals of any width: what is shown can be copied."""

from __future__ import annotations

import re
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from etcdleader._cli.output import print_whole
from etcdleader._cli.status import elections_table, queue_table
from etcdleader._election.admin import Candidate, Queue

NAMES = [f"deployments/production/europe-west-4/{'x' * 80}/{number}" for number in range(3)]


def terminal(width: int) -> Console:
    return Console(file=StringIO(), width=width, force_terminal=True, highlight=False, color_system=None)


def shown(screen: Console) -> str:
    assert isinstance(screen.file, StringIO)
    return screen.file.getvalue()


def candidate(identity: str) -> Candidate:
    return Candidate(identity, 123456, b"jobs/7587862394878123457", 0x7587862394878123, 60, 55, ())


QUEUES = [Queue(name, 5, (candidate(f"{name}#1f2e3d4c"), candidate(f"{name}#5b6a7988"))) for name in NAMES]


@pytest.mark.parametrize("width", [20, 80, 1000])
def test_names_of_elections_and_candidates_are_whole_on_a_terminal_of_any_width(width: int) -> None:
    """Two elections that look alike are one too few, and half a name cannot be given to the next command."""
    screen = terminal(width)
    print_whole(screen, elections_table(QUEUES, screen))
    for queue in QUEUES:
        assert re.search(
            rf"^ *{re.escape(queue.election)} +{re.escape(queue.candidates[0].identity)} ", shown(screen), re.MULTILINE
        )
    screen = terminal(width)
    print_whole(screen, queue_table(QUEUES[0], screen))
    for each in QUEUES[0].candidates:
        assert re.search(
            rf"^ *(leader|1) +{re.escape(each.identity)} +123456 .* 7587862394878123 *$", shown(screen), re.MULTILINE
        )


def test_advertised_values_have_a_column_if_there_are_any() -> None:
    screen = terminal(200)
    first, second = QUEUES[0].candidates
    queue = replace(QUEUES[0], candidates=(first, replace(second, advertised="http://10.0.0.1\x1b[31m")))
    print_whole(screen, queue_table(queue, screen))
    assert re.search(r" advertised *$", shown(screen), re.MULTILINE)
    assert re.search(r"7988 .* http://10\.0\.0\.1\\x1b\[31m *$", shown(screen), re.MULTILINE)


def test_a_live_table_folds_names_and_cuts_none() -> None:
    """It is drawn again in its place, so no line may be longer than the terminal is wide."""
    screen = terminal(80)
    screen.print(queue_table(QUEUES[0], screen))
    assert all(len(line) <= 80 for line in shown(screen).splitlines())
    assert "…" not in shown(screen)
    assert re.search(r"\b[0-9]#?(1f2e3d4c|5b6a7988)|#?7988\b", shown(screen))


def test_a_narrow_table_stays_as_wide_as_the_terminal() -> None:
    """So that what is printed after it is wrapped as always."""
    screen = terminal(80)
    table = Table("a", "b")
    table.add_row(Text("short"), Text("text"))
    print_whole(screen, table)
    assert screen.width == 80
