"""Logs as JSON lines, with the ids of the request, order, machine and roast at hand."""

from __future__ import annotations

import contextvars
import datetime as dt
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CONTEXT_IDS = ("request_id", "order_id", "machine_id", "roast_id")
_context: contextvars.ContextVar[dict[str, str]] = contextvars.ContextVar("log_context", default={})  # noqa: B039


@contextmanager
def log_context(**named_ids: str) -> Iterator[None]:
    """Every line logged inside carries these ids, e.g. ``log_context(machine_id=…)``."""
    token = _context.set({**_context.get(), **named_ids})
    try:
        yield
    finally:
        _context.reset(token)


def add_log_ids(**named_ids: str) -> None:
    """As ``log_context``, from here on: in the request, or the thread, that learns an id along the way."""
    _context.set({**_context.get(), **named_ids})


class JsonFormatter(logging.Formatter):
    """One JSON object per line; `extra={"machine_id": …}` wins over the context, both over ``always``."""

    def __init__(self, **always: str) -> None:
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        """Worded once for all handlers of the record."""
        by, text = getattr(record, "json_line", (None, ""))
        if by is not self:
            text = self._worded(record)
            record.json_line = (self, text)
        return str(text)

    def _worded(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        own = {name: getattr(record, name) for name in CONTEXT_IDS if hasattr(record, name)}
        line.update({name: value for name, value in {**self._always, **_context.get(), **own}.items() if value})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)
