"""Draw the pictures of docs/design.md from the code: ``make pictures``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .candidacy import draw_candidacy
from .rooms import draw_rooms

__all__ = ("IMAGES", "draw_all")

IMAGES = Path(__file__).parents[1] / "docs" / "images"


def draw_all() -> Mapping[str, str]:
    """Return the content of each picture, by the name of its file in ``IMAGES``."""
    return {
        "rooms.svg": draw_rooms(wide=True),
        "rooms-phone.svg": draw_rooms(wide=False),
        "candidacy.svg": draw_candidacy(wide=True),
        "candidacy-phone.svg": draw_candidacy(wide=False),
    }


if __name__ == "__main__":
    for name, content in draw_all().items():
        (IMAGES / name).write_text(content, encoding="utf-8")
        print(name)
