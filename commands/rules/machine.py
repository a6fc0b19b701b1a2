"""The governor's rules about the machine and the order, one idea each: a Situation in, its reasons out. Pure.

A rule says nothing where it has no objection, and all of these only ever refuse. By whose authority an order runs
(allow, veto, hold) is said in ``commands.rules.authority``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from commands.lifecycle import ON_THE_WIRE, Status
from commands.reasons import Code, Decision, Reason
from commands.rules.states import FIRMWARE_OWNS_HEAT, table_of
from commands.rules.values import (
    Constraints,
    Limits,
    Phase,
    Policy,
    ReadingLook,
    Seen,
    Situation,
)
from drivers.port import longest_age_s


def _refuse(code: Code, message: str, how_to_fix: str, value: object = None, bound: object = None) -> Reason:
    return Reason(code, Decision.REFUSE, message, how_to_fix, value, bound)


def check_hand_act(situation: Situation) -> Iterator[Reason]:
    """On a Bullet beans move by hand: from an agent, CHARGE and DROP are advice with a countdown."""
    order = situation.order
    if order.is_by_agent and order.order_type in table_of(situation.machine_kind).hand_acts:
        left_s = max(0.0, (order.expires_at - situation.now).total_seconds())
        yield _refuse(
            Code.HAND_ACT,
            f"{order.order_type.value} is done by hand at this machine: shown as advice for {left_s:.0f} s.",
            "The person at the machine decides.", value=round(left_s, 1),
        )  # fmt: skip


def check_proposer(situation: Situation) -> Iterator[Reason]:
    """Who proposed must still be at work here, and the machine in use."""
    if not situation.order.is_proposer_active:
        yield _refuse(
            Code.PROPOSER_INACTIVE,
            f"{situation.order.proposer_name} is not active here.",
            "An admin may activate it again.",
        )
    if situation.is_machine_archived:
        yield _refuse(Code.MACHINE_ARCHIVED, f"{situation.machine_name} is archived.", "Order on a machine in use.")


def check_expiry(situation: Situation) -> Iterator[Reason]:
    """At its deadline an order is over: half-open, the deadline itself is too late."""
    if situation.now >= situation.order.expires_at:
        late_s = (situation.now - situation.order.expires_at).total_seconds()
        yield _refuse(
            Code.EXPIRED,
            "The order's time has run out.",
            "Propose it again if it is still right.",
            value=round(late_s, 3),
            bound=0,
        )


def check_halt(situation: Situation) -> Iterator[Reason]:
    """An open halt, or a latched keeper, refuses all but a person's less heat."""
    if not situation.halts and not situation.keeper_latched:
        return
    if not situation.order.is_by_agent and situation.is_heat_down:
        return
    names = ", ".join(sorted({halt.code or halt.kind for halt in situation.halts})) or "the keeper is latched"
    yield _refuse(
        Code.HALTED,
        f"{situation.machine_name} is halted ({names}).",
        "A lead resets the halt when the machine is safe; a lost link is cleared by the operator who looked.",
        value=names,
    )


def check_suspension(situation: Situation) -> Iterator[Reason]:
    """ "I have it": a person took the machine; agents may not act."""
    if situation.order.is_by_agent and situation.suspended_by is not None:
        yield _refuse(
            Code.SUSPENDED,
            f"{situation.suspended_by} has {situation.machine_name}: agents are suspended here.",
            "A person gives it back.",
            value=situation.suspended_by,
        )


def check_orders_paused(situation: Situation) -> Iterator[Reason]:
    """After a replug nothing is ordered until a person resumes; a person may still lower the heat."""
    if not situation.is_orders_paused or (not situation.order.is_by_agent and situation.is_heat_down):
        return
    yield _refuse(
        Code.ORDERS_PAUSED,
        f"Orders to {situation.machine_name} are paused since its link was lost.",
        "An operator looks at the machine and resumes orders.",
    )


def check_store(situation: Situation) -> Iterator[Reason]:
    """Without the store: no agents' orders, no heat-up."""
    if situation.is_store_reachable or not (situation.order.is_by_agent or situation.is_heat_up):
        return
    yield _refuse(
        Code.STORE_UNREACHABLE, "The store cannot be reached.", "Wait until it answers; STOP works without it."
    )


def check_reading(situation: Situation) -> Iterator[Reason]:
    """A reading must be there, fresh enough for the direction, and good in the fields the order rests on. A source
    slower than ours is fresh for 2.5 of its own intervals."""
    reading, policy = situation.reading, situation.policy
    if reading is None:
        yield _refuse(
            Code.READING_UNKNOWN,
            f"There is no reading of {situation.machine_name}.",
            "Connect the machine; see its card for the cause.",
        )
        return
    if reading.link != "up":
        yield _refuse(
            Code.LINK_DOWN,
            f"The link to {situation.machine_name} is {reading.link}.",
            "Connect the machine; see its card for the cause.",
            value=reading.link,
            bound="up",
        )
    bound_s = longest_age_s(policy.max_age_heat_up_s if situation.is_heat_up else policy.max_age_s, reading.interval_s)
    if not -policy.max_clock_skew_s <= reading.age_s <= bound_s:  # NaN fails it too
        yield _refuse(
            Code.STALE_READING,
            f"The newest reading is {reading.age_s:.1f} s old; {'more heat' if situation.is_heat_up else 'this'}"
            f" needs one of at most {bound_s:g} s.",
            "Wait for a fresh reading, then propose again.",
            value=round(reading.age_s, 3),
            bound=bound_s,
        )
    yield from _check_fields(situation)


def _check_fields(situation: Situation) -> Iterator[Reason]:
    reading, control = situation.reading, situation.order.control
    if reading is None:
        return
    if control and reading.steps.get(control) is None:
        yield _refuse(
            Code.READING_UNKNOWN,
            f"The {control}'s setting is not known.",
            "Wait for a reading that has it.",
            value=control,
        )
    needed = [f"{control}_step"] if control else []
    if situation.is_heat_up and control:
        needed.append("bean_temp_c")
        if reading.bean_temp_c is None:
            yield _refuse(
                Code.READING_UNKNOWN,
                "The bean temperature is not known: no more heat.",
                "Check the probe.",
                value="bean_temp_c",
            )
    for name in needed:
        if reading.quality.get(name, "fresh") != "fresh":
            yield _refuse(
                Code.POOR_QUALITY,
                f"{name} is {reading.quality[name]}.",
                "Check the sensor, wait for a good reading.",
                value=reading.quality[name],
                bound="fresh",
            )


def check_state(situation: Situation) -> Iterator[Reason]:
    """The machine must be in a state in which its kind's table allows the order; unknown never is."""
    order, table = situation.order, table_of(situation.machine_kind)
    state = situation.reading.state if situation.reading else "unknown"
    is_up = order.control == "heater" and situation.is_heat_up
    allowed = table.heat_up if is_up else table.allowed.get(order.order_type, frozenset())
    if not table.allowed.get(order.order_type):
        yield _refuse(
            Code.NOT_BY_WIRE,
            f"{situation.machine_name} ({situation.machine_kind}) cannot be asked for {order.order_type.value}.",
            "Do it by hand at the machine.",
            value=situation.machine_kind,
        )
    elif order.control == "heater" and state in FIRMWARE_OWNS_HEAT:
        yield _refuse(
            Code.FIRMWARE_OWNS_HEAT,
            f"While {state} the machine's firmware holds the heater.",
            "Wait until it roasts; to stop the heat now use STOP and the panel.",
            value=state,
            bound="roasting",
        )
    elif state not in allowed:
        yield _refuse(
            Code.WRONG_STATE,
            f"{order.order_type.value} is not possible while the machine is {state}.",
            f"Possible while: {', '.join(sorted(allowed))}.",
            value=state,
            bound=sorted(allowed),
        )
    yield from _check_asked_states(order.constraints, state)


def _check_asked_states(constraints: Constraints, state: str) -> Iterator[Reason]:
    if constraints.require_states and state not in constraints.require_states:
        yield _refuse(
            Code.WRONG_STATE,
            f"The proposer asked for another state than {state}.",
            "Wait for it, or propose without require_states.",
            value=state,
            bound=sorted(constraints.require_states),
        )
    if state in constraints.forbidden_states:
        yield _refuse(
            Code.WRONG_STATE,
            f"The proposer ruled out the state {state}.",
            "Wait, or propose without forbidden_states.",
            value=state,
            bound=sorted(constraints.forbidden_states),
        )


def check_beans(situation: Situation) -> Iterator[Reason]:
    """An agent turns the heater up only with beans proved in the drum. (A preheat is of an empty one; a charge
    brings them.)"""
    is_heater = situation.order.control == "heater"
    if situation.order.is_by_agent and is_heater and situation.is_heat_up and not situation.are_beans_proved:
        yield _refuse(
            Code.BEANS_NOT_PROVED,
            "No beans are proved in the drum: an agent may not add heat.",
            "The probe must fall at least 25 °C within 20 s of the charge; else a person orders.",
        )


def check_envelope(situation: Situation) -> Iterator[Reason]:
    """The target must convert, and lie within the machine's limits and the proposer's stricter ones."""
    order, limits = situation.order, situation.limits
    if order.misfit is not None:
        code, message, how_to_fix = order.misfit
        yield _refuse(Code(code), message, how_to_fix)
        return
    if not order.control:
        yield from _check_preheat(situation)
        return
    if limits is None:
        yield _refuse(
            Code.NO_ENVELOPE,
            f"{situation.machine_name} has no limits for its {order.control}.",
            "A lead sets the machine's envelope.",
        )
        return
    if order.target_step is None:
        yield _refuse(
            Code.TARGET_MISSING, f"{order.order_type.value} needs a target.", "Send target_value and target_unit."
        )
        return
    yield from _check_range(order.control, order.target_step, limits, order.constraints)


def _check_preheat(situation: Situation) -> Iterator[Reason]:
    """A preheat temperature lies in the kind's range, under the envelope's highest and the proposer's stricter ones."""
    order, range_c = situation.order, table_of(situation.machine_kind).preheat_range_c
    if order.preheat_c is None:
        return
    asked, highest_c = order.constraints, situation.max_preheat_temp_c
    if range_c is None or highest_c is None:
        yield _refuse(
            Code.TARGET_NOT_SUPPORTED,
            f"{order.order_type.value} takes no target on this machine.",
            "Leave target_value and target_unit out; the preheat temperature is set at the panel.",
        )
        return
    low = max(range_c[0], asked.min_step if asked.min_step is not None else range_c[0])
    high = min(range_c[1], math.floor(highest_c), asked.max_step if asked.max_step is not None else range_c[1])
    if not low <= order.preheat_c <= high:
        yield _refuse(
            Code.PREHEAT_OUT_OF_RANGE,
            f"{situation.machine_name} preheats to {low} to {high} °C here, not to {order.preheat_c} °C.",
            "Ask for a temperature between them; a lead sets the highest in the machine's envelope.",
            value=order.preheat_c,
            bound=[low, high],
        )


def _check_range(control: str, target: int, limits: Limits, asked: Constraints) -> Iterator[Reason]:
    ceiling = limits.max_step if asked.max_step is None else min(limits.max_step, asked.max_step)
    floor = limits.min_step if asked.min_step is None else max(limits.min_step, asked.min_step)
    if target > ceiling:
        yield _refuse(
            Code.ABOVE_CEILING,
            f"{control} {target} is above the ceiling of {ceiling}.",
            f"Ask for at most {ceiling}.",
            value=target,
            bound=ceiling,
        )
    if target < floor:
        yield _refuse(
            Code.BELOW_FLOOR,
            f"{control} {target} is below the floor of {floor}.",
            f"Ask for at least {floor}.",
            value=target,
            bound=floor,
        )


def check_change(situation: Situation) -> Iterator[Reason]:
    """The longest single move: an agent's by the envelope, anybody's by their own constraint."""
    order, limits, start = situation.order, situation.limits, situation.from_step
    if order.target_step is None or not order.control or start is None:
        return  # the envelope and reading rules have refused already
    bounds = [order.constraints.max_change_step] if order.constraints.max_change_step is not None else []
    if order.is_by_agent and limits is not None:
        bounds.append(limits.max_change_step)
    change = abs(order.target_step - start)
    if bounds and change > min(bounds):
        yield _refuse(
            Code.CHANGE_TOO_LARGE,
            f"A move of {change} steps ({start} to {order.target_step}) is too long.",
            f"Move at most {min(bounds)} steps at once.",
            value=change,
            bound=min(bounds),
        )


def check_interval(situation: Situation) -> Iterator[Reason]:
    """Agents' orders on one control keep their distance; exactly the interval is far enough. Less heat is exempt."""
    order, limits, last = situation.order, situation.limits, situation.recent.last_on_control_at
    if not order.is_by_agent or situation.is_safe_direction or last is None or not order.control:
        return
    asked_s = order.constraints.min_interval_s or 0.0
    bound_s = max(limits.min_interval_s if limits else 0.0, asked_s)
    elapsed_s = (situation.now - last).total_seconds()
    if elapsed_s < bound_s:
        yield _refuse(
            Code.TOO_SOON,
            f"The last agent's order on the {order.control} was {elapsed_s:.1f} s ago.",
            f"Wait {bound_s - elapsed_s:.1f} s more.",
            value=round(elapsed_s, 3),
            bound=bound_s,
        )


def check_ramp(situation: Situation) -> Iterator[Reason]:
    """Change per second since the last agent's order on this control; exactly the bound is slow enough. Less heat is
    exempt. A last order in the future (a clock that was set back) leaves no time at all."""
    order, limits, last, start = (
        situation.order, situation.limits, situation.recent.last_on_control_at, situation.from_step,
    )  # fmt: skip
    if not order.is_by_agent or situation.is_safe_direction or last is None:
        return
    if order.target_step is None or start is None or order.target_step == start:
        return  # no change; or the envelope and reading rules have refused already
    asked = [order.constraints.max_ramp_step_per_s, limits.max_ramp_step_per_s if limits else None]
    bounds = [bound for bound in asked if bound is not None]
    change, elapsed_s = abs(order.target_step - start), (situation.now - last).total_seconds()
    if bounds and (elapsed_s <= 0 or change / elapsed_s > min(bounds)):
        yield _refuse(
            Code.RAMP_TOO_STEEP,
            f"{change} steps {elapsed_s:.1f} s after the last agent's order on the {order.control} are too fast.",
            f"At most {min(bounds):g} steps per second: wait, or ask for less.",
            value=round(change / elapsed_s, 4) if elapsed_s > 0 else None,
            bound=min(bounds),
        )


def check_counts(situation: Situation) -> Iterator[Reason]:
    """Agents' orders per control in 24 hours and per roast. Less heat is exempt."""
    order, limits, recent = situation.order, situation.limits, situation.recent
    if not order.is_by_agent or situation.is_safe_direction or limits is None:
        return
    daily = limits.daily_count
    if order.constraints.daily_count is not None:
        daily = min(daily, order.constraints.daily_count)
    if recent.day_count >= daily:
        yield _refuse(
            Code.DAILY_COUNT,
            f"{recent.day_count} agents' orders moved the {order.control} in 24 hours.",
            "A person may order.",
            value=recent.day_count,
            bound=daily,
        )
    if situation.roast_id is not None and recent.roast_count >= limits.roast_count:
        yield _refuse(
            Code.ROAST_COUNT,
            f"{recent.roast_count} agents' orders moved the {order.control} in this roast.",
            "A person may order.",
            value=recent.roast_count,
            bound=limits.roast_count,
        )


def check_session(situation: Situation) -> Iterator[Reason]:
    """Agents' orders of all kinds in one roast. Less heat is exempt."""
    if not situation.order.is_by_agent or situation.is_safe_direction or situation.roast_id is None:
        return
    count, bound = situation.recent.session_count, situation.policy.session_limit
    if count >= bound:
        yield _refuse(
            Code.SESSION_LIMIT,
            f"Agents have given {count} orders in this roast.",
            "A person may order.",
            value=count,
            bound=bound,
        )


def check_failure_rate(situation: Situation) -> Iterator[Reason]:
    """An agent whose settled orders here fail more than the threshold stops ordering. 0.30 passes, 0.31 does not."""
    recent, policy = situation.recent, situation.policy
    if not situation.order.is_by_agent or recent.settled_count < policy.failure_min_settled:
        return
    rate = recent.failed_count / recent.settled_count
    if rate > policy.failure_threshold:
        yield _refuse(
            Code.FAILURE_RATE,
            f"{recent.failed_count} of the last {recent.settled_count} orders failed.",
            "Find out why they fail; the window moves on.",
            value=round(rate, 4),
            bound=policy.failure_threshold,
        )


def check_conflict(situation: Situation) -> Iterator[Reason]:
    """One unsettled order per control.

    A person's order supersedes what is not on the wire yet (the services do that), and their less heat waits for
    nothing: the loop sends one order after the other, each an absolute setting.
    """
    order = situation.order
    for other in situation.unsettled:
        if other.control != order.control or other.proposal_id == order.proposal_id:
            continue
        if order.plan_id and other.plan_id == order.plan_id:
            continue  # orders of one plan wait for each other
        is_on_wire = Status(other.status) in ON_THE_WIRE
        if not order.is_by_agent and (not is_on_wire or situation.is_safe_direction):
            continue
        if situation.phase is Phase.DISPATCH and not is_on_wire:
            continue
        yield _refuse(
            Code.CONFLICT,
            f"Another order on this control is {other.status} (by {other.proposer_name}).",
            "Wait until it is settled.",
            value=other.proposal_id,
        )


def check_void(situation: Situation) -> Iterator[Reason]:
    """At dispatch an agent's order, and a person's that had to wait for a second person's yes, is void when its
    grounds have gone: see ``void_reason``. A person's order that ran at once waited for nobody."""
    order = situation.order
    if situation.phase is not Phase.DISPATCH or not (order.is_by_agent or order.is_approved):
        return
    reason = void_reason(order.seen, situation.reading, situation.policy)
    if reason is not None:
        yield reason


def void_reason(seen: Seen | None, reading: ReadingLook | None, policy: Policy) -> Reason | None:
    """Why a held order no longer stands on what was seen when it was proposed; None while it does.

    Any control that reads another step than then voids it. While roasting, so does a bean temperature further than
    the tolerance from the prediction, a straight line: temperature then, plus the causal rate of rise then times the
    device minutes since (45 s at most, over which a roast's rate changes by about 2 °C/min, an error under 1 °C).
    With no rate known the line is flat. Out of a roast only the controls count: the firmware moves the temperature.
    """
    if seen is None:
        return _refuse(
            Code.CONTROL_MOVED, "What the machine read when this was proposed is not known.", "Propose again."
        )
    if reading is None:
        return None  # transient; the reading rule refuses at dispatch
    for control, then in seen.steps.items():
        now = reading.steps.get(control)
        if then is not None and now is not None and now != then:
            return _refuse(
                Code.CONTROL_MOVED,
                f"The {control} was {then} when this was proposed and is {now} now.",
                "Propose again from what stands now.",
                value=now,
                bound=then,
            )
    return _left_prediction(seen, reading, policy)


def _left_prediction(seen: Seen, reading: ReadingLook, policy: Policy) -> Reason | None:
    if seen.state != "roasting" or reading.state != "roasting":
        return None
    if seen.bean_temp_c is None or seen.device_ms is None or reading.bean_temp_c is None:
        return None
    minutes = (reading.device_ms - seen.device_ms) / 60_000
    predicted_c = seen.bean_temp_c + (seen.rate_of_rise_c_per_min or 0.0) * minutes
    away_c = abs(reading.bean_temp_c - predicted_c)
    if away_c <= policy.prediction_tolerance_c:
        return None
    return _refuse(
        Code.LEFT_PREDICTION,
        f"The beans are at {reading.bean_temp_c:.1f} °C; {predicted_c:.1f} °C was expected by now.",
        "Propose again from what stands now.",
        value=round(away_c, 2),
        bound=policy.prediction_tolerance_c,
    )
