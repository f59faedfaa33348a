"""Exit statuses have one place, and each is documented."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from etcdleader._cli.run.command import EPILOG
from etcdleader._values.exit_codes import ExitCode
from tests.helpers.paths import ROOT

SOURCES = ROOT / "src" / "etcdleader"


def numbers_of_exits(tree: ast.AST) -> Iterator[int]:
    """Lines where a process is ended with a number, or where a signal's number is added to 128."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            parts = [part for argument in node.args for part in ast.walk(argument)]
            if node.func.attr in {"exit", "_exit", "Exit"} and any(is_number(part) for part in parts):
                yield node.lineno
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            yield from [node.lineno] * is_number(node.left, ExitCode.SIGNAL)


def is_number(node: ast.AST, number: int | None = None) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int) and number in {None, node.value}


def test_no_exit_status_is_a_number_beside_the_enum() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in SOURCES.rglob("*.py")
        for line in numbers_of_exits(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == set()


@pytest.mark.parametrize("text", ["os._exit(1)", "sys.exit(128 + n)", "raise typer.Exit(3 if a else b)", "x = 128 - n"])
def test_a_number_is_found(text: str) -> None:
    assert list(numbers_of_exits(ast.parse(text)))


def listed(page: Path) -> set[int]:
    """The statuses in the first column of a page's tables."""
    rows = re.findall(r"^\| ([\d, ]+|128 \+ n) \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {int(number) for row in rows for number in re.findall(r"\d+", row)}


def test_each_exit_status_is_on_the_page_of_its_command() -> None:
    pages = listed(ROOT / "docs" / "commands.md") | listed(ROOT / "docs" / "run.md")
    assert pages == {*ExitCode, ExitCode.SIGNAL + 2}


def test_the_help_of_run_lists_those_on_its_page() -> None:
    assert {int(number) for number in re.findall(r"^  (\d+)", EPILOG, re.MULTILINE)} == listed(ROOT / "docs" / "run.md")
