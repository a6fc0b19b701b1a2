"""What must come of every act, said a second time: a model that shares no line with the product. Pure.

Written from `spec/commands.md`. It knows the orders, grants, halts and people of the house, is told what the machine
reads, and predicts status and code of every answer and where every order goes. It imports nothing of ours: a rule
that is wrong in the product is not wrong here for the same reason. A new level or rule is one more line in ``_judge``.
Times are seconds since the house began; temperatures °C.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from fractions import Fraction

from simulation.oracle_values import (
    ADVICE,
    ATTENDED_S,
    BEFORE_WIRE,
    CONTROL_OF,
    COUNTED,
    FAILURE_WINDOW_S,
    LEADING,
    LEGACY,
    MOVES,
    ON_WIRE,
    OPERATING,
    SETTLED,
    STATE_ORDERS,
    TOLERANCE_C,
    UNSURE_C,
    VETO_WINDOW_S,
    Asked,
    Expected,
    Grant,
    Limit,
    Look,
    Order,
    Person,
    Place,
    Plan,
    Verdict,
)

__all__ = [
    "ADVICE",
    "ALONE",
    "ATTENDED_S",
    "BEFORE_WIRE",
    "CONTROL_OF",
    "COUNTED",
    "LEADING",
    "LEGACY",
    "MOVES",
    "ON_WIRE",
    "OPERATING",
    "SETTLED",
    "STATE_ORDERS",
    "TOLERANCE_C",
    "UNSURE_C",
    "VETO_WINDOW_S",
    "Asked",
    "Expected",
    "Grant",
    "Limit",
    "Look",
    "Model",
    "Order",
    "Person",
    "Place",
    "Plan",
    "Verdict",
    "rank_of",
]  # fmt: skip

ALONE = Place()
_RANK = {"ALLOW": 0, "VETO": 1, "HOLD": 2, "REFUSE": 3}
_SIGNIFICANCES = ("none", "watch", "warning", "distress", "critical", "severe")
_BY_LEVEL = {"L3": "HOLD", "L4": "VETO", "L5": "ALLOW"}
_MATRIX = {"L3": "HHHHHR", "L4": "VVVHHR", "L5": "AAAVHR"}
_LETTER = {"A": "ALLOW", "V": "VETO", "H": "HOLD", "R": "REFUSE"}
_FIRMWARE = frozenset({"preheating", "stabilising", "charge"})
_STATES = {
    "SET_POWER": frozenset({"off", "roasting", "cooling", "shutdown"}),
    "SET_FAN": frozenset({"charge", "roasting", "cooling"}), "SET_DRUM": frozenset({"charge", "roasting", "cooling"}),
    "PREHEAT": frozenset({"off"}), "CHARGE": frozenset({"charge"}), "DROP": frozenset({"roasting"}),
    "COOL": frozenset({"roasting"}),
}  # fmt: skip


def rank_of(significance: str) -> int:
    return _SIGNIFICANCES.index(significance)


class Model:
    """Everything the house should know now. Plain and mutable: the rules tell it what happened."""

    def __init__(self, people: dict[str, Person], limits: dict[str, Limit]) -> None:
        self.people = people
        self.limits = limits
        self.orders: dict[str, Order] = {}
        self.grants: dict[str, Grant] = {}
        self.plans: dict[str, Plan] = {}
        self.halts: set[str] = set()
        self.suspended = False
        self.is_paused = False
        self.attended_s: float | None = None
        self.attendances = 0

    # -- what stands --

    def grant_of(self, agent: str) -> Grant | None:
        return next((grant for grant in self.grants.values() if grant.agent == agent and grant.is_live), None)

    def of_status(self, *statuses: str) -> list[Order]:
        return [order for order in self.orders.values() if order.status in statuses]

    def is_attended(self, now_s: float) -> bool:
        return self.attended_s is not None and _since(self.attended_s, now_s) <= ATTENDED_S

    # -- the governor, once more --

    def target_of(self, asked: Asked) -> tuple[int | None, str]:
        """(native step, why it cannot be one)."""
        control = CONTROL_OF.get(asked.order_type, "")
        if not control:
            return None, "target_not_supported" if asked.value is not None or asked.unit else ""
        if asked.value is None:
            return None, "target_missing"
        if asked.unit not in ("step", "percent"):
            return None, "unit_does_not_fit"
        exact = Fraction(asked.value)
        if asked.unit == "percent":
            exact = exact * self.limits[control].high / 100
        return math.floor(exact) if control == "heater" else math.floor(exact + Fraction(1, 2)), ""

    def significance(self, asked: Asked, look: Look, place: Place) -> str:
        """How much hangs on what is asked, where it stands."""
        control = CONTROL_OF.get(asked.order_type, "")
        look = _left(look, place.left)
        move = _Move(asked.order_type, control, look.steps.get(control), self.target_of(asked)[0])
        return move.significance(look.state, self.limits)

    def _rated(self, move: _Move, look: Look, place: Place) -> str:
        return max((move.significance(look.state, self.limits), place.floor), key=rank_of)

    def judge(
        self, who: Person, asked: Asked, look: Look, now_s: float, *, dispatched: Order | None = None,
        place: Place = ALONE,
    ) -> Verdict:  # fmt: skip
        """The governor's verdict on a proposal, or (``dispatched``) on an order just before the wire."""
        look = _left(look, place.left)
        target, misfit = self.target_of(asked) if dispatched is None else (dispatched.target, "")
        control = CONTROL_OF.get(asked.order_type, "")
        move = _Move(asked.order_type, control, look.steps.get(control), target)
        said = list(self._judge(who, asked, look, now_s, dispatched, move, misfit, place))
        decision = max((decision for decision, _ in said), key=_RANK.__getitem__, default="REFUSE")
        refusals = tuple(dict.fromkeys(code for decision, code in said if decision == "REFUSE"))
        is_grave = self._rated(move, look, place) in ("critical", "severe")
        is_second_needed = decision == "HOLD" and who.is_agent and is_grave
        return Verdict(decision, refusals, 2 if is_second_needed else 1)

    def _judge(
        self, who: Person, asked: Asked, look: Look, now_s: float, order: Order | None, move: _Move, misfit: str,
        place: Place,
    ) -> Iterator[tuple[str, str]]:  # fmt: skip
        authority = list(self._authority(who, asked, look, now_s, move, place))
        yield from authority
        asks = max((decision for decision, _ in authority), key=_RANK.__getitem__)
        waits_s = self.expiry_s(who, asked, look) if place.expires_in_s is None else place.expires_in_s
        if order is None and asks == "VETO" and waits_s <= VETO_WINDOW_S:
            yield "HOLD", "veto_window_too_long"
        if order is not None and not self.is_approved(order) and not _is_consent(order, asks, now_s):
            yield "REFUSE", "veto_window_open" if asks == "VETO" else "not_approved"
        if who.is_agent and asked.order_type in ("CHARGE", "DROP"):
            yield "REFUSE", "hand_act_countdown"
        if order is not None and now_s >= order.expires_s:
            yield "REFUSE", "expired"
        is_own_less_heat = not who.is_agent and move.is_heat_down
        if (self.halts or (order is not None and look.is_latched)) and not is_own_less_heat:
            yield "REFUSE", "halted"
        if who.is_agent and self.suspended:
            yield "REFUSE", "suspended"
        if self.is_paused and not is_own_less_heat:
            yield "REFUSE", "orders_paused"
        for code in self._machine_says(who, asked, look, now_s, move):
            yield "REFUSE", code
        for code in self._envelope_says(who, asked, move, misfit):
            yield "REFUSE", code
        if who.is_agent and not move.is_safe:
            for code in self._counts_say(look, now_s, move, order, place):
                yield "REFUSE", code
        if who.is_agent and self._fails_too_often(who.name, now_s):
            yield "REFUSE", "failure_rate_too_high"
        if self._conflicts(who, move, order, place):
            yield "REFUSE", "conflict"
        if order is not None and who.is_agent and self.void_code(order, look, place):
            yield "REFUSE", self.void_code(order, look, place)

    def _authority(
        self, who: Person, asked: Asked, look: Look, now_s: float, move: _Move, place: Place
    ) -> Iterator[tuple[str, str]]:
        if not who.is_agent:
            yield "ALLOW", "own_order"
            return
        grant = self.grant_of(who.name)
        is_covering = grant is not None and (
            (grant.expires_s is None or now_s < grant.expires_s)
            and (asked.order_type in grant.order_types if grant.order_types else bool(move.control))
        )
        if grant is None or not is_covering:
            yield "REFUSE", "no_grant"
            if grant is None:
                return
        elif grant.level == "L1":
            yield "REFUSE", "level_too_low"
        elif grant.level == "L2":
            yield "REFUSE", "level_recommends_only"
        else:
            is_held = not self.is_attended(now_s) and (grant.level != "L3" or move.is_heat_up)
            yield "HOLD" if is_held else _BY_LEVEL[grant.level], "level"
        if grant.level not in _BY_LEVEL or (move.control and (move.target is None or move.start is None)):
            return
        level = "L3" if grant.level != "L3" and not self.is_attended(now_s) else grant.level
        rank = rank_of(self._rated(move, look, place))
        decision = _LETTER[_MATRIX[level][rank]]
        if _RANK[decision] > _RANK[_BY_LEVEL[level]]:
            yield decision, "significance"

    def _machine_says(self, who: Person, asked: Asked, look: Look, now_s: float, move: _Move) -> Iterator[str]:
        if look.link != "up":
            yield "link_down"
        if _since(look.at_s, now_s) > (1.0 if move.is_heat_up else 3.0):
            yield "stale_reading"
        if move.control and move.start is None:
            yield "reading_unknown"
        if move.is_heat_up and move.control and look.bean_c is None:
            yield "reading_unknown"
        needed = {f"{move.control}_step"} if move.control else set()
        if needed and move.is_heat_up:
            needed.add("bean_temp_c")
        if needed & look.poor:
            yield "poor_quality"
        if move.control == "heater" and look.state in _FIRMWARE:
            yield "firmware_owns_heat"
        else:
            is_up = move.control == "heater" and move.is_heat_up
            if look.state not in (frozenset({"roasting"}) if is_up else _STATES[asked.order_type]):
                yield "wrong_state"
        if asked.forbidden_state and look.state == asked.forbidden_state:
            yield "wrong_state"
        if who.is_agent and move.control == "heater" and move.is_heat_up and not look.are_beans_proved:
            yield "beans_not_proved"

    def _envelope_says(self, who: Person, asked: Asked, move: _Move, misfit: str) -> Iterator[str]:
        if misfit:
            yield misfit
            return
        if not move.control or move.target is None:
            return
        limit = self.limits[move.control]
        ceiling = limit.high if asked.max_step is None else min(limit.high, asked.max_step)
        if move.target > ceiling:
            yield "above_ceiling"
        if move.target < limit.low:
            yield "below_floor"
        longest = [limit.longest] if who.is_agent else []
        longest += [asked.max_change] if asked.max_change is not None else []
        if longest and move.start is not None and abs(move.target - move.start) > min(longest):
            yield "change_too_large"

    def _counts_say(self, look: Look, now_s: float, move: _Move, this: Order | None, place: Place) -> Iterator[str]:
        counted = [
            order for order in self.orders.values()
            if order.is_by_agent and order.status in COUNTED and order is not this
            and order.order_id not in place.ignored
        ]  # fmt: skip
        if move.control:
            limit = self.limits[move.control]
            mine = [order for order in counted if order.control == move.control]
            count = len(mine) + place.before.count(move.control)
            last_s = None if place.is_distance_kept else _last_s(mine, place)
            if last_s is not None and _since(last_s, now_s) < limit.interval_s:
                yield "too_soon"
            if last_s is not None and move.is_too_steep(limit.ramp, _since(last_s, now_s)):
                yield "ramp_too_steep"
            if count >= limit.daily:
                yield "daily_count_reached"
            in_roast = sum(order.roast for order in mine) + place.before.count(move.control)
            if look.is_in_roast and in_roast >= limit.per_roast:
                yield "roast_count_reached"
        if look.is_in_roast and sum(order.roast for order in counted) + len(place.before) >= 60:
            yield "session_limit_reached"

    def _fails_too_often(self, agent: str, now_s: float) -> bool:
        settled = [
            order for order in self.orders.values()
            if order.proposer == agent and order.status in ("COMPLETED", "FAILED")
            and (order.settled_s or 0.0) >= now_s - FAILURE_WINDOW_S
        ]  # fmt: skip
        failed = sum(order.status == "FAILED" for order in settled)
        return len(settled) >= 5 and failed * 10 > len(settled) * 3

    def _conflicts(self, who: Person, move: _Move, this: Order | None, place: Place) -> bool:
        others = [
            order for order in self.orders.values()
            if order.status not in SETTLED and order.control == move.control and order is not this
            and (not place.plan or order.plan != place.plan)
        ]  # fmt: skip
        is_on_wire = any(order.status in ON_WIRE for order in others)
        if not who.is_agent:
            return is_on_wire and not move.is_safe
        return is_on_wire if this is not None else bool(others)

    # -- what befalls orders --

    def is_approved(self, order: Order) -> bool:
        return len(order.approvers) >= order.needed

    def expiry_s(self, who: Person, asked: Asked, look: Look) -> float:
        """How long an order may wait."""
        in_roast_s = 20.0 if look.is_after_crack else 45.0
        allowed_s = 20.0 if not who.is_agent else in_roast_s if look.is_in_roast else 300.0
        return allowed_s if asked.expires_in_s is None else min(allowed_s, asked.expires_in_s)

    def void_code(self, order: Order, look: Look, place: Place = ALONE) -> str:
        """Why the order no longer stands on what was seen when it was proposed; "" while it does."""
        seen = _left(order.seen, place.seen)
        for control in ("heater", "fan", "drum"):
            then, now = seen.steps.get(control), look.steps.get(control)
            if then is not None and now is not None and then != now:
                return "control_moved"
        away_c = self.away_c(order, look)
        return "left_prediction" if away_c is not None and away_c > TOLERANCE_C else ""

    def away_c(self, order: Order, look: Look) -> float | None:
        """How far the beans are from the straight line drawn when it was proposed; None where that does not count."""
        seen = order.seen
        if seen.state != "roasting" or look.state != "roasting" or seen.bean_c is None or look.bean_c is None:
            return None
        return abs(look.bean_c - (seen.bean_c + (order.rate or 0.0) * (look.at_s - seen.at_s) / 60))

    def is_unsure(self, order: Order, look: Look) -> bool:
        """Too close to the tolerance to say."""
        away_c = self.away_c(order, look)
        return away_c is not None and abs(away_c - TOLERANCE_C) <= UNSURE_C

    # -- what every request must answer --

    def propose(self, who: Person, machine: str) -> Expected:
        if who.is_agent or who.may_operate:
            known = {"ours": who.organization == "ours", "bridged": who.organization == "ours",
                     "foreign": who.organization == "theirs"}
            if not known.get(machine, False):
                return Expected(404, "machine_not_found")
            return Expected(409, "machine_is_remote") if machine == "bridged" else Expected(201)
        return Expected(403, "not_allowed")

    def approve(
        self, who: Person, order: Order, now_s: float, *, is_digest_right: bool, is_whole: bool = False
    ) -> Expected:
        """``is_whole``: it is approved with the plan it is part of."""
        if who.organization != "ours":
            return Expected(404, "proposal_not_found")
        if who.is_agent:
            return Expected(403, "agents_cannot_approve")
        if order.proposer == who.name:
            return Expected(403, "proposer_cannot_approve")
        if order.is_by_agent and self.people[order.proposer].owner == who.name:
            return Expected(403, "owner_cannot_approve")
        if not who.may_operate:
            return Expected(403, "role_required")
        if order.status != "PENDING_APPROVAL":
            return Expected(409, "expired" if order.status == "TIMEOUT" else "not_awaiting_approval")
        if now_s >= order.expires_s:
            return Expected(409, "expired")
        if not is_digest_right:
            return Expected(412, "stale_digest")
        if who.name in order.approvers:
            return Expected(409, "approved_already")
        return Expected(200) if is_whole or not order.plan else Expected(409, "part_of_plan")

    def reject(self, who: Person, order: Order, now_s: float, code: str, text: str) -> Expected:
        if who.organization != "ours":
            return Expected(404, "proposal_not_found")
        if not who.may_operate:
            return Expected(403, "role_required")
        if code == "OTHER" and not text:
            return Expected(400, "text_required")
        if order.status != "PENDING_APPROVAL":
            return Expected(409, "not_awaiting_approval")
        return Expected(409, "expired") if now_s >= order.expires_s else Expected(200)

    def adopt(self, who: Person, order: Order, now_s: float) -> Expected:
        if who.organization != "ours":
            return Expected(404, "proposal_not_found")
        if who.is_agent:
            return Expected(403, "agents_cannot_adopt")
        if not order.is_by_agent:
            return Expected(409, "not_advice")
        taken = [other for other in self.orders.values() if other.adopted_from == order.order_id]
        if any(other.status != "REJECTED" for other in taken):
            return Expected(409, "already_adopted")
        if order.status != "PENDING_APPROVAL" and not order.is_advice:
            return Expected(409, "not_advice")
        if now_s >= order.expires_s:
            return Expected(409, "expired")
        return Expected(201) if who.may_operate else Expected(403, "not_allowed")

    def abort(self, who: Person, order: Order) -> Expected:
        if who.organization != "ours":
            return Expected(404, "proposal_not_found")
        is_own = who.is_agent and order.proposer == who.name
        if not who.may_operate and not is_own:
            return Expected(403, "not_allowed")
        if order.status in ON_WIRE:  # a person asks that no further step leaves; what is in doubt is resolved instead
            if not who.may_operate:
                return Expected(403, "not_allowed")
            return Expected(409, "in_doubt") if order.status == "IN_DOUBT" else Expected(200)
        if order.status not in BEFORE_WIRE or (is_own and order.status != "PENDING_APPROVAL"):
            return Expected(409, "not_abortable")
        return Expected(200)

    def veto(self, who: Person, order: Order) -> Expected:
        if who.organization != "ours":
            return Expected(404, "proposal_not_found")
        if not who.may_operate:
            return Expected(403, "role_required")
        if order.decision != "VETO":
            return Expected(409, "not_open_to_veto")
        return Expected(200) if order.status in BEFORE_WIRE else Expected(409, "too_late")

    def is_reviewable(self, order: Order) -> bool:
        """An agent's order that ran without anybody's yes."""
        return order.is_by_agent and not order.approvers and order.status in COUNTED - {"APPROVED"}

    def review(self, who: Person, order: Order) -> Expected:
        if who.organization != "ours":
            return Expected(404, "proposal_not_found")
        if not who.may_operate:
            return Expected(403, "role_required")
        if not self.is_reviewable(order):
            return Expected(409, "not_for_review")
        if self.people[order.proposer].owner == who.name:
            return Expected(403, "owner_cannot_review")
        return Expected(409, "reviewed_already") if order.is_reviewed else Expected(200)

    def lead_act(self, who: Person, missing: str) -> Expected:
        """An act of a lead's on something of ours; ``missing`` is what a stranger is told."""
        if not who.may_lead:
            return Expected(403, "not_allowed")
        return Expected(200) if who.organization == "ours" else Expected(404, missing)

    def operate(self, who: Person) -> Expected:
        """An operator's act on our machine."""
        if not who.may_operate:
            return Expected(403, "not_allowed")
        return Expected(200) if who.organization == "ours" else Expected(404, "machine_not_found")


@dataclasses.dataclass(frozen=True, slots=True)
class _Move:
    """From where to where."""

    order_type: str
    control: str
    start: int | None
    target: int | None

    @property
    def is_heat_up(self) -> bool:
        if self.control != "heater":
            return self.order_type in ("PREHEAT", "CHARGE")
        return self.target is None or self.start is None or self.target > self.start

    @property
    def is_heat_down(self) -> bool:
        return self.control == "heater" and not self.is_heat_up and self.target != self.start

    @property
    def is_safe(self) -> bool:
        return self.order_type in ("DROP", "COOL") or self.is_heat_down

    def is_too_steep(self, ramp: float | None, elapsed_s: float) -> bool:
        """Change per second since the last agent's order on the control; exactly the bound is slow enough."""
        if ramp is None or self.start is None or self.target is None or self.start == self.target:
            return False
        return elapsed_s <= 0 or Fraction(abs(self.target - self.start)) > Fraction(ramp) * Fraction(str(elapsed_s))

    def significance(self, state: str, limits: dict[str, Limit]) -> str:
        """How much hangs on it: type × size × direction × machine state."""
        if not self.control:
            return "critical" if self.order_type == "PREHEAT" else "distress"
        if self.start is None or self.target is None:
            return "severe" if self.control == "heater" else "warning"
        if self.start == self.target:
            return "none"
        if self.control == "fan" and state == "cooling":
            return "watch"
        share = Fraction(abs(self.target - self.start), limits[self.control].high)
        steps = _STEPS[self.control, self.target > self.start]
        return next((word for bound, word in steps if share <= bound), steps[-1][1])


_STEPS: dict[tuple[str, bool], tuple[tuple[Fraction, str], ...]] = {
    ("heater", True): (
        (Fraction(12, 100), "warning"), (Fraction(34, 100), "distress"), (Fraction(67, 100), "critical"),
        (Fraction(1), "severe"),
    ),
    ("heater", False): ((Fraction(1, 4), "watch"), (Fraction(1), "warning")),
    ("fan", True): ((Fraction(1, 4), "watch"), (Fraction(1), "warning")),
    ("fan", False): ((Fraction(1, 4), "watch"), (Fraction(1, 2), "warning"), (Fraction(1), "distress")),
    ("drum", True): ((Fraction(1, 4), "watch"), (Fraction(1), "warning")),
    ("drum", False): ((Fraction(1, 4), "warning"), (Fraction(1), "distress")),
}  # fmt: skip


def _is_consent(order: Order, asks: str, now_s: float) -> bool:
    """Nobody approved: does what is asked for by now let it go all the same?"""
    if asks == "VETO":
        return order.runs_s is not None and now_s >= order.runs_s
    return asks == "ALLOW"


def _left(look: Look, steps: tuple[tuple[str, int], ...]) -> Look:
    """The same look once the controls stand there."""
    return dataclasses.replace(look, steps={**look.steps, **dict(steps)}) if steps else look


def _last_s(orders: list[Order], place: Place) -> float | None:
    """When agents' orders moved the control last, or were let through to."""
    moments = [order.settled_s if order.order_id in place.own else order.decided_s for order in orders]
    return max((moment for moment in moments if moment is not None), default=None)


def _since(then_s: float, now_s: float) -> float:
    """Between two moments of the house, which are whole microseconds."""
    return round(now_s - then_s, 6)
