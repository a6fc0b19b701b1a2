"""What a STOP drill showed, and what it did not. Pure.

A drill presses the real STOP. With heat on, it passes when heat was turned down and proved off within the bars of
`spec/commands.md`. With heat at 0 there is nothing to turn down: it passes on the way to the machine alone (the
keeper heard, latched, and read 0 in two fresh frames within the bar), and says that the heater itself was not tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FIRST_BYTE_MAX_MS = 250.0
PROVED_MAX_MS = 2000.0
PROVED_MAX_MS_OF = {"bullet-r2": 3000.0}  # fourteen steps instead of nine
HEAT_OFF = "heat_off"


@dataclass(frozen=True, slots=True)
class Pressed:
    """What STOP answered. Times in ms since the press; ``first_byte_ms`` None: no heat-down byte was needed."""

    result: str
    first_byte_ms: float | None
    proved_ms: float | None
    driver_kind: str


@dataclass(frozen=True, slots=True)
class DrillFinding:
    """Whether it passed, and in words what that does and does not say."""

    is_passed: bool
    has_heat_gone_down: bool
    message: str
    proves: tuple[str, ...] = ()
    does_not_prove: tuple[str, ...] = ()


ALWAYS_UNPROVED = (
    "That the next STOP is as fast: only this one was timed.",
    "Anything about a dead computer or a pulled cable: the machine then goes on with its last settings.",
)
_HEATER_UNTRIED = "That the heater obeys: heat was at 0 already, so no heat-down byte was sent."


def judge(pressed: Pressed) -> DrillFinding:
    """The verdict on one press. A bound that is met exactly is met."""
    bound_ms = PROVED_MAX_MS_OF.get(pressed.driver_kind, PROVED_MAX_MS)
    if pressed.result != HEAT_OFF or pressed.proved_ms is None:
        message = "STOP could not prove that heat is off: do what it says by hand, and find out why before the shift."
        return DrillFinding(False, False, message, (), ("That STOP works.", *ALWAYS_UNPROVED))
    has_heat_gone_down = pressed.first_byte_ms is not None
    slow = []
    if pressed.first_byte_ms is not None and pressed.first_byte_ms > FIRST_BYTE_MAX_MS:
        slow.append(f"the first byte took {pressed.first_byte_ms:.0f} ms, more than {FIRST_BYTE_MAX_MS:.0f}")
    if pressed.proved_ms > bound_ms:
        slow.append(f"the proof took {pressed.proved_ms:.0f} ms, more than {bound_ms:.0f}")
    heater = () if has_heat_gone_down else (_HEATER_UNTRIED,)
    proves = (f"Heat is off: read as 0 in two fresh readings, {pressed.proved_ms:.0f} ms after the press.",)
    if slow:
        message = f"Heat is off, but too late: {' and '.join(slow)}."
        return DrillFinding(False, has_heat_gone_down, message, proves, (*heater, *ALWAYS_UNPROVED))
    if has_heat_gone_down:
        message = f"Passed: the first heat-down byte left after {pressed.first_byte_ms:.0f} ms and heat is proved off."
        return DrillFinding(True, True, message, proves, ALWAYS_UNPROVED)
    message = "Passed for the way to the machine only: heat was at 0 already."
    return DrillFinding(True, False, message, proves, (*heater, *ALWAYS_UNPROVED))


def is_due(*, last_passed_age_s: float | None, max_age_s: float) -> bool:
    """Whether a drill must be done before agents may act: none has passed, or the last one is too old."""
    return last_passed_age_s is None or last_passed_age_s > max_age_s


def proof_document(finding: DrillFinding, answer: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a drill beside its figures. JSON values."""
    return {
        "has_heat_gone_down": finding.has_heat_gone_down,
        "message": finding.message,
        "proves": list(finding.proves),
        "does_not_prove": list(finding.does_not_prove),
        "halt_id": answer.get("halt_id"),
        "recorded": answer.get("recorded"),
        "by_hand": list(answer.get("by_hand") or ()),
        "stop": answer.get("proof") or {},
    }
