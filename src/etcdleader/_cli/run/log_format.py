"""What is logged, on stderr: text for people, or a JSON object a line for programs."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum

from ..._values.printable import escape_control_characters
from .queued_handler import QueuedHandler

_ORDINARY = frozenset(vars(logging.makeLogRecord({})))
"""What every record has; the rest are the fields that were given with it."""


class LogFormat(StrEnum):
    """How lines look."""

    TEXT = "text"
    JSON = "json"


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        mark = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        return "\n".join(map(escape_control_characters, f"etcdleader: {mark}{super().format(record)}".split("\n")))


class _Json(logging.Formatter):
    def __init__(self, facts: Mapping[str, object]) -> None:
        super().__init__()
        self._facts = facts

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._facts,
            **{name: value for name, value in vars(record).items() if name not in _ORDINARY},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def formatter(style: LogFormat, facts: Mapping[str, object]) -> logging.Formatter:
    """Return what makes lines of records. ``facts`` stand in every JSON object, as they are when it is made."""
    return _Json(facts) if style is LogFormat.JSON else _Text()


def log_to_stderr(style: LogFormat, *, verbose: bool, facts: Mapping[str, object]) -> None:
    """Log the elections won and lost and what goes wrong; with ``verbose``, all that the library has to say.

    No line waits for its reader: a blocked write would stop the renewals.

    Args:
        style: How lines look.
        verbose: Whether to log all.
        facts: What stands in every JSON object, as it is when that is written.
    """
    handler = QueuedHandler(sys.stderr.fileno())
    handler.setFormatter(formatter(style, facts))
    logger = logging.getLogger("etcdleader")
    logger.handlers = [handler]
    logger.propagate = False
    # The loop's own logger and Python's warnings would be printed by the thread that they come from.
    logging.getLogger().handlers = [handler]
    logging.captureWarnings(True)  # noqa: FBT003 - as it is
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)
    logging.getLogger("etcdleader.run").setLevel(logging.DEBUG if verbose else logging.INFO)
