"""Rules about plans: several orders as one, decided as one."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, precondition, rule

from simulation.oracle import Plan
from simulation.rules.base import OPERATORS, SETTINGS, Stage, a_step, number, pick
from simulation.rules.play_plans import PlanPlay

_PARTS = st.lists(st.tuples(SETTINGS, st.sampled_from([-2, -1, -1, 0, 1, 1, 2])), min_size=1, max_size=3)


class PlanRules(Stage):
    """See the module."""

    play: PlanPlay
    orders = Bundle("orders")

    def open_plans(self) -> list[Plan]:
        return [plan for plan in self.play.model.plans.values() if plan.is_open]

    def quiet_plans(self) -> list[Plan]:
        """Open ones with nothing on the wire (one is left there where its worker died)."""
        orders = self.play.model.orders
        return [plan for plan in self.open_plans()
                if not any(orders[each].status in ("EXECUTING", "IN_DOUBT") for each in plan.order_ids)]  # fmt: skip

    @precondition(lambda self: not self.is_in_trouble())
    @rule(target=orders, parts=_PARTS,
          name=st.sampled_from(["steady", "steady", "operator", "second", "eager", "viewer", "stranger"]),
          verb=st.sampled_from(["", "approve", "approve", "reject", "veto", "abort", "part", "wrong"]))  # fmt: skip
    @a_step
    def somebody_proposes_a_plan(self, name: str, parts: list[tuple[str, int]], verb: str) -> Any:
        """Each order is ``shift`` steps from where its control stands now."""
        known = set(self.play.model.plans)
        asked = [self._asked(order_type, shift) for order_type, shift in parts]
        found = self._proposed(self.play.propose_plan(name, asked))
        plan = next((plan for plan_id, plan in self.play.model.plans.items() if plan_id not in known), None)
        if verb and plan is not None and plan.is_open:
            self.play.settle()
            if plan in self.quiet_plans():
                self._decide_plan(verb, "lead", plan)
        return found

    @precondition(lambda self: bool(self.quiet_plans()))
    @rule(index=number, name=st.sampled_from([*OPERATORS, *OPERATORS, "viewer", "stranger", "steady", "eager"]),
          is_digest_right=st.booleans(),
          verb=st.sampled_from(["approve", "approve", "reject", "veto", "abort", "part"]))  # fmt: skip
    @a_step
    def somebody_decides_a_plan(self, index: int, name: str, verb: str, is_digest_right: bool) -> None:
        plan = pick(self.quiet_plans(), index)
        if verb == "approve":
            self.play.act(self.play.approve_plan(name, plan, is_digest_right=is_digest_right))
        else:
            self._decide_plan(verb, name, plan)

    @precondition(lambda self: not self.is_in_trouble() and not self.play.is_disturbed)
    @rule(target=orders, fault=st.sampled_from(["nak", "dropped_step", "doubled_step", "keeper killed"]),
          name=st.sampled_from(["operator", "second"]), shift=st.sampled_from([-2, -1, 1, 2]))  # fmt: skip
    @a_step
    def a_plan_goes_wrong(self, fault: str, name: str, shift: int) -> Any:
        """Its first order is not confirmed: the second is never sent."""
        play = self.play
        play.disturb(fault, 3.0)
        if fault == "keeper killed":
            play.house.deaths.plan("wire_after", 1, "keeper")
        else:
            play.house.machine.act("fault", fault={"nak": "nak@0+1"}.get(fault, fault))
        asked = [self._asked("SET_FAN", shift), self._asked("SET_DRUM", -1)]
        found = self._proposed(play.propose_plan(name, asked))
        play.house.pass_time(0.8)
        self._count_deaths()
        return found

    def _decide_plan(self, verb: str, name: str, plan: Plan) -> None:
        parts = [self.play.model.orders[each] for each in plan.order_ids]
        held = [order for order in parts if order.status == "PENDING_APPROVAL"] or parts
        act = {
            "part": lambda: self.play.approve(name, held[-1]),
            "wrong": lambda: self.play.approve_plan(name, plan, is_digest_right=False),
            "approve": lambda: self.play.approve_plan(name, plan), "reject": lambda: self.play.reject_plan(name, plan),
            "veto": lambda: self.play.veto_plan(name, plan), "abort": lambda: self.play.abort_plan(name, plan),
        }[verb]()  # fmt: skip
        self.play.act(act)
