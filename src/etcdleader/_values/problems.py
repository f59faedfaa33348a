"""One fault in a configuration, and which settings it is about."""

from __future__ import annotations

from typing import Self

_LONGEST_SHOWN = 80


class Problem(str):
    """One line that says what is wrong and what would do.

    Attributes:
        settings: The settings that it is about. The line begins with the first of them.
    """

    __slots__ = ("settings",)
    settings: tuple[str, ...]

    def __new__(cls, text: str, *settings: str) -> Self:
        """``text`` begins with the first of ``settings``."""
        problem = super().__new__(cls, text)
        problem.settings = settings
        return problem

    @classmethod
    def of(cls, setting: str, value: object, what: str) -> Self:
        """A fault in one setting, whose value may be shown."""
        shown = repr(value)
        if len(shown) > _LONGEST_SHOWN:
            shown = shown[:_LONGEST_SHOWN] + "..."
        return cls(f"{setting} = {shown}: {what}", setting)
