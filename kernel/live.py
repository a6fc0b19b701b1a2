"""What consoles and loops hear of: readings (ephemeral), decisions (durable, numbered), and nudges.

In one process everything goes through memory. In the fleet (`REDIS_URL`) `kernel.fan_out` carries the same
messages between processes; where Redis is away, sleepers wake by their own time-out and read the database.

A process hears the readings of those organisations somebody there looks at (a viewer, a page, an order's review). Who
begins to look asks the others what they said last. What was heard counts while it is heard, never after.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import transaction

from kernel import clock, fan_out, prepared
from kernel.models import Organization, StreamEvent

logger = logging.getLogger(__name__)
SEALER_TOPIC = "sealer"
DECISIONS_TOPIC = "decisions"
#: The sealer gathers for so long after a nudge, so other processes hear of no more.
NUDGE_EVERY_S = 0.02

#: What this process said itself counts so long while it does not hear whether another has said more since.
OWN_S = 2.0
#: Of a house with a thousand machines, in one message.
TOLD_AT_ONCE = 100
ReadingListener = Callable[[str, str, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Newest:
    """A machine's newest payload; ``own_s``: when this process said it (monotonic), None where another did."""

    organization_id: str
    payload: dict[str, Any]
    own_s: float | None


_lock = threading.Lock()
_latest: dict[str, Newest] = {}  # machine → what was said of it last
_waiters: dict[str, set[Waiter]] = {}
_reading_listeners: list[ReadingListener] = []
_nudged_at_s = float("-inf")


class Waiter:
    """Somebody who sleeps until a topic is nudged. Close it, or use it in a `with`."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self._event = threading.Event()

    def wait(self, timeout_s: float) -> bool:
        """True when nudged since the last wait, False after ``timeout_s`` seconds."""
        was_nudged = clock.wait(self._event, timeout_s)
        self._event.clear()
        return was_nudged

    def nudge(self) -> None:
        self._event.set()

    def close(self) -> None:
        with _lock:
            sleepers = _waiters.get(self.topic, set())
            sleepers.discard(self)
            if not sleepers:
                _waiters.pop(self.topic, None)

    def __enter__(self) -> Waiter:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def waiter(topic: str) -> Waiter:
    """A sleeper on ``topic`` (e.g. `machine:mch_…`); nudges from now on are not missed."""
    sleeper = Waiter(topic)
    with _lock:
        _waiters.setdefault(topic, set()).add(sleeper)
    if settings.IS_FLEET:
        fan_out.bridge().start_listening(hear)
    return sleeper


def is_heard() -> bool:
    """Whether nudges of other processes reach this one now, as far as is known. A sleeper that depends on them looks
    more often while they do not."""
    return not settings.IS_FLEET or fan_out.bridge().is_connected


def wake(topic: str) -> None:
    """Nudge every sleeper on ``topic``, here and in other processes. Never blocks, never raises."""
    _wake_here(topic)
    if settings.IS_FLEET:
        fan_out.bridge().send({"wake": topic})


def wake_sealer() -> None:
    """Something was committed that wants a seal or a number. Other processes hear of it at most every NUDGE_EVERY_S;
    the sealer looks by itself, too."""
    global _nudged_at_s
    _wake_here(SEALER_TOPIC)
    if settings.IS_FLEET:
        at_s = clock.monotonic()
        if not 0 <= at_s - _nudged_at_s < NUDGE_EVERY_S:
            _nudged_at_s = at_s
            fan_out.bridge().send({"wake": SEALER_TOPIC})


def _wake_here(topic: str) -> None:
    with _lock:
        sleepers = list(_waiters.get(topic, ()))
    for sleeper in sleepers:
        sleeper.nudge()


def publish_decision(
    organization: Organization,
    kind: str,
    subject_id: str,
    machine_id: str | None,
    payload: Mapping[str, Any],
    *,
    now: dt.datetime,
) -> StreamEvent:
    """Write a durable event in the caller's transaction; consoles see it when the sealer has numbered it."""
    event = StreamEvent(
        organization=organization,
        machine_id=machine_id or "",
        kind=kind,
        subject_id=subject_id,
        payload=dict(payload),
        at=now,
    )
    prepared.insert(event)
    transaction.on_commit(wake_sealer)
    return event


def publish_reading(
    organization_id: str, machine_id: str, payload: dict[str, Any], *, is_one_of_many: bool = False
) -> None:
    """Show a reading to whoever is looking. Ephemeral; never raises, never blocks; ``payload`` is JSON values.

    ``is_one_of_many``: others like it follow at once, so other processes hear the newest four times a second. Anything
    else (a link that was lost) goes at once.
    """
    _reading_here(organization_id, machine_id, payload, own_s=clock.monotonic())
    if settings.IS_FLEET:
        reading = [organization_id, machine_id, payload]
        fan_out.bridge().send_reading(machine_id, reading, is_urgent=not is_one_of_many)


def latest_reading(organization_id: str, machine_id: str) -> dict[str, Any] | None:
    """The newest payload given to publish_reading for this machine, in any process; None when there was none, or it is
    not known here yet: who asks hears of the organisation from now on.
    """
    is_heard = _want(organization_id)
    found = _latest.get(machine_id)
    if found is None or found.organization_id != organization_id:
        return None
    is_fresh = found.own_s is not None and 0 <= clock.monotonic() - found.own_s < OWN_S
    return found.payload if is_heard or is_fresh else None


def _want(organization_id: str, *, until_s: float | None = None) -> bool:
    """Hear this organisation's readings from now on; whether they are heard already."""
    if not settings.IS_FLEET:
        return True
    fan_out.bridge().start_listening(hear)
    return fan_out.bridge().want_readings(organization_id, until_s=until_s)


def look_at_readings(organization_id: str) -> None:
    """Somebody looks until `look_away`: hear this organisation's readings, the newest of each machine at once."""
    _want(organization_id, until_s=float("inf"))


def look_away(organization_id: str) -> None:
    """Nobody here looks at this organisation's readings any more."""
    if settings.IS_FLEET:
        fan_out.bridge().unwant_readings(organization_id)


def readings_of(organization_id: str, machine_id: str | None) -> list[dict[str, Any]]:
    """The newest payload of each machine of the organisation (or of the one named), as far as it is known here."""
    return [
        newest.payload
        for machine, newest in list(_latest.items())
        if newest.organization_id == organization_id and machine_id in (None, machine)
    ]


def forget_readings() -> None:
    """Only for tests and `demo --reset`: nobody has said anything yet."""
    _latest.clear()


def listen_to_readings(listener: ReadingListener) -> None:
    """Call ``listener(organization_id, machine_id, payload)`` for every reading that comes to this process, from the
    publisher's thread.
    """
    if listener not in _reading_listeners:
        _reading_listeners.append(listener)


def _reading_here(
    organization_id: str, machine_id: str, payload: dict[str, Any], *, own_s: float | None = None
) -> None:
    _latest[machine_id] = Newest(organization_id, payload, own_s)
    for listener in _reading_listeners:
        listener(organization_id, machine_id, payload)


def hear(message: dict[str, Any]) -> None:
    """A message of another process."""
    topic, told, lost = message.get("wake"), message.get("tell"), message.get("lost")
    if isinstance(topic, str):
        _wake_here(topic)
    if isinstance(told, str):
        _tell_readings(told)
    if isinstance(lost, str):
        _forget_heard(lost)
    readings = message.get("readings")
    for reading in readings if isinstance(readings, list) else ():
        if isinstance(reading, list) and len(reading) == 3 and isinstance(reading[2], dict):
            _hear_reading(str(reading[0]), str(reading[1]), reading[2])


def _hear_reading(organization_id: str, machine_id: str, payload: dict[str, Any]) -> None:
    """One that says it is older than what is known was on its way when the newer one came: an answer to `tell`."""
    known = _latest.get(machine_id)
    said_at, known_at = payload.get("said_at"), known.payload.get("said_at") if known is not None else None
    if isinstance(said_at, str) and isinstance(known_at, str) and said_at < known_at:
        return
    _reading_here(organization_id, machine_id, payload)


def _tell_readings(organization_id: str) -> None:
    """Somebody begins to look: what this process said last of each machine of theirs."""
    own = [
        [organization_id, machine_id, newest.payload]
        for machine_id, newest in list(_latest.items())
        if newest.organization_id == organization_id and newest.own_s is not None
    ]
    for first in range(0, len(own), TOLD_AT_ONCE):
        fan_out.bridge().send_readings(organization_id, own[first : first + TOLD_AT_ONCE])


def _forget_heard(organization_id: str) -> None:
    """Its readings come no more: what others said is not the newest for long."""
    for machine_id, newest in list(_latest.items()):
        if newest.organization_id == organization_id and newest.own_s is None:
            _latest.pop(machine_id, None)
