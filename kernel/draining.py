"""One flag for the whole process: we are about to leave. Readiness, streams and loops look at it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)
_leaving = threading.Event()
_callbacks: list[Callable[[], None]] = []


def begin() -> None:
    """Say that the process is leaving; tells everyone who asked to know, once."""
    if _leaving.is_set():
        return
    _leaving.set()
    for callback in list(_callbacks):
        callback()


def is_draining() -> bool:
    """Whether new work must be refused and loops should hand over."""
    return _leaving.is_set()


def wait(timeout_s: float) -> bool:
    """Sleep until the process is leaving, or ``timeout_s`` seconds; True when it is leaving."""
    return _leaving.wait(timeout_s)


def on_begin(callback: Callable[[], None]) -> None:
    """Call ``callback`` (quick, from the signal's thread) when draining begins."""
    _callbacks.append(callback)


def reset() -> None:
    """Only for tests: the process stays after all."""
    _leaving.clear()
