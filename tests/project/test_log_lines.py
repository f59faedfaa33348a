"""Each log line that docs/operating.md lists exists in the code, at the level that the page names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.helpers.paths import ROOT

PAGE = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
LEVELS = {"debug", "info", "warning", "error"}
FIELD = r"%\.?\d*[srdxgf]"
PLACE = r"\b(?:[A-Z]|REASON|PLACE)\b|\.\.\."
"""A value in a line of the page."""


def listed() -> list[tuple[str, str]]:
    """The lines in the first column of the table, each with the level of its row."""
    (table,) = re.findall(r"^\| line \| level \|.*\n\|[ |-]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    rows = [row.split(" | ") for row in table.splitlines()]
    return [(line, level.strip().lower()) for first, level, *_ in rows for line in re.findall(r"`([^`]+)`", first)]


def in_the_code() -> Iterator[tuple[str, str | None]]:
    """All texts of the package but docstrings, with fields as ``%s``; those that are logged, with their level."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        levels: dict[ast.AST, str | None] = {}
        docstrings: set[ast.AST] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Expr):
                docstrings.add(node.value)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                levels[node.args[0]] = node.func.attr if node.func.attr in LEVELS else None
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
                yield node.value, levels.get(node)
            elif isinstance(node, ast.JoinedStr):
                parts = (str(part.value) if isinstance(part, ast.Constant) else "%s" for part in node.values)
                yield "".join(parts), levels.get(node)


def found(line: str) -> set[str | None]:
    """The levels at which a line of the page is in the code; None: it is a text that is passed on."""
    pattern = re.compile("(?s)" + ".*".join(re.escape(part) for part in re.split(PLACE, line)))
    return {level for text, level in TEXTS if pattern.search(re.sub(FIELD, "\0", text))}


TEXTS = list(in_the_code())


def test_the_page_lists_lines() -> None:
    assert len(listed()) > 15


@pytest.mark.parametrize(("line", "level"), listed())
def test_a_log_line_of_the_page_is_in_the_code_at_its_level(line: str, level: str) -> None:
    """Alert rules are written from the page."""
    levels = found(line)
    assert levels, f"no text in the code reads {line!r}"
    assert level in levels or None in levels


@pytest.mark.parametrize("line", ["X leads E with a token N", "X: etcd connection was restored"])
def test_a_line_that_is_not_in_the_code_is_found_out(line: str) -> None:
    assert found(line) == set()
