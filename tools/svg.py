"""An SVG with text, lines and dots that reads in light and in dark mode.

Colours are classes: a file has both themes and the viewer's program chooses. Text is in the viewer's own fonts, so
widths are estimates on the wide side.
"""

from __future__ import annotations

from xml.sax.saxutils import escape

__all__ = ("COLOURS", "Svg", "width_of", "wrap")

COLOURS = 9
"""The number of colours for lines and dots, which are the classes ``c1`` to ``c9``."""

_LIGHT = {
    "sheet": ("#ffffff", "#d0d7de"), "band": ("#f6f8fa", "none"), "text": ("#1f2328", "none"),
    "faint": ("#59636e", "none"), "guide": ("none", "#d0d7de"),
    "colours": ("#57606a", "#0969da", "#8250df", "#bf3989", "#cf222e", "#bc4c00", "#8a5a00", "#1a7f37", "#1b7c83"),
}  # fmt: skip
_DARK = {
    "sheet": ("#0d1117", "#3d444d"), "band": ("#161b22", "none"), "text": ("#e6edf3", "none"),
    "faint": ("#9198a1", "none"), "guide": ("none", "#3d444d"),
    "colours": ("#9ea7b1", "#58a6ff", "#bc8cff", "#f778ba", "#ff7b72", "#ffa657", "#e3b341", "#3fb950", "#39c5cf"),
}  # fmt: skip
_SANS = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
_MONO = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_CHARACTER = 0.56
"""The mean width of a character in the widest of the usual fonts, as a part of the font's size."""
_MONO_CHARACTER = 0.61


class Svg:
    """A sheet of a given width, which grows downwards."""

    def __init__(self, width: int, title: str) -> None:
        self.width = width
        self._title = title
        self._parts: list[str] = []

    def text(self, x: float, y: float, text: str, *, size: int = 13, style: str = "text", mono: bool = False) -> None:
        """Write a line of text. ``style`` names classes: ``text``, ``faint``, ``bold``, ``end`` or a colour."""
        classes = f"{style} mono" if mono else style
        self._parts.append(f'<text x="{_n(x)}" y="{_n(y)}" font-size="{size}" class="{classes}">{escape(text)}</text>')

    def band(self, y: float, height: float, *, x: float = 0, width: float | None = None) -> None:
        """Shade a stripe of the sheet, by default from edge to edge."""
        width = self.width if width is None else width
        size = f'width="{_n(width - 2)}" height="{_n(height)}"'
        self._parts.append(f'<rect x="{_n(x + 1)}" y="{_n(y)}" {size} class="band"/>')

    def line(self, *points: tuple[float, float], style: str) -> None:
        """Draw a line through points. ``style`` is ``guide`` or a colour, with ``arrow`` for a head at the end."""
        path = "M" + " L".join(f"{_n(x)} {_n(y)}" for x, y in points)
        names = style.split()
        self._parts.append(f'<path d="{path}" class="line {names[0]}"/>')
        if "arrow" in names:
            (before, _), (x, y) = points[-2:]
            back = x - 6 if x > before else x + 6
            head = f"M{_n(x)} {_n(y)} L{_n(back)} {_n(y - 3.5)} L{_n(back)} {_n(y + 3.5)} Z"
            self._parts.append(f'<path d="{head}" class="{names[0]}"/>')

    def dot(self, x: float, y: float, *, style: str, hollow: bool = False, radius: float = 3.5) -> None:
        """Draw a dot, or a ring."""
        name = f"ring {style}" if hollow else style
        self._parts.append(f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}" class="{name}"/>')

    def render(self, height: float) -> str:
        """Return the file."""
        size = f"{_n(self.width)} {_n(height)}"
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{_n(self.width)}" role="img">',
                f"<title>{escape(self._title)}</title>",
                "<style>",
                f"text {{ font-family: {_SANS} }}",
                f".mono {{ font-family: {_MONO} }}",
                ".bold { font-weight: 600 }",
                ".end { text-anchor: end }",
                *_rules(_LIGHT),
                "@media (prefers-color-scheme: dark) {",
                *_rules(_DARK),
                "}",
                "</style>",
                f'<rect x="0.5" y="0.5" width="{_n(self.width - 1)}" height="{_n(height - 1)}" rx="6" class="sheet"/>',
                *self._parts,
                "</svg>",
                "",
            ]
        )


def _rules(theme: dict[str, tuple[str, ...]]) -> list[str]:
    plain = [f".{name} {{ fill: {theme[name][0]}; stroke: {theme[name][1]} }}" for name in theme if name != "colours"]
    colours = [
        f".c{number} {{ fill: {colour} }} .line.c{number}, .ring.c{number} {{ stroke: {colour} }}"
        for number, colour in enumerate(theme["colours"], 1)
    ]
    sheet = theme["sheet"][0]
    return [
        *plain,
        *colours,
        ".line { fill: none; stroke-width: 1.5 }",
        f".ring {{ fill: {sheet}; stroke-width: 1.5 }}",
    ]


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def width_of(text: str, size: int, *, mono: bool = False) -> float:
    """Return about how wide a line of text is."""
    return len(text) * size * (_MONO_CHARACTER if mono else _CHARACTER)


def wrap(text: str, width: float, size: int) -> list[str]:
    """Break a text into lines that fit ``width`` at this size of the font."""
    most = int(width / (_CHARACTER * size))
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if len(longer) <= most or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
