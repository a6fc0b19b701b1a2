"""What Artisan's WebSocket device says and is told: requests in, answers and pushes out. Pure.

Protocol: reference/bullet-and-alog.md §7. A request is ``{"command": "getData", "id": n, "roasterID": m}``, its
answer echoes ``id`` and carries ``data`` by name; −1 is Artisan's value of a reading that did not come. A frame may
hold several JSON lines. Nothing here can command a machine: there is no other command.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

ABSENT = -1.0
#: A reading older than this is no reading.
MAX_AGE_S = 3.0
MAX_FRAME_CHARS = 8_192
MAX_LINES = 20
MAX_ID_CHARS = 60
#: Name in Artisan's device assignment → field of the live reading. °C, °C/min, native steps, rpm, volts.
CHANNELS = {
    "BT": "bean_temp_c",
    "ET": "infrared_temp_c",
    "RoR": "rate_of_rise_c_per_min",
    "exhaust": "exhaust_temp_c",
    "ambient": "ambient_temp_c",
    "heater": "heater_step",
    "fan": "fan_step",
    "drum": "drum_step",
    "fan_rpm": "fan_rpm",
    "voltage": "voltage_v",
}
#: ET of a machine without an infrared eye.
INSTEAD = {"infrared_temp_c": "environment_temp_c"}
EVENTS = {
    "dry_end": "colorChangeEvent",
    "first_crack_start": "firstCrackBeginningEvent",
    "first_crack_end": "firstCrackEndEvent",
    "second_crack_start": "secondCrackBeginningEvent",
}
NOT_FRESH = frozenset({"stale", "absent"})


@dataclass(frozen=True, slots=True)
class Push:
    """A line that Artisan did not ask for. ``key``: what it says, once per roast."""

    key: tuple[str, str]
    line: str


def answers(frame: str, reading: Mapping[str, Any] | None, *, now: dt.datetime) -> list[str]:
    """One line for each request of a frame, in order. What is no request of Artisan's is told so, and does nothing."""
    if len(frame) > MAX_FRAME_CHARS:
        return [_refusal(None, "frame_too_long", f"A frame holds {MAX_FRAME_CHARS} characters at most.")]
    lines = [line for line in frame.splitlines() if line.strip()]
    if len(lines) > MAX_LINES:
        return [_refusal(None, "too_many_lines", f"A frame holds {MAX_LINES} lines at most.")]
    return [_answer(line, reading, now) for line in lines]


def _answer(line: str, reading: Mapping[str, Any] | None, now: dt.datetime) -> str:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        return _refusal(None, "malformed", "A line is one JSON object.")
    if not isinstance(request, dict):
        return _refusal(None, "malformed", "A line is one JSON object.")
    asked_id = request.get("id")
    if isinstance(asked_id, bool) or not isinstance(asked_id, int | str) or len(str(asked_id)) > MAX_ID_CHARS:
        return _refusal(None, "no_id", "A request carries an `id`.")
    if request.get("command") != "getData":
        return _refusal(asked_id, "unknown_command", "This connection only watches: getData is its one command.")
    answer: dict[str, Any] = {"id": asked_id, "data": data(reading, now=now)}
    if isinstance(request.get("roasterID"), int):
        answer["roasterID"] = request["roasterID"]
    return json.dumps(answer, separators=(",", ":"))


def _refusal(asked_id: int | str | None, code: str, message: str) -> str:
    return json.dumps({"id": asked_id, "error": code, "message": message}, separators=(",", ":"))


def data(reading: Mapping[str, Any] | None, *, now: dt.datetime) -> dict[str, float]:
    """The channels by name. A reading that is old, or of a machine that cannot be reached, is −1 throughout."""
    if reading is None or not is_fresh(reading, now=now):
        return dict.fromkeys(CHANNELS, ABSENT)
    quality = reading.get("quality") or {}
    return {name: _value(reading, field, quality) for name, field in CHANNELS.items()}


def _value(reading: Mapping[str, Any], field: str, quality: Mapping[str, str]) -> float:
    for name in (field, INSTEAD.get(field, field)):
        value = reading.get(name)
        if quality.get(name) not in NOT_FRESH and isinstance(value, int | float) and not isinstance(value, bool):
            return value
    return ABSENT


def is_fresh(reading: Mapping[str, Any], *, now: dt.datetime) -> bool:
    """Whether the machine was reachable and read within MAX_AGE_S; a time from the future is none."""
    if reading.get("link", "up") != "up":
        return False
    try:
        at = dt.datetime.fromisoformat(str(reading.get("at")))
    except ValueError:
        return False
    if at.tzinfo is None:
        return False
    age_s = (now - at).total_seconds()
    return -MAX_AGE_S <= age_s <= MAX_AGE_S


def push_of(decision: Mapping[str, Any]) -> Push | None:
    """What Artisan is told of a decision (`kernel.hub.decision_body`); None for most."""
    payload = decision.get("payload") or {}
    if decision.get("kind") == "roast":
        roast_id = str(decision.get("subject_id"))
        word = {"roast_opened": "startRoasting", "roast_closed": "endRoasting"}.get(str(payload.get("verb")))
        return None if word is None else Push((roast_id, word), json.dumps({"pushMessage": word}))
    if decision.get("kind") != "roast_event" or payload.get("is_withdrawn"):
        return None
    kind, roast_id = str(payload.get("kind")), str(payload.get("roast_id"))
    if kind == "drop":
        return Push((roast_id, "endRoasting"), json.dumps({"pushMessage": "endRoasting"}))
    event = EVENTS.get(kind)
    if event is None or payload.get("source") == "inferred":
        return (
            None  # Artisan cannot take a mark back: an inference may be withdrawn, a person's or the machine's stands
        )
    return Push((roast_id, event), json.dumps({"pushMessage": "addEvent", "data": {"event": event}}))


def frame_of(lines: Iterable[str]) -> str:
    """Several lines as one text frame."""
    return "\n".join(lines)
