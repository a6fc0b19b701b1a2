"""Plans in an example: proposed, decided, followed order by order, and stopped at the first that is not confirmed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simulation import oracle, oracle_plans
from simulation.house import Answer
from simulation.oracle import Asked, Look, Order, Person, Place, Plan
from simulation.rules.play import Act, Broken, Play

#: An order of a plan that is due goes on the wire within this.
DUE_LATE_S = 4.0


class PlanPlay(Play):
    """See the module."""

    # -- acting --

    def propose_plan(self, name: str, asked: Sequence[Asked]) -> Act:
        who, now_s, look = self.who(name), self.now_s, self.seen
        verdicts = oracle_plans.judge(self.model, who, asked, look, now_s)
        body = {
            "machine_id": self.house.names.machine_id, "title": "simulated", "reasoning": "simulated",
            "orders": [{"order_type": one.order_type, "target_value": one.value, "target_unit": one.unit}
                       for one in asked],
        }  # fmt: skip

        def learn(_answer: Answer) -> None:
            self._file_plan(who, asked, look, now_s, verdicts)

        expected = oracle_plans.propose(self.model, who, verdicts)
        return Act("propose plan", expected, lambda: self.house.post(name, "/v1/plans", body), learn,
                   lambda: bool(self._unknown_rows()))  # fmt: skip

    def _file_plan(
        self, who: Person, asked: Sequence[Asked], look: Look, now_s: float, verdicts: list[oracle.Verdict]
    ) -> None:
        rows = sorted(self._unknown_rows(), key=lambda row: row["plan_position"])
        if len(rows) != len(asked) or len({row["plan_id"] for row in rows}) != 1:
            raise Broken(f"{len(asked)} orders of one plan were expected, {len(rows)} are there")
        places = oracle_plans.places_of(self.model, who, asked, look)
        found = self.watch.plans()[rows[0]["plan_id"]]
        floor = max((self.model.significance(one, look, place) for one, place in zip(asked, places, strict=True)),
                    key=oracle.rank_of)  # fmt: skip
        if found["significance"] != floor:
            raise Broken(f"a plan that contains {floor} is called {found['significance']}")
        plan = Plan(rows[0]["plan_id"], who.name, tuple(row["id"] for row in rows), found["digest"], floor,
                    who.is_agent, verdicts[0].decision != "REFUSE")  # fmt: skip
        for one, place, verdict, row in zip(asked, places, verdicts, rows, strict=True):
            self._file(who, one, look, now_s, verdict, row, None, place=place, plan_id=plan.plan_id)
        self.model.plans[plan.plan_id] = plan

    def _plan_path(self, plan: Plan, verb: str) -> str:
        return f"/v1/plans/{plan.plan_id}/{verb}"

    def approve_plan(self, name: str, plan: Plan, *, is_digest_right: bool = True) -> Act:
        who, now_s = self.who(name), self.now_s
        orders = [self.model.orders[order_id] for order_id in plan.order_ids]
        digest = plan.digest if is_digest_right else "0" * 64

        def learn(_answer: Answer) -> None:
            for order in orders:
                order.approvers = (*order.approvers, name)
                if self.model.is_approved(order):
                    order.decided_s = now_s
                    self._moved(order, "APPROVED")

        return Act(
            "approve plan", oracle_plans.approve(self.model, who, plan, now_s, is_digest_right=is_digest_right),
            lambda: self.house.post(name, self._plan_path(plan, "approve"), {"digest": digest}), learn,
            lambda: name in self.watch.approvers(plan.order_ids[0]) and name not in orders[0].approvers,
        )  # fmt: skip

    def reject_plan(self, name: str, plan: Plan) -> Act:
        first = oracle_plans.first_held(self.model, plan)
        return self._ending("reject", {"code": "WRONG_TIMING"}, name, plan, first, "REJECTED",
                            oracle_plans.reject(self.model, self.who(name), plan, self.now_s))  # fmt: skip

    def veto_plan(self, name: str, plan: Plan) -> Act:
        first = oracle_plans.first_waiting(self.model, plan)
        to = "REJECTED" if first is not None and first.status == "PENDING_APPROVAL" else "ABORTED"
        return self._ending("veto", {}, name, plan, first, to, oracle_plans.veto(self.model, self.who(name), plan))

    def abort_plan(self, name: str, plan: Plan) -> Act:
        first = oracle_plans.first_waiting(self.model, plan)
        return self._ending("abort", {}, name, plan, first, "ABORTED",
                            oracle_plans.abort(self.model, self.who(name), plan))  # fmt: skip

    def _ending(
        self, verb: str, body: dict[str, Any], name: str, plan: Plan, first: Order | None, to: str,
        expected: oracle.Expected,
    ) -> Act:  # fmt: skip
        """An act that ends a plan: its first waiting order goes there, the rest with it."""

        def learn(_answer: Answer) -> None:
            if first is not None:
                self._moved(first, to)

        return Act(
            f"{verb} plan", expected, lambda: self.house.post(name, self._plan_path(plan, verb), body), learn,
            lambda: first is not None and self.watch.status_of(first.order_id) == to != first.status,
        )  # fmt: skip

    # -- what follows --

    def plan_of(self, order: Order) -> Plan | None:
        return self.model.plans.get(order.plan)

    def _moved(self, order: Order, status: str) -> None:
        """What ends an order of a plan ends the plan."""
        super()._moved(order, status)
        plan = self.plan_of(order)
        if plan is None or not oracle_plans.has_stopped(self.model, plan):
            return
        for order_id in plan.order_ids:
            if self.model.orders[order_id].status in oracle.BEFORE_WIRE:
                super()._moved(self.model.orders[order_id], "ABORTED")

    def _place(self, order: Order, since_s: float) -> Place:
        plan = self.plan_of(order)
        return oracle.ALONE if plan is None else oracle_plans.place_of(self.model, plan, order, since_s)

    def _why_not_called_off(self, order: Order, code: str, before: Look) -> str:
        plan = self.plan_of(order)
        if code != "plan_stopped" or plan is None:
            return super()._why_not_called_off(order, code, before)
        rows = {row["id"]: row["status"] for row in self.watch.orders()}
        others = [rows[order_id] for order_id in plan.order_ids if order_id != order.order_id]
        is_stopped = any((each in oracle.SETTLED and each != "COMPLETED") or each == "IN_DOUBT" for each in others)
        # a doubt that was settled as carried out has stopped the plan all the same
        was_doubted = any(self.watch.was_in_doubt(order_id) for order_id in plan.order_ids)
        return "" if is_stopped or was_doubted else "nothing of its plan went wrong"

    def _why_wrong(self, order: Order, row: dict[str, Any], before: Look) -> str:
        """Within a plan distance is kept by waiting: no later order is too soon."""
        plan, code = self.plan_of(order), row["rejection_code"]
        if plan is not None and row["status"] == "REJECTED" and code in ("too_soon", "ramp_too_steep"):
            if self._place(order, before.at_s).own:
                return f"of a plan, it must wait, and was refused: {code}"
        return super()._why_wrong(order, row, before)

    def _read_after(self, order: Order, row: dict[str, Any]) -> int | None:
        """A later order of its plan may have moved the control on: what was read back is written down."""
        plan = self.plan_of(order)
        later = plan.order_ids[plan.order_ids.index(order.order_id) + 1 :] if plan is not None else ()
        if any(self.model.orders[each].control == order.control for each in later):
            step: int | None = row["actual_step"]
            return step
        return super()._read_after(order, row)

    def _may_wait(self, order: Order) -> bool:
        """Of a plan, not yet its turn, or too close to the one before it."""
        plan = self.plan_of(order)
        if plan is None:
            return False
        is_in_turn = oracle_plans.is_in_turn(self.model, plan, order)
        due_s = oracle_plans.due_s(self.model, self.who(order.proposer), plan, order)
        return not is_in_turn or self.now_s < due_s + DUE_LATE_S

    def _check_standing(self, order: Order) -> None:
        plan = self.plan_of(order)
        if plan is not None and oracle_plans.has_stopped(self.model, plan):
            raise Broken(f"{order.order_id} is still {order.status}: its plan has stopped")
        if order.status == "APPROVED" and self._may_wait(order) and self.is_free():
            return
        super()._check_standing(order)

    def is_free(self) -> bool:
        model = self.model
        return not model.halts and not model.is_paused and not model.suspended

    def settle_rows(self) -> None:
        super().settle_rows()
        if self.model.plans:
            self._check_plans()

    def _check_plans(self) -> None:
        """A plan stands where its orders say."""
        rows = self.watch.plans()
        for plan in self.model.plans.values():
            allowed = oracle_plans.statuses_of(self.model, plan)
            status = rows[plan.plan_id]["status"]
            if status not in allowed:
                raise Broken(f"{plan.plan_id} is {status}, expected {sorted(allowed)}")
            plan.is_open = status in ("PENDING_APPROVAL", "APPROVED", "EXECUTING")
            self.sometimes.met("plan", status)
