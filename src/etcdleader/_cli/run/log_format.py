"""Log lines on stderr: text for people, or one JSON object per line."""

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
"""The attributes of every record. The others are the fields that were given as ``extra``."""


class LogFormat(StrEnum):
    """The format of log lines."""

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
    """Return a formatter. Every JSON object includes ``facts``, as they are when it is formatted."""
    return _Json(facts) if style is LogFormat.JSON else _Text()


def log_to_stderr(style: LogFormat, *, verbose: bool, facts: Mapping[str, object]) -> None:
    """Log gained and lost leadership and all problems to stderr. With ``verbose``, log all lines of the library.

    No line waits for its reader, because a blocked write would stop the renewals.

    Args:
        style: The format of the lines.
        verbose: Whether to log all lines.
        facts: The fields that every JSON object includes, as they are when it is formatted.
    """
    handler = QueuedHandler(sys.stderr.fileno())
    handler.setFormatter(formatter(style, facts))
    logger = logging.getLogger("etcdleader")
    logger.handlers = [handler]
    logger.propagate = False
    # Otherwise the event loop's logger and Python's warnings would be printed by the thread that raises them.
    logging.getLogger().handlers = [handler]
    logging.captureWarnings(True)  # noqa: FBT003 - the stdlib's signature
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)
    logging.getLogger("etcdleader.run").setLevel(logging.DEBUG if verbose else logging.INFO)
