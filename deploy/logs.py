"""Structured logs on stderr: text for a person, one JSON object per line for a machine. An adapter.

Log through the standard library; ``extra={"actor": ..., "epoch": ...}`` adds fields to a line.
JSON lines carry the host's id and incarnation too, which a person reading one host's log knows.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

#: Fields that ``extra`` may add to a line, in the order in which text shows them.
EXTRA_FIELDS = ("actor", "epoch", "peer", "method", "duration_ms")

#: Libraries whose own information is noise to whoever runs a host.
QUIET = ("asyncio", "grpclib", "hpack", "h2", "redis", "kubernetes")


class HostFields:
    """What every line of this process says of it. ``incarnation`` is asked for at each line: a
    host that lost its lease joins again as a new one."""

    def __init__(self, host: str = "") -> None:
        self.host = host
        self.incarnation: Callable[[], str] = str


class JsonFormatter(logging.Formatter):
    """One JSON object per line; times are RFC 3339 in UTC, with milliseconds."""

    def __init__(self, fields: HostFields) -> None:
        super().__init__()
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "host": self._fields.host,
            "incarnation": self._fields.incarnation(),
        }
        line |= _extras(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """``12:00:01.234 WARNING roost.lease: message actor=Kind/key``, in local time."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        extras = "".join(f" {name}={value}" for name, value in _extras(record).items())
        line = (
            f"{clock}.{int(record.msecs):03d} {record.levelname:<7} "
            f"{record.name}: {record.getMessage()}{extras}"
        )
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def configure(
    level: str, log_format: str, fields: HostFields | None = None, stream: TextIO | None = None
) -> None:
    """Send all logs to ``stream`` (stderr) in ``log_format``; "auto" is text on a terminal only."""
    out = stream if stream is not None else sys.stderr
    text = log_format == "text" or (log_format == "auto" and out.isatty())
    handler = logging.StreamHandler(out)
    handler.setFormatter(TextFormatter() if text else JsonFormatter(fields or HostFields()))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    found = {name: getattr(record, name, None) for name in EXTRA_FIELDS}
    return {name: value for name, value in found.items() if value is not None}


def _utc(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds * 1000) % 1000:03d}Z"
