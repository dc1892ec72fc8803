"""Logs on stderr: lines for people on a terminal, else a JSON object a line."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec

from consumer.cli.output import printable

__all__ = ["HumanFormatter", "JsonFormatter", "configure"]

_encode = msgspec.json.Encoder().encode

FIELDS = "fields"
"""The attribute of a record that holds its own fields: `log.info(…, extra={"fields": {…}})`."""


def configure(log: str, level: str, *, others: int = logging.WARNING) -> None:
    """Send every log to stderr.

    Args:
        log: `human`, `json`, or `auto`: human on a terminal.
        level: of our own loggers: debug, info, warning or error.
        others: the level of everybody else's.
    """
    human = log == "human" or (log == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(HumanFormatter() if human else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(others)
    logging.getLogger("consumer").setLevel(level.upper())


class HumanFormatter(logging.Formatter):
    """`10:00:00 warning  consumer.store: the store does not answer`; a traceback follows where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        line = f"{at} {record.levelname.lower():<8} {record.name}: {printable(record.getMessage())}"
        if record.exc_info and record.exc_info[1] is not None:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object: time (ISO 8601, UTC), level, logger, message, the record's own fields, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, FIELDS, {})
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return _encode(line).decode()
        except (
            TypeError,
            UnicodeEncodeError,
        ):  # a lone surrogate in somebody's text: a log line is never lost
            safe = {
                name: str(value).encode(errors="backslashreplace").decode() for name, value in line.items()
            }
            return _encode(safe).decode()
