"""Lane A: everything anybody can do to the house, as hypothesis rules. About a quarter of it is not allowed.

Targets are drawn: an order is one of a bundle, or the k-th of those that stand where the rule needs one. A rule that
could do nothing is not offered. Whatever is answered is compared with the model (`simulation/oracle.py`), after every
step the laws are checked (`simulation/invariants.py`).
"""

from __future__ import annotations

import datetime as dt
import functools
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, precondition, rule

from kernel import clock
from simulation import oracle
from simulation.house_people import LIMITS
from simulation.oracle import Asked, Expected, Order
from simulation.rules import stage
from simulation.rules.play import Act, Play

T = TypeVar("T")
AGENTS, OPERATORS = ("steady", "eager"), ("operator", "second", "owner", "lead")
EVERYBODY = (*OPERATORS, "viewer", "stranger", *AGENTS, "foreign")
UNFIT = ("viewer", "stranger", *AGENTS, "foreign")
REASONS = ("SAFETY_CONCERN", "WRONG_TIMING", "OTHER")
SHIFTS = (-4, -3, -2, -1, -1, 0, 1, 1, 2, 3, 5)
number = st.sampled_from(range(64))  # the k-th of whatever there is
FAULTS = {
    "nan": "nan@0+2:sensor=probe", "silence": "time_out@0+1.5", "long silence": "time_out@0+6", "nak": "nak@0+1",
    "dropped_step": "dropped_step", "doubled_step": "doubled_step", "garbled": "garbage:count=2",
    "short": "short_read:count=1", "late": "late_reply:count=1", "slipped": "slipped_frame:count=1",
}  # fmt: skip
DEATHS = (
    ("commit_before", "web"), ("commit_after", "web"), ("commit_before", "worker"), ("commit_after", "worker"),
    ("wire_before", "keeper"), ("wire_after", "keeper"), ("apply_answered", "worker"),
)  # fmt: skip


def pick(choices: list[T], index: int) -> T:
    """The index-th, counted round."""
    return choices[index % len(choices)]


def a_step(method: Any) -> Any:
    """A rule is one step: counted, and settled afterwards whatever it did."""

    @functools.wraps(method)
    def stepped(self: HouseMachine, *arguments: Any, **named: Any) -> Any:
        self.play.sometimes.steps += 1
        before = len(self.play.lines)
        found = method(self, *arguments, **named)
        self.play.settle()
        if len(self.play.lines) == before:
            self.play.sometimes.idle_steps += 1
        return found

    return stepped


class HouseMachine(RuleBasedStateMachine):
    """See the module."""

    orders = Bundle("orders")
    grants = Bundle("grants")

    @initialize(seed=st.integers(0, 2**32 - 1), level=st.sampled_from(["L3", "L3", "L4", "L5"]))
    def open_the_house(self, seed: int, level: str) -> None:
        self.play = Play(stage.house(), stage.SOMETIMES, seed)
        self.play.sometimes.examples += 1
        self._grant("lead", "steady", level, [], None)
        self.play.settle()

    def teardown(self) -> None:
        if hasattr(self, "play"):
            self.play.watch.finish()

    # -- what stands --

    def held(self) -> list[Order]:
        return self.play.model.of_status("PENDING_APPROVAL")

    def has_held(self) -> bool:
        return bool(self.held())

    def is_free(self) -> bool:
        model = self.play.model
        return not model.halts and not model.is_paused

    # -- proposing --

    def _asked(self, order_type: str, shift: int, unit: str = "step", **more: Any) -> Asked:
        """A setting ``shift`` steps from where the control stands, within its range."""
        control = oracle.CONTROL_OF[order_type]
        low, high = LIMITS[control][:2]
        start = self.play.seen.steps.get(control)
        target = min(high, max(low, (start if start is not None else low) + shift))
        value = float(target) if unit == "step" else round(target * 100 / high, 3)
        return Asked(order_type, value, unit, **more)

    def _proposed(self, act: Act) -> Any:
        before = set(self.play.model.orders)
        self.play.act(act)
        new = [order_id for order_id in self.play.model.orders if order_id not in before]
        return multiple(*new)

    @rule(target=orders, agent=st.sampled_from(AGENTS), order_type=st.sampled_from(["SET_POWER", "SET_FAN", "SET_DRUM"]),
          shift=st.sampled_from(SHIFTS), unit=st.sampled_from(["step", "step", "percent"]),
          expires_in_s=st.sampled_from([None, None, None, 5.0, 12.0]))  # fmt: skip
    @a_step
    def an_agent_proposes(
        self, agent: str, order_type: str, shift: int, unit: str, expires_in_s: float | None
    ) -> Any:
        asked = self._asked(order_type, shift, unit, expires_in_s=expires_in_s)
        return self._proposed(self.play.propose(agent, asked))

    @precondition(lambda self: self.is_free())
    @rule(target=orders, order_type=st.sampled_from(["SET_POWER", "SET_FAN", "SET_DRUM"]),
          shift=st.sampled_from([-2, -1, -1, 1, 1, 2]))  # fmt: skip
    @a_step
    def the_trusted_agent_proposes(self, order_type: str, shift: int) -> Any:
        return self._proposed(self.play.propose("steady", self._asked(order_type, shift)))

    @rule(target=orders, name=st.sampled_from(OPERATORS), order_type=st.sampled_from(["SET_POWER", "SET_FAN", "SET_DRUM"]),
          shift=st.sampled_from(SHIFTS))  # fmt: skip
    @a_step
    def a_person_orders(self, name: str, order_type: str, shift: int) -> Any:
        return self._proposed(self.play.propose(name, self._asked(order_type, shift)))

    @rule(target=orders, name=st.sampled_from(["operator", "steady"]),
          order_type=st.sampled_from(["PREHEAT", "CHARGE", "DROP", "COOL"]))  # fmt: skip
    @a_step
    def somebody_orders_a_state(self, name: str, order_type: str) -> Any:
        if order_type in ("DROP", "COOL") and name == "operator":
            order_type = "CHARGE"  # a roast that is over offers nothing more: see `the_roast_ends`
        return self._proposed(self.play.propose(name, Asked(order_type)))

    @rule(target=orders, name=st.sampled_from(["operator", "steady", "eager"]), asked=st.sampled_from([
        Asked("SET_POWER"), Asked("SET_POWER", 40.0, "rpm"), Asked("SET_FAN", 180.0, "celsius"),
        Asked("SET_POWER", 10.0, "step"), Asked("SET_FAN", 0.0, "step"), Asked("SET_DRUM", 120.0, "percent"),
        Asked("PREHEAT", 200.0, "celsius"), Asked("SET_FAN", 9.0, "step", max_step=8),
        Asked("SET_FAN", 2.0, "step", max_change=0), Asked("SET_FAN", 5.0, "step", forbidden_state="roasting"),
    ]))  # fmt: skip
    @a_step
    def somebody_asks_for_what_cannot_be(self, name: str, asked: Asked) -> Any:
        return self._proposed(self.play.propose(name, asked))

    @rule(who=st.sampled_from([("viewer", "ours"), ("stranger", "ours"), ("foreign", "ours"), ("operator", "bridged"),
                               ("steady", "bridged"), ("operator", "foreign"), ("steady", "foreign")]))  # fmt: skip
    @a_step
    def somebody_orders_where_they_may_not(self, who: tuple[str, str]) -> None:
        name, machine = who
        self.play.act(self.play.propose(name, self._asked("SET_FAN", 1), machine=machine))

    @rule(target=orders, name=st.sampled_from(["operator", "steady"]), key=st.sampled_from(["a", "b", "c"]),
          shift=st.sampled_from([-1, 1]))  # fmt: skip
    @a_step
    def the_same_request_comes_twice(self, name: str, key: str, shift: int) -> Any:
        """One effect and one answer."""
        play, asked = self.play, self._asked("SET_FAN", shift)
        key = f"{key}{len(play.lines)}"
        act = play.propose(name, asked)
        body = {"machine_id": play.house.names.machine_id, "order_type": "SET_FAN", "reasoning": "simulated",
                "target_value": asked.value, "target_unit": "step"}  # fmt: skip
        act.send = lambda: play.house.post(name, "/v1/proposals", body, key=key)
        found = self._proposed(act)
        first = set(play.model.orders)
        again = play.house.post(name, "/v1/proposals", body, key=key)
        other = play.house.post(name, "/v1/proposals", {**body, "reasoning": "another"}, key=key)
        if again.status not in (0, 201) or other.status not in (0, 422):
            raise AssertionError(f"a repeated request was answered {again.status}, another body {other.status}")
        if {row["id"] for row in play.watch.orders()} - first:
            raise AssertionError("a repeated request had a second effect")
        play.sometimes.met("idempotency", "replayed")
        return found

    # -- deciding --

    @precondition(lambda self: self.has_held())
    @rule(index=number, name=st.sampled_from(["operator", "second", "owner", "lead"]))
    @a_step
    def a_person_approves(self, index: int, name: str) -> None:
        self.play.act(self.play.approve(name, pick(self.held(), index)))

    @precondition(lambda self: self.has_held())
    @rule(index=number, name=st.sampled_from(EVERYBODY), is_digest_right=st.booleans())
    @a_step
    def somebody_tries_to_approve(self, index: int, name: str, is_digest_right: bool) -> None:
        self.play.act(self.play.approve(name, pick(self.held(), index), is_digest_right=is_digest_right))

    @rule(order_id=orders, name=st.sampled_from(EVERYBODY), verb=st.sampled_from(["approve", "reject", "abort", "adopt"]))
    @a_step
    def somebody_comes_late(self, order_id: str, name: str, verb: str) -> None:
        order = self.play.model.orders[order_id]
        if verb == "adopt" and self.play.model.adopt(self.play.who(name), order, self.play.now_s).status == 201:
            verb = "abort"  # a new order belongs into the bundle
        act = {
            "approve": lambda: self.play.approve(name, order),
            "reject": lambda: self.play.reject(name, order, "WRONG_TIMING"),
            "abort": lambda: self.play.abort(name, order),
            "adopt": lambda: self.play.adopt(name, order),
        }[verb]()
        self.play.act(act)

    @precondition(lambda self: self.has_held())
    @rule(index=number, name=st.sampled_from(["operator", "second", "viewer", "stranger", "steady"]),
          code=st.sampled_from(REASONS), text=st.sampled_from(["", "no"]))  # fmt: skip
    @a_step
    def somebody_rejects(self, index: int, name: str, code: str, text: str) -> None:
        self.play.act(self.play.reject(name, pick(self.held(), index), code, text))

    @precondition(lambda self: self.has_held())
    @rule(index=number, name=st.sampled_from(["operator", "steady", "eager", "viewer", "stranger"]))
    @a_step
    def somebody_calls_off(self, index: int, name: str) -> None:
        self.play.act(self.play.abort(name, pick(self.held(), index)))

    @precondition(lambda self: any(order.is_by_agent for order in self.play.model.orders.values()))
    @rule(target=orders, index=number, name=st.sampled_from(["operator", "second", "lead", "viewer", "eager", "stranger"]))
    @a_step
    def somebody_adopts(self, index: int, name: str) -> Any:
        model = self.play.model
        fresh = [order for order in model.orders.values() if order.is_by_agent
                 and (order.is_advice or order.status == "PENDING_APPROVAL")]  # fmt: skip
        candidates = fresh or [order for order in model.orders.values() if order.is_by_agent]
        return self._proposed(self.play.adopt(name, pick(candidates, index)))

    # -- trusting --

    def _grant(self, name: str, agent: str, level: str, types: list[str], lasts_s: float | None) -> Any:
        play = self.play
        expected = play.model.lead_act(play.who(name), "machine_not_found")
        if expected.status == 200:
            expected = Expected(201)
        until = None if lasts_s is None else clock.now() + dt.timedelta(seconds=lasts_s)
        expires_s = None if lasts_s is None else play.now_s + lasts_s
        body = {
            "machine_id": play.house.names.machine_id, "agent_id": play.house.names.agents[agent], "level": level,
            "order_types": types, "reason": "simulated", "expires_at": until.isoformat() if until else None,
        }  # fmt: skip
        found: list[str] = []

        def learn(_answer: Any) -> None:
            for old in play.model.grants.values():
                old.is_live = old.is_live and old.agent != agent
            live = play.watch.machine_facts().levels
            new = [grant_id for grant_id in live if grant_id not in play.model.grants]
            if len(new) != 1:
                raise AssertionError(f"one new live grant was expected, {len(new)} are there")
            play.model.grants[new[0]] = oracle.Grant(new[0], agent, level, frozenset(types), expires_s)
            found.extend(new)

        def happened() -> bool:
            return any(grant_id not in play.model.grants for grant_id in play.watch.machine_facts().levels)

        play.act(Act("grant", expected, lambda: play.house.post(name, "/v1/grants", body), learn, happened))
        return multiple(*found)

    @rule(target=grants, name=st.sampled_from(["lead", "lead", "lead", "operator", "stranger", "steady"]),
          agent=st.sampled_from(AGENTS), level=st.sampled_from(["L1", "L2", "L3", "L3", "L4", "L5"]),
          types=st.sampled_from([[], ["SET_POWER"], ["SET_FAN", "DROP", "COOL"]]),
          lasts_s=st.sampled_from([None, None, 6.0]))  # fmt: skip
    @a_step
    def somebody_grants(self, name: str, agent: str, level: str, types: list[str], lasts_s: float | None) -> Any:
        return self._grant(name, agent, level, types, lasts_s)

    @rule(grant_id=grants, name=st.sampled_from(["lead", "operator", "stranger", "eager"]))
    @a_step
    def somebody_revokes(self, grant_id: str, name: str) -> None:
        play = self.play
        grant = play.model.grants[grant_id]
        expected = play.model.lead_act(play.who(name), "grant_not_found")

        def learn(_answer: Any) -> None:
            grant.is_live = False

        play.act(Act("revoke", expected, lambda: play.house.post(name, f"/v1/grants/{grant_id}/revoke"), learn,
                     lambda: grant.is_live and grant_id not in play.watch.machine_facts().levels))  # fmt: skip

    # -- having the machine --

    @rule(name=st.sampled_from(["operator", "second", "viewer", "stranger", "steady"]))
    @a_step
    def somebody_takes_the_machine(self, name: str) -> None:
        play, model = self.play, self.play.model

        def learn(_answer: Any) -> None:
            if model.suspended:
                return
            model.suspended = True
            for order in model.of_status("PENDING_APPROVAL", "APPROVED"):
                if order.is_by_agent:
                    play._moved(order, "ABORTED")

        play.act(Act("suspend", model.operate(play.who(name)), lambda: play.house.post(name, f"{play.machine_path}/suspend"),
                     learn, lambda: play.watch.machine_facts().is_suspended and not model.suspended))  # fmt: skip

    @precondition(lambda self: self.play.model.suspended)
    @rule(name=st.sampled_from(["operator", "second", "lead", "viewer", "eager", "stranger"]))
    @a_step
    def somebody_gives_it_back(self, name: str) -> None:
        play, model = self.play, self.play.model

        def learn(_answer: Any) -> None:
            model.suspended = False

        play.act(Act("resume_agents", model.operate(play.who(name)),
                     lambda: play.house.post(name, f"{play.machine_path}/resume", {"what": "agents"}), learn,
                     lambda: not play.watch.machine_facts().is_suspended and model.suspended))  # fmt: skip

    @precondition(lambda self: self.play.model.is_paused or "link_lost" in self.play.model.halts)
    @rule(name=st.sampled_from(["operator", "second", "lead", "viewer", "steady", "stranger"]))
    @a_step
    def somebody_lets_orders_through(self, name: str) -> None:
        play, model = self.play, self.play.model
        expected = model.operate(play.who(name))
        if expected.status == 200 and play.seen.link == "down":
            expected = Expected(409, "link_down")

        def learn(_answer: Any) -> None:
            model.is_paused = False
            model.halts.discard("link_lost")

        play.act(Act("resume_orders", expected,
                     lambda: play.house.post(name, f"{play.machine_path}/resume", {"what": "orders"}), learn,
                     lambda: play.watch.machine_facts().is_paused != model.is_paused
                     or play.watch.machine_facts().halts != model.halts))  # fmt: skip

    # -- STOP --

    @rule(name=st.sampled_from(["operator", "second", "lead", "viewer", "stranger", "steady"]))
    @a_step
    def somebody_presses_stop(self, name: str) -> None:
        play, model = self.play, self.play.model
        is_quiet = not play.is_disturbed

        def learn(answer: Any) -> None:
            model.halts.add("stop")
            for order in model.of_status("PENDING_APPROVAL", "APPROVED"):
                play._moved(order, "ABORTED")
            if is_quiet and answer.status and answer.body["result"] != "heat_off":
                raise AssertionError(f"STOP proved nothing: {answer.body}")
            if is_quiet and play.house.machine.status()["heater_step"] != 0:
                raise AssertionError("STOP was answered, and the machine heats")

        play.act(Act("stop", model.operate(play.who(name)), lambda: play.house.post(name, f"{play.machine_path}/stop"),
                     learn, lambda: bool(play.watch.machine_facts().halts - model.halts)))  # fmt: skip

    @precondition(lambda self: bool(self.play.model.halts))
    @rule(name=st.sampled_from(["lead", "lead", "lead", "operator", "stranger", "steady"]))
    @a_step
    def somebody_resets(self, name: str) -> None:
        play, model = self.play, self.play.model
        expected = model.lead_act(play.who(name), "machine_not_found")
        if expected.status == 200 and play.house.keeper is None:
            expected = Expected(503, "keeper_unreachable")

        def learn(_answer: Any) -> None:
            model.halts.clear()

        play.act(Act("reset", expected,
                     lambda: play.house.post(name, f"{play.machine_path}/reset", {"reason": "looked"}), learn,
                     lambda: play.watch.machine_facts().halts != model.halts))  # fmt: skip

    # -- time, machine, death --

    @rule(duration_s=st.sampled_from([0.4, 1.2, 1.9, 2.0, 6.0, 13.0, 21.0, 46.0]))
    @a_step
    def time_passes(self, duration_s: float) -> None:
        self.play.house.pass_time(duration_s)
        self.play.note(f"waited {duration_s}")

    @rule(control=st.sampled_from(["heater", "fan", "drum"]), step=st.sampled_from([1, 3, 4, 5, 6]))
    @a_step
    def a_hand_turns_a_knob(self, control: str, step: int) -> None:
        self.play.disturb("knob")
        self.play.house.machine.act("turn_knob", control=control, step=step)

    @rule(name=st.sampled_from(sorted(FAULTS)))
    @a_step
    def the_machine_misbehaves(self, name: str) -> None:
        self.play.disturb(name)
        self.play.house.machine.act("fault", fault=FAULTS[name])
        if name == "long silence":
            self.play.house.pass_time(6.0)

    @precondition(lambda self: self.play.house.machine.effects.is_plugged)
    @rule()
    @a_step
    def the_cable_is_pulled(self) -> None:
        self.play.disturb("unplug")
        self.play.house.machine.act("fault", fault="unplug")
        self.play.house.pass_time(0.8)

    @precondition(lambda self: not self.play.house.machine.effects.is_plugged)
    @rule()
    @a_step
    def the_cable_is_put_back(self) -> None:
        self.play.disturb("replug")
        self.play.house.machine.act("fault", fault="replug")
        self.play.house.pass_time(1.2)

    @rule(target=orders, death=st.sampled_from(DEATHS), count=st.sampled_from([1, 1, 2]),
          shift=st.sampled_from([-2, -1, 1, 2]))  # fmt: skip
    @a_step
    def a_process_dies_over_an_order(self, death: tuple[str, str], count: int, shift: int) -> Any:
        """A person's order, and somewhere on its way the process that has it is killed."""
        site, victim = death
        self.play.disturb(f"{victim} killed")
        self.play.house.deaths.plan(site, count if victim != "web" else 1, victim)
        found = self._proposed(self.play.propose("operator", self._asked("SET_FAN", shift)))
        self.play.house.pass_time(0.8)
        if self.play.house.loop is None:
            self.play.house.pass_time(3.2)
        self._count_deaths()
        return found

    @precondition(lambda self: self.has_held())
    @rule(index=number, site=st.sampled_from(["commit_before", "commit_after"]),
          verb=st.sampled_from(["approve", "reject", "abort"]))  # fmt: skip
    @a_step
    def the_web_dies_over_a_decision(self, index: int, site: str, verb: str) -> None:
        order = pick(self.held(), index)
        self.play.disturb("web killed")
        self.play.house.deaths.plan(site, 1, "web")
        act = {"approve": lambda: self.play.approve("lead", order), "abort": lambda: self.play.abort("lead", order),
               "reject": lambda: self.play.reject("lead", order, "WRONG_TIMING")}[verb]()  # fmt: skip
        self.play.act(act)
        self._count_deaths()

    @rule(name=st.sampled_from(["worker", "keeper"]))
    @a_step
    def a_process_is_killed(self, name: str) -> None:
        self.play.disturb(f"{name} killed")
        self.play.house.kill(name)
        self.play.house.pass_time(0.8 if name == "keeper" else 3.6)

    def _count_deaths(self) -> None:
        deaths = self.play.house.deaths
        deaths.forget()
        while deaths.fired:
            self.play.sometimes.met("death", deaths.fired.pop())

    # -- looking --

    @rule()
    @a_step
    def everybody_looks(self) -> None:
        """The queue shows exactly what waits, oldest deadline first; strangers see nothing of it."""
        play = self.play
        answer = play.house.get("operator", "/v1/proposals/pending")
        play.note(f"looked {answer.status}")
        shown = [each["proposal_id"] for each in answer.body["results"]]
        waiting = sorted(
            (order for order in self.held() if order.expires_s > play.now_s),
            key=lambda order: (order.expires_s, order.order_id),
        )
        if shown != [order.order_id for order in waiting]:
            raise AssertionError(f"the queue shows {shown}, waiting are {[order.order_id for order in waiting]}")
        for path in ("/v1/proposals", "/v1/proposals/pending", "/v1/grants", "/v1/machines"):
            found = play.house.get("stranger", path)
            if found.status != 200 or play.house.names.machine_id in str(found.body):
                raise AssertionError(f"a stranger sees our machine at {path}: {found.status}")
        play.sometimes.met("law", "foreign rows")
