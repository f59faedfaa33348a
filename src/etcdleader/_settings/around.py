"""Files near the working directory that are not read, although their author may have meant them as settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

_OTHER_SUFFIXES = (".yaml", ".yml", ".json", ".ini", ".py")
"""The other formats that dynaconf reads."""


def hints(files: Iterable[str]) -> Iterator[str]:
    """Yield a hint for each such file. No file is opened.

    Args:
        files: The settings files that are read, relative to the working directory.
    """
    paths = [Path(name) for name in files]
    try:
        for path in paths:
            for other in map(path.with_suffix, _OTHER_SUFFIXES):
                if other.is_file():
                    way = f'pass settings=Dynaconf(settings_files=["{other}"])'
                    yield f"{other} is there, but only TOML is read: write {path}, or {way}"
        if not any(path.is_file() for path in paths):
            yield from _hint_above(paths)
    except OSError:  # the working directory was removed, or may not be searched
        return


def _hint_above(paths: Iterable[Path]) -> Iterator[str]:
    """Yield a hint at the nearest parent folder with settings."""
    for folder in Path.cwd().parents:
        for path in paths:
            if (found := folder / path).is_file():
                yield f'there is {found} above: start in {folder}, or name the file (settings="{found}", --settings)'
                return
