"""What is logged, on stderr: text for people, or a JSON object a line for programs."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum

__all__ = ("LogFormat", "log_to_stderr")

_ORDINARY = frozenset(vars(logging.makeLogRecord({})))
"""What every record has; the rest are the fields that were given with it."""


class LogFormat(StrEnum):
    """How lines look."""

    TEXT = "text"
    JSON = "json"


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        mark = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        return f"etcdleader: {mark}{super().format(record)}"


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


def log_to_stderr(style: LogFormat, *, verbose: bool, facts: Mapping[str, object]) -> None:
    """Log the elections won and lost and what goes wrong; with ``verbose``, all that the library has to say.

    Args:
        style: How lines look.
        verbose: Whether to log all.
        facts: What stands in every JSON object, as it is when that is written.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(facts) if style is LogFormat.JSON else _Text())
    logger = logging.getLogger("etcdleader")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)
    logging.getLogger("etcdleader.run").setLevel(logging.DEBUG if verbose else logging.INFO)
