"""The one place that sends Celery messages. The row is the truth; a message only wakes somebody to look at it."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from typing import Any

from celery import current_app
from django.conf import settings
from django.db import transaction
from kombu.exceptions import OperationalError as BrokerError

from kernel import draining

logger = logging.getLogger(__name__)
MAX_WAITING = 1000
_waiting: queue.Queue[dict[str, Any]] = queue.Queue(maxsize=MAX_WAITING)
_sender_lock = threading.Lock()
_sender: threading.Thread | None = None


def publish(
    task_name: str, args: Sequence[Any] = (), *, queue: str | None = None, expires_s: float | None = None
) -> None:
    """Send the message after the surrounding commit (at once outside a transaction). Never blocks, never raises.

    ``queue`` None is the default queue; ``expires_s`` drops a message nobody took in time. A message that cannot
    be sent is only logged: the sweepers find the row.
    """
    message = {"name": task_name, "args": list(args), "queue": queue, "expires": expires_s}
    transaction.on_commit(lambda: _hand_over(message))


def _hand_over(message: dict[str, Any]) -> None:
    if not settings.IS_FLEET:
        _send(message)
        return
    _ensure_sender()
    try:
        _waiting.put_nowait(message)
    except queue.Full:
        logger.warning("broker does not take messages; dropped %s", message["name"])


def _send(message: dict[str, Any]) -> None:
    try:
        current_app.send_task(**message, retry=False, ignore_result=True)
    except (BrokerError, OSError) as error:
        logger.warning("message %s was not sent: %s", message["name"], error)


def _ensure_sender() -> None:
    """One thread owns the broker connection, so that a frozen Redis holds up nobody's request."""
    global _sender
    with _sender_lock:
        if _sender is None or not _sender.is_alive():
            _sender = threading.Thread(target=_send_for_ever, name="work-sender", daemon=True)
            _sender.start()


def _send_for_ever() -> None:
    while not (draining.is_draining() and _waiting.empty()):
        try:
            message = _waiting.get(timeout=0.5)
        except queue.Empty:
            continue
        _send(message)
