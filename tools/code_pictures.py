"""Draw the pictures of docs/design.md, and the table in CONTRIBUTING.md, from the code: ``make pictures``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .candidacy import draw_candidacy
from .rooms import draw_rooms, read_rooms

__all__ = ("IMAGES", "PAGE", "draw_all", "with_rooms")

_ROOT = Path(__file__).parents[1]
IMAGES = _ROOT / "docs" / "images"
PAGE = _ROOT / "CONTRIBUTING.md"
"""It has the list of rooms as a table."""
_BEGIN, _END = "<!-- rooms:", "<!-- end of rooms -->"


def draw_all() -> Mapping[str, str]:
    """Return the content of each picture, by the name of its file in ``IMAGES``."""
    return {
        "rooms.svg": draw_rooms(wide=True),
        "rooms-phone.svg": draw_rooms(wide=False),
        "candidacy.svg": draw_candidacy(wide=True),
        "candidacy-phone.svg": draw_candidacy(wide=False),
    }


def with_rooms(page: str) -> str:
    """Return the page with the table of rooms as it should be."""
    before, begin, rest = page.partition(_BEGIN)
    comment, _, table = rest.partition("\n")
    _, end, after = table.partition(_END)
    rows = [f"| {room.layer} | `{room.name}` | {room.purpose} |" for room in reversed(read_rooms())]
    table = "\n".join(["", "| layer | room | what it is |", "| --- | --- | --- |", *rows, "", ""])
    return f"{before}{begin}{comment}\n{table}{end}{after}"


if __name__ == "__main__":
    for name, content in draw_all().items():
        (IMAGES / name).write_text(content, encoding="utf-8")
        print(name)
    PAGE.write_text(with_rooms(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(PAGE.name)
