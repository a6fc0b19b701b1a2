"""One example under way: the house, the model beside it, and what has been seen so far.

Every act goes through :meth:`Play.act`: the model says what must be answered, the house is asked, and any other answer
is a `Broken`. After it :meth:`Play.settle` lets the machine's side catch up and compares every order with the model.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

from drivers.virtual.firmware import TICKS_PER_S
from simulation import invariants, oracle, oracle_breakers, oracle_ways_back
from simulation.house import Answer, House
from simulation.oracle import Asked, Expected, Look, Model, Order, Person, Place
from simulation.rules import known
from simulation.sometimes import Sometimes

STEP_S = 0.4  # one turn of the house
SETTLE_MAX = 10  # turns until an approved order must have gone to the wire
SWEEP_LATE_S = 4.0
#: So long after a change of state the firmware sets fan and drum by itself.
OWN_WITHIN_S = 1.0
DOUBT_S = 14.0  # an order is over 9.5 s after its claim; then a fresh reading settles it
QUIET_AFTER_S = 3.0
#: What a body on the wire may come to when somebody meddles with wire, machine or process.
_WIRE_ENDS = frozenset({"COMPLETED", "FAILED", "IN_DOUBT", "EXECUTING"})


class Broken(AssertionError):
    """The house and the model disagree, or a law of the house is broken."""


@dataclasses.dataclass(slots=True)
class Act:
    """One request: what must be answered, what the model learns when it was done, and how to tell that it was done
    where the process died before it could answer (``happened``)."""

    name: str
    expected: Expected
    send: Callable[[], Answer]
    learn: Callable[[Answer], None] = lambda _answer: None
    happened: Callable[[], bool] = lambda: False


class Play:
    """See the module. ``sometimes`` counts over all examples of a run."""

    def __init__(self, house: House, sometimes: Sometimes, seed: int) -> None:
        self.house = house
        self.sometimes = sometimes
        house.reset(seed)
        self.model = Model(known.people(), known.limits())
        self.watch = invariants.Watch(house, sometimes)
        self.is_disturbed = False  # in this step wire, machine or process was meddled with
        self.was_disturbed_at_s = float("-inf")
        self.seen = self._look()
        self.has_moved = False  # since the last settling
        self.has_stirred = False  # an order went onto the wire meanwhile
        self.doubtful_since: dict[str, float] = {}
        self.unlowered_since: dict[str, float] = {}
        self.was_halted: set[str] = set()
        self.lines: list[str] = []

    # -- looking --

    @property
    def now_s(self) -> float:
        return round(self.house.clock.elapsed_ms / 1000, 6)

    @property
    def machine_path(self) -> str:
        return f"/v1/machines/{self.house.names.machine_id}"

    def who(self, name: str) -> Person:
        return self.model.people[name]

    def _look(self) -> Look:
        """What the loop read last; the last look stands while there is no loop."""
        loop = self.house.loop
        view = loop.keeper_side.view if loop is not None else None
        reading = view.reading if view is not None else None
        if view is None:
            return self.seen
        if reading is None:  # a loop that came when the machine was silent already
            return dataclasses.replace(self.seen, are_beans_proved=view.are_beans_proved)
        at_s = (reading.at - self.house.clock.now()).total_seconds() + self.now_s
        return Look(
            at_s=at_s, state=reading.state.value,
            steps={"heater": reading.heater_step, "fan": reading.fan_step, "drum": reading.drum_step},
            bean_c=reading.bean_temp_c, poor=frozenset(reading.quality), link=view.link,
            are_beans_proved=view.are_beans_proved, is_in_roast=bool(view.roast_id),
            is_latched=view.latch is not None, is_after_crack=self.house.looks.has_cracked(self.house.names.machine_id),
        )  # fmt: skip

    def note(self, line: str) -> None:
        self.lines.append(f"{self.now_s:.3f} {line}")

    def digest(self) -> str:
        """Of everything that happened: the same for the same seed, in every process."""
        text = "\n".join([*self.lines, *self.house.trace])
        return hashlib.sha256(text.encode()).hexdigest()

    # -- acting --

    def disturb(self, what: str, lasts_s: float = 0.0) -> None:
        """Somebody meddles: until things are quiet again the wire may end otherwise than planned."""
        self.is_disturbed = self.has_moved = True
        self.was_disturbed_at_s = max(self.was_disturbed_at_s, self.now_s + lasts_s)
        self.sometimes.met("fault", what)
        self.note(f"fault {what}")

    def noticed(self, what: str) -> None:
        """Something happened that does not meddle with wire or machine: the model goes on expecting everything."""
        self.sometimes.met("fault", what)
        self.note(f"fault {what}")

    def act(self, act: Act) -> Answer:
        """Ask, compare, learn. Broken where the answer is another one."""
        answer = act.send()
        if answer.status == 0:
            self.disturb("web killed")
            if act.happened():
                if act.expected.status >= 400:
                    raise Broken(f"{act.name}: the process died, and what must be refused was done")
                self.sometimes.met("killed", f"{act.name} after")
                act.learn(answer)
            else:
                self.sometimes.met("killed", f"{act.name} before")
            return answer
        said = Expected(answer.status, answer.code)
        self.note(f"{act.name} {said.status} {said.code}")
        if said != act.expected:
            raise Broken(f"{act.name}: expected {act.expected}, got {said}: {_short(answer.body)}")
        if answer.status >= 400 and not all(answer.body.get(word) for word in ("error", "message", "how_to_fix")):
            raise Broken(f"{act.name}: a refusal that does not explain itself: {_short(answer.body)}")
        self.sometimes.op(act.name, is_refused=answer.status >= 400)
        if answer.status < 400:
            self.has_moved = True
            act.learn(answer)
        return answer

    def wait(self, duration_s: float) -> None:
        """Let time pass, then compare."""
        self.house.pass_time(duration_s)
        self.settle()

    # -- orders --

    def path(self, order: Order, verb: str) -> str:
        return f"/v1/proposals/{order.order_id}/{verb}"

    def target_machine(self, which: str) -> str:
        names = self.house.names
        return {"ours": names.machine_id, "bridged": names.bridged_machine_id, "foreign": names.foreign_machine_id}[
            which
        ]

    def propose(self, name: str, asked: Asked, *, machine: str = "ours", adopted: Order | None = None) -> Act:
        """The act of proposing (or, with ``adopted``, of making an agent's order one's own)."""
        who, now_s, look = self.who(name), self.now_s, self.seen
        if adopted is None:
            expected = self.model.propose(who, machine)
            body = _body(self.target_machine(machine), asked)

            def send() -> Answer:
                return self.house.post(name, "/v1/proposals", body)
        else:
            expected = self.model.adopt(who, adopted, now_s)

            def send() -> Answer:
                return self.house.post(name, self.path(adopted, "adopt"))
        verdict = self.model.judge(who, asked, look, now_s)

        def learn(answer: Answer) -> None:
            row = self._new_row(answer)
            if row is not None:
                self._file(who, asked, look, now_s, verdict, row, adopted)

        return Act("propose" if adopted is None else "adopt", expected, send, learn, lambda: bool(self._unknown_rows()))

    def roll_back(self, name: str, order: Order) -> Act:
        """The act of taking an order back: a new order of whoever asks."""
        who, now_s, look = self.who(name), self.now_s, self.seen
        asked = oracle_ways_back.going_back(order)
        verdict = self.model.judge(who, asked, look, now_s)

        def learn(answer: Answer) -> None:
            row = self._new_row(answer)
            if row is not None:
                self._file(who, asked, look, now_s, verdict, row, None)

        def send() -> Answer:
            return self.house.post(name, self.path(order, "rollback"), {"reasoning": "simulated"})

        return Act("rollback", oracle_ways_back.roll_back(who, order, look), send, learn,
                   lambda: bool(self._unknown_rows()))  # fmt: skip

    def _unknown_rows(self) -> list[dict[str, Any]]:
        return [row for row in self.watch.orders() if row["id"] not in self.model.orders]

    def _new_row(self, answer: Answer) -> dict[str, Any] | None:
        unknown = self._unknown_rows()
        if len(unknown) != 1:
            raise Broken(f"one new order was expected, {len(unknown)} are there")
        if answer.status and answer.body["proposal_id"] != unknown[0]["id"]:
            raise Broken("the answer names another order than the one that was filed")
        return unknown[0]

    def _file(
        self, who: Person, asked: Asked, look: Look, now_s: float, verdict: oracle.Verdict, row: dict[str, Any],
        adopted: Order | None, *, place: Place = oracle.ALONE, plan_id: str = "",
    ) -> None:
        """A new order is where the verdict puts it, with every reason."""
        status = {"ALLOW": "APPROVED", "HOLD": "PENDING_APPROVAL", "VETO": "PENDING_APPROVAL"}.get(
            verdict.decision, "REJECTED"
        )
        codes = tuple(dict.fromkeys(r["code"] for r in row["reasons"] if r["decision"] == "REFUSE"))
        if row["status"] != status or codes != verdict.refusals or row["decision"] != verdict.decision:
            raise Broken(
                f"{who.name} {asked}: expected {verdict.decision} {verdict.refusals}, "
                f"got {row['decision']} {codes} ({row['status']})"
            )
        if row["rejection_code"] != verdict.rejection:
            raise Broken(f"expected the rejection {verdict.rejection!r}, got {row['rejection_code']!r}")
        if row["approvals_needed"] != verdict.needed:
            raise Broken(f"expected {verdict.needed} approvals to be needed, got {row['approvals_needed']}")
        allowed_s = self.model.expiry_s(who, asked, look) if place.expires_in_s is None else place.expires_in_s
        if abs(row["expires_s"] - now_s - allowed_s) > 0.01:
            raise Broken(f"expected a deadline in {allowed_s} s, got {row['expires_s'] - now_s:.3f}")
        for code in codes or (verdict.decision,):
            self.sometimes.met("verdict", code)
        target, _ = self.model.target_of(asked)
        order = Order(
            row["id"], who.name, asked, oracle.CONTROL_OF.get(asked.order_type, ""), target, status, now_s,
            row["expires_s"], look, verdict.refusals, row["digest"], verdict.needed, is_by_agent=who.is_agent,
            rate=row["seen_rate"], roast=look.is_in_roast, adopted_from=adopted.order_id if adopted else "",
            runs_s=round(now_s + oracle.VETO_WINDOW_S, 6) if verdict.decision == "VETO" else None,
            decision=verdict.decision, plan=plan_id,
        )  # fmt: skip
        if status in ("APPROVED", "REJECTED"):
            order.decided_s = now_s
        if row["target_step"] != target:
            raise Broken(f"expected the native target {target}, got {row['target_step']}")
        self.model.orders[order.order_id] = order
        if status == "APPROVED":
            for rival in self.model.of_status("PENDING_APPROVAL", "APPROVED"):
                is_other = rival is not order and (not plan_id or rival.plan != plan_id)
                if is_other and rival.control == order.control:
                    self._moved(rival, "ABORTED")

    def approve(self, name: str, order: Order, *, is_digest_right: bool = True) -> Act:
        who, now_s = self.who(name), self.now_s
        expected = self.model.approve(who, order, now_s, is_digest_right=is_digest_right)
        digest = order.digest if is_digest_right else "0" * 64

        def learn(_answer: Answer) -> None:
            order.approvers = (*order.approvers, name)
            if self.model.is_approved(order):
                order.decided_s = now_s
                self._moved(order, "APPROVED")

        def happened() -> bool:
            return name in self.watch.approvers(order.order_id)

        def send() -> Answer:
            return self.house.post(name, self.path(order, "approve"), {"digest": digest})

        if expected.code == "expired" and order.status == "PENDING_APPROVAL":
            return Act("approve", expected, lambda: self._then_expired(send(), order), learn, happened)
        return Act("approve", expected, send, learn, happened)

    def _then_expired(self, answer: Answer, order: Order) -> Answer:
        """Who is told that the time ran out has made it so."""
        if answer.status == 409:
            self._moved(order, "TIMEOUT")
        return answer

    def reject(self, name: str, order: Order, code: str, text: str = "") -> Act:
        who = self.who(name)
        expected = self.model.reject(who, order, self.now_s, code, text)

        def send() -> Answer:
            answer = self.house.post(name, self.path(order, "reject"), {"code": code, "text": text})
            return self._then_expired(answer, order) if answer.code == "expired" else answer

        return Act(
            "reject", expected, send, lambda _: self._moved(order, "REJECTED"),
            lambda: self.watch.status_of(order.order_id) == "REJECTED" and order.status != "REJECTED",
        )  # fmt: skip

    def adopt(self, name: str, order: Order) -> Act:
        """What was asked for, in native steps where it converts to some."""
        asked = Asked(order.asked.order_type, order.asked.value, order.asked.unit)
        if order.target is not None:
            asked = Asked(order.asked.order_type, order.target, "step")
        return self.propose(name, asked, adopted=order)

    def abort(self, name: str, order: Order) -> Act:
        expected = self.model.abort(self.who(name), order)
        return Act(
            "abort", expected, lambda: self.house.post(name, self.path(order, "abort")),
            lambda _: None if order.status in oracle.ON_WIRE else self._moved(order, "ABORTED"),
            lambda: self.watch.status_of(order.order_id) == "ABORTED" and order.status != "ABORTED",
        )  # fmt: skip

    def veto(self, name: str, order: Order) -> Act:
        expected = self.model.veto(self.who(name), order)
        to = "REJECTED" if order.status == "PENDING_APPROVAL" else "ABORTED"
        return Act(
            "veto", expected, lambda: self.house.post(name, self.path(order, "veto"), {"text": "no"}),
            lambda _: self._moved(order, to), lambda: self.watch.status_of(order.order_id) == to != order.status,
        )  # fmt: skip

    def review(self, name: str, order: Order) -> Act:
        expected = self.model.review(self.who(name), order)

        def learn(_answer: Answer) -> None:
            order.is_reviewed = True

        return Act(
            "review", expected,
            lambda: self.house.post(name, self.path(order, "review"), {"finding": "in_order", "text": ""}), learn,
            lambda: self.watch.is_reviewed(order.order_id) and not order.is_reviewed,
        )  # fmt: skip

    def _moved(self, order: Order, status: str) -> None:
        order.status = status
        if status in oracle.SETTLED:
            order.settled_s = self.now_s

    # -- letting the machine's side catch up --

    def settle(self) -> None:
        """Turns until nothing approved waits for the wire; then the laws, and every order against the model."""
        if self.has_moved:  # else nobody did anything that the machine's side could answer
            self.house.pass_time(STEP_S)
        self.has_moved = False
        self.settle_rows()

    def settle_rows(self) -> None:
        """The same without the first turn."""
        for _ in range(SETTLE_MAX):
            was_busy = self._is_wire_busy()
            if not was_busy:
                break
            self.house.pass_time(STEP_S)
        self.house.disarm()
        before, self.seen = self.seen, self._look()
        rows = {row["id"]: row for row in self.watch.orders()}
        facts = self.watch.machine_facts()
        self._follow_halts(facts)
        self._check_latch()
        moved = [order for order in self.model.orders.values() if rows[order.order_id]["status"] != order.status]
        self.has_stirred = any(rows[order.order_id]["status"] in _WIRE_ENDS for order in moved)
        for order in sorted(moved, key=lambda each: (rows[each.order_id]["settled_s"] or 0.0, each.order_id)):
            self._follow(order, rows[order.order_id], before)
        self._follow_grants(facts)
        for order in self.model.of_status("PENDING_APPROVAL", "APPROVED"):
            self._check_standing(order)
        self._check_doubts()
        self._check_breakers()
        self.watch.check()
        if not self._is_meddled():
            self.is_disturbed = False

    def _is_wire_busy(self) -> bool:
        return self.house.loop is not None and self.house.has_orders("APPROVED", "EXECUTING")

    def _is_meddled(self) -> bool:
        """Is a fault still at work, or was one a moment ago?"""
        house = self.house
        is_whole = house.keeper is not None and not house.deaths.site and self.seen.link == "up"
        return not is_whole or self.now_s - self.was_disturbed_at_s < QUIET_AFTER_S

    def _check_latch(self) -> None:
        """Who pressed STOP finds the machine latched at its keeper until a lead resets it."""
        keeper = self.house.keeper
        if self.is_disturbed or keeper is None or not self.model.halts - {"link_lost"}:
            return
        if keeper.keeper.latches.latch is None:
            raise Broken(f"the machine is halted ({sorted(self.model.halts)}), and its keeper takes orders")
        if self.house.machine.status()["heater_step"]:
            raise Broken("a halted machine heats")
        self.sometimes.met("law", "latch stands")

    def _follow_halts(self, facts: invariants.Facts) -> None:
        """Halts and pauses that the machine's side made must have a reason we gave; those we know of must stand."""
        for kind in sorted(facts.halts - self.model.halts):
            if not self.is_disturbed and not self._began_in_trouble(kind):
                raise Broken(f"a halt that nothing explains: {facts.halt_words}")
            self.sometimes.met("halt", kind)
        if self.model.halts - facts.halts:
            raise Broken(f"a halt is gone that nobody reset: {self.model.halts - facts.halts}")
        self.model.halts = set(facts.halts)
        if facts.is_paused and not self.model.is_paused and not self.is_disturbed:
            raise Broken("orders are paused, and no link was lost")
        if self.model.is_paused and not facts.is_paused:
            raise Broken("orders are let through again, and nobody did that")
        self.model.is_paused = facts.is_paused
        if facts.is_suspended != self.model.suspended:
            raise Broken(f"suspended is {facts.is_suspended}, expected {self.model.suspended}")

    def _began_in_trouble(self, kind: str) -> bool:
        """A halt of the keeper's that a dead worker wrote down later, when things were quiet again."""
        halted_s = self.watch.halted_s(kind)
        return halted_s is not None and halted_s < self.was_disturbed_at_s + QUIET_AFTER_S

    def _follow_grants(self, facts: invariants.Facts) -> None:
        """Every grant that should be live is, and is worth what its agent's orders left of it."""
        for grant in self.model.grants.values():
            level = facts.levels.get(grant.grant_id)
            if (level is not None) != grant.is_live:
                raise Broken(f"grant {grant.grant_id} is live: {level is not None}, expected {grant.is_live}")
            if level is not None and level != grant.level:
                self._follow_breaker(grant, level, facts.halts | self.was_halted)
        self.was_halted |= facts.halts

    def _follow_breaker(self, grant: oracle.Grant, level: str, halts: frozenset[str] | set[str]) -> None:
        """A grant is worth less now: for what its agent's orders came to, or for a halt right after one."""
        expected = oracle_breakers.lowered(grant, self.model.orders.values())
        if expected is None or expected[0] != level:
            if level != "L2" or "interlock" not in halts:
                raise Broken(f"a grant of {grant.level} is worth {level}, expected {expected}")
            expected = level, ("critical_incident", "")
        self.sometimes.met("breaker", expected[1][0])
        self.note(f"grant {grant.grant_id} {grant.level} {level}")
        grant.level, grant.lowered_s, grant.told = level, self.now_s, grant.told | {expected[1]}

    def _check_breakers(self) -> None:
        """What must lower a grant has lowered it, as soon as the sweeper came round."""
        for grant in self.model.grants.values():
            expected = oracle_breakers.lowered(grant, self.model.orders.values()) if grant.is_live else None
            if expected is None or self.house.loop is None:
                self.unlowered_since.pop(grant.grant_id, None)
            elif self.now_s - self.unlowered_since.setdefault(grant.grant_id, self.now_s) > SWEEP_LATE_S:
                raise Broken(f"a grant of {grant.level} stands, expected {expected}")

    def _follow(self, order: Order, row: dict[str, Any], before: Look) -> None:
        """An order went on without a request: was it right?"""
        old, new, code = order.status, row["status"], row["outcome_code"] or row["rejection_code"]
        why = self._why_wrong(order, row, before)
        if why:
            raise Broken(f"{order.order_id} ({order.asked.order_type}) went from {old} to {new} ({code}): {why}")
        self.note(f"{order.order_id} {old} {new} {code}")
        self.sometimes.met("followed", f"{old} {new}")
        order.status = new
        order.settled_s = row["settled_s"]
        order.outcome = row["outcome_code"]
        if new in oracle.SETTLED and order.control:
            order.actual, order.ran_from = row["actual_step"], self.watch.ran_from(order.order_id)
        if row["decided_s"] is not None and new in oracle.COUNTED:
            order.decided_s = row["decided_s"]

    def _why_wrong(self, order: Order, row: dict[str, Any], before: Look) -> str:
        new, code, now_s = row["status"], row["outcome_code"], self.now_s
        if order.status in oracle.ON_WIRE or new in _WIRE_ENDS:
            return self._why_wrong_on_wire(order, row, before)
        if new == "TIMEOUT":
            return "" if now_s >= order.expires_s else f"its time runs until {order.expires_s:.1f}"
        if new == "ABORTED":
            return self._why_not_called_off(order, code, before)
        if new == "REJECTED" and order.status == "APPROVED":
            verdicts = [self._dispatch_verdict(order, look) for look in (before, self.seen)]
            is_right = row["rejection_code"] in {each.rejection for each in verdicts if each.decision == "REFUSE"}
            return "" if is_right or self.is_disturbed else f"expected one of {verdicts}"
        return "nobody may do that"

    def _why_not_called_off(self, order: Order, code: str, before: Look) -> str:
        if code in ("control_moved", "left_prediction"):
            if order.is_by_agent and (self.model.void_code(order, self.seen) == code or self.is_disturbed):
                return ""
            is_close = code == "left_prediction" and self.model.is_unsure(order, self.seen)
            has_changed = before.steps != self.seen.steps or self.has_stirred  # a plan goes there and back
            return "" if is_close or has_changed else "its grounds stand"
        if code == "halted":
            return "" if self.model.halts else "nothing halts the machine"
        if code == "suspended":
            return "" if self.model.suspended and order.is_by_agent else "nobody has the machine"
        if code == "orders_paused":
            return "" if self.model.is_paused else "no link was lost"
        if order.runs_s is not None and self.now_s >= order.runs_s:
            verdict = self._dispatch_verdict(order, before)
            return "" if code in verdict.refusals[:1] or self.is_disturbed else f"expected {verdict}"
        return "nothing calls it off"

    def _dispatch_verdict(self, order: Order, before: Look, claimed_s: float | None = None) -> oracle.Verdict:
        """As of its claim: a grant that ran out a moment later was good then. What an order of a state has made of
        the machine since is not held against it."""
        at_s = self.now_s if claimed_s is None else claimed_s
        is_its_own = claimed_s is not None and order.asked.order_type in oracle.STATE_ORDERS
        state = before.state if is_its_own else self.seen.state
        look = dataclasses.replace(self.seen, steps=before.steps, at_s=at_s, state=state)
        return self.model.judge(self.who(order.proposer), order.asked, look, at_s, dispatched=order,
                                place=self._place(order, before.at_s))  # fmt: skip

    def _place(self, order: Order, since_s: float) -> Place:
        """Where it stands, to somebody who looked then: by itself."""
        return oracle.ALONE

    def _why_wrong_on_wire(self, order: Order, row: dict[str, Any], before: Look) -> str:
        """Only what may go on the wire does, and it ends where the machine stands."""
        new = row["status"]
        if order.status == "PENDING_APPROVAL" and not (order.runs_s is not None and self.now_s >= order.runs_s):
            return "nobody approved it"
        if order.status == "APPROVED" and not self.is_disturbed:
            verdict = self._dispatch_verdict(order, before, self.watch.claimed_s(order.order_id))
            if verdict.decision == "REFUSE" and not self.model.is_unsure(order, self.seen):
                return f"the governor must refuse it: {verdict.refusals}"
        if order.status in oracle.ON_WIRE and new in oracle.SETTLED:
            return self._why_wrong_resolution(order, row)
        if self.is_disturbed:
            return ""
        if new == "ABORTED":
            return "nobody called it off"
        if not order.control:
            return "" if new == "COMPLETED" else "nothing hindered it"
        if row["outcome_code"] == "contradicted" and self._has_changed_state(order):
            return ""  # read back, and then the firmware went on to its next state, which sets controls by itself
        if new != "COMPLETED":
            return "nothing hindered it"
        reads = self._read_after(order, row)
        return "" if reads == order.target else f"{order.control} reads {reads}, not {order.target}"

    def _has_changed_state(self, order: Order) -> bool:
        """Whether the machine itself changed its state, and set its controls OWN_WITHIN_S later, since the claim."""
        claimed_s = self.watch.claimed_s(order.order_id)
        in_state_s = self.house.machine.firmware.state_ticks / TICKS_PER_S
        return claimed_s is not None and in_state_s <= self.now_s - claimed_s + OWN_WITHIN_S

    def _read_after(self, order: Order, row: dict[str, Any]) -> int | None:
        """Where its control stood when it was done: it stands there still."""
        return self.seen.steps.get(order.control)

    def _why_wrong_resolution(self, order: Order, row: dict[str, Any]) -> str:
        """A doubt is resolved by what the machine reads and what the wire log holds, never by hope."""
        new, code = row["status"], row["outcome_code"]
        if new == "COMPLETED" and order.control and row["actual_step"] != order.target:
            return f"it is called done with {order.control} at {row['actual_step']}, not {order.target}"
        if code == "not_sent" and self.watch.writes_of(order.order_id):
            return "it is said that nothing was sent, and bytes were"
        if code == "not_reached" and row["actual_step"] == order.target:
            return "it is said not to have arrived, and it has"
        return ""

    def _check_doubts(self) -> None:
        """What is on the wire comes to an end, once machine, keeper and loop are there again."""
        is_whole = self.house.loop is not None and self.house.keeper is not None and self.seen.link == "up"
        for order in self.model.of_status("EXECUTING", "IN_DOUBT"):
            since_s = self.doubtful_since.setdefault(order.order_id, self.now_s)
            if not is_whole or self.seen.poor & {f"{order.control}_step", "state"}:
                self.doubtful_since[order.order_id] = self.now_s
            elif self.now_s - since_s > DOUBT_S:
                raise Broken(f"{order.order_id} is {order.status} since {self.now_s - since_s:.0f} s")

    def _check_standing(self, order: Order) -> None:
        """An order that still waits must have a right to."""
        now_s, why = self.now_s, ""
        if now_s >= order.expires_s + SWEEP_LATE_S and self.house.loop is not None:
            why = "its time ran out"
        elif self.model.halts:
            why = "the machine is halted"
        elif self.model.is_paused:
            why = "orders are paused"
        elif order.is_by_agent and self.model.suspended:
            why = "agents are suspended"
        elif self.house.loop is None:
            return
        elif order.status == "PENDING_APPROVAL" and order.is_by_agent and not self.is_disturbed:
            code = self.model.void_code(order, self.seen)
            if code and not self.model.is_unsure(order, self.seen):
                why = f"its grounds are gone: {code}"
        elif order.status == "APPROVED" and not self.is_disturbed:
            why = "it was never carried out"
        if why:
            raise Broken(f"{order.order_id} is still {order.status}: {why}")


def _body(machine_id: str, asked: Asked) -> dict[str, Any]:
    body: dict[str, Any] = {"machine_id": machine_id, "order_type": asked.order_type, "reasoning": "simulated"}
    if asked.value is not None:
        body["target_value"] = asked.value
    if asked.unit:
        body["target_unit"] = asked.unit
    if asked.expires_in_s is not None:
        body["expires_in_s"] = asked.expires_in_s
    constraints: dict[str, Any] = {}
    if asked.max_step is not None:
        constraints["max_step"] = asked.max_step
    if asked.max_change is not None:
        constraints["max_change_step"] = asked.max_change
    if asked.forbidden_state:
        constraints["forbidden_states"] = [asked.forbidden_state]
    return body | ({"constraints": constraints} if constraints else {})


def _short(body: Any) -> str:
    return str(body)[:400]
