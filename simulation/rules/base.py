"""What the rules of `simulation/rules/machine.py` are made of: what stands, acts by name, and one step around each."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, multiple

from kernel import clock
from simulation import oracle
from simulation.house_people import LIMITS
from simulation.oracle import Asked, Expected, Order
from simulation.rules.play import QUIET_AFTER_S, Act, Play

T = TypeVar("T")
AGENTS, OPERATORS = ("steady", "eager"), ("operator", "second", "owner", "lead")
EVERYBODY = (*OPERATORS, "viewer", "stranger", *AGENTS, "foreign")
UNFIT = ("viewer", "stranger", *AGENTS, "foreign")
REASONS = ("SAFETY_CONCERN", "WRONG_TIMING", "OTHER")
SHIFTS = (-4, -3, -2, -1, -1, 0, 1, 1, 2, 3, 4, 5)
WAITS_S = (0.4, 1.2, 1.9, 2.0, 2.0, 6.0, 6.0, 13.0, 13.0, 21.0, 46.0)
HEALED_WITHIN = 26  # looks, 13 s apart: an order off a roast waits 300 s
PATIENT_S = 25.0  # what waits longer than this at the end is called off
TROUBLE_STEPS = 3  # so long a halted, suspended, unplugged or ungranted machine is left as it is
#: The fan most: its agents' orders are not soon too many.
SETTINGS = st.sampled_from(["SET_POWER", "SET_FAN", "SET_FAN", "SET_DRUM"])
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


#: Arguments that are drawn from a bundle, and where the model has what they name.
BUNDLES = {"order_id": "orders", "grant_id": "grants"}


def pick(choices: list[T], index: int) -> T:
    """The index-th, counted round."""
    return choices[index % len(choices)]


def a_step(method: Any) -> Any:
    """A rule is one step: counted, and settled afterwards whatever it did."""

    @functools.wraps(method)
    def stepped(self: Stage, *arguments: Any, **named: Any) -> Any:
        self.play.sometimes.steps += 1
        self.steps_done += 1
        self.acts.append((method.__name__, self.symbolic(named)))
        self.is_whole = False
        before = len(self.play.lines)
        found = method(self, *arguments, **named)
        self.play.settle()
        if len(self.play.lines) == before:
            self.play.sometimes.idle_steps += 1
        self.trouble_steps = self.trouble_steps + 1 if self.is_in_trouble() else 0
        if self.trouble_steps > TROUBLE_STEPS:
            self.put_right()
            self.trouble_steps = 0
        self.is_whole = True
        return found

    return stepped


class Stage(RuleBasedStateMachine):
    """The acts of one example; the rules decide which, by whom and on what."""

    play: Play
    trouble_steps: int
    steps_done: int
    is_whole = False  # no step went wrong
    level: str  # what the lead trusts the steady agent with, as often as trust is lost

    opened: dict[str, Any]
    acts: list[tuple[str, dict[str, Any]]]

    def symbolic(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """A rule's arguments as JSON values; orders and grants as the k-th there is."""
        found: dict[str, Any] = {}
        for name, value in arguments.items():
            if name in BUNDLES:
                found[name] = list(getattr(self.play.model, BUNDLES[name])).index(value)
            else:
                found[name] = dataclasses.asdict(value) if isinstance(value, Asked) else value
        return found

    # -- what stands --

    def held(self) -> list[Order]:
        return self.play.model.of_status("PENDING_APPROVAL")

    def has_held(self) -> bool:
        return bool(self.held())

    def moved(self) -> list[Order]:
        """Settled orders that moved a control, the newest last."""
        settled = self.play.model.of_status(*oracle.SETTLED)
        return [order for order in settled if order.actual is not None and order.actual != order.ran_from]

    def is_free(self) -> bool:
        model = self.play.model
        return not model.halts and not model.is_paused

    def is_in_trouble(self) -> bool:
        model, grant = self.play.model, self.play.model.grant_of("steady")
        is_trusted = grant is not None and grant.level >= "L3" and not grant.order_types
        return not self.is_free() or model.suspended or not is_trusted or not self.is_plugged()

    def is_roasting(self) -> bool:
        return self.play.seen.state == "roasting"

    def is_plugged(self) -> bool:
        return bool(self.play.house.machine.effects.is_plugged)

    def put_right(self) -> None:
        """The lead comes round: cable in, halts reset, the machine given back, the agent trusted."""
        play, model = self.play, self.play.model
        if not self.is_plugged():
            play.disturb("replug")
            play.house.machine.act("fault", fault="replug")
        play.wait(1.2)
        if model.is_paused or "link_lost" in model.halts:
            self._resume_orders("lead")
        if model.halts:
            self._reset("lead")
        if model.suspended:
            self._give_back("lead")
        grant = model.grant_of("steady")
        if grant is None or grant.level < "L3" or grant.order_types:
            self._grant("lead", "steady", self.level, [], None)
        play.settle()

    def heal(self) -> None:
        """Everything is put right: every order comes to its end, and a person's order is carried out again."""
        play = self.play
        self.put_right()
        for held in play.model.of_status("PENDING_APPROVAL"):
            if held.expires_s - play.now_s > PATIENT_S and not held.plan:
                play.act(play.abort("lead", held))
        for _ in range(HEALED_WITHIN):
            if not play.model.of_status("PENDING_APPROVAL", "APPROVED", "EXECUTING", "IN_DOUBT"):
                break
            play.wait(13.0)
        standing = play.model.of_status("PENDING_APPROVAL", "APPROVED", "EXECUTING", "IN_DOUBT")
        if standing:
            raise AssertionError(f"all is well again, and {standing[0].order_id} is still {standing[0].status}")
        play.wait(QUIET_AFTER_S)
        if play.seen.state != "roasting" or not self.is_free() or play.is_disturbed:
            return  # the roast is over, or a halt came of itself meanwhile
        found = self._proposed(play.propose("operator", self._asked("SET_FAN", -1)))
        play.settle()
        order = play.model.orders[found.values[0]] if found.values else None
        if order is not None and order.status != "COMPLETED":
            raise AssertionError(f"all is well again, and a person's order ends {order.status}: {order.refusals}")
        play.sometimes.met("law", "healed")

    def _asked(self, order_type: str, shift: int, unit: str = "step", **more: Any) -> Asked:
        """A setting ``shift`` steps from where the control stands, within its range."""
        control = oracle.CONTROL_OF[order_type]
        low, high = LIMITS[control][:2]
        start = self.play.seen.steps.get(control)
        target = min(high, max(low, (start if start is not None else low) + shift))
        value = float(target) if unit == "step" else round(target * 100 / high, 3)
        return Asked(order_type, value, unit, **more)

    def _keep_distance(self, order_type: str, shift: int, early_s: float) -> None:
        """Let time pass until an agent may move that control again, less ``early_s``."""
        play, control = self.play, oracle.CONTROL_OF[order_type]
        limit = play.model.limits[control]
        moments = [order.decided_s for order in play.model.of_status(*oracle.COUNTED)
                   if order.is_by_agent and order.control == control and order.decided_s is not None]  # fmt: skip
        bound_s = max(limit.interval_s, abs(shift) / limit.ramp if limit.ramp else 0.0)
        at_s = max(moments, default=-bound_s) + bound_s - early_s
        if 0 < at_s - play.now_s < 6:
            self._wait_until(at_s)

    def _wait_until(self, at_s: float) -> None:
        """Let time pass until exactly then, the last reading being young."""
        play = self.play
        play.house.pass_time(max(0.0, at_s - play.now_s - 0.2))
        play.settle_rows()
        play.house.clock.advance_to_ms(at_s * 1000)

    def _proposed(self, act: Act) -> Any:
        before = set(self.play.model.orders)
        self.play.act(act)
        new = [order_id for order_id in self.play.model.orders if order_id not in before]
        return multiple(*new)

    def _grant(self, name: str, agent: str, level: str, types: list[str], lasts_s: float | None) -> Any:
        play = self.play
        expected = play.model.lead_act(play.who(name), "machine_not_found")
        if expected.status == 200:
            expected = Expected(201)
        until = None if lasts_s is None else clock.now() + dt.timedelta(seconds=lasts_s)
        expires_s = None if lasts_s is None else round(play.now_s + lasts_s, 6)  # whole microseconds, as `until`
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
            play.model.grants[new[0]] = oracle.Grant(
                new[0], agent, level, frozenset(types), expires_s, granted_s=play.now_s
            )
            found.extend(new)

        def happened() -> bool:
            return any(grant_id not in play.model.grants for grant_id in play.watch.machine_facts().levels)

        play.act(Act("grant", expected, lambda: play.house.post(name, "/v1/grants", body), learn, happened))
        return multiple(*found)

    def _revoke(self, name: str, grant: oracle.Grant) -> None:
        play = self.play
        expected = play.model.lead_act(play.who(name), "grant_not_found")

        def learn(_answer: Any) -> None:
            grant.is_live = False

        play.act(Act("revoke", expected, lambda: play.house.post(name, f"/v1/grants/{grant.grant_id}/revoke"), learn,
                     lambda: grant.is_live and grant.grant_id not in play.watch.machine_facts().levels))  # fmt: skip

    def _suspend(self, name: str) -> None:
        play, model = self.play, self.play.model

        def learn(_answer: Any) -> None:
            if model.suspended:
                return
            model.suspended = True
            for order in model.of_status("PENDING_APPROVAL", "APPROVED"):
                if order.is_by_agent:
                    play._moved(order, "ABORTED")

        play.act(Act("suspend", model.operate(play.who(name)),
                     lambda: play.house.post(name, f"{play.machine_path}/suspend"), learn,
                     lambda: play.watch.machine_facts().is_suspended and not model.suspended))  # fmt: skip

    def _give_back(self, name: str) -> None:
        play, model = self.play, self.play.model

        def learn(_answer: Any) -> None:
            model.suspended = False

        play.act(Act("resume_agents", model.operate(play.who(name)),
                     lambda: play.house.post(name, f"{play.machine_path}/resume", {"what": "agents"}), learn,
                     lambda: not play.watch.machine_facts().is_suspended and model.suspended))  # fmt: skip

    def _resume_orders(self, name: str) -> None:
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

    def _attend(self, name: str) -> None:
        play, model = self.play, self.play.model

        def learn(_answer: Any) -> None:
            model.attended_s = play.now_s

        play.act(Act("attend", model.operate(play.who(name)),
                     lambda: play.house.post(name, f"{play.machine_path}/attend"), learn,
                     lambda: play.watch.attendances() > model.attendances))  # fmt: skip
        model.attendances = play.watch.attendances()

    def _reset(self, name: str) -> None:
        play, model = self.play, self.play.model
        expected = model.lead_act(play.who(name), "machine_not_found")
        if expected.status == 200 and play.house.keeper is None:
            expected = Expected(503, "keeper_unreachable")

        def learn(_answer: Any) -> None:
            model.halts.clear()

        play.act(Act("reset", expected,
                     lambda: play.house.post(name, f"{play.machine_path}/reset", {"reason": "looked"}), learn,
                     lambda: play.watch.machine_facts().halts != model.halts))  # fmt: skip

    def _stop(self, name: str) -> None:
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

    def _unplug(self) -> None:
        self.play.disturb("unplug")
        self.play.house.machine.act("fault", fault="unplug")
        self.play.house.pass_time(0.8)

    def _decision(self, verb: str, name: str, order: Order) -> Act:
        play = self.play
        return {
            "approve": lambda: play.approve(name, order), "approve twice": lambda: play.approve(name, order),
            "reject": lambda: play.reject(name, order, "WRONG_TIMING"), "abort": lambda: play.abort(name, order),
            "veto": lambda: play.veto(name, order), "adopt": lambda: play.adopt(name, order),
            "review": lambda: play.review(name, order),
        }[verb]()  # fmt: skip

    def _count_deaths(self) -> None:
        deaths = self.play.house.deaths
        deaths.forget()
        while deaths.fired:
            self.play.sometimes.met("death", deaths.fired.pop())

