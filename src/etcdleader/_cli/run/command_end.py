"""The log line about the end of the command."""

from __future__ import annotations

import logging
import signal

from .child import Child

__all__ = ("log_end",)

_logger = logging.getLogger("etcdleader.run")


def log_end(child: Child, *, requested: bool, then: str) -> None:
    """Log how the command has ended: a WARNING if it failed, unless its end was requested.

    Args:
        child: The command, which has ended.
        requested: Whether a signal to this process, or Ctrl-C, requested the end.
        then: What follows from it; may be empty.
    """
    if child.why is None:
        return  # an ERROR has reported that the supervisor was killed, and the status is unknown
    failed = child.why == "ended" and child.status != 0 and not requested
    then = f"; {then}" if then else ""
    level = logging.WARNING if failed else logging.INFO
    if child.status is not None and child.status < 0:
        _logger.log(level, "the command has ended by signal %s%s", _numbered(-child.status), then)
    else:
        _logger.log(level, "the command has ended with status %s%s", child.status, then)


def _numbered(number: int) -> str:
    """Return a signal's number, and its name if it has one."""
    name = next((each.name for each in signal.Signals if each == number), None)
    return f"{number} ({name})" if name else str(number)
