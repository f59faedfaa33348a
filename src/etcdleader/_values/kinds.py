"""Which settings a dataclass has, and of which kind each is: by its fields and their annotations."""

from __future__ import annotations

from dataclasses import fields
from enum import Enum


class Kind(Enum):
    """What a setting holds. The value is the annotation of its field, without ``None``."""

    FLAG = "bool"
    NUMBER = "int"
    DURATION = "float"
    TEXT = "str"
    PATH = "FilePath"
    LIST = "tuple[str, ...]"


def kinds(config: type) -> dict[str, Kind]:
    """Return the kind of each setting, by its name, in the order of the fields.

    Raises:
        ValueError: A field's annotation is of no kind.
    """
    return {each.name: Kind(str(each.type).removesuffix(" | None")) for each in fields(config)}
