"""The governor's policy as a document a lead writes, and as the frozen values the rules read. Pure.

``parse`` takes nothing on trust: every fault is named with its place, and a document with one is no policy at all.
The bounds are the house's: a policy may be stricter than the house's own, and looser only as far as they reach.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from commands.reasons import Decision, is_worse
from commands.rules.conversion import CONTROL_OF, OrderType
from commands.rules.significance import LEVELS, Direction, Row, Significance, is_at_least
from commands.rules.values import DEFAULT_POLICY, Level, Matrix, Policy

#: name → (least, most, whole number?, what it is). Times in seconds, ratios 0–1, temperatures °C.
NUMBERS: dict[str, tuple[float, float, bool, str]] = {
    "failure_threshold": (0.0, 1.0, False, "failed share of an agent's settled orders above which it is refused"),
    "failure_min_settled": (1, 1000, True, "settled orders before that share counts"),
    "failure_window_s": (60.0, 86_400.0, False, "how far back that share looks"),
    "session_limit": (0, 1000, True, "agents' orders in one roast"),
    "max_age_heat_up_s": (0.2, 5.0, False, "oldest reading for more heat"),
    "max_age_s": (0.2, 30.0, False, "oldest reading for anything else"),
    "max_clock_skew_s": (0.0, 5.0, False, "how far in the future a time is still believed"),
    "prediction_tolerance_c": (0.5, 20.0, False, "how far the beans may leave what was predicted"),
    "expires_off_roast_s": (5.0, 3600.0, False, "how long a held order waits off a roast"),
    "expires_in_roast_s": (5.0, 600.0, False, "how long a held order waits during a roast"),
    "expires_after_first_crack_s": (5.0, 120.0, False, "how long a held order waits after first crack"),
    "expires_own_order_s": (1.0, 120.0, False, "how long a person's own order may take to the wire"),
    "veto_window_s": (5.0, 120.0, False, "L4: time in which any operator may veto"),
    "attendance_max_age_s": (30.0, 600.0, False, "how long a confirmed presence counts"),
    "drill_max_age_s": (3600.0, 172_800.0, False, "how long a passed STOP drill counts"),
    "breaker_error_rate": (0.0, 1.0, False, "failed share above which an agent's grant is lowered"),
    "breaker_min_settled": (1, 1000, True, "settled orders before that share counts"),
    "breaker_window_s": (30.0, 86_400.0, False, "how far back the breaker looks"),
    "breaker_failures_of_type": (1, 100, True, "failures of one order type that lower the grant"),
}
#: name → the least significance it may name.
FROM: dict[str, Significance] = {
    "confirm_from": Significance.NONE,
    "two_person_from": Significance.NONE,
    "own_second_from": Significance.CRITICAL,
}
#: What a level is by its name: never more permissive than this, whatever the significance.
CAPS = {
    Level.L1: Decision.REFUSE, Level.L2: Decision.REFUSE, Level.L3: Decision.HOLD, Level.L4: Decision.VETO,
    Level.L5: Decision.ALLOW,
}  # fmt: skip
STATES = frozenset({"off", "preheating", "stabilising", "charge", "roasting", "cooling", "shutdown"})
ROW_KEYS = ("order_type", "direction", "up_to_share", "states", "significance", "reason")
MAX_ROWS, MAX_REASON = 200, 300
_LARGEST = 10**12
_TOP = ("numbers", *FROM, "table", "matrix")
_DECISIONS = {decision.value.lower(): decision for decision in Decision}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and where: ``numbers.veto_window_s``, ``table[3].states``, ``matrix.L4.distress``."""

    place: str
    message: str


class PolicyRefused(ValueError):
    """A document that is no policy; every fault it has."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join(f"{fault.place}: {fault.message}" for fault in faults[:5]))
        self.faults = faults


def document_of(policy: Policy) -> dict[str, Any]:
    """The policy as JSON, complete."""
    return {
        "numbers": {name: getattr(policy, name) for name in NUMBERS},
        **{name: None if (level := getattr(policy, name)) is None else level.value for name in FROM},
        "table": [
            {
                "order_type": row.order_type.value,
                "direction": row.direction.value,
                "up_to_share": row.up_to_share,
                "states": sorted(row.states),
                "significance": row.significance.value,
                "reason": row.reason,
            }
            for row in policy.table
        ],
        "matrix": {
            level.value: {each.value: decision.value.lower() for each, decision in across.items()}
            for level, across in policy.matrix.items()
        },
    }


DEFAULT_DOCUMENT = document_of(DEFAULT_POLICY)


def carried_over(typed: Mapping[str, Any], base: Mapping[str, Any], standing: Mapping[str, Any]) -> dict[str, Any]:
    """``standing`` with what ``typed`` changes in ``base``: a lead's own words upon a version that came meanwhile.

    Documents. A number and a cell of the matrix each count by themselves, the significance table as one.
    """

    def chosen(*names: str) -> Any:
        mine, before, now = (_within(document, names) for document in (typed, base, standing))
        return mine if mine != before else now

    return {
        "numbers": {name: chosen("numbers", name) for name in NUMBERS},
        **{name: chosen(name) for name in FROM},
        "table": chosen("table"),
        "matrix": {
            level.value: {each.value: chosen("matrix", level.value, each.value) for each in LEVELS} for level in Level
        },
    }


def _within(document: Any, names: tuple[str, ...]) -> Any:
    for name in names:
        document = document.get(name) if isinstance(document, Mapping) else None
    return document


def parse(document: Any, *, version: int) -> Policy:
    """The policy a document says. PolicyRefused names every fault."""
    faults = tuple(_faults(document))
    if faults:
        raise PolicyRefused(faults)
    numbers = {name: int(document["numbers"][name]) if whole else float(document["numbers"][name])
               for name, (_least, _most, whole, _what) in NUMBERS.items()}  # fmt: skip
    levels = {name: None if document[name] is None else Significance(document[name]) for name in FROM}
    return Policy(
        version=version,
        **numbers,  # type: ignore[arg-type]
        **levels,  # type: ignore[arg-type]
        table=tuple(_row(row) for row in document["table"]),
        matrix=_matrix(document["matrix"]),
    )


def _row(row: Mapping[str, Any]) -> Row:
    return Row(
        OrderType(row["order_type"]), Direction(row["direction"]), float(row["up_to_share"]),
        frozenset(row["states"]), Significance(row["significance"]), row["reason"],
    )  # fmt: skip


def _matrix(matrix: Mapping[str, Mapping[str, str]]) -> Matrix:
    return {level: {each: _DECISIONS[matrix[level.value][each.value]] for each in LEVELS} for level in Level}


def _faults(document: Any) -> Iterator[Fault]:
    if not isinstance(document, dict):
        yield Fault("", "A policy is an object.")
        return
    yield from _keys("", document, _TOP)
    if "numbers" in document:
        yield from _number_faults(document["numbers"])
    for name, least in FROM.items():
        if name in document:
            yield from _from_faults(name, document[name], least)
    if "table" in document:
        yield from _table_faults(document["table"])
    if "matrix" in document:
        yield from _matrix_faults(document["matrix"])


def _keys(place: str, found: Mapping[str, Any], wanted: tuple[str, ...]) -> Iterator[Fault]:
    dot = f"{place}." if place else ""
    for name in wanted:
        if name not in found:
            yield Fault(f"{dot}{name}", "It is missing.")
    for name in sorted(set(map(str, found)) - set(wanted)):
        yield Fault(f"{dot}{name[:60]}", "There is no such entry.")


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= _LARGEST if isinstance(value, int) else math.isfinite(value)  # an int may be too big to ask


def _number_faults(numbers: Any) -> Iterator[Fault]:
    if not isinstance(numbers, dict):
        yield Fault("numbers", "It is an object of numbers.")
        return
    yield from _keys("numbers", numbers, tuple(NUMBERS))
    for name, (least, most, whole, what) in NUMBERS.items():
        if name not in numbers:
            continue
        value = numbers[name]
        if not _is_number(value):
            yield Fault(f"numbers.{name}", f"It is a number: {what}.")
        elif whole and value != int(value):
            yield Fault(f"numbers.{name}", f"It is a whole number: {what}.")
        elif not least <= value <= most:
            yield Fault(f"numbers.{name}", f"It lies between {least:g} and {most:g}: {what}.")
    window, waits = numbers.get("veto_window_s"), numbers.get("expires_in_roast_s")
    if window is not None and waits is not None and _is_number(window) and _is_number(waits) and window >= waits:
        yield Fault(
            "numbers.veto_window_s", f"It is shorter than expires_in_roast_s ({waits:g}), or no order would ever run."
        )


def _from_faults(name: str, value: Any, least: Significance) -> Iterator[Fault]:
    if value is None:
        return
    words = [level.value for level in LEVELS if is_at_least(level, least)]
    if not isinstance(value, str) or value not in words:
        yield Fault(name, f"It is null (never) or one of: {', '.join(words)}.")


def _table_faults(table: Any) -> Iterator[Fault]:
    if not isinstance(table, list) or not 1 <= len(table) <= MAX_ROWS:
        yield Fault("table", f"It is a list of 1 to {MAX_ROWS} rows.")
        return
    good: list[tuple[int, Row]] = []
    for number, row in enumerate(table):
        found = list(_row_faults(f"table[{number}]", row))
        yield from found
        if not found:
            good.append((number, _row(row)))
    for place, (number, row) in enumerate(good):
        hidden_by = next((other for other, earlier in good[:place] if _covers(earlier, row)), None)
        if hidden_by is not None:
            yield Fault(f"table[{number}]", f"It never applies: row {hidden_by} before it fits all that it fits.")


def _row_faults(place: str, row: Any) -> Iterator[Fault]:
    if not isinstance(row, dict):
        yield Fault(place, "A row is an object.")
        return
    missing = list(_keys(place, row, ROW_KEYS))
    yield from missing
    if missing:
        return
    yield from _word_faults(f"{place}.order_type", row["order_type"], [word.value for word in OrderType])
    directions = [word.value for word in Direction]
    if isinstance(row["order_type"], str) and row["order_type"] in set(OrderType):
        is_act = not CONTROL_OF[OrderType(row["order_type"])]
        directions = ["act", "any"] if is_act else ["up", "down", "same", "any"]
    yield from _word_faults(f"{place}.direction", row["direction"], directions)
    yield from _word_faults(f"{place}.significance", row["significance"], [word.value for word in LEVELS])
    if not _is_number(row["up_to_share"]) or not 0 <= row["up_to_share"] <= 1:
        yield Fault(f"{place}.up_to_share", "It is a share of full scale, 0 to 1.")
    states = row["states"]
    if not isinstance(states, list) or not all(isinstance(state, str) and state in STATES for state in states):
        yield Fault(f"{place}.states", f"It is a list of: {', '.join(sorted(STATES))}; empty: any.")
    reason = row["reason"]
    if not isinstance(reason, str) or not reason.strip() or len(reason) > MAX_REASON or "\x00" in reason:
        yield Fault(f"{place}.reason", f"It is a text of at most {MAX_REASON} characters: people read it.")


def _word_faults(place: str, value: Any, words: list[str]) -> Iterator[Fault]:
    if not isinstance(value, str) or value not in words:
        yield Fault(place, f"It is one of: {', '.join(words)}.")


def _covers(earlier: Row, later: Row) -> bool:
    """Whatever ``later`` fits, ``earlier`` fits first."""
    return (
        earlier.order_type is later.order_type
        and earlier.direction in (Direction.ANY, later.direction)
        and earlier.up_to_share >= later.up_to_share
        and (not earlier.states or (bool(later.states) and later.states <= earlier.states))
    )


def _matrix_faults(matrix: Any) -> Iterator[Fault]:
    if not isinstance(matrix, dict):
        yield Fault("matrix", "It is an object: level → significance → decision.")
        return
    yield from _keys("matrix", matrix, tuple(level.value for level in Level))
    found: dict[tuple[Level, Significance], Decision] = {}
    for level in Level:
        across = matrix.get(level.value, {})
        place = f"matrix.{level.value}"
        if not isinstance(across, dict):
            yield Fault(place, "It is an object: significance → decision.")
            continue
        if level.value in matrix:
            yield from _keys(place, across, tuple(each.value for each in LEVELS))
        for each in LEVELS:
            word = across.get(each.value)
            if each.value in across and (not isinstance(word, str) or word not in _DECISIONS):
                yield Fault(f"{place}.{each.value}", f"It is one of: {', '.join(_DECISIONS)}.")
            elif isinstance(word, str):
                found[level, each] = _DECISIONS[word]
    yield from _order_faults(found)


def _order_faults(found: Mapping[tuple[Level, Significance], Decision]) -> Iterator[Fault]:
    """No level permits more than its name says, more trust never permits less, more consequence never more."""
    for (level, each), decision in found.items():
        place = f"matrix.{level.value}.{each.value}"
        if is_worse(CAPS[level], decision):
            yield Fault(place, f"{level.value} permits at most {CAPS[level].value.lower()}.")
    for lower, higher in pairwise(Level):
        for each in LEVELS:
            if (lower, each) in found and (higher, each) in found and is_worse(
                found[higher, each], found[lower, each]
            ):  # fmt: skip
                yield Fault(f"matrix.{higher.value}.{each.value}", f"It is stricter than at {lower.value}.")
    for level in Level:
        for less, more in pairwise(LEVELS):
            if (level, less) in found and (level, more) in found and is_worse(found[level, less], found[level, more]):
                yield Fault(f"matrix.{level.value}.{more.value}", f"It is more permissive than for {less.value}.")
