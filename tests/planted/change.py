"""Changes to a copy of the package. A change names the definition that contains its place, and no file."""

from __future__ import annotations

import ast
import builtins
import functools
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ("Change", "plant")


@dataclass(frozen=True, kw_only=True)
class Change:
    """A place in the package, and its replacement.

    Attributes:
        within: The bare name of the function, method, class or module constant that contains the place. If the pattern
            fits in two of the same name, the name of the class or of the outer function comes first, and a dot.
        pattern: A regular expression that matches exactly once there. White space in it matches any white space.
        replacement: As for ``re.sub``. Lines after the first get the indentation of the line on which the place begins.
    """

    within: str
    pattern: str
    replacement: str


@dataclass(frozen=True)
class _Place:
    path: Path
    text: str
    match: re.Match[str]
    where: str

    def __str__(self) -> str:
        return f"{self.where}: {self.match[0].strip()}"


def plant(package: Path, to: Path, *changes: Change) -> Path:
    """Copy a package to a folder, and make the changes in the copy, one after another.

    Returns:
        The folder, which belongs on the import path.

    Raises:
        AssertionError: The place of a change was not found, or was found more than once. Or the changed module does not
            compile, means the same as before, or uses a name that the package does not have.
    """
    copy = to / package.name
    shutil.copytree(package, copy)
    for change in changes:
        place = _only_place(change, copy)
        place.path.write_text(_changed(change, place, copy), encoding="utf-8")
    return to


def _only_place(change: Change, package: Path) -> _Place:
    pattern = re.compile(re.sub(r"\s+", r"\\s+", change.pattern))
    held: list[str] = []
    found: dict[tuple[Path, int], _Place] = {}
    for path, text in _modules(package):
        for name, begin, end in _definitions(text):
            if f".{name}".endswith(f".{change.within}"):
                held.append(_where(package, path, text, begin, name))
                # If a definition contains another one of its name, both yield the same match.
                for match in pattern.finditer(text, begin, end):
                    place = _Place(path, text, match, _where(package, path, text, match.start(), name))
                    found[path, match.start()] = place
    what = f"{change.pattern!r} within {change.within!r}"
    if not held:
        raise AssertionError(f"{what}: nothing in {package.name} has that name")
    if not found:
        raise AssertionError(f"{what} is not found; looked at" + "".join(f"\n  {one}" for one in held))
    if len(found) > 1:
        raise AssertionError(f"{what} is found {len(found)} times" + "".join(f"\n  {one}" for one in found.values()))
    return found.popitem()[1]


def _changed(change: Change, place: _Place, package: Path) -> str:
    """Return the text of the module with the change in it."""
    text, match = place.text, place.match
    begin = match.start() + len(match[0]) - len(match[0].lstrip())
    line = text[text.rfind("\n", 0, begin) + 1 : begin]
    indentation = line[: len(line) - len(line.lstrip())]
    replacement = match.expand(re.sub(r"\n|\\n", "\n" + indentation, change.replacement))
    changed = text[: match.start()] + replacement + text[match.end() :]
    try:
        compile(changed, place.path, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise AssertionError(f"{place}\ndoes not compile with {replacement!r} instead: {error}") from error
    if ast.dump(ast.parse(changed)) == ast.dump(ast.parse(text)):
        raise AssertionError(f"{place}\nmeans the same with {replacement!r} instead")
    if unknown := _unknown(changed, text, package):
        raise AssertionError(f"{place}\nwith {replacement!r} instead: {package.name} has no {', '.join(unknown)}")
    return changed


def _unknown(changed: str, text: str, package: Path) -> list[str]:
    """Find the names that the change uses and the package does not have. They alone would turn any test red."""
    used, bound = _names(ast.parse(changed))
    candidates = used - _names(ast.parse(text))[0] - bound - set(dir(builtins))
    return sorted(
        name for name in candidates if not any(re.search(rf"\b{name}\b", text) for _, text in _modules(package))
    )


def _names(tree: ast.Module) -> tuple[set[str], set[str]]:
    """Return the names that a module uses, and those that it binds."""
    used: set[str] = set()
    bound: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) | ast.keyword(arg=str(name)) | ast.Name(id=name, ctx=ast.Load()):
                used.add(name)
            case ast.Name(id=name) | ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                bound.add(name)
    return used, bound


def _modules(package: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(package.rglob("*.py")):
        if path.parent.name != "testing":  # the simulation is no place for a bug of the product
            yield path, path.read_text(encoding="utf-8")


def _where(package: Path, path: Path, text: str, at: int, name: str) -> str:
    line = text[:at].count("\n") + 1
    return f"{path.relative_to(package)}:{line} in {name}"


@functools.cache
def _definitions(text: str) -> list[tuple[str, int, int]]:
    """List the definitions of a module: the qualified name of each, and the begin and end of its lines in the text."""
    lines = [0, *(newline.end() for newline in re.finditer("\n", text)), len(text)]
    found: list[tuple[str, int, int]] = []

    def look(node: ast.AST, outer: str) -> None:
        for child in ast.iter_child_nodes(node):
            match child:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    first = min([child.lineno, *(one.lineno for one in child.decorator_list)])
                    found.append((outer + name, lines[first - 1], lines[child.end_lineno or first]))
                    look(child, f"{outer}{name}.")
                case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)) if not outer:
                    found.append((name, lines[child.lineno - 1], lines[child.end_lineno or child.lineno]))
                case ast.stmt() | ast.excepthandler() | ast.match_case():
                    look(child, outer)

    look(ast.parse(text), "")
    return found
