"""The rooms of the package and their imports, from the contract in pyproject.toml and from the code.

A room is a package or a public module right below ``etcdleader``. What each is for stands in the docstring of the
package, one line a room, and is read from there.
"""

from __future__ import annotations

import functools
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import grimp

import etcdleader

from .svg import COLOURS, Svg, width_of, wrap

__all__ = ("Room", "colours", "draw_rooms", "read_rooms")

_PACKAGE = "etcdleader"
_CONTRACT = "A module imports only from lower layers"
_PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
_LINE = re.compile(r"^- ``(\w+)``: (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Room:
    """A room.

    Attributes:
        name: Of the package or module.
        layer: Counted from the bottom, from 1.
        purpose: Its line in the docstring of the package.
        imports: The names of the rooms that it imports.
    """

    name: str
    layer: int
    purpose: str
    imports: frozenset[str]


def read_rooms() -> list[Room]:
    """Return all rooms, from the top down; within a layer the importer comes before the imported.

    Raises:
        SystemExit: A room has no layer or no line in the docstring, or a line names no room or is out of order.
    """
    settings = tomllib.loads(_PYPROJECT.read_text())["tool"]["importlinter"]
    (contract,) = [one for one in settings["contracts"] if one["name"] == _CONTRACT]
    imports = _imports(exclude_annotations=settings["exclude_type_checking_imports"])
    layers = [[name for name in re.findall(r"\w+", layer) if name in imports] for layer in contract["layers"]]
    if missing := set(imports) - {name for layer in layers for name in layer}:
        raise SystemExit(f"pyproject.toml names no layer for: {', '.join(sorted(missing))}")
    layer_of = {name: len(layers) - number for number, layer in enumerate(layers) for name in layer}
    purposes = _purposes(layer_of)
    return [
        Room(name, layer_of[name], purposes[name], imports[name])
        for layer in layers
        for name in _importers_first(layer, imports)
    ]


def colours() -> dict[str, str]:
    """Return the colour of each room: that of its layer."""
    return {room.name: _colour(room) for room in read_rooms()}


@functools.cache
def _imports(*, exclude_annotations: bool) -> dict[str, frozenset[str]]:
    """Return which rooms each room imports. The package's own ``__init__`` is none: it only shows the others' names."""
    graph = grimp.build_graph(_PACKAGE, exclude_type_checking_imports=exclude_annotations, cache_dir=None)
    found: dict[str, set[str]] = {}
    for module in sorted(graph.modules - {_PACKAGE}):
        room = module.split(".")[1]
        imported = {name.split(".")[1] for name in graph.find_modules_directly_imported_by(module) if "." in name}
        found.setdefault(room, set()).update(imported - {room})
    return {room: frozenset(imported) for room, imported in found.items()}


def _purposes(layer_of: dict[str, int]) -> dict[str, str]:
    lines = _LINE.findall(etcdleader.__doc__ or "")
    purposes = {name: text.replace("``", "").removesuffix(".") for name, text in lines}
    if wrong := set(purposes) ^ set(layer_of):
        raise SystemExit(
            f"the docstring of {_PACKAGE} must have one line for each room; see: {', '.join(sorted(wrong))}"
        )
    layers = [layer_of[name] for name, _ in lines]
    if layers != sorted(layers) or len(lines) != len(purposes):
        raise SystemExit(f"the rooms in the docstring of {_PACKAGE} must go from the lowest layer to the highest")
    return purposes


def _importers_first(layer: list[str], imports: dict[str, frozenset[str]]) -> list[str]:
    left, ordered = list(layer), []
    while left:
        # Only imports for annotations can form a circle: `manager` and `metrics` name each other.
        first = next((name for name in left if not any(name in imports[other] for other in left)), left[0])
        left.remove(first)
        ordered.append(first)
    return ordered


def _colour(room: Room) -> str:
    return f"c{(room.layer - 1) % COLOURS + 1}"


def draw_rooms(*, wide: bool) -> str:
    """Draw a row for each room, and a line down into each room from all rows that import it.

    Args:
        wide: For a screen that shows 860 pixels side by side; otherwise for a phone.
    """
    rooms = read_rooms()
    imported = [room.name for room in rooms if any(room.name in other.imports for other in rooms)]
    width, lane, name_x = (870, 13.0, 40.0) if wide else (400, 7.6, 28.0)
    first_lane = width - 16 - lane * (len(imported) - 1)
    lane_x = {name: first_lane + number * lane for number, name in enumerate(imported)}
    purpose_x = name_x + 118 if wide else name_x
    size = 13 if wide else 12
    svg = Svg(width, "The rooms of etcdleader, their layers, and which room imports which")
    top = _legend(svg)

    texts = {room.name: wrap(room.purpose, first_lane - purpose_x - 22, size) for room in rooms}
    row_y: dict[str, float] = {}
    y = top
    for number, room in enumerate(rooms):
        new_layer = not number or rooms[number - 1].layer != room.layer
        y += 8 if new_layer and number else 0
        row_y[room.name] = y + 17
        y += 9 + (0 if wide else 17) + 17 * len(texts[room.name])
    height = y + 8

    _shade_layers(svg, rooms, row_y, height)
    for room in rooms:
        targets = [lane_x[name] for name in imported if name in room.imports]
        if targets:
            start = (
                10 + purpose_x + (width_of(texts[room.name][0], size) if wide else width_of(room.name, size, mono=True))
            )
            y = row_y[room.name] + 4.5
            svg.line((min(start, first_lane - 14), y), (max(targets), y), style="guide")
    for room in rooms:
        if room.name in lane_x:
            _draw_lane(svg, room, rooms, lane_x[room.name], row_y, first_lane)
    for room in rooms:
        y = row_y[room.name]
        svg.text(name_x, y, room.name, size=size, style=f"{_colour(room)} bold", mono=True)
        below = 0 if wide else 17
        for number, line in enumerate(texts[room.name]):
            svg.text(purpose_x, y + below + 17 * number, line, size=size, style="text" if wide else "faint")
    return svg.render(height)


def _legend(svg: Svg) -> float:
    svg.text(16, 28, "The rooms of etcdleader", size=16, style="text bold")
    svg.dot(20, 46, style="c2")
    svg.line((20, 46), (46, 46), (46, 54), (30, 54), style="c2 arrow")
    text = "A module imports only from lower layers. Each room with a dot on a line imports the room at its end."
    lines = wrap(text, svg.width - 76, 13)
    for number, line in enumerate(lines):
        svg.text(58, 54 + 17 * number, line, style="faint")
    return 66.0 + 17 * len(lines)


def _shade_layers(svg: Svg, rooms: list[Room], row_y: dict[str, float], height: float) -> None:
    tops = {room.layer: row_y[room.name] - 19 for room in reversed(rooms)}
    ends = [*[tops[layer] for layer in sorted(tops, reverse=True)][1:], height - 6]
    for (layer, top), end in zip(sorted(tops.items(), reverse=True), ends, strict=True):
        if layer % 2:
            svg.band(top, end - top)
        svg.text(14, top + 19, str(layer), size=12, style="faint")


def _draw_lane(svg: Svg, room: Room, rooms: list[Room], x: float, row_y: dict[str, float], first_lane: float) -> None:
    importers = [row_y[other.name] + 4.5 for other in rooms if room.name in other.imports]
    end = row_y[room.name] - 4.5
    svg.line((x, min(importers)), (x, end), (first_lane - 14, end), style=f"{_colour(room)} arrow")
    for y in importers:
        svg.dot(x, y, style=_colour(room), radius=3)
