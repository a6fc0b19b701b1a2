"""Lane A: everything anybody can do to the house, as hypothesis rules. About a quarter of it is not allowed.

Targets are drawn: an order is one of a bundle, or the k-th of those that stand where the rule needs one. A rule that
could do nothing is not offered. Whatever is answered is compared with the model (`simulation/oracle.py`), after every
step the laws are checked (`simulation/invariants.py`).
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, initialize, multiple, precondition, rule

from simulation.oracle import Asked
from simulation.rules import stage
from simulation.rules.aimed import AimedRules
from simulation.rules.base import (
    AGENTS,
    DEATHS,
    EVERYBODY,
    FAULTS,
    OPERATORS,
    REASONS,
    SETTINGS,
    SHIFTS,
    WAITS_S,
    a_step,
    number,
    pick,
)
from simulation.rules.play_plans import PlanPlay


class HouseMachine(AimedRules):
    """See the module."""

    orders = AimedRules.orders
    grants = Bundle("grants")

    @initialize(seed=st.integers(0, 2**32 - 1), level=st.sampled_from(["L3", "L4", "L5"]),
                is_attended=st.sampled_from([True, True, False]))  # fmt: skip
    def open_the_house(self, seed: int, level: str, is_attended: bool) -> None:
        self.opened = {"seed": seed, "level": level, "is_attended": is_attended}
        self.acts = []
        self.play = PlanPlay(stage.house(), stage.SOMETIMES, seed)
        self.play.sometimes.examples += 1
        self.trouble_steps = self.steps_done = 0
        self.level = level
        self._grant("lead", "steady", level, [], None)
        if is_attended:
            self._attend("operator")
        self.play.settle()

    def teardown(self) -> None:
        if hasattr(self, "play"):
            if self.is_whole:
                self.heal()
            self.play.watch.finish()

    # -- proposing --

    @rule(target=orders, agent=st.sampled_from(AGENTS), order_type=SETTINGS,
          shift=st.sampled_from(SHIFTS), unit=st.sampled_from(["step", "step", "percent"]),
          expires_in_s=st.sampled_from([None, None, None, 5.0, 12.0]))  # fmt: skip
    @a_step
    def an_agent_proposes(
        self, agent: str, order_type: str, shift: int, unit: str, expires_in_s: float | None
    ) -> Any:
        asked = self._asked(order_type, shift, unit, expires_in_s=expires_in_s)
        return self._proposed(self.play.propose(agent, asked))

    @precondition(lambda self: not self.is_in_trouble())
    @rule(target=orders, order_type=SETTINGS, shift=st.sampled_from([-2, -1, -1, 1, 1, 2, 4]),
          verb=st.sampled_from(["approve", "approve", "approve twice", "reject", "abort", "abort", "adopt"]),
          name=st.sampled_from(["operator", "second", "lead"]))  # fmt: skip
    @a_step
    def the_trusted_agent_asks_and_somebody_decides(self, order_type: str, shift: int, verb: str, name: str) -> Any:
        found = self._proposed(self.play.propose("steady", self._asked(order_type, shift)))
        self.play.settle()
        order = self.play.model.orders[found.values[0]] if found.values else None
        if order is not None and self.play.model.is_reviewable(order):
            self.play.act(self.play.review(name, order))
        if order is None or order.status != "PENDING_APPROVAL":
            return found
        if order.decision == "VETO" and verb != "approve":
            verb = "veto"
        if verb == "adopt":
            return multiple(*found.values, *self._proposed(self.play.adopt(name, order)).values)
        self.play.act(self._decision(verb, name, order))
        if verb == "approve twice":
            self.play.act(self.play.approve("lead" if name != "lead" else "second", order))
        return found

    @precondition(lambda self: not self.is_in_trouble())
    @rule(target=orders, order_type=SETTINGS, shift=st.sampled_from([-2, -1, 0, 1, 2]))
    @a_step
    def the_trusted_agent_proposes(self, order_type: str, shift: int) -> Any:
        return self._proposed(self.play.propose("steady", self._asked(order_type, shift)))

    @rule(target=orders, name=st.sampled_from(OPERATORS), order_type=SETTINGS,
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

    @precondition(lambda self: any(order.runs_s is not None for order in self.held()))
    @rule(index=number, name=st.sampled_from(["operator", "second", "viewer", "steady", "stranger"]))
    @a_step
    def somebody_vetoes(self, index: int, name: str) -> None:
        open_ones = [order for order in self.held() if order.runs_s is not None]
        self.play.act(self.play.veto(name, pick(open_ones, index)))

    @precondition(lambda self: any(self.play.model.is_reviewable(order) for order in self.play.model.orders.values()))
    @rule(index=number, name=st.sampled_from(["operator", "second", "owner", "viewer", "steady"]))
    @a_step
    def somebody_reviews(self, index: int, name: str) -> None:
        ran = [order for order in self.play.model.orders.values() if self.play.model.is_reviewable(order)]
        self.play.act(self.play.review(name, pick(ran, index)))

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

    @rule(order_id=orders, name=st.sampled_from(EVERYBODY),
          verb=st.sampled_from(["approve", "reject", "abort", "adopt", "veto", "review"]))  # fmt: skip
    @a_step
    def somebody_comes_late(self, order_id: str, name: str, verb: str) -> None:
        order = self.play.model.orders[order_id]
        if verb == "adopt" and self.play.model.adopt(self.play.who(name), order, self.play.now_s).status == 201:
            verb = "abort"  # a new order belongs into the bundle
        act = self._decision(verb, name, order)
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
    @rule(target=orders, index=number,
          name=st.sampled_from(["operator", "second", "lead", "viewer", "eager", "stranger"]))  # fmt: skip
    @a_step
    def somebody_adopts(self, index: int, name: str) -> Any:
        model = self.play.model
        fresh = [order for order in model.orders.values() if order.is_by_agent
                 and (order.is_advice or order.status == "PENDING_APPROVAL")]  # fmt: skip
        candidates = fresh or [order for order in model.orders.values() if order.is_by_agent]
        return self._proposed(self.play.adopt(name, pick(candidates, index)))

    @precondition(lambda self: self.moved())
    @rule(target=orders, index=number, is_newest=st.booleans(),
          name=st.sampled_from(["operator", "second", "steady", "viewer", "stranger"]))  # fmt: skip
    @a_step
    def somebody_takes_an_order_back(self, index: int, is_newest: bool, name: str) -> Any:
        every = list(self.play.model.orders.values())
        return self._proposed(self.play.roll_back(name, self.moved()[-1] if is_newest else pick(every, index)))

    # -- trusting --

    @rule(target=grants, name=st.sampled_from(["lead", "lead", "lead", "operator", "stranger", "steady"]),
          level=st.sampled_from(["L1", "L2", "L3", "L3", "L4", "L5"]),
          types=st.sampled_from([[], ["SET_POWER"], ["SET_FAN", "DROP", "COOL"]]),
          lasts_s=st.sampled_from([None, None, 6.0]))  # fmt: skip
    @a_step
    def somebody_grants(self, name: str, level: str, types: list[str], lasts_s: float | None) -> Any:
        return self._grant(name, "eager", level, types, lasts_s)

    @precondition(lambda self: not self.is_in_trouble() and not self.play.is_disturbed)
    @rule(target=orders, level=st.sampled_from(["L3", "L4", "L5"]), early_s=st.sampled_from([0.0, 0.0, 0.001]),
          types=st.sampled_from([[], ["SET_FAN"], ["SET_DRUM"]]))  # fmt: skip
    @a_step
    def an_agent_comes_when_its_grant_runs_out(self, level: str, early_s: float, types: list[str]) -> Any:
        """At its end a grant is over; a millisecond before it is not."""
        self._grant("lead", "eager", level, types, 3.0)
        grant = self.play.model.grant_of("eager")
        if grant is not None and grant.expires_s is not None:
            self._wait_until(grant.expires_s - early_s)
        return self._proposed(self.play.propose("eager", self._asked("SET_FAN", 1)))

    @rule(target=grants, name=st.sampled_from(["lead", "lead", "operator"]), level=st.sampled_from(["L3", "L4", "L5"]))
    @a_step
    def somebody_grants_the_trusted_one(self, name: str, level: str) -> Any:
        return self._grant(name, "steady", level, [], None)

    @rule(grant_id=grants, name=st.sampled_from(["lead", "operator", "stranger", "eager"]))
    @a_step
    def somebody_revokes(self, grant_id: str, name: str) -> None:
        self._revoke(name, self.play.model.grants[grant_id])

    # -- having the machine --

    @precondition(lambda self: not self.is_in_trouble())
    @rule(name=st.sampled_from(["operator", "second", "viewer", "stranger", "steady"]))
    @a_step
    def somebody_takes_the_machine(self, name: str) -> None:
        self._suspend(name)

    @rule(what=st.sampled_from(["give back", "let through", "reset", "attend", "attend"]),
          name=st.sampled_from(["operator", "second", "lead", "lead", "viewer", "steady", "stranger"]))  # fmt: skip
    @a_step
    def somebody_puts_something_right(self, what: str, name: str) -> None:
        act = {"give back": self._give_back, "let through": self._resume_orders, "reset": self._reset,
               "attend": self._attend}[what]  # fmt: skip
        act(name)

    # -- STOP --

    @precondition(lambda self: not self.is_in_trouble())
    @rule(name=st.sampled_from(["operator", "second", "lead", "viewer", "stranger", "steady"]))
    @a_step
    def somebody_presses_stop(self, name: str) -> None:
        self._stop(name)

    # -- time, machine, death --

    @rule(duration_s=st.sampled_from(WAITS_S))
    @a_step
    def time_passes(self, duration_s: float) -> None:
        self.play.house.pass_time(duration_s)
        self.play.note(f"waited {duration_s}")

    @rule(control=st.sampled_from(["heater", "fan", "drum"]), step=st.sampled_from([1, 3, 4, 5, 6]),
          name=st.sampled_from(["knob", *sorted(FAULTS)]))  # fmt: skip
    @a_step
    def the_machine_misbehaves(self, control: str, step: int, name: str) -> None:
        self.play.disturb(name, {"long silence": 12.0}.get(name, 3.0))
        if name == "knob":
            self.play.house.machine.act("turn_knob", control=control, step=step)
            return
        self.play.house.machine.act("fault", fault=FAULTS[name])
        if name == "long silence":
            self.play.house.pass_time(6.0)
        elif name == "nan":  # more heat, while nobody knows how hot the beans are
            self.play.house.pass_time(0.8)
            self.play.settle_rows()
            self._proposed(self.play.propose("operator", self._asked("SET_POWER", 1)))
        elif name in ("nak", "dropped_step", "doubled_step", "late"):
            self._proposed(self.play.propose("operator", self._asked("SET_FAN", step - 3)))

    @precondition(lambda self: not self.is_in_trouble())
    @rule(target=orders, fault=st.sampled_from(["nak", "dropped_step", "doubled_step"]), shift=st.sampled_from([-1, 1]),
          times=st.sampled_from([1, 1, 3]))  # fmt: skip
    @a_step
    def an_agents_orders_are_spoilt(self, fault: str, shift: int, times: int) -> Any:
        """What its orders came to is what a grant is worth."""
        play, found = self.play, []
        for _ in range(times):
            play.disturb(fault, 3.0)
            play.house.machine.act("fault", fault=FAULTS[fault])
            found += self._proposed(play.propose("steady", self._asked("SET_FAN", shift))).values
            order = play.model.orders[found[-1]] if found else None
            if order is not None and order.status == "PENDING_APPROVAL":
                play.act(play.approve("lead", order))
            play.settle()
        return multiple(*found)

    @precondition(lambda self: not self.is_in_trouble())
    @rule()
    @a_step
    def the_cable_is_pulled(self) -> None:
        self._unplug()

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
        act = self._decision(verb, "lead", order)
        self.play.act(act)
        self._count_deaths()

    @rule()
    @a_step
    def the_keeper_is_killed(self) -> None:
        self.play.disturb("keeper killed")
        self.play.house.kill("keeper")
        self.play.house.pass_time(0.8)

    @precondition(lambda self: not self.is_in_trouble() and not self.play.is_disturbed)
    @rule(target=orders, meanwhile=st.sampled_from(["revoke", "knob", "suspend", "wait", "nothing"]),
          shift=st.sampled_from([-1, 1]), name=st.sampled_from(["steady", "operator"]))  # fmt: skip
    @a_step
    def the_worker_is_killed_and_comes_again(self, meanwhile: str, shift: int, name: str) -> Any:
        """An order is approved while nobody tends the machine; by the time somebody does, it may be wrong."""
        play = self.play
        found = self._proposed(play.propose(name, self._asked("SET_FAN", shift)))
        order = play.model.orders[found.values[0]] if found.values else None
        play.noticed("worker killed")
        play.house.kill("worker")
        if order is not None and order.status == "PENDING_APPROVAL":
            play.act(play.approve("lead", order))
        grant = play.model.grant_of("steady")
        if meanwhile == "revoke" and grant is not None:
            self._revoke("lead", grant)
        elif meanwhile == "knob":
            play.noticed("knob")
            play.house.machine.act("turn_knob", control="fan", step=9)
        elif meanwhile == "suspend":
            self._suspend("operator")
        elif meanwhile == "wait":
            play.house.pass_time(1.2)
        play.house.pass_time(3.6)
        return found

    @precondition(lambda self: not self.is_in_trouble() and not self.play.is_disturbed)
    @rule(target=orders, shift=st.sampled_from([-1, 1]))
    @a_step
    def a_worker_sleeps_and_wakes(self, shift: int) -> Any:
        """Another takes the machine when the lease is over, not before; the sleeper sends nothing any more."""
        play, house = self.play, self.play.house
        sleeper = house.loop
        if house.rival() is not None:
            raise AssertionError("a machine that is tended was taken")
        if sleeper is None:
            return multiple()
        house.loop = None
        house.pass_time(3.6)
        if house.loop is None or house.loop.token <= sleeper.token:
            raise AssertionError("the lease is over, and nobody took it with a higher token")
        play.settle()
        taker, house.loop = house.loop, None
        house._begin_loop_ms = float("inf")
        found = self._proposed(play.propose("operator", self._asked("SET_FAN", shift)))
        play.noticed("worker slept")
        why = house.wake_sleeper(sleeper)
        if why not in ("lease_lost", "fenced"):
            raise AssertionError("a worker whose machine was taken goes on")
        if any(play.watch.status_of(order_id) != "APPROVED" for order_id in found.values
               if play.model.orders[order_id].status == "APPROVED"):  # fmt: skip
            raise AssertionError("a worker whose machine was taken has carried out an order")
        house.loop, house._begin_loop_ms = taker, 0.0
        return found

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
