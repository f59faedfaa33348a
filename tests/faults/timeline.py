"""The timeline of a campaign, as an SVG that a person can read. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape

from tests.faults.checker import Violation
from tests.faults.history import History

__all__ = ("timeline",)

_PER_SECOND = 14.0
_ROW_SECONDS = 100.0
_LEFT = 90
_LANE = 24
_MARKS = 62
_COLOURS = ("#4878a8", "#c8803c", "#5a9a5a", "#a05a8c", "#8a7a4a", "#4a9a9a")
_KEY = "#c4c4c4"
_INJECTION = "#f4e4b8"


def timeline(history: History, violations: Sequence[Violation]) -> str:
    """Draw lanes for etcd's keys and for each candidate, in strips of some hundred seconds.

    Of many elections, draw the one that had the most terms.
    """
    if history.parts:
        shown = max(history.parts, key=lambda part: len(part.beliefs))
        of_it = [violation for violation in violations if violation.text.startswith(f"election {shown.name}:")]
        return timeline(replace(shown, name=f"{history.name}, election {shown.name}"), of_it)
    subjects = sorted({belief.subject for belief in history.beliefs})
    moments = [moment for injection in history.injections for moment in (injection.start, injection.end)]
    moments += [moment for belief in history.beliefs for moment in (belief.start, belief.end)]
    if not moments:
        return '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"/>'
    begin, end = min(moments) - 1, max(moments) + 1
    strips = int((end - begin) // _ROW_SECONDS) + 1
    height = _MARKS + _LANE * (len(subjects) + 1) + 34
    width = _LEFT + _ROW_SECONDS * _PER_SECOND + 20
    size = f'width="{width:.0f}" height="{strips * height + 40}"'
    what = "leaders and their tokens; grey: the first key in etcd; yellow: faults"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="8" y="20" font-size="14">{escape(history.name)}: {what}</text>',
    ]
    for number in range(strips):
        parts += _strip(history, subjects, violations, begin + number * _ROW_SECONDS, begin, 36 + number * height)
    return "\n".join([*parts, "</svg>"])


def _strip(
    history: History, subjects: Sequence[str], violations: Sequence[Violation], start: float, zero: float, top: int
) -> list[str]:
    stop = start + _ROW_SECONDS
    lanes = top + _MARKS
    bottom = lanes + _LANE * (len(subjects) + 1)

    def x(moment: float) -> float:
        return _LEFT + (min(max(moment, start), stop) - start) * _PER_SECOND

    parts = []
    for number, injection in enumerate(history.injections):
        if injection.end < start or injection.start > stop:
            continue
        left, wide = x(injection.start), max(2.0, x(injection.end) - x(injection.start))
        title = escape(f"{injection.row} at {injection.start - zero:.1f} s: {injection.note}")
        parts.append(
            f'<g><title>{title}</title><rect x="{left:.1f}" y="{lanes}" width="{wide:.1f}" height="{bottom - lanes}" '
            f'fill="{_INJECTION}"/><line x1="{left:.1f}" x2="{left:.1f}" y1="{lanes - 4}" y2="{bottom}" '
            f'stroke="#b09040"/></g>'
        )
        if injection.start >= start:
            label = top + 14 + 12 * (number % 4)
            parts.append(f'<text x="{left:.1f}" y="{label}" fill="#806010">{escape(injection.row)}</text>')
    for index, name in enumerate(["etcd", *subjects]):
        y = lanes + _LANE * index
        parts.append(f'<text x="8" y="{y + 16}">{escape(name)}</text>')
        parts.append(f'<line x1="{_LEFT}" x2="{x(stop):.1f}" y1="{y + _LANE}" y2="{y + _LANE}" stroke="#dddddd"/>')
    for since, until, token in _first_keys(history):
        if until > start and since < stop:
            parts.append(_bar(x(since), x(until), lanes, _KEY, f"key {token}", str(token)))
    for belief in history.beliefs:
        if belief.end > start and belief.start < stop:
            index = subjects.index(belief.subject)
            text = f"{belief.run}, token {belief.token}: {belief.start - zero:.2f} to {belief.end - zero:.2f} s"
            y = lanes + _LANE * (index + 1)
            parts.append(_bar(x(belief.start), x(belief.end), y, _COLOURS[index % 6], text, str(belief.token)))
    for violation in violations:
        if start <= violation.at < stop:
            at = x(violation.at)
            parts.append(
                f'<g><title>{escape(violation.text)}</title><line x1="{at:.1f}" x2="{at:.1f}" y1="{top + 6}" '
                f'y2="{bottom}" stroke="#d00000" stroke-width="2"/><text x="{at:.1f}" y="{bottom + 26}" '
                f'fill="#d00000">{violation.rule}</text></g>'
            )
    for second in range(0, int(_ROW_SECONDS) + 1, 10):
        at = _LEFT + second * _PER_SECOND
        parts.append(f'<text x="{at:.1f}" y="{bottom + 14}" fill="#666666">{start - zero + second:.0f} s</text>')
    return parts


def _bar(left: float, right: float, y: float, colour: str, title: str, label: str) -> str:
    wide = max(1.0, right - left)
    text = (
        f'<text x="{left + 3:.1f}" y="{y + 16:.0f}" fill="#ffffff">{escape(label)}</text>'
        if wide > 8 * len(label) + 4
        else ""
    )
    return (
        f'<g><title>{escape(title)}</title><rect x="{left:.1f}" y="{y + 4:.0f}" width="{wide:.1f}" '
        f'height="{_LANE - 7}" rx="2" fill="{colour}"/>{text}</g>'
    )


def _first_keys(history: History) -> list[tuple[float, float, int]]:
    """Return when each key was seen first in the queue: from the end of the key before it to its own end."""
    spans: list[tuple[float, float, int]] = []
    free, era = 0.0, -1
    for seen in sorted(history.keys.values(), key=lambda seen: (seen.era, seen.token)):
        if seen.era != era:
            free, era = 0.0, seen.era
        gone = seen.gone_seen if seen.gone_seen is not None else _last_seen(history, seen.era)
        if gone > free:
            spans.append((max(free, seen.put_seen), gone, seen.token))
            free = gone
    return spans


def _last_seen(history: History, era: int) -> float:
    return max((read.received for read in history.reads if read.era == era), default=0.0)
