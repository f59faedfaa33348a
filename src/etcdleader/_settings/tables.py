"""Merge tables of settings, each value with its origin; convert values and report unknown names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .._values.kinds import Kind
from .._values.problems import Problem
from .known import SECRETS, cast_in

_FLAG_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_MARKERS = frozenset({"dynaconf_merge", "dynaconf_merge_unique"})
"""Markers that request merging from dynaconf. Tables are always merged here."""
_ITSELF = "\0"
"""The name, in a tree, of the value of a setting that is a table elsewhere. Both are kept."""


@dataclass(frozen=True, slots=True)
class _Found:
    value: object = field(repr=False)  # it may be a password
    origin: str
    ambiguous: bool = False
    """True if the same source has another value under another spelling of the name."""


Tree: TypeAlias = "dict[str, Tree | _Found]"
"""Nested tables, by normalized names."""


def normal(name: object) -> str:
    """Return the normalized spelling of a name."""
    return str(name).strip().lower().replace("-", "_")


def lay(table: Mapping[Any, object], origin: str, tree: Tree, *, over: bool = True) -> None:
    """Merge a table into a tree: tables are merged, other values (including lists) replaced, None ignored.

    With ``over=False``, no value is replaced: the table has defaults.
    """
    for key in table:
        name, value = normal(key), table[key]  # not `items`: that of dynaconf returns values before their evaluation
        below = tree.get(name)
        if isinstance(value, Mapping):
            if not isinstance(below, dict):
                below = tree[name] = {} if below is None else {_ITSELF: below}
            lay(value, origin, below, over=over)
        elif value is not None and (over or below is None):
            found = _Found(value, origin, _differs(below, value, origin))
            if isinstance(below, dict):
                below[_ITSELF] = found
            else:
                tree[name] = found


def table_at(table: object, path: tuple[str, ...]) -> object:
    """Return what a table has at a path of normalized names; None if there is nothing."""
    for part in path:
        if not isinstance(table, Mapping):
            return None
        table = next((value for name, value in table.items() if normal(name) == part), None)
    return table


def _differs(below: Tree | _Found | None, value: object, origin: str) -> bool:
    """Return True if the same source gave another value before. The source of a variable is its name."""
    return isinstance(below, _Found) and normal(below.origin) == normal(origin) and below.value != value


class Section:
    """One table, as a table of settings.

    Attributes:
        name: The name as it is written, such as ``sync.election``.
        path: The parts of the name.
        known: The valid settings, and their kinds.
        exists: True if there is such a table.
        values: The settings of the table. Each is converted to its type if the conversion is unambiguous.
        problems: The problems of the table and its settings.
        evaluated: True if dynaconf has applied the casts in the values, as it does for an application's object.
        casts: The settings whose values have a cast that was not applied. Their problems are reported already.
    """

    def __init__(self, name: str, known: Mapping[str, Kind]) -> None:
        self.name = name
        self.path = tuple(normal(part) for part in name.split("."))
        self.known = known
        self.exists = False
        self.values: dict[str, Any] = {}
        self.problems: list[str] = []
        self.evaluated = False
        self.casts: set[str] = set()
        self._origins: dict[str, str] = {}

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins of the settings, each once."""
        return tuple(dict.fromkeys(self._origins.values()))

    def origin(self, setting: str) -> str:
        """Return the origin of a setting; ``default`` if it is not set."""
        return self._origins.get(setting, "default")

    def tables(self, values: Mapping[str, object]) -> Mapping[str, object]:
        """Return settings of this section as nested tables."""
        for part in reversed(self.path):
            values = {part: values}
        return values

    def take(self, tree: Tree) -> None:
        """Take the settings of this section from a tree."""
        node: Tree | _Found | None = tree
        for part in self.path:
            node = node.get(part) if isinstance(node, dict) else None
            value = node.get(_ITSELF) if isinstance(node, dict) else node
            if value is not None:
                self.problems.append(f"{self.name}: must be a table{_from(value)}")
        self.exists = node is not None or bool(self.problems)
        if isinstance(node, dict):
            for setting, found in node.items():
                if setting != _ITSELF:
                    self._take_setting(setting, found)

    def _take_setting(self, setting: str, found: Tree | _Found) -> None:
        # Values are not shown here: a setting with a wrong name may be a password.
        if setting in self.known and isinstance(found, _Found):
            if found.ambiguous:
                text = "has two values in one place, under two spellings of its name: keep one"
                self.problems.append(f"{self.name}.{setting}: {text}{_from(found)}")
            if setting not in SECRETS and not self.evaluated and (cast := cast_in(found.value)):
                advice = "write the value itself, or pass settings=Dynaconf(...), which applies casts"
                self.problems.append(
                    f"{self.name}.{setting}: {cast} is a cast of dynaconf, and is not applied here: {advice}{_from(found)}"
                )
                self.casts.add(setting)
            self.values[setting] = _typed(self.known[setting], found.value)
            self._origins[setting] = found.origin
        elif setting in self.known:
            self.problems.append(f"{self.name}.{setting}: must not be a table{_from(found)}")
        elif setting not in _MARKERS:
            from difflib import get_close_matches

            nearest = get_close_matches(setting, self.known, 1)
            advice = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(self.known)}"
            self.problems.append(f"{self.name}.{setting}: no such setting; {advice}{_from(found)}")

    def explain(self, problem: str) -> str:
        """Return a problem with the section's name, and with the origins of its values."""
        settings = problem.settings if isinstance(problem, Problem) else ()
        several = len(settings) > 1
        text = ", ".join(
            f"{setting} from {self._origins[setting]}" if several else f"from {self._origins[setting]}"
            for setting in settings
            if setting in self._origins
        )
        return f"{self.name}.{problem}" + (f" [{text}]" if text else "")


def _typed(kind: Kind, value: object) -> object:
    """Convert a value if that is unambiguous. Variables have no types, and neither do dynaconf's values of them."""
    if kind is Kind.FLAG and isinstance(value, str):
        return _FLAG_WORDS.get(value.lower(), value)
    if kind is Kind.NUMBER and isinstance(value, str) and value.isdecimal() and len(value) < 20:
        return int(value)
    if kind is Kind.TEXT and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


def _from(node: Tree | _Found) -> str:
    while isinstance(node, dict):
        if not node:
            return ""
        node = next(iter(node.values()))
    return f" [from {node.origin}]"


def meant_variable(rest: str, section: Section) -> str | None:
    """Return the variable that an unknown one probably means, both without the prefix; None if that is unclear.

    These mistakes are detected:

    - too few or too many underscores;
    - a missing section;
    - a missing underscore and a misspelled setting.
    """
    squeezed = rest.replace("_", "").lower()
    table = "_".join(section.path)
    meant = [name for name in section.known if squeezed in {(table + name).replace("_", ""), name.replace("_", "")}]
    if not meant and "__" not in rest and normal(rest).startswith(f"{table}_"):
        from difflib import get_close_matches

        meant = get_close_matches(normal(rest)[len(table) + 1 :], section.known, 1)
    return "__".join((*section.path, meant[0])).upper() if meant else None
