"""What must have been seen at a machine before any agent may act on it: the steps, and what passes one. Pure.

Readings, orders and events judge where they can; the rest a person confirms, in words where the words are needed
later (where is the mains switch?). A lead signs the whole. Values in, findings out; nothing here reads a store.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from drivers.port import Quality, longest_age_s

MIN_WORDS_CHARACTERS = 10
FRESH_WITHIN_S = 3.0  # a source slower than ours: 2.5 of its intervals
PLAUSIBLE_TEMP_C = (-1.0, 400.0)  # below −1 °C a Bullet itself says error 1024 (reference §3)
PLAUSIBLE_MAINS_V = (85, 265)
ABSENT_BELOW_C = -20.0  # a Bullet's exhaust where no sensor is fitted (reference §1.5)


class Judge(enum.StrEnum):
    """What a step is judged by."""

    READINGS = "readings"
    ORDERS = "orders"  # a person's own, since this commissioning began
    EVENTS = "events"  # alarms and drills since it began
    PERSON = "person"


@dataclass(frozen=True, slots=True)
class WizardStep:
    """One thing to see or to do. ``asks_for``: what a person must write down; "" where a confirmation is enough."""

    code: str
    title: str
    instruction: str
    judge: Judge
    asks_for: str = ""
    control: str = ""


STEPS: tuple[WizardStep, ...] = (
    WizardStep(
        "identity", "Who is this machine?",
        "Switch it on and wait until it answers. Compare what it says with its type plate.",
        Judge.READINGS,
    ),
    WizardStep(
        "limits", "Are its limits right?",
        "Read every limit below against the maker's manual and what you roast. A lead changes them in the admin.",
        Judge.PERSON,
    ),
    WizardStep(
        "sensors", "Do its sensors make sense?",
        "Look at the figures below and at the panel: they must agree.",
        Judge.READINGS,
    ),
    WizardStep(
        "panel_stop", "How is heat turned off at the panel?",
        "Go to the machine and turn heat off by its own panel, without this program.",
        Judge.PERSON, asks_for="which button, and how you saw that heat was off",
    ),
    WizardStep(
        "mains_switch", "Where is the mains switch?",
        "Find what cuts this machine's mains, and see that it can be reached when the machine burns.",
        Judge.PERSON, asks_for="where it is, so that a stranger finds it",
    ),
    WizardStep(
        "fire", "What is done when it burns?",
        "Fan unchanged, flap shut, mains off, people first. Find the extinguisher and the way out.",
        Judge.PERSON, asks_for="where the extinguisher is",
    ),
    WizardStep(
        "people_stay", "Who stays?",
        "There is no known watchdog in this machine: if this computer or the cable dies, it goes on with its last "
        "settings. Somebody who may operate it stays beside it while heat is on.",
        Judge.PERSON,
    ),
    WizardStep(
        "fan", "Does the fan follow?",
        "With an empty, turning drum: order the fan one step up and one step down, and watch the machine.",
        Judge.ORDERS, control="fan",
    ),
    WizardStep(
        "drum", "Does the drum follow?",
        "Order the drum one step up and one step down, and watch the machine.",
        Judge.ORDERS, control="drum",
    ),
    WizardStep(
        "heater", "Does the heater follow?",
        "Order heat one step up and one step down, and watch the machine: the panel must show both.",
        Judge.ORDERS, control="heater",
    ),
    WizardStep(
        "stop_drill", "Does STOP turn heat off?",
        "With heat at 1 or more and an empty drum, do the STOP drill, then have a lead reset the halt.",
        Judge.EVENTS,
    ),
    WizardStep(
        "cable_pull", "What happens when the cable is out?",
        "With heat at 0, pull the data cable, wait for the alarm here, and plug it in again. Resume the orders.",
        Judge.EVENTS,
    ),
)  # fmt: skip
_OF = {step.code: step for step in STEPS}


class Result(enum.StrEnum):
    """What came of a step."""

    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Move:
    """A person's order that was sent since the commissioning began. Native steps."""

    proposal_id: str
    control: str
    from_step: int | None
    to_step: int | None
    read_back_step: int | None  # None: not read back
    data_hex: tuple[str, ...] = ()  # bytes on the wire, each a hex text


@dataclass(frozen=True, slots=True)
class Loss:
    """A link that was lost and came back. ISO times; ``back_at`` "" while it is away."""

    alarm_id: str
    lost_at: str
    back_at: str


@dataclass(frozen=True, slots=True)
class DrillSeen:
    """A drill since the commissioning began."""

    drill_id: str
    is_passed: bool
    has_heat_gone_down: bool
    first_byte_ms: float | None = None
    proved_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """All a step may be judged by, gathered at one moment. °C, V, s."""

    is_link_up: bool = False
    age_s: float | None = None
    interval_s: float | None = None  # how far apart its readings come
    identity: Mapping[str, Any] = field(default_factory=dict)
    readings: Mapping[str, float | None] = field(default_factory=dict)  # bean_temp_c, infrared_temp_c, …, voltage_v
    quality: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    moves: tuple[Move, ...] = ()
    losses: tuple[Loss, ...] = ()
    drills: tuple[DrillSeen, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """What a step came to, and on what evidence (JSON values)."""

    result: Result
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Said:
    """What the person at the machine said with the step."""

    is_confirmed: bool = False
    words: str = ""


def steps_for(controls: Sequence[str]) -> tuple[WizardStep, ...]:
    """The steps of a machine that has these controls."""
    return tuple(step for step in STEPS if not step.control or step.control in controls)


def step_of(code: str) -> WizardStep | None:
    """The step of that code."""
    return _OF.get(code)


def judge(step: WizardStep, facts: Facts, said: Said) -> Finding:
    """Whether the step passes now. Nothing unknown ever passes."""
    if not said.is_confirmed:
        return _failed("Nobody confirmed that they looked.")
    if step.asks_for and len(said.words.strip()) < MIN_WORDS_CHARACTERS:
        return _failed(f"Write down {step.asks_for} (at least {MIN_WORDS_CHARACTERS} characters).")
    finding = _JUDGES[step.code](facts) if step.code in _JUDGES else _moved(step, facts)
    words = {"words": said.words.strip()} if said.words.strip() else {}
    return Finding(finding.result, finding.message, {**finding.evidence, **words})


def latest(entries: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The newest entry of each step: a step done anew counts as it came out last."""
    return {str(entry.get("code", "")): entry for entry in entries}


def still_open(entries: Sequence[Mapping[str, Any]], controls: Sequence[str]) -> tuple[str, ...]:
    """Codes of the steps that have not passed, in order."""
    seen = latest(entries)
    return tuple(
        step.code for step in steps_for(controls) if seen.get(step.code, {}).get("result") != Result.PASSED.value
    )


def limits_changed(entries: Sequence[Mapping[str, Any]], limits: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the limits that are not as they were when they were reviewed."""
    reviewed = latest(entries).get("limits", {}).get("evidence", {}).get("limits", {})
    return tuple(sorted(name for name in {*reviewed, *limits} if reviewed.get(name) != limits.get(name)))


def is_same_machine(entries: Sequence[Mapping[str, Any]], identity: Mapping[str, Any]) -> bool:
    """Whether the machine that answers is the one that was commissioned. One that says no serial number (now or
    then) cannot be told from another: it counts as the same."""
    before = latest(entries).get("identity", {}).get("evidence", {}).get("identity", {})
    serials = (before.get("serial"), identity.get("serial"))
    return None in serials or serials[0] == serials[1]


def other_serial_words(entries: Sequence[Mapping[str, Any]], identity: Mapping[str, Any]) -> str:
    """Which machine was commissioned, and which one answers, for a person."""
    before = latest(entries).get("identity", {}).get("evidence", {}).get("identity", {})
    return (
        f"Another machine answers: serial {str(identity.get('serial'))[:60]}; "
        f"the one that was commissioned is {str(before.get('serial'))[:60]}."
    )


def _failed(message: str, **evidence: Any) -> Finding:
    return Finding(Result.FAILED, message, evidence)


def _is_answering(facts: Facts) -> bool:
    bound_s = longest_age_s(FRESH_WITHIN_S, facts.interval_s)
    return facts.is_link_up and facts.age_s is not None and facts.age_s <= bound_s


def _identity(facts: Facts) -> Finding:
    if not _is_answering(facts):
        return _failed("The machine does not answer.", age_s=facts.age_s)
    return Finding(Result.PASSED, "The machine answers.", {"identity": dict(facts.identity)})


def _limits(facts: Facts) -> Finding:
    if not facts.limits:
        return _failed("The machine has no limits.")
    return Finding(Result.PASSED, "The limits were read.", {"limits": dict(facts.limits)})


def _sensors(facts: Facts) -> Finding:
    if not _is_answering(facts):
        return _failed("The machine does not answer.", age_s=facts.age_s)
    readings = dict(facts.readings)
    odd = [name for name, value in readings.items() if not _is_plausible(name, value, facts.quality.get(name, ""))]
    if readings.get("bean_temp_c") is None:
        odd.append("bean_temp_c")
    if odd:
        names = ", ".join(sorted({name.removesuffix("_c").replace("_", " ") for name in odd}))
        return _failed(f"Not plausible: {names}.", readings=readings)
    return Finding(Result.PASSED, "Every sensor that is there says something plausible.", {"readings": readings})


def _is_plausible(name: str, value: float | None, quality: str) -> bool:
    """A sensor that is not fitted is no fault; one that is there must say a value a roaster can have."""
    if value is None or (name == "exhaust_temp_c" and value < ABSENT_BELOW_C):
        return True
    if quality not in ("", Quality.FRESH.value):
        return name != "bean_temp_c"
    low, high = PLAUSIBLE_MAINS_V if name == "voltage_v" else PLAUSIBLE_TEMP_C
    return low <= value <= high


def _confirmed(_facts: Facts) -> Finding:
    return Finding(Result.PASSED, "A person confirmed it.")


def _moved(step: WizardStep, facts: Facts) -> Finding:
    """One order up and one down, each with bytes on the wire and the asked value read back."""
    seen = [move for move in facts.moves if move.control == step.control and _is_obeyed(move)]
    ups = [move for move in seen if (move.to_step or 0) > (move.from_step or 0)]
    downs = [move for move in seen if (move.to_step or 0) < (move.from_step or 0)]
    missing = [word for word, moves in (("up", ups), ("down", downs)) if not moves]
    if missing:
        return _failed(f"No order {' and none '.join(missing)} was seen on the wire and read back since you began.")
    orders = [
        {"proposal_id": move.proposal_id, "from_step": move.from_step, "to_step": move.to_step,
         "read_back_step": move.read_back_step, "data_hex": list(move.data_hex)}
        for move in (ups[-1], downs[-1])
    ]  # fmt: skip
    return Finding(Result.PASSED, "Up and down were sent and read back.", {"orders": orders})


def _is_obeyed(move: Move) -> bool:
    return bool(move.data_hex) and move.read_back_step is not None and move.read_back_step == move.to_step


def _drilled(facts: Facts) -> Finding:
    passed = [drill for drill in facts.drills if drill.is_passed]
    proving = [drill for drill in passed if drill.has_heat_gone_down]
    if not proving:
        why = "did not turn heat down: it was at 0 already" if passed else "has passed since you began"
        return _failed(f"{'The drill' if passed else 'No STOP drill'} {why}.")
    drill = proving[-1]
    return Finding(
        Result.PASSED, "STOP turned heat off and proved it.",
        {"drill_id": drill.drill_id, "first_byte_ms": drill.first_byte_ms, "proved_ms": drill.proved_ms},
    )  # fmt: skip


def _pulled(facts: Facts) -> Finding:
    whole = [loss for loss in facts.losses if loss.back_at]
    if not whole:
        word = "The machine is not back yet." if facts.losses else "No lost link was seen since you began."
        return _failed(word)
    loss = whole[-1]
    evidence = {"alarm_id": loss.alarm_id, "lost_at": loss.lost_at, "back_at": loss.back_at}
    return Finding(Result.PASSED, "The loss was seen and told, and the machine came back.", evidence)


_JUDGES = {
    "identity": _identity,
    "limits": _limits,
    "sensors": _sensors,
    "panel_stop": _confirmed,
    "mains_switch": _confirmed,
    "fire": _confirmed,
    "people_stay": _confirmed,
    "stop_drill": _drilled,
    "cable_pull": _pulled,
}
