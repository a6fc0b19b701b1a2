"""The predecessor's table as inputs and answers: what it documents, what we answer, and why where we differ.

One row, one test. ``theirs`` is what the predecessor documents or was measured to answer (reference: sim-corp-commands,
§1–§3, §10); ``ours`` is what this house answers; ``why`` says on what ground ours is another, and stands exactly there.
An answer is a decision and a code (the predecessor's spelling where it had one), an HTTP status and code, or a status.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from commands import governor, services, situation
from commands.models import Proposal
from commands.reasons import LEGACY, Decision
from commands.rules import policy
from commands.rules.conversion import OrderType, to_native
from commands.rules.values import Constraints, GrantLook, Limits, ReadingLook, Recent, Situation
from commands.tests.conftest import set_reading
from commands.tests.rows import attend_row
from commands.tests.situations import BASE, NOW, STEPS, ago, fan, level, order, person
from drivers.port import Outcome, Receipt
from kernel import clock
from kernel.errors import ApiError

HUNDRED = Limits(0, 100, 100, 100, 0.0, 1000, 100)
HALFWAY = ReadingLook(0.1, "roasting", {**STEPS, "heater": 50, "fan": 50}, 180.0, 12.0, 400_000, 10)


@dataclasses.dataclass(frozen=True)
class Row:
    """``play`` gets the stage (rows of the database, made when asked for) and gives our answer."""

    name: str
    play: Callable[[Any], str]
    theirs: str
    ours: str
    why: str = ""


def said(looked: Situation) -> str:
    """The governor's decision, and the code of the reason that made it."""
    verdict = governor.review(looked)
    reason = next(reason for reason in verdict.reasons if reason.decision is verdict.decision)
    word = LEGACY.get(reason.code, reason.code.value)
    return f"{verdict.decision.value} {word}"


def judged(**changes: Any) -> Callable[[Any], str]:
    looked = dataclasses.replace(BASE, **changes)
    return lambda stage: said(looked)


def asked(order_type: str, value: float | None, unit: str, *, is_heat_machine: bool = True, **limits: Any) -> Any:
    """A person asks a Bullet (9 heater steps, 12 of the fan, 9 of the drum)."""
    full = {"SET_FAN": 12}.get(order_type, 9)
    native = to_native(OrderType(order_type), value, unit, full)
    misfit = (native.misfit.code, native.misfit.message, native.misfit.how_to_fix) if native.misfit else None
    control = {"SET_POWER": "heater", "SET_FAN": "fan", "SET_DRUM": "drum"}.get(order_type, "")
    own = person(order_type=OrderType(order_type), control=control, target_step=native.step, misfit=misfit)
    own = dataclasses.replace(own, constraints=Constraints(**limits))
    bounds = Limits(1 if control == "fan" else 0, full, full, 20, 0.0, 1000, 100) if control else None
    state = "off" if order_type == "PREHEAT" else "roasting"
    reading = dataclasses.replace(BASE.reading, state=state)
    return judged(order=own, limits=bounds, reading=reading)


def ramped(target: int, elapsed_s: float, bound: float = 5.0) -> Callable[[Any], str]:
    limits = dataclasses.replace(HUNDRED, max_ramp_step_per_s=bound)
    recent = Recent(last_on_control_at=ago(elapsed_s))
    return judged(order=order(target_step=target), limits=limits, reading=HALFWAY, recent=recent)


def counted(limits: dict[str, Any], target: int = 7, **recent: Any) -> Callable[[Any], str]:
    looked = dataclasses.replace(BASE.limits, **limits)
    return judged(order=order(target_step=target), limits=looked, recent=Recent(**recent))


def failed(count: int, of: int) -> Callable[[Any], str]:
    return judged(recent=Recent(settled_count=of, failed_count=count))


HOLD = "HOLD APPROVAL_REQUIRED"
OWN = "ALLOW MANUAL_COMMAND_ALLOWED"
BAD = "REFUSE CONSTRAINT_VIOLATION"
LATE_INTERVAL = {"min_interval_s": 5.0}
POLICY = BASE.policy

RULES = [
    # --- §1 targets and constraints
    Row("power 0 %", asked("SET_POWER", 0, "percent"), OWN, OWN),
    Row("power 100 %", asked("SET_POWER", 100, "percent"), OWN, OWN),
    Row("power 120 %", asked("SET_POWER", 120, "percent"), BAD, BAD),
    Row("power 101 %", asked("SET_POWER", 101, "percent"), BAD, OWN,
        "heat rounds down to whole steps: 101 % of nine steps is step 9"),
    Row("power −1 %", asked("SET_POWER", -1, "percent"), BAD, BAD),
    Row("power without a target", asked("SET_POWER", None, ""), OWN, BAD, "a SET without a target is refused by name"),
    Row("power in °C", asked("SET_POWER", 5, "celsius"), OWN, BAD, "a unit must fit its control"),
    Row("power in no unit", asked("SET_POWER", 5, ""), OWN, BAD, "a target carries its unit"),
    Row("fan 4.5", asked("SET_FAN", 4.5, "step"), OWN, OWN),
    Row("fan 0", asked("SET_FAN", 0, "step"), BAD, BAD),
    Row("fan 12", asked("SET_FAN", 12, "step"), BAD, OWN, "the machine's own range: a Bullet's fan has twelve steps"),
    Row("fan 13", asked("SET_FAN", 13, "step"), BAD, BAD),
    Row("drum 60 rpm", asked("SET_DRUM", 60, "rpm"), OWN, BAD, "no machine tells its drum's rpm per step"),
    Row("preheat to 9999", asked("PREHEAT", 9999, "celsius"), OWN, BAD, "an R1's set-point is the panel's"),
    Row("preheat", asked("PREHEAT", None, ""), OWN, OWN),
    Row("the proposer's stricter ceiling", asked("SET_POWER", 8, "step", max_step=7), BAD, BAD),
    Row("at the proposer's ceiling", asked("SET_POWER", 7, "step", max_step=7), OWN, OWN),
    Row("the proposer's looser ceiling", asked("SET_POWER", 10, "step", max_step=99), OWN, BAD,
        "limits are the machine's, intersected with stricter ones"),
    Row("a required state that is not", asked("SET_POWER", 5, "step", require_states=frozenset({"cooling"})),
        OWN, "REFUSE wrong_state", "state guards are enforced"),
    Row("a forbidden state that is", asked("SET_POWER", 5, "step", forbidden_states=frozenset({"roasting"})),
        OWN, "REFUSE wrong_state", "state guards are enforced"),
    Row("preheat during a roast",
        judged(order=person(order_type=OrderType.PREHEAT, control="", target_step=None), limits=None),
        "REFUSE state", "REFUSE wrong_state", "the same answer under a code of its own"),
    # --- §1 ramp, interval, daily count
    Row("ramp 50 to 60 in 2 s at 5", ramped(60, 2.0), HOLD, HOLD),
    Row("ramp 50 to 61 in 2 s at 5", ramped(61, 2.0), BAD, BAD),
    Row("ramp 50 to 70 in 2 s at 5", ramped(70, 2.0), BAD, BAD),
    Row("ramp 50 to 60 in 1.99 s at 5", ramped(60, 1.99), BAD, BAD),
    Row("no change at the same moment", ramped(50, 0.0), HOLD, HOLD),
    Row("a change at the same moment", ramped(51, 0.0), BAD, BAD),
    Row("a change before the last one", ramped(60, -5.0), HOLD, "REFUSE too_soon",
        "a clock that went back leaves no time at all"),
    Row("interval 5 s after 5 s", counted(LATE_INTERVAL, last_on_control_at=ago(5)), HOLD, HOLD),
    Row("interval 5 s after 4.999 s", counted(LATE_INTERVAL, last_on_control_at=ago(4.999)),
        "REFUSE interval", "REFUSE too_soon", "the same answer under a code of its own"),
    Row("daily 4 of 5", counted({"daily_count": 5}, day_count=4), HOLD, HOLD),
    Row("daily 5 of 5", counted({"daily_count": 5}, day_count=5), "REFUSE daily", "REFUSE daily_count_reached",
        "the same answer under a code of its own"),
    Row("daily 5 of 5, less heat", counted({"daily_count": 5}, target=5, day_count=5), "REFUSE daily", HOLD,
        "the safe direction is exempt from counting"),
    # --- §3 levels
    Row("L1, agent", lambda _: said(level("L1")), "REFUSE AUTONOMY_LEVEL_TOO_LOW", "REFUSE AUTONOMY_LEVEL_TOO_LOW"),
    Row("L1, a person's order", judged(order=person(), grant=GrantLook("L1")), "REFUSE AUTONOMY_LEVEL_TOO_LOW", OWN,
        "people's orders are never blocked by a level"),
    Row("L2, agent", lambda _: said(level("L2")), "REFUSE AGENT_COMMANDS_NOT_ALLOWED",
        "REFUSE AGENT_COMMANDS_NOT_ALLOWED"),
    Row("L2, a person's order", judged(order=person(), grant=GrantLook("L2")), OWN, OWN),
    Row("L3", lambda _: said(level("L3")), "ALLOW APPROVAL_REQUIRED", HOLD, "held in fact, not by advice"),
    Row("L4", lambda _: said(level("L4")), "ALLOW HIGH_AUTONOMY_LEVEL", "VETO HIGH_AUTONOMY_LEVEL",
        "a real veto window, not L3 by another name"),
    Row("L5", lambda _: said(level("L5")), "ALLOW HIGH_AUTONOMY_LEVEL", "ALLOW HIGH_AUTONOMY_LEVEL"),
    Row("another level", lambda _: said(level("L6")), "REFUSE UNKNOWN_AUTONOMY_LEVEL", "REFUSE UNKNOWN_AUTONOMY_LEVEL"),
    Row("no level at all", judged(grant=None), "ALLOW APPROVAL_REQUIRED", "REFUSE AGENT_COMMANDS_NOT_ALLOWED",
        "trust is granted by agent and machine, never a global default"),
    Row("a grant that has run out", judged(grant=GrantLook("L3", expires_at=NOW)), "ALLOW APPROVAL_REQUIRED",
        "REFUSE AGENT_COMMANDS_NOT_ALLOWED", "grants expire; at the moment itself they are over"),
    Row("a grant in its last moment", judged(grant=GrantLook("L3", expires_at=NOW + dt.timedelta(microseconds=1))),
        "ALLOW APPROVAL_REQUIRED", HOLD, "held in fact, not by advice"),
    # --- §3 failure rate and session limit
    Row("failures 30 of 100", failed(30, 100), HOLD, HOLD),
    Row("failures 31 of 100", failed(31, 100), "REFUSE HIGH_FAILURE_RATE", "REFUSE HIGH_FAILURE_RATE"),
    Row("failures 3 of 10", failed(3, 10), HOLD, HOLD),
    Row("failures 2 of 5", failed(2, 5), "REFUSE HIGH_FAILURE_RATE", "REFUSE HIGH_FAILURE_RATE"),
    Row("failures 4 of 4", failed(4, 4), "REFUSE HIGH_FAILURE_RATE", HOLD, "a rate needs at least five settled"),
    Row("session 4 of 5", judged(order=order(target_step=7), recent=Recent(session_count=4),
        policy=dataclasses.replace(POLICY, session_limit=5)), HOLD, HOLD),
    Row("session 5 of 5", judged(order=order(target_step=7), recent=Recent(session_count=5),
        policy=dataclasses.replace(POLICY, session_limit=5)),
        "REFUSE SESSION_COMMAND_LIMIT", "REFUSE SESSION_COMMAND_LIMIT"),
    Row("session 5 of 5, less heat", judged(recent=Recent(session_count=5),
        policy=dataclasses.replace(POLICY, session_limit=5)), "REFUSE SESSION_COMMAND_LIMIT", HOLD,
        "the safe direction is exempt from counting"),
    Row("session 5 of 5, a person", judged(order=person(target_step=7), recent=Recent(session_count=5),
        policy=dataclasses.replace(POLICY, session_limit=5)), "REFUSE SESSION_COMMAND_LIMIT", OWN,
        "it limits agents"),
    # --- §3, §10 failing closed
    Row("a rule that raises", lambda _: governor.review(BASE, (*governor.RULES, ("x", _raise))).decision.value,
        "HOLD", "REFUSE", "a governor that fails, fails closed"),
    Row("no rules", lambda _: governor.review(BASE, ()).decision.value, "ALLOW", "REFUSE", "no rules permit nothing"),
    Row("an order no table knows", judged(policy=dataclasses.replace(POLICY, table=())), "ALLOW APPROVAL_REQUIRED",
        "REFUSE no_significance", "what is unmatched is refused"),
    Row("the fan by an agent", judged(order=fan(5)), "ALLOW APPROVAL_REQUIRED", HOLD, "held in fact, not by advice"),
]  # fmt: skip


def _raise(_looked: Situation) -> Any:
    raise RuntimeError("broken")


class Stage:
    """Rows of the database for the table's second half; each fixture is made when a row asks for it."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._get = request.getfixturevalue

    def __getattr__(self, name: str) -> Any:
        return self._get(name)

    def post(self, who: str, path: str, body: dict[str, Any]) -> str:
        """HTTP status, and the error's code or the order's status."""
        if who == "agent":
            client = self.api_by_key(agent=self.agent, scopes=["read", "propose"])
        else:
            client = self.signed_in(getattr(self.people, who)) if who != "nobody" else self.api
        answer = client.post(path, body, format="json")
        told = answer.json()
        return f"{answer.status_code} {told.get('error') or told.get('status')}"

    def propose(self, who: str, **more: Any) -> str:
        body = {"machine_id": self.machine.pk, "order_type": "SET_POWER", "target_value": 5, "target_unit": "step",
                "reasoning": "r"}  # fmt: skip
        patient = copy.deepcopy(policy.DEFAULT_DOCUMENT)
        patient["numbers"]["max_age_s"] = 30.0  # on a busy box the first request of a process takes seconds
        services.set_policy(self.people.principal("lead"), document=patient, reason="a busy box", now=self.now)
        set_reading(self.machine, clock.now())
        return self.post(who, "/v1/proposals", body | more)

    def decide(self, who: str, act: str, **body: Any) -> str:
        if act == "approve":
            body = {"digest": self.held.digest}
        return self.post(who, f"/v1/proposals/{self.held.pk}/{act}", body)

    def at_expiry(self, after_s: float) -> str:
        try:
            return str(self.approved(self.held.expires_at + dt.timedelta(seconds=after_s)).status)
        except ApiError as error:
            self.held.refresh_from_db()
            return f"{self.held.status} {error.code}"

    def approved(self, at: dt.datetime) -> Proposal:
        return services.approve_proposal(self.people.principal("operator"), self.held, digest=self.held.digest, now=at)

    def claimed(self) -> Any:
        self.approved(self.now)
        fresh = Proposal.objects.get(pk=self.held.pk)
        gathered = situation.gather(self.machine.pk, fresh, None, self.now)
        return services.claim_execution(self.held.pk, lease_token=1, situation=gathered, now=self.now)

    def ended(self, outcome: Outcome) -> str:
        receipt = Receipt("r", outcome, value_before=6, value_after=5, started_monotonic_s=0.0)
        return str(services.conclude_execution(self.claimed(), receipt, now=self.now).status)

    def executed_twice(self) -> str:
        first = self.claimed()
        fresh = Proposal.objects.get(pk=self.held.pk)
        gathered = situation.gather(self.machine.pk, fresh, None, self.now)
        second = services.claim_execution(self.held.pk, lease_token=1, situation=gathered, now=self.now)
        return f"{(first is not None) + (second is not None)} execution(s)"

    def a_day_ago(self, ago_s: float) -> str:
        """One order that moved the fan, then another: does the first still count?"""
        self.machine.limits.filter(control="fan").update(daily_count=1)
        own = self.held  # heater; the fan's is told apart
        services.reject_proposal(self.people.principal("operator"), own, code="WRONG_TIMING", text="", now=self.now)
        first = self.agents_fan(self.now)
        services.approve_proposal(self.people.principal("operator"), first, digest=first.digest, now=self.now)
        gathered = situation.gather(self.machine.pk, Proposal.objects.get(pk=first.pk), None, self.now)
        attempt = services.claim_execution(first.pk, lease_token=1, situation=gathered, now=self.now)
        receipt = Receipt("r", Outcome.PROVED, value_before=4, value_after=5, started_monotonic_s=0.0)
        services.conclude_execution(attempt, receipt, now=self.now)
        later = self.now + dt.timedelta(seconds=ago_s)
        set_reading(self.machine, later)
        return self.agents_fan(later).rejection_code or "HOLD"

    def agents_fan(self, at: dt.datetime) -> Proposal:
        return services.propose_order(
            self.agent_principal, machine=self.machine, order_type="SET_FAN", target_value=5, target_unit="step",
            reasoning="r", now=at,
        )  # fmt: skip

    def swept(self) -> str:
        services.expire_due(now=self.held.expires_at)
        self.held.refresh_from_db()
        return str(self.held.status)

    def window_of_l4(self, after_s: float) -> str:
        services.grant_autonomy(
            self.people.principal("lead"), agent=self.agent, machine=self.machine, level="L4", now=self.now
        )
        attend_row(self.machine, self.people.operator, self.now)
        order = self.agents_fan(self.now)
        later = self.now + dt.timedelta(seconds=after_s)
        set_reading(self.machine, later)
        services.release_due(now=later)
        order.refresh_from_db()
        return str(order.status)

    def legacy_of_rejection(self) -> str:
        services.reject_proposal(
            self.people.principal("operator"), self.held, code="SAFETY_CONCERN", text="", now=self.now
        )
        return str(self.held.transitions.get(to_status="REJECTED").detail["legacy_code"])


OPERATE = "a person with the role, never the proposer, approves"
LIVES = [
    # --- §2 lifecycle, §5 HTTP, §10
    Row("an agent's order", lambda s: (s.granted, s.propose("agent"))[1], "200 PENDING_APPROVAL",
        "201 PENDING_APPROVAL", "a new thing is 201"),
    Row("a person's order", lambda s: s.propose("operator"), "200 PENDING_APPROVAL", "201 APPROVED",
        "an operator's own order needs no second person"),
    Row("a refused order is kept", lambda s: (s.granted, s.propose("agent", target_value=99))[1], "200 REJECTED",
        "201 REJECTED", "a new thing is 201"),
    Row("approvalRequired=false", lambda s: (s.granted, s.propose("agent", approvalRequired=False))[1],
        "200 APPROVED", "400 unknown_field", "whether approval is needed is the governor's to say"),
    Row("a self-declared proposer", lambda s: (s.granted, s.propose("agent", proposedBy="HUMAN"))[1],
        "200 PENDING_APPROVAL", "400 unknown_field", "who proposed comes from the credential"),
    Row("nobody proposes", lambda s: (s.granted, s.propose("nobody"))[1], "200 PENDING_APPROVAL",
        "401 not_signed_in", "a missing actor is nobody"),
    Row("an unknown order", lambda s: s.propose("operator", order_type="EXPLODE"), "400 None", "400 invalid",
        "every refusal has a code"),
    Row("an operator approves", lambda s: s.decide("operator", "approve"), "200 APPROVED", "200 APPROVED"),
    Row("an agent approves", lambda s: s.decide("agent", "approve"), "200 APPROVED", "403 agents_cannot_approve",
        OPERATE),
    Row("a viewer approves", lambda s: s.decide("viewer", "approve"), "200 APPROVED", "403 role_required", OPERATE),
    Row("the agent's owner approves", lambda s: s.decide("lead", "approve"), "200 APPROVED",
        "403 owner_cannot_approve", OPERATE),
    Row("a stranger approves", lambda s: s.decide("stranger", "approve"), "200 APPROVED", "404 proposal_not_found",
        "another organisation's order is not there"),
    Row("approved twice", lambda s: (s.decide("operator", "approve"), s.decide("second_operator", "approve"))[1],
        "400 None", "409 not_awaiting_approval", "what moved on is a conflict"),
    Row("approving what is not there",
        lambda s: s.post("operator", "/v1/proposals/prp_none/approve", {"digest": "d"}) if s.held else "",
        "400 None", "404 proposal_not_found", "what is not there is 404"),
    Row("rejected", lambda s: s.decide("operator", "reject", code="SAFETY_CONCERN"), "200 REJECTED", "200 REJECTED"),
    Row("rejected without a code", lambda s: s.decide("operator", "reject"), "200 REJECTED", "400 invalid",
        "a rejection has a structured reason"),
    Row("rejected for OTHER without a text", lambda s: s.decide("operator", "reject", code="OTHER"), "400 None",
        "400 text_required", "every refusal has a code"),
    Row("code of a rejection", lambda s: s.legacy_of_rejection(), "USER_REJECTED", "USER_REJECTED"),
    Row("approved a moment before it expires", lambda s: s.at_expiry(-1e-6), "APPROVED", "APPROVED"),
    Row("approved as it expires", lambda s: s.at_expiry(0.0), "APPROVED", "TIMEOUT expired", "expiry is enforced"),
    Row("approved years after", lambda s: s.at_expiry(1e8), "APPROVED", "TIMEOUT expired", "expiry is enforced"),
    Row("left alone until it expires", lambda s: s.swept(), "PENDING_APPROVAL", "TIMEOUT", "a sweeper times out"),
    Row("the driver accepted", lambda s: s.ended(Outcome.PROVED), "COMPLETED", "COMPLETED"),
    Row("the driver refused", lambda s: s.ended(Outcome.DECLINED), "FAILED", "FAILED"),
    Row("the driver threw", lambda s: s.ended(Outcome.IN_DOUBT), "FAILED", "IN_DOUBT",
        "what may have left is in doubt, and resolved by reading"),
    Row("executed twice", lambda s: s.executed_twice(), "2 execution(s)", "1 execution(s)",
        "at most once is an index"),
    Row("an order of 24 h less a second ago counts", lambda s: s.a_day_ago(86_399), "HOLD", "daily_count_reached",
        "a day is the last 24 hours, not since local midnight"),
    Row("an order of 24 h ago does not", lambda s: s.a_day_ago(86_400 - 1e-6 + 1e-6), "HOLD", "HOLD"),
    Row("L4 before its window ends", lambda s: s.window_of_l4(14.999), "PENDING_APPROVAL", "PENDING_APPROVAL"),
    Row("L4 when its window has ended", lambda s: s.window_of_l4(15.0), "PENDING_APPROVAL", "APPROVED",
        "it runs unless an operator vetoes"),
]  # fmt: skip
TABLE = [*RULES, *LIVES]


@pytest.mark.parametrize(
    "row",
    [
        *(pytest.param(row, id=row.name) for row in RULES),
        *(pytest.param(row, id=row.name, marks=pytest.mark.django_db) for row in LIVES),
    ],
)
def test_the_predecessors_table(row: Row, request: pytest.FixtureRequest) -> None:
    assert bool(row.why) == (row.ours != row.theirs), "a difference, and only a difference, has its ground"
    stage = Stage(request) if row in LIVES else None
    assert row.play(stage) == row.ours


def test_every_row_has_a_name_of_its_own() -> None:
    assert len({row.name for row in TABLE}) == len(TABLE)
    assert {word for row in TABLE for word in row.ours.split()} >= {word.value for word in Decision}
