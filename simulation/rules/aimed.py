"""Rules that bring about what chance alone would rarely: the very moment of a deadline, two people's yes, one's own
order judged, an advice adopted twice, a distance kept to the millisecond. Each makes for itself what it needs.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, multiple, precondition, rule

from simulation.oracle import Asked, Order, Plan
from simulation.rules.base import a_step, number, pick
from simulation.rules.plans import PlanRules
from simulation.rules.play import SWEEP_LATE_S

#: From here, at most, four steps more heat are within the range, and matter so much that two people decide.
GRAVE_FROM_STEP, GRAVE_SHIFT = 3, 4
#: So many steps that an agent must keep its distance for their sake, and not only for the interval's.
STEEP = {"SET_POWER": 3, "SET_FAN": 4, "SET_DRUM": 1}
LATE_STEPS = 16  # a roast that is over offers little more


class AimedRules(PlanRules):
    """See the module."""

    orders = Bundle("orders")

    def a_held_order(self, index: int, expires_in_s: float | None = None) -> tuple[Order | None, list[str]]:
        """One that waits for a person, and those that had to be made for it. (None: nothing was let wait.)"""
        held = [order for order in self.held() if not order.plan]
        if held and expires_in_s is None:
            return pick(held, index), []
        play, grant = self.play, self.play.model.grant_of("eager")
        for old in held:
            play.act(play.reject("lead", old, "WRONG_TIMING"))
        if grant is None or grant.level != "L3" or grant.order_types or grant.expires_s is not None:
            self._grant("lead", "eager", "L3", [], None)
        shift = -1 if index % 2 else 1
        self._keep_distance("SET_FAN", shift, 0.0)
        made = self._proposed(play.propose("eager", self._asked("SET_FAN", shift, expires_in_s=expires_in_s))).values
        order = play.model.orders[made[0]] if made else None
        return (order if order is not None and order.status == "PENDING_APPROVAL" else None), list(made)

    def is_quiet(self) -> bool:
        return not self.is_in_trouble() and not self.play.is_disturbed

    # -- deciding --

    @precondition(lambda self: self.is_quiet())
    @rule(target=orders, people=st.sampled_from([("second", "lead"), ("operator", "second"), ("lead", "operator")]),
          is_asked_again=st.booleans(), last=st.sampled_from(["approve", "approve", "reject"]))  # fmt: skip
    @a_step
    def two_people_must_agree(self, people: tuple[str, str], is_asked_again: bool, last: str) -> Any:
        """Much more heat at once needs two people: one yes, even said twice, leaves it waiting."""
        play, found = self.play, list[str]()
        if (play.seen.steps.get("heater") or 0) > GRAVE_FROM_STEP:
            lower = self._asked("SET_POWER", GRAVE_FROM_STEP - (play.seen.steps["heater"] or 0))
            found += self._proposed(play.propose("operator", lower)).values
            play.settle()
        self._keep_distance("SET_POWER", GRAVE_SHIFT, 0.0)
        found += self._proposed(play.propose("steady", self._asked("SET_POWER", GRAVE_SHIFT))).values
        order = play.model.orders[found[-1]] if found else None
        if order is None or order.status != "PENDING_APPROVAL":
            return multiple(*found)
        if order.needed > 1:
            play.sometimes.met("boundary", "two people")
        play.act(play.approve(people[0], order))
        if is_asked_again:
            play.act(play.approve(people[0], order))
        play.act(self._decision(last, people[1], order))
        return multiple(*found)

    @precondition(lambda self: not self.is_in_trouble())
    @rule(target=orders, index=number, is_own=st.booleans(),
          verb=st.sampled_from(["approve", "approve", "review", "reject"]))  # fmt: skip
    @a_step
    def somebody_judges_their_own(self, index: int, is_own: bool, verb: str) -> Any:
        """Nobody says yes to their own order, nor to their agent's, nor reviews it. (Turning it down, they may.)"""
        play, model, made = self.play, self.play.model, list[str]()
        if is_own:
            made = list(self._proposed(play.propose("second", self._asked("SET_FAN", -1 if index % 2 else 1))).values)
            if made:
                play.act(self._decision(verb, "second", model.orders[made[0]]))
            return multiple(*made)
        ran = [order for order in model.orders.values() if model.is_reviewable(order)]
        order: Order | None = pick(ran, index) if verb == "review" and ran else None
        if order is None:
            order, made = self.a_held_order(index)
        if order is not None:
            play.act(self._decision(verb, play.who(order.proposer).owner, order))
        return multiple(*made)

    @precondition(lambda self: not self.is_in_trouble())
    @rule(target=orders, index=number, verb=st.sampled_from(["approve", "reject", "adopt"]),
          early_s=st.sampled_from([0.0, 0.0, 0.001]))  # fmt: skip
    @a_step
    def somebody_decides_at_the_last_moment(self, index: int, verb: str, early_s: float) -> Any:
        """The deadline itself is too late; a millisecond before it is not."""
        play = self.play
        order, made = self.a_held_order(index, expires_in_s=2.4)
        if order is None:
            return multiple(*made)
        self._wait_until(order.expires_s - early_s)
        if verb == "adopt":
            made += self._proposed(play.adopt("operator", order)).values
        else:
            play.act(self._decision(verb, "lead", order))
        play.sometimes.met("boundary", f"{verb} {'at' if not early_s else 'before'} the deadline")
        return multiple(*made)

    @precondition(lambda self: not self.is_in_trouble())
    @rule(target=orders, index=number, verb=st.sampled_from(["reject", "abort", "adopt", "approve"]),
          name=st.sampled_from(["operator", "lead", "steady", "eager", "viewer", "stranger"]))  # fmt: skip
    @a_step
    def somebody_decides_what_waits(self, index: int, verb: str, name: str) -> Any:
        """Something waits whenever somebody comes to decide."""
        order, made = self.a_held_order(index)
        if order is None:
            return multiple(*made)
        if verb == "adopt":
            return multiple(*made, *self._proposed(self.play.adopt(name, order)).values)
        self.play.act(self._decision(verb, name, order))
        return multiple(*made)

    @precondition(lambda self: not self.is_in_trouble())
    @rule(target=orders, expires_in_s=st.sampled_from([2.0, 3.0]), index=number)
    @a_step
    def nobody_decides(self, expires_in_s: float, index: int) -> Any:
        """What nobody decides is over at its deadline."""
        _, made = self.a_held_order(index, expires_in_s=expires_in_s)
        self.play.house.pass_time(expires_in_s + SWEEP_LATE_S)
        return multiple(*made)

    @precondition(lambda self: self.is_quiet())
    @rule(target=orders, verb=st.sampled_from(["veto", "veto", "approve", "wait", "review"]),
          name=st.sampled_from(["operator", "second", "owner", "lead", "viewer"]))  # fmt: skip
    @a_step
    def an_agent_acts_by_itself(self, verb: str, name: str) -> Any:
        """At level 4 it may be vetoed for a while, at level 5 it is looked at afterwards."""
        play, level = self.play, "L5" if verb == "review" else "L4"
        grant = play.model.grant_of("eager")
        if not play.model.is_attended(play.now_s + 30.0):
            self._attend("operator")
        if grant is None or grant.level != level or grant.order_types or grant.expires_s is not None:
            self._grant("lead", "eager", level, [], None)
        made = self._proposed(play.propose("eager", self._asked("SET_FAN", 1))).values
        order = play.model.orders[made[0]] if made else None
        if order is None or order.decision not in ("VETO", "ALLOW"):
            return multiple(*made)
        if verb == "wait":
            play.house.pass_time(17.0)
        elif verb == "review":
            play.settle()
            if play.model.is_reviewable(order):
                play.act(play.review("owner" if name == "viewer" else name, order))
        else:
            play.act(self._decision(verb, name, order))
        return multiple(*made)

    @precondition(lambda self: self.is_quiet())
    @rule(target=orders, index=number, name=st.sampled_from(["lead", "operator", "second", "steady", "viewer"]),
          verb=st.sampled_from(["part", "part", "wrong", "approve", "reject", "veto", "abort"]))  # fmt: skip
    @a_step
    def somebody_decides_a_held_plan(self, index: int, name: str, verb: str) -> Any:
        """As one, by its own digest; no part of it alone."""
        made = list[str]()
        plans = [plan for plan in self.quiet_plans() if self._is_held(plan)]
        if not plans:
            made = self._a_plan_of_eager()
            plans = [plan for plan in self.quiet_plans() if self._is_held(plan)]
        if plans:
            self._decide_plan(verb, name, pick(plans, index))
        return multiple(*made)

    def _is_held(self, plan: Plan) -> bool:
        orders = self.play.model.orders
        return all(orders[each].status == "PENDING_APPROVAL" for each in plan.order_ids)

    def _a_plan_of_eager(self) -> list[str]:
        """The fan one step up, then another: nobody has trusted the agent with more than asking."""
        play, grant = self.play, self.play.model.grant_of("eager")
        if grant is None or grant.level != "L3" or grant.order_types or grant.expires_s is not None:
            self._grant("lead", "eager", "L3", [], None)
        for old in self.held():
            if old.control == "fan" and not old.plan:
                play.act(play.reject("lead", old, "WRONG_TIMING"))
        self._keep_distance("SET_FAN", 1, 0.0)
        asked = [self._asked("SET_FAN", shift) for shift in (1, 2)]
        return list(self._proposed(play.propose_plan("eager", asked)).values)

    # -- keeping one's distance --

    @precondition(lambda self: self.is_quiet())
    @rule(target=orders, order_type=st.sampled_from(["SET_DRUM", "SET_POWER", "SET_POWER", "SET_FAN"]),
          is_far=st.booleans(), times=st.sampled_from([2, 2, 3]),
          early_s=st.sampled_from([0.0, 0.0, 0.001]))  # fmt: skip
    @a_step
    def an_agent_comes_again_as_soon_as_it_may(self, order_type: str, is_far: bool, times: int, early_s: float) -> Any:
        """Exactly the distance is far enough; a millisecond less is not. The third on the drum is one too many."""
        play, found = self.play, list[str]()
        if order_type == "SET_POWER" and (play.seen.steps.get("heater") or 0) > GRAVE_FROM_STEP:
            lower = self._asked("SET_POWER", GRAVE_FROM_STEP - (play.seen.steps["heater"] or 0))
            found += self._proposed(play.propose("operator", lower)).values
            play.settle()
        for turn in range(times):
            shift = self._with_room(order_type, STEEP[order_type] if is_far and turn else 1)
            self._keep_distance(order_type, shift, early_s)
            made = self._proposed(play.propose("steady", self._asked(order_type, shift))).values
            found += made
            play.settle()
            order = play.model.orders[made[0]] if made else None
            if order is not None and order.status == "PENDING_APPROVAL":
                play.act(play.approve("lead", order))
                play.settle()
        return multiple(*found)

    def _with_room(self, order_type: str, size: int) -> int:
        """Up, unless that would end at the top. (Less heat knows no distance, so heat goes up.)"""
        control = {"SET_POWER": "heater", "SET_FAN": "fan", "SET_DRUM": "drum"}[order_type]
        stands, highest = self.play.seen.steps.get(control), self.play.model.limits[control].high
        return -size if control != "heater" and (stands or 0) + size > highest else size

    @precondition(lambda self: self.is_quiet())
    @rule(target=orders, order_type=st.sampled_from(["SET_POWER", "SET_POWER", "SET_DRUM", "SET_FAN"]))
    @a_step
    def a_plan_keeps_its_distance(self, order_type: str) -> Any:
        """Two orders of an agent on one control, as one plan: the second waits until it is far enough."""
        play = self.play
        known = set(play.model.plans)
        shifts = (1, 3) if order_type == "SET_POWER" else (-1, 1)
        start = play.seen.steps.get({"SET_POWER": "heater", "SET_FAN": "fan", "SET_DRUM": "drum"}[order_type])
        if start is None:
            return multiple()
        asked = [self._asked(order_type, shift) for shift in shifts]
        found = self._proposed(play.propose_plan("steady", asked))
        plan = next((plan for plan_id, plan in play.model.plans.items() if plan_id not in known), None)
        if plan is not None and plan.is_open:
            play.settle()
            if plan in self.quiet_plans():
                self._decide_plan("approve", "lead", plan)
            play.house.pass_time(4.8)
        return found

    # -- trusting --

    @precondition(lambda self: not self.is_in_trouble())
    @rule(target=orders, level=st.sampled_from(["L1", "L2", "L2", "L3"]),
          types=st.sampled_from([[], ["SET_FAN"], ["SET_DRUM"]]),
          name=st.sampled_from(["operator", "lead"]))  # fmt: skip
    @a_step
    def an_agent_comes_with_its_new_grant(self, level: str, types: list[str], name: str) -> Any:
        """What it says is an order, or advice, or nothing. Advice is adopted once."""
        play = self.play
        self._grant("lead", "eager", level, types, None)
        found = list(self._proposed(play.propose("eager", self._asked("SET_FAN", 1))).values)
        advice = play.model.orders[found[0]] if found else None
        if advice is not None and advice.is_advice:
            found += self._proposed(play.adopt(name, advice)).values
            found += self._proposed(play.adopt("second", advice)).values
        return multiple(*found)

    # -- what befalls what waits --

    @precondition(lambda self: self.is_quiet())
    @rule(target=orders, index=number, what=st.sampled_from(["unplug", "suspend", "suspend", "stop", "revoke"]))
    @a_step
    def something_befalls_what_waits(self, index: int, what: str) -> Any:
        """A held order does not outlive the cable, a person who takes the machine, nor STOP; a grant, it may."""
        play = self.play
        _, made = self.a_held_order(index)
        if what == "unplug":
            self._unplug()
        elif what == "suspend":
            self._suspend("operator")
        elif what == "stop":
            self._stop("second")
        else:
            grant = play.model.grant_of("eager")
            if grant is not None:
                self._revoke("lead", grant)
        return multiple(*made)

    @precondition(lambda self: self.is_quiet() and self.steps_done >= LATE_STEPS and self.is_roasting())
    @rule(target=orders, order_type=st.sampled_from(["COOL", "DROP"]))
    @a_step
    def the_roast_ends(self, order_type: str) -> Any:
        """An agent that would heat on finds no beans any more."""
        found = list(self._proposed(self.play.propose("operator", Asked(order_type))).values)
        self.play.settle()
        self.play.house.pass_time(2.0)
        self.play.settle()
        found += self._proposed(self.play.propose("steady", self._asked("SET_POWER", 1))).values
        return multiple(*found)

