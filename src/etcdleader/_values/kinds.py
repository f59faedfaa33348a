"""The settings of a dataclass and the kind of each, from its fields and their annotations."""

from __future__ import annotations

from dataclasses import fields
from enum import Enum


class Kind(Enum):
    """The kind of a setting's value. Each member's value is the annotation of its field, without ``None``."""

    FLAG = "bool"
    NUMBER = "int"
    DURATION = "float"
    TEXT = "str"
    PATH = "FilePath"
    LIST = "tuple[str, ...]"


def kinds(config: type) -> dict[str, Kind]:
    """Return the kind of each setting, by its name, in the order of the fields.

    Raises:
        ValueError: A field's annotation has no kind.
    """
    return {each.name: Kind(str(each.type).removesuffix(" | None")) for each in fields(config)}
