"""What a peer that may be steered says of itself, and how it is spoken to. Pure.

    peer: HELLO {"version":1,"model":"…","controls":{"heater":{"min":0,"max":100,"safe":0}},"states":["cooling"]}
    we:   SET <id> heater 70        STATE <id> cooling
    peer: ACK <id> ok               ACK <id> declined too_hot

A peer that says no HELLO, or one that does not hold, is only read. Values are whole percent.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from drivers.port import Control, ControlRange, MachineState

VERSION = 1
FULL_STEP = 100  # native steps of these machines are percent
INTERVAL_MS = (20, 10_000)  # drivers.port.SLOWEST_INTERVAL_S
_ID = re.compile(r"[A-Za-z0-9_.:/-]{1,160}", re.ASCII)
_WORD = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)
_HELLO_KEYS = frozenset({"version", "model", "serial", "firmware", "interval_ms", "controls", "states"})
_CONTROL_KEYS = frozenset({"min", "max", "safe"})
_TEXT_MAX = 80
#: A machine may be asked into these, where it says so; into the rest nobody asks.
ASKABLE = frozenset(MachineState) - {MachineState.UNKNOWN}


class BadGreeting(Exception):
    """A HELLO or ACK that does not hold: a stable code and words."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code, self.words = code, words


@dataclass(frozen=True, slots=True)
class Steerable:
    """One control: its range in percent, and where it goes when made safe (None: it is left as it is)."""

    range: ControlRange
    safe_step: int | None = None
    has_echo: bool = True  # telemetry shows where it stands


@dataclass(frozen=True, slots=True)
class Hello:
    """A greeting that holds. ``interval_ms``: how far apart the peer's lines are, where it says."""

    model: str | None = None
    serial: str | None = None
    firmware: str | None = None
    interval_ms: int | None = None
    controls: dict[Control, Steerable] = field(default_factory=dict)
    states: frozenset[MachineState] = frozenset()


@dataclass(frozen=True, slots=True)
class Ack:
    """The peer heard the command with this id. ``reason`` says why it declined."""

    id: str
    is_ok: bool
    reason: str = ""


def parse_hello(text: str) -> Hello:
    """The JSON object after the word HELLO. BadGreeting names what does not hold."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        raise _bad("HELLO is not followed by a JSON object") from None
    if not isinstance(said, dict):
        raise _bad("HELLO is not followed by a JSON object")
    unknown = sorted(set(said) - _HELLO_KEYS)
    if unknown:
        raise _bad(f"HELLO knows {', '.join(sorted(_HELLO_KEYS))}, not {unknown[0][:40]!r}")
    if said.get("version") != VERSION:
        raise _bad(f"HELLO speaks version {str(said.get('version'))[:20]}; here version {VERSION} is spoken")
    interval_ms = said.get("interval_ms")
    if interval_ms is not None:
        interval_ms = _whole(interval_ms, "interval_ms", *INTERVAL_MS)
    return Hello(
        model=_text(said, "model"), serial=_text(said, "serial"), firmware=_text(said, "firmware"),
        interval_ms=interval_ms, controls=_controls(said.get("controls", {})), states=_states(said.get("states", [])),
    )


def parse_ack(text: str) -> Ack:
    """``ACK <id> ok`` or ``ACK <id> declined [reason]``. BadGreeting where it is neither."""
    words = text.split()
    if len(words) < 3 or not _ID.fullmatch(words[1]) or words[2] not in ("ok", "declined"):
        raise BadGreeting("bad_ack", "an acknowledgement reads: ACK <id> ok, or ACK <id> declined <reason>")
    reason = words[3].lower() if len(words) > 3 and _WORD.fullmatch(words[3].lower()) else ""
    return Ack(words[1], words[2] == "ok", reason)


def is_id(text: str) -> bool:
    """May this stand as an id on the wire: one word of plain letters."""
    return _ID.fullmatch(text) is not None


def set_line(wire_id: str, control: Control, step: int) -> bytes:
    """The command that sets a control to ``step`` percent."""
    return f"SET {wire_id} {control.value} {step}\n".encode("ascii")


def state_line(wire_id: str, state: MachineState) -> bytes:
    """The command that asks for a state."""
    return f"STATE {wire_id} {state.value}\n".encode("ascii")


def set_meaning(control: Control, before: int | None, step: int) -> str:
    """For the wire log and the keeper's gate: ``heater -40 to 30``; heat down always begins with ``heater -``."""
    if before is None:
        return f"{control.value} {'-? ' if step == 0 else ''}to {step}"
    return f"{control.value} {step - before:+d} to {step}"


def _controls(said: Any) -> dict[Control, Steerable]:
    if not isinstance(said, dict):
        raise _bad("controls must be an object")
    found: dict[Control, Steerable] = {}
    for name, limits in said.items():
        if name not in Control._value2member_map_:
            raise _bad(f"there is no control {name[:40]!r}: heater, fan or drum")
        if not isinstance(limits, dict) or set(limits) - _CONTROL_KEYS:
            raise _bad(f"control {name} takes min, max and safe")
        low = _whole(limits.get("min", 0), f"{name}.min", 0, FULL_STEP)
        high = _whole(limits.get("max", FULL_STEP), f"{name}.max", 0, FULL_STEP)
        if low >= high:
            raise _bad(f"{name}: min {low} is not below max {high}")
        safe = limits.get("safe")
        if safe is None and name == Control.HEATER:
            raise _bad("heater needs a safe value: where it goes when the machine is made safe")
        safe_step = None if safe is None else _whole(safe, f"{name}.safe", 0, high)
        found[Control(name)] = Steerable(ControlRange(low, high), safe_step)
    return found


def _states(said: Any) -> frozenset[MachineState]:
    known = {state.value for state in ASKABLE}
    if not isinstance(said, list) or not all(isinstance(each, str) for each in said):
        raise _bad("states must be a list of names")
    for each in said:
        if each not in known:
            raise _bad(f"there is no state {each[:40]!r}: {', '.join(sorted(known))}")
    return frozenset(MachineState(each) for each in said)


def _whole(value: Any, name: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _bad(f"{name} must be a whole number from {low} to {high}")
    return value


def _text(said: dict[str, Any], name: str) -> str | None:
    value = said.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > _TEXT_MAX or not value.isprintable():
        raise _bad(f"{name} must be a short text")
    return value


def _bad(words: str) -> BadGreeting:
    return BadGreeting("bad_hello", words)
