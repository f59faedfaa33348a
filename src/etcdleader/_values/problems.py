"""A problem in a configuration, with the settings that it concerns."""

from __future__ import annotations

from typing import Self

_MAX_SHOWN_CHARACTERS = 80


class Problem(str):
    """A line of text that states a problem and describes a valid value.

    Attributes:
        settings: The settings that it concerns. The line begins with the first of them.
    """

    __slots__ = ("settings",)
    settings: tuple[str, ...]

    def __new__(cls, text: str, *settings: str) -> Self:
        """Create a problem from its text, which must begin with the first of ``settings``."""
        problem = super().__new__(cls, text)
        problem.settings = settings
        return problem

    @classmethod
    def of(cls, setting: str, value: object, what: str) -> Self:
        """Return a problem with one setting. Its text quotes the value, so the value must not be a secret."""
        shown = repr(value)
        if len(shown) > _MAX_SHOWN_CHARACTERS:
            shown = shown[:_MAX_SHOWN_CHARACTERS] + "..."
        return cls(f"{setting} = {shown}: {what}", setting)
