"""Bugs planted to be found: a simulation that nobody has seen fail proves nothing.

Each is one change of the product's source, made while the module is imported (never a flag in the product), chosen by
the environment variable ``SIMULATION_PLANTED``; some also drop a constraint of the simulation's own database, which
would catch what the code no longer does. `simulation/mutants.py` plays seeds against each and says which seed found
it. A bug whose text is no longer in the product is an error, not a pass: a test looks that every one still fits.
"""

# ruff: noqa: E501 (texts of the product stand here as they stand there)

from __future__ import annotations

import dataclasses
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

VARIABLE = "SIMULATION_PLANTED"
ROOT = Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One text of one module, and what stands there instead."""

    module: str
    old: str
    new: str

    @property
    def path(self) -> Path:
        return ROOT / (self.module.replace(".", "/") + ".py")

    def applied(self, source: str) -> str:
        """The module with the bug in it. ValueError where it does not fit exactly once."""
        if source.count(self.old) != 1:
            raise ValueError(f"{self.module}: {source.count(self.old)} times {self.old!r}")
        return source.replace(self.old, self.new)


@dataclasses.dataclass(frozen=True, slots=True)
class Planted:
    """One bug. ``area``: governor, mover, claim, expiry, stop, lease, audit, reconciliation, plan, way back,
    breaker, tenant, idempotency."""

    name: str
    area: str
    what: str
    changes: tuple[Change, ...]
    sql: tuple[str, ...] = ()


PLANTED: dict[str, Planted] = {}


def _plant(area: str, name: str, what: str, *changes: tuple[str, str, str], sql: tuple[str, ...] = ()) -> None:
    PLANTED[name] = Planted(name, area, what, tuple(Change(*change) for change in changes), sql)


_RULES, _AUTHORITY, _SERVICES = "commands.rules.machine", "commands.rules.authority", "commands.services"
_APPROVALS, _HALTS, _MOVES = "commands.records.approvals", "commands.records.halts", "commands.records.moves"
_EXECUTIONS, _GOVERNOR, _LEASE = "commands.records.executions", "commands.governor", "commands.loop.lease"

# -- governor --
_plant("governor", "longest_move_exclusive", "swapped > and >=: the longest allowed move is refused",
       (_RULES, "    if bounds and change > min(bounds):", "    if bounds and change >= min(bounds):"))
_plant("governor", "ceiling_exclusive", "swapped > and >=: the highest step is refused",
       (_RULES, "    if target > ceiling:", "    if target >= ceiling:"))
_plant("governor", "floor_forgotten", "no floor",
       (_RULES, "    if target < floor:", "    if target < floor - 99:"))
_plant("governor", "interval_inclusive", "swapped < and <=: exactly the interval is too soon",
       (_RULES, "    if elapsed_s < bound_s:", "    if elapsed_s <= bound_s:"))
_plant("governor", "roast_count_off_by_one", "swapped >= and >: one order too many in a roast",
       (_RULES, "recent.roast_count >= limits.roast_count", "recent.roast_count > limits.roast_count"))
_plant("governor", "halt_not_asked", "dropped guard: a halt refuses nothing",
       (_RULES, "    if not situation.halts and not situation.keeper_latched:", "    if True:"))
_plant("governor", "suspension_not_asked", "dropped guard: agents order while a person has the machine",
       (_RULES, "    if situation.order.is_by_agent and situation.suspended_by is not None:", "    if False:"))
_plant("governor", "pause_not_asked", "dropped guard: orders after a lost link",
       (_RULES, "    if not situation.is_orders_paused or (", "    if True or ("))
_plant("governor", "stale_reading_believed", "dropped guard: a reading of any age will do",
       (_RULES, "    if not -policy.max_clock_skew_s <= reading.age_s <= bound_s:", "    if reading.age_s != reading.age_s:"))
_plant("governor", "link_not_asked", "dropped guard: orders over a link that is down",
       (_RULES, '    if reading.link != "up":', '    if reading.link == "nowhere":'))
_plant("governor", "conflict_not_asked", "dropped guard and dropped unique: two agents' orders on one control",
       (_RULES, "        if other.control != order.control or", "        if True or"),
       sql=("DROP INDEX one_unsettled_agent_order",))
_plant("governor", "void_by_control_forgotten", "held orders outlive a control that moved",
       (_RULES, "        if then is not None and now is not None and now != then:", "        if False:"))
_plant("governor", "grant_never_expires", "dropped guard: an expired grant counts",
       (_AUTHORITY, "    if grant.expires_at is not None and situation.now >= grant.expires_at:", "    if False:"))
_plant("governor", "grant_covers_all", "dropped guard: a grant covers every order type",
       (_AUTHORITY, "    return situation.order.order_type.value in grant.order_types", "    return True"))
_plant("governor", "always_attended", "level 4 and 5 without anybody at the machine",
       (_AUTHORITY, "    if situation.is_attended or (level", "    if True or (level"),
       ("commands.rules.values", "        if self.attendance is None:\n            return False\n",
        "        if self.attendance is None:\n            return True\n"))
_plant("governor", "significance_ignored", "dropped rule: size and direction do not matter",
       (_GOVERNOR, '    ("significance", authority.check_significance),\n', ""))
_plant("governor", "one_yes_is_enough", "critical orders need one person",
       (_GOVERNOR, "    return 2 if rated is None or", "    return 1 if rated is None or"))
_plant("governor", "owner_may_approve", "dropped guard: the owner approves their agent's order",
       (_GOVERNOR, "    if not look.is_owner_of_proposer:", "    if True:"))
_plant("governor", "proposer_may_approve", "dropped guard: one's own order",
       (_GOVERNOR, "    if not look.is_proposer:", "    if True:"))
_plant("governor", "any_digest_will_do", "dropped guard: the digest is not compared",
       (_GOVERNOR, "    if look.given_digest == look.digest:", "    if True:"))
_plant("governor", "owner_may_review", "dropped guard: the owner reviews their agent's order",
       (_APPROVALS, "    if agent.owner_id is not None and agent.owner_id == person_pk(principal):", "    if False:"))
_plant("governor", "advice_adopted_twice", "dropped guard and dropped unique: advice becomes two orders",
       (_SERVICES, "    if _is_adopted(proposal):\n        raise _already_adopted(proposal)\n", ""),
       sql=("DROP INDEX adopted_once",))

# -- mover --
_plant("mover", "settled_without_time", "a settled order has no time",
       (_MOVES, "    if to in SETTLED:\n        changes.setdefault(\"settled_at\", now)\n    with transaction",
        "    with transaction"))
_plant("mover", "person_does_not_supersede", "a person's order leaves agents' orders on its control standing",
       (_SERVICES, "    rival_ids = [\n", "    rival_ids = [] and [\n"))
_plant("mover", "withdraws_anybodys", "dropped guard: an agent calls off another agent's order",
       (_SERVICES, "principal.agent is not None and proposal.proposer_agent_id == principal.agent.pk",
        "principal.agent is not None"))
_plant("mover", "rejects_settled", "dropped guard and swallowed error: rejecting what is settled is answered as done",
       (_APPROVALS, "    except LostRace:\n        raise no_longer_held(proposal) from None\n\n\ndef _require_operator",
        "    except LostRace:\n        return proposal\n\n\ndef _require_operator"),
       (_APPROVALS, "    if proposal.status != Status.PENDING_APPROVAL:\n        raise no_longer_held(proposal)\n", ""),
       (_MOVES, "    if not may_move(old, to, actor.kind):\n        raise IllegalMove(f\"{actor.kind} {actor.name} may not move",
        "    if not may_move(old, to, actor.kind):\n        raise LostRace(f\"{actor.kind} {actor.name} may not move"))

# -- claim --
_plant("claim", "not_judged_again", "dropped guard: what the governor says just before the wire is not heard",
       (_EXECUTIONS, "    if _is_refused(verdict, proposal, now):", "    if False:"))
_plant("claim", "older_token_claims", "dropped guard: a loop whose lease was taken still claims",
       (_EXECUTIONS, "    if newest_token is not None and newest_token > lease_token:", "    if False:"))
_plant("claim", "no_stage", "an execution's endings are told with the wrong outcome: declined is completed",
       (_EXECUTIONS, "Outcome.DECLINED: Status.FAILED,", "Outcome.DECLINED: Status.COMPLETED,"))
_plant("claim", "execution_not_concluded", "the claim moves nothing: the order stays approved, and is sent",
       (_EXECUTIONS, "    execution = Execution(\n        proposal=proposal,",
        "    if proposal.control == 'fan':\n        made = dict(machine_id=proposal.machine_id, lease_token=lease_token,"
        " from_step=situation.from_step, claimed_at=now)\n"
        "        return Execution.objects.get_or_create(proposal=proposal, defaults=made)[0]\n    execution = Execution(\n"
        "        proposal=proposal,"))

# -- expiry --
_plant("expiry", "deadline_inclusive", "swapped < and <=: approved at the very moment it ran out",
       (_GOVERNOR, "    if look.now < look.expires_at:", "    if look.now <= look.expires_at:"))
_plant("expiry", "rejected_at_the_deadline", "swapped >= and >: rejected at the very moment it ran out",
       (_APPROVALS, "    if now >= proposal.expires_at:\n        time_out", "    if now > proposal.expires_at:\n        time_out"))
_plant("expiry", "old_advice_adopted", "dropped guard: advice of any age is adopted",
       (_SERVICES, "    if now >= proposal.expires_at:", "    if False:"))
_plant("expiry", "sweeper_asleep", "the sweeper times nothing out",
       (_SERVICES, "    return sum(time_out(proposal, now) for proposal in _DUE.rows(now=now))", "    return 0"))
_plant("expiry", "asked_time_lengthens", "min and max: a proposer makes their order live longer",
       (_GOVERNOR, "        allowed_s = min(allowed_s, asked_s)", "        allowed_s = max(allowed_s, asked_s)"))
_plant("expiry", "veto_window_ends_at_once", "an order at level 4 does not wait for its veto window",
       (_APPROVALS, "        runs_at__lte=now,\n        runs_at__gt=now - dt.timedelta(seconds=RELEASE_WITHIN_S),\n", ""))

# -- stop --
_plant("stop", "halt_leaves_orders", "a halt does not call off what waits",
       (_HALTS, "        _call_off_orders(machine, by, Code.HALTED, f\"{machine.name} was halted.\", now, agents_only=False)\n", ""))
_plant("stop", "pause_leaves_orders", "a lost link does not call off what waits",
       (_HALTS, "            _call_off_orders(machine, actor, Code.ORDERS_PAUSED, \"The link was lost.\", now, agents_only=False)\n", ""))
_plant("stop", "suspension_leaves_orders", "agents' orders outlive \"I have it\"",
       (_HALTS, "        _call_off_orders(\n            machine, principal, Code.SUSPENDED,",
        "        _ = lambda: _call_off_orders(\n            machine, principal, Code.SUSPENDED,"))
_plant("stop", "reset_keeps_the_latch", "a reset closes the halt and leaves the keeper latched",
       ("commands.api.machines", "        release_keeper(machine, by=f\"{principal.name} ({principal.id})\")\n", ""))
_plant("stop", "stop_does_not_latch", "STOP takes the heat off and latches nothing",
       ("drivers.keeper", "            is_new = self.latches.latch is None\n", "            is_new = False\n"))
_plant("stop", "stop_goes_half_way", "swallowed: heat down stops one step above nothing",
       ("drivers.bullet.safing", "        if reading.heater_step != 0:\n            self.zeros.clear()",
        "        if (reading.heater_step or 0) > 1:\n            self.zeros.clear()"),
       ("drivers.bullet.safing", "    if heater == 0:\n", "    if heater <= 1:\n"))

# -- lease --
_plant("lease", "token_stands_still", "dropped guards: a new loop gets the old one's token, and does not look what its keeper has seen",
       ("commands.machine_loop", "    if seen < token:\n", "    if seen <= token:\n"),
       (_LEASE, 'owner=owner, token=F("token") + 1, expires_at', 'owner=owner, token=F("token"), expires_at'),
       (_LEASE, "    return lease.token + 1 if taken else None", "    return lease.token if taken else None"))
_plant("lease", "lease_taken_alive", "dropped guard: a living loop's lease is taken",
       (_LEASE, "    if lease.expires_at > now:\n        return None\n", ""),
       (_LEASE, "token=lease.token, expires_at__lte=now)", "token=lease.token)"))
_plant("lease", "renewed_without_token", "dropped filter: a loop whose lease was taken renews it",
       (_LEASE, 'times, where={"owner": owner, "token": token})', "times)"),
       ("drivers.keeper", "        if token < self.latches.token:", "        if False:"))

# -- audit --
_plant("audit", "moves_not_audited", "a move leaves no entry in the trail",
       (_MOVES, "    audit.record(proposal.organization, actor, verb, \"proposal\", proposal.pk, {**document, **detail}, now=now)\n", ""))
_plant("audit", "moves_not_streamed", "a move is not told to consoles",
       (_MOVES, "    live.publish_decision(proposal.organization, \"proposal\", proposal.pk, proposal.machine_id, document, now=now)\n\n\ndef _transition",
        "\n\ndef _transition"))
_plant("audit", "chain_forgets_its_predecessor", "every link names the first one",
       ("kernel.sealer", "            sequence, previous = sequence + 1, digest", "            sequence, previous = sequence + 1, chain.GENESIS"))
_plant("audit", "grants_not_audited", "a grant leaves no entry in the trail",
       ("commands.records.grants", '    audit.record(grant.organization, principal, verb, "grant", grant.pk, document, now=now)\n', ""))
_plant("audit", "no_transaction", "dropped atomic: who has the machine, and that it was said, are written apart",
       ("kernel.standing", "            with transaction.atomic():\n                return make()",
        "            if True:\n                return make()"))

# -- reconciliation --
_plant("reconciliation", "orphans_forgotten", "an order whose executor died stays on the wire for ever",
       ("commands.loop.reconcile", "    for execution in _ORPHANS.rows(machine=machine.pk):", "    for execution in []:"))
_plant("reconciliation", "doubt_is_success", "an order in doubt is called done whatever the machine reads",
       (_EXECUTIONS, "        is_reached = None if actual_step is None else actual_step == proposal.target_step",
        "        is_reached = None if actual_step is None else True"))
_plant("reconciliation", "doubt_never_resolved", "swallowed: doubts stay doubts",
       ("commands.loop.reconcile", "    if view.reading is None or age_s is None or age_s > FRESH_S or not view.is_keeper_up:", "    if True:"))

# -- ramp, plans, ways back, breakers --
_SEQUENCE, _PLANS, _BREAKERS = "commands.plans.sequence", "commands.plans.services_plans", "commands.history.breakers"
_plant("governor", "ramp_exclusive", "swapped > and >=: exactly the ramp is too steep",
       (_RULES, "change / elapsed_s > min(bounds)", "change / elapsed_s >= min(bounds)"))
_plant("governor", "ramp_forgotten", "dropped rule: an agent turns a control as fast as it likes",
       (_GOVERNOR, '    ("ramp", rules.check_ramp),\n', ""))
_plant("plan", "plan_digest_not_compared", "dropped guard: whatever plan is approved, this one runs",
       (_PLANS, "        if digest != held.digest or sequence.digest_of(", "        if sequence.digest_of("))
_plant("plan", "plan_goes_on", "dropped guard: a plan goes on after an order that was not confirmed",
       (_SEQUENCE, "    return stopper(items) is not None or any(item.status is Status.IN_DOUBT for item in items)", "    return False"))
_plant("plan", "plan_out_of_turn", "dropped guards: an order of a plan does not wait for those before it",
       (_SEQUENCE, "    return all(item.status is Status.COMPLETED for item in items if item.position < position)", "    return True"),
       ("commands.models", ".filter(~Exists(unconfirmed_before), status=", ".filter(status="),
       ("commands.models", '.order_by("decided_at", "plan_position", "id")', '.order_by("decided_at", "-plan_position", "id")'))
_plant("plan", "plan_judged_as_if_alone", "every order of a plan is judged as if those before it were not there",
       (_SEQUENCE, "    if not before:\n        return situation\n    reading", "    if before or not before:\n        return situation\n    reading"))
_plant("plan", "first_order_decides", "a plan is decided by its first order, not its worst",
       (_SEQUENCE, "    return worst([verdict.decision for verdict in verdicts])", "    return verdicts[0].decision"))
_plant("plan", "part_approved_alone", "dropped guard: one order of a plan is approved by itself",
       ("commands.plans.services_plan_moves", "    if to is Status.APPROVED and approver is not None and", "    if False and"))
_plant("plan", "plan_matters_less", "the significance of a plan is not its orders'",
       (_PLANS, "order=replace(each.order, floor=rated, expires_at=end)", "order=replace(each.order, floor=None, expires_at=end)"))
_plant("plan", "plan_keeps_no_distance", "orders of a plan on one control do not wait for their interval",
       (_PLANS, "    return due_at is None or now >= due_at", "    return True"))
_plant("way back", "goes_back_to_the_target", "taking an order back orders it once more",
       ("commands.plans.services_rollback", "        target_value=moved.before_step,", "        target_value=moved.after_step,"))
_plant("way back", "takes_back_what_moved_since", "dropped guard: what a hand has set meanwhile is undone",
       (_SEQUENCE, "        if now != each.after_step:", "        if False:"))
_plant("breaker", "breaker_asleep", "no breaker ever trips",
       (_BREAKERS, "    if look.level not in (Level.L3, Level.L4, Level.L5):", "    if True:"))
_plant("breaker", "fourth_failure", "off by one: the fourth failure of a type, not the third",
       (_BREAKERS, "\nFAILURES = 3\n", "\nFAILURES = 4\n"))
_plant("breaker", "contradiction_forgiven", "dropped rule: a contradicted setting lowers nothing",
       (_BREAKERS, "*_contradicted(look, ended),", ""))
_plant("breaker", "old_failures_count", "dropped filter: a new grant is lowered for what was before it",
       (_BREAKERS, "(attempt for attempt in look.attempts if attempt.at > look.granted_at)", "(attempt for attempt in look.attempts)"))

# -- tenants and idempotency --
_plant("tenant", "orders_of_everybody", "dropped tenant filter: strangers reach our orders",
       ("commands.api.orders", "    proposal = own_order(principal_of(request), proposal_id)",
        "    proposal = services.found_with_names(proposal_id)"))
_plant("tenant", "machines_of_everybody", "dropped tenant filter: strangers see our machines",
       ("commands.api.machines", "        Machine.objects.for_principal(principal)\n        .filter", "        Machine.objects\n        .filter"),
       ("commands.api.machines", "_IN_USE.first(machine=machine_id, organization=own.pk)",
        "_in_use(principal).filter(pk=machine_id).first()"))
_plant("idempotency", "no_replay", "the same request twice has two effects",
       ("kernel.idempotency", "    if found is not None:\n        return _replay(found, digest)\n    try:", "    try:"),
       ("kernel.idempotency", "            record = _claim(identity, digest)\n", "            record = _claim({**identity, \"key\": identity[\"key\"] + str(IdempotencyRecord.objects.count())}, digest)\n"))
_plant("idempotency", "other_body_replayed", "dropped guard: another body under the same key gets the first answer",
       ("kernel.idempotency", "    if record.request_digest != digest:", "    if False:"))


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles a module with its changes; nothing of it is cached."""

    changes: tuple[Change, ...] = ()

    def get_code(self, fullname: str) -> Any:
        source = Path(self.path).read_text(encoding="utf-8")
        for change in self.changes:
            source = change.applied(source)
        return compile(source, self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds only the modules that are changed."""

    def __init__(self, planted: Planted) -> None:
        self._changes: dict[str, list[Change]] = {}
        for change in planted.changes:
            self._changes.setdefault(change.module, []).append(change)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        changes = self._changes.get(fullname)
        if changes is None:
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path)
        if found is None or found.origin is None:
            return None
        loader = _Loader(fullname, found.origin)
        loader.changes = tuple(changes)
        return importlib.util.spec_from_file_location(fullname, found.origin, loader=loader)


def install(name: str) -> Planted:
    """Plant the bug: call it before Django is set up. KeyError; RuntimeError where a module is there already."""
    planted = PLANTED[name]
    loaded = [change.module for change in planted.changes if change.module in sys.modules]
    if loaded:
        raise RuntimeError(f"{loaded[0]} was imported before the bug could be planted")
    sys.meta_path.insert(0, _Finder(planted))
    return planted


def chosen() -> str:
    """The bug the environment asks for; "" for none."""
    return os.environ.get(VARIABLE, "")


def statements() -> tuple[str, ...]:
    """What the chosen bug does to the database of the simulation."""
    return PLANTED[chosen()].sql if chosen() else ()
