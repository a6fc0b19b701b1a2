"""The built-in agent: follows one machine's stream and proposes, by the heuristics, one order at a time.

A loop of :meth:`RoastRunner.tick`; each call takes one event off the stream. It never acts by itself: it asks,
and a person (or what a person signed) decides. A refusal or a silence makes it wait longer before it asks again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from agents import heuristics
from agents.client import ClientError, Event, Refused, Unauthorized
from agents.heuristics import Advice, Look, Note, Plan, View

REST_S = 40.0  # after a proposal came to nothing; doubles each time
LONGEST_REST_S = 320.0
ASK_AGAIN_S = 5.0  # how often we look after an order of ours that the stream is silent about
REFRESH_S = 30.0
SETTLED = frozenset({"REJECTED", "COMPLETED", "FAILED", "ABORTED", "TIMEOUT"})
_CONTROL_UNITS = "step"


class Server(Protocol):
    """What we need of a client."""

    def machine(self, machine_id: str) -> dict[str, Any]: ...

    def proposal(self, proposal_id: str) -> dict[str, Any]: ...

    def propose(self, body: Mapping[str, Any], *, idempotency_key: str) -> dict[str, Any]: ...

    def follow(self, machine_id: str) -> Iterator[Event]: ...


@dataclass(slots=True)
class _Asked:
    """Our one proposal that is not settled yet."""

    proposal_id: str
    text: str
    ask_again_s: float


class RoastRunner:
    """Watches ``machine_id`` through ``server``; ``say`` takes one line of log."""

    def __init__(self, server: Server, *, machine_id: str, plan: Plan, say: Callable[[str], None]) -> None:
        self.server = server
        self.machine_id = machine_id
        self.plan = plan
        self.say = say
        self.view = View()
        self.roast_id: str | None = None
        self._limits: dict[str, tuple[int, int]] = {}
        self._may_not: str = "machine not looked at yet"
        self._asked: _Asked | None = None
        self._refusals = 0
        self._rest_until_ms: int | None = None
        self._refresh_at_s = 0.0
        self._events: Iterator[Event] | None = None

    def tick(self, now: float) -> bool:
        """Take one event off the stream (waits for it). ``now`` is monotonic seconds. True when it was a reading
        or a decision. Raises Unauthorized and Refused when the server will not have us."""
        if self._events is None:
            self._events = self.server.follow(self.machine_id)
        event = next(self._events)
        if event.kind == "reading":
            self._see(event.data, now)
        elif event.kind == "decision":
            self._hear(event.data)
        elif event.kind in {"connected", "reset"}:
            self.say(f"stream {event.kind}")
            self._refresh_at_s = now
        elif event.kind == "lost":
            self.say(f"stream lost: {event.data['reason']}; again in {event.data['retry_in_s']} s")
        return event.kind in {"reading", "decision"}

    # --- hearing ---

    def _hear(self, decision: Mapping[str, Any]) -> None:
        kind, payload = decision.get("kind"), decision.get("payload") or {}
        if kind == "proposal" and self._asked and decision.get("subject_id") == self._asked.proposal_id:
            self._settle(payload)
        elif kind == "roast_event" and payload.get("kind") == "first_crack_start":
            self._hear_first_crack(payload)
        elif kind in {"halt", "suspension", "machine", "grant", "alarm"}:
            self._refresh_at_s = 0.0
        elif kind == "roast" and payload.get("status") in {"finished", "aborted"}:
            self.roast_id = None

    def _hear_first_crack(self, payload: Mapping[str, Any]) -> None:
        """A mark that was withdrawn later still keeps us from adding heat: the safe side."""
        latest = self.view.latest
        if latest is not None and not payload.get("is_withdrawn") and self.view.first_crack_ms is None:
            self.view = heuristics.note_first_crack(self.view, latest.device_ms)
            self.say("first crack was marked: no more heat from here")

    def _settle(self, proposal: Mapping[str, Any]) -> None:
        status = str(proposal.get("status", ""))
        if self._asked is None or status not in SETTLED:
            return
        asked, self._asked = self._asked, None
        if status == "COMPLETED":
            self._refusals, self._rest_until_ms = 0, None
            self.say(f"{asked.proposal_id} completed: {asked.text}")
        else:
            why = proposal.get("rejection_code") or proposal.get("outcome_code") or ""
            self._rest(f"{asked.proposal_id} ended {status} {why}".rstrip())

    def _rest(self, why: str) -> None:
        """Come back later, and later still if it happens again."""
        rest_s = min(REST_S * 2**self._refusals, LONGEST_REST_S)
        self._refusals += 1
        latest = self.view.latest
        self._rest_until_ms = (latest.device_ms if latest else 0) + int(rest_s * 1000)
        self.say(f"{why}; no new proposal for {rest_s:.0f} s of roast time")

    # --- seeing ---

    def _see(self, reading: Mapping[str, Any], now: float) -> None:
        look = look_of(reading)
        if look is None:
            return
        charged_ms = self.view.charged_ms
        previous = self.view.latest
        self.view = heuristics.observe(self.view, look)
        if self.view.charged_ms != charged_ms or (previous is not None and look.device_ms < previous.device_ms):
            self._refusals, self._rest_until_ms, self.roast_id = 0, None, None
        self.roast_id = reading.get("roast_id") or None
        if self._asked is not None:
            self._look_after(now)
            return
        if self._rest_until_ms is not None and look.device_ms < self._rest_until_ms:
            return
        found = heuristics.advise(self.view, self.plan, self._limits)
        if isinstance(found, Note):
            self.view = heuristics.note_said(self.view, found)
            self.say(f"note {found.code}: {found.text}")
        elif found is not None or now >= self._refresh_at_s:
            self._refresh(now, is_needed=found is not None)
            if found is not None and not self._may_not:
                self._propose(found, now)

    def _look_after(self, now: float) -> None:
        """The stream tells us what came of our order; where it does not, ask."""
        if self._asked is None or now < self._asked.ask_again_s:
            return
        self._asked.ask_again_s = now + ASK_AGAIN_S
        try:
            self._settle(self.server.proposal(self._asked.proposal_id))
        except Unauthorized:
            raise
        except ClientError as error:
            self.say(f"could not look after {self._asked.proposal_id}: {error}")

    def _refresh(self, now: float, *, is_needed: bool) -> None:
        """Machine, limits, halts: read again when due, and before every proposal that finds them old."""
        if now < self._refresh_at_s:
            return
        try:
            machine = self.server.machine(self.machine_id)
        except Unauthorized:
            raise
        except ClientError as error:
            self._may_not = "the machine cannot be looked at"
            self._refresh_at_s = now + ASK_AGAIN_S
            if is_needed:
                self.say(f"{self._may_not}: {error}")
            return
        self._refresh_at_s = now + REFRESH_S
        self._limits = limits_of(machine)
        self.plan = scaled(self.plan, machine)
        may_not = why_not(machine)
        if may_not != self._may_not:
            self.say(f"holding back: {may_not}" if may_not else "free to propose")
        self._may_not = may_not

    # --- asking ---

    def _propose(self, advice: Advice, now: float) -> None:
        body = {
            "machine_id": self.machine_id,
            "order_type": advice.order_type,
            "target_value": advice.target_step,
            "target_unit": _CONTROL_UNITS,
            "reasoning": f"[{advice.heuristic}] {advice.reasoning}",
            "evidence": list(advice.evidence),
        }
        if self.roast_id:
            body["roast_id"] = self.roast_id
        self.view = heuristics.note_order(self.view, advice)
        try:
            answer = self.server.propose(body, idempotency_key=idempotency_key(self.machine_id, self.view, advice))
        except Unauthorized:
            raise
        except Refused as error:
            self._rest(f"refused: {error}")
            return
        except ClientError as error:
            self._rest(f"could not propose: {error}")
            return
        self._take_answer(answer, advice, now)

    def _take_answer(self, answer: Mapping[str, Any], advice: Advice, now: float) -> None:
        text = f"{advice.heuristic}: {advice.control} {advice.from_step} → {advice.target_step}"
        self._asked = _Asked(str(answer.get("proposal_id", "")), text, now + ASK_AGAIN_S)
        verdict = answer.get("verdict") or {}
        why = "; ".join(str(reason.get("message") or reason.get("code")) for reason in verdict.get("reasons") or [])
        self.say(f"{self._asked.proposal_id} {answer.get('status')} {text} ({why or verdict.get('decision', '')})")
        self._settle(answer)


def idempotency_key(machine_id: str, view: View, advice: Advice) -> str:
    """The same advice at the same moment of the same roast is the same request."""
    moment = f"{machine_id}|{view.charged_ms}|{advice.device_ms}|{advice.control}|{advice.target_step}"
    return hashlib.sha256(moment.encode()).hexdigest()[:40]


def look_of(reading: Mapping[str, Any]) -> Look | None:
    """Our view of a reading in the API's JSON; None when it has no time or state. What is not fresh is not there."""
    quality = reading.get("quality") or {}
    device_ms, state = reading.get("device_ms"), reading.get("state")
    if not isinstance(device_ms, int) or not isinstance(state, str):
        return None

    def fresh(name: str) -> Any:
        value = reading.get(name)
        return value if name not in quality and isinstance(value, int | float) else None

    return Look(
        device_ms=device_ms,
        state=state,
        bean_temp_c=fresh("bean_temp_c"),
        infrared_temp_c=fresh("infrared_temp_c"),
        heater_step=fresh("heater_step"),
        fan_step=fresh("fan_step"),
    )


def limits_of(machine: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Inclusive native steps per control out of a machine's envelope; a control without numbers is left out."""
    found = {}
    for control, row in _limit_rows(machine):
        if isinstance(row, Mapping) and isinstance(row.get("min_step"), int) and isinstance(row.get("max_step"), int):
            found[str(control)] = (row["min_step"], row["max_step"])
    return found


def scaled(plan: Plan, machine: Mapping[str, Any]) -> Plan:
    """The plan in this machine's own steps: full scale is its envelope's; what that does not say stays as it was."""
    full = {
        str(control): row.get("full_scale_step") for control, row in _limit_rows(machine) if isinstance(row, Mapping)
    }
    heater, fan = full.get("heater"), full.get("fan")
    return replace(
        plan,
        heater_full_step=heater if isinstance(heater, int) and heater > 0 else plan.heater_full_step,
        fan_full_step=fan if isinstance(fan, int) and fan > 0 else plan.fan_full_step,
    )


def _limit_rows(machine: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    limits = (machine.get("envelope") or {}).get("controls") or machine.get("envelope") or {}
    if isinstance(limits, Mapping):
        return list(limits.items())
    return [(row.get("control"), row) for row in limits]


def why_not(machine: Mapping[str, Any]) -> str:
    """Why no order would be let through now, in words; '' when nothing speaks against asking."""
    if machine.get("halts"):
        return "the machine is halted"
    if machine.get("suspension") or machine.get("is_suspended"):
        return "a person has it"
    if machine.get("is_orders_paused"):
        return "orders are paused until a person resumes"
    link = machine.get("link")
    state = link.get("state") if isinstance(link, Mapping) else link
    if state not in {"up", None}:
        return f"the link to the machine is {state}"
    return ""
