"""Code that runs on behalf of a term or a campaign, so that it never waits for its own end.

``stop()`` and ``resign()`` wait for the end of the work. Called from that work, they only request the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class _Frame:
    """Marks code that runs on behalf of a term or a campaign. ``active`` is True while the block runs."""

    of: object
    active: bool = True


_frames: ContextVar[tuple[_Frame, ...]] = ContextVar("etcdleader_frames", default=())


@contextmanager
def on_behalf_of(of: object) -> Iterator[None]:
    """Run the block on behalf of a term or a campaign. Tasks that it starts are included, until the block is left."""
    frame = _Frame(of)
    token = _frames.set((*_frames.get(), frame))
    try:
        yield
    finally:
        frame.active = False
        with suppress(ValueError):  # if the block is left in another task than the one that entered it
            _frames.reset(token)


@contextmanager
def on_same_behalf(context: Context) -> Iterator[None]:
    """Run the block of another thread on behalf of the terms and campaigns that ``context`` runs on behalf of."""
    token = _frames.set(context.get(_frames, ()))
    try:
        yield
    finally:
        _frames.reset(token)


def runs_on_behalf_of(of: object) -> bool:
    """Return True if this code runs on behalf of ``of``. It must not wait for the end of ``of``, which waits for it."""
    return any(frame.active and frame.of is of for frame in _frames.get())
