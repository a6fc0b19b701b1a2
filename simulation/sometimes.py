"""What a run really did: a green run that never approved, never refused or never stopped proves nothing.

Counted while rules run: every operation's successes and refusals, every move, fault, kind of death, verdict and law
that was really put to the test. :meth:`Sometimes.missing` says what stayed below its least number.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

#: Operations every long run must have seen succeed and be refused.
OPERATIONS = (
    "propose", "approve", "reject", "adopt", "abort", "grant", "revoke", "suspend", "resume_agents", "resume_orders",
    "stop", "reset", "veto", "review", "attend", "rollback",
)  # fmt: skip
#: Never refused to anybody who may ask: only their successes count.
NEVER_REFUSED: frozenset[str] = frozenset()
#: Moves of an order that the rules reach. (APPROVED to TIMEOUT would need a machine that nobody tends for 20 s.)
MOVES = (
    "PROPOSED PENDING_APPROVAL", "PROPOSED APPROVED", "PROPOSED REJECTED", "PENDING_APPROVAL APPROVED",
    "PENDING_APPROVAL REJECTED", "PENDING_APPROVAL ABORTED", "PENDING_APPROVAL TIMEOUT", "APPROVED EXECUTING",
    "APPROVED REJECTED", "APPROVED ABORTED", "EXECUTING COMPLETED", "EXECUTING FAILED",
    "EXECUTING IN_DOUBT", "IN_DOUBT COMPLETED", "IN_DOUBT FAILED",
)  # fmt: skip
#: Refusals and decisions of the governor that the rules reach.
VERDICTS = (
    "ALLOW", "HOLD", "VETO", "above_ceiling", "below_floor", "beans_not_proved", "change_too_large", "conflict",
    "daily_count_reached", "failure_rate_too_high", "halted", "hand_act_countdown", "level_recommends_only",
    "level_too_low", "link_down", "no_grant", "orders_paused", "plan_refused", "poor_quality", "ramp_too_steep",
    "roast_count_reached", "stale_reading", "suspended", "target_missing", "target_not_supported", "too_soon",
    "unit_does_not_fit", "wrong_state",
)  # fmt: skip
#: How plans end, or stand; and what lowered a grant.
PLANS = ("PENDING_APPROVAL", "EXECUTING", "COMPLETED", "FAILED", "ABORTED", "REJECTED")
BREAKERS = ("contradicted", "failures_of_type")
#: Where somebody meddles.
FAULTS = (
    "knob", "unplug", "nan", "silence", "nak", "dropped_step", "doubled_step", "garbled", "worker killed",
    "keeper killed", "web killed",
)  # fmt: skip
SITES = (
    "commit_before:web", "commit_after:web", "commit_before:worker", "commit_after:worker", "wire_before:keeper",
    "wire_after:keeper", "apply_answered:worker",
)  # fmt: skip
#: Laws (simulation/invariants.py) with the thing they speak of really there.
LAWS = (
    "executions", "approved executions", "wire writes", "moves", "halts", "leases", "seals", "audit of moves",
    "stream of moves", "foreign rows", "latched writes", "healed",
)  # fmt: skip


class Sometimes:
    """Counters over a whole run."""

    def __init__(self) -> None:
        self.successes: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.seen: Counter[tuple[str, str]] = Counter()
        self.examples = self.steps = self.idle_steps = 0

    def op(self, name: str, *, is_refused: bool) -> None:
        (self.refusals if is_refused else self.successes)[name] += 1

    def met(self, kind: str, what: str, count: int = 1) -> None:
        if count:
            self.seen[kind, what] += count

    def take(self) -> dict[str, Any]:
        """Everything counted so far, as JSON values; from here on it is counted anew."""
        taken = {
            "successes": dict(self.successes), "refusals": dict(self.refusals),
            "seen": [[*key, count] for key, count in self.seen.items()],
            "examples": self.examples, "steps": self.steps, "idle_steps": self.idle_steps,
        }  # fmt: skip
        Sometimes.__init__(self)
        return taken

    def add(self, taken: dict[str, Any]) -> None:
        """What another process counted (:meth:`take`), or this one before."""
        self.successes.update(taken.get("successes", {}))
        self.refusals.update(taken.get("refusals", {}))
        for kind, what, count in taken.get("seen", ()):
            self.seen[kind, what] += count
        self.examples += taken.get("examples", 0)
        self.steps += taken.get("steps", 0)
        self.idle_steps += taken.get("idle_steps", 0)

    def missing(self, *, successes: int = 20, refusals: int = 5, seen: int = 1) -> list[str]:
        """What this run never, or too rarely, did."""
        lacking = [f"{name} succeeded {self.successes[name]} times, not {successes}" for name in OPERATIONS
                   if self.successes[name] < successes]
        lacking += [f"{name} was refused {self.refusals[name]} times, not {refusals}" for name in OPERATIONS
                    if name not in NEVER_REFUSED and self.refusals[name] < refusals]
        wanted = {"move": MOVES, "fault": FAULTS, "death": SITES, "law": LAWS, "verdict": VERDICTS, "plan": PLANS,
                  "breaker": BREAKERS}  # fmt: skip
        lacking += [f"{kind} {what} was met {self.seen[kind, what]} times" for kind, names in wanted.items()
                    for what in names if self.seen[kind, what] < seen]
        if self.steps and self.idle_steps * 10 > self.steps:
            lacking.append(f"{self.idle_steps} of {self.steps} steps did nothing")
        return lacking

    def is_void(self) -> str:
        """Why this run proves nothing whatever its length; "" where it does."""
        for name in ("propose", "approve", "stop"):
            if not self.successes[name]:
                return f"no {name} ever succeeded"
        if not sum(self.refusals.values()):
            return "nothing was ever refused"
        return "" if self.seen["move", "EXECUTING COMPLETED"] else "no order was ever carried out"

    def report(self) -> str:
        """For people."""
        lines = [f"{self.examples} examples, {self.steps} steps, {self.idle_steps} idle"]
        lines += [f"  {name}: {self.successes[name]} done, {self.refusals[name]} refused"
                  for name in sorted(set(self.successes) | set(self.refusals))]
        lines += [f"  {kind} {what}: {count}" for (kind, what), count in sorted(self.seen.items())]
        return "\n".join(lines)
