"""What the console shows, gathered in a fixed number of queries. Decides and writes nothing.

The words are in `words.py`, the pages in `pages.py`.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from django.db.models import Prefetch, QuerySet, prefetch_related_objects
from django.utils.translation import gettext

from commands.alarms.rows import unshelved
from commands.commissioning import facts
from commands.console import machine_state, order_words, words
from commands.console.order_words import OrderView
from commands.console.words import LinkWords, RoastView
from commands.models import (
    Alarm,
    BreakerTrip,
    Commissioning,
    ExecutionStage,
    Grant,
    Halt,
    Proposal,
    ProposalTransition,
    Status,
    Suspension,
)
from commands.plans import plan_words
from commands.records import attendance
from drivers.port import MachineState
from kernel import clock, live
from kernel.models import Agent
from kernel.principals import Principal
from roasts.library.page_words import KIND_WORDS
from roasts.models import ControlLimit, Machine, MachineReading, Roast, RoastEvent, RoastStatus

HELD_LIMIT = 20  # held orders shown at once, oldest deadline first
ORDERS_LIMIT = 15  # orders in the machine page's timeline
ALARMS_LIMIT = 50
TRIPS_SHOWN = 5
REVIEW_WITHIN = dt.timedelta(days=7)  # older ones are found on the orders page
WITH_NAMES = ("machine", "proposer_agent", "proposer_user", "plan")
ADVICE_WINDOW_S = 120  # advice older than this is no longer offered
PRIORITY_ORDER = {"high": 0, "medium": 1, "low": 2}


@dataclass(frozen=True, slots=True)
class MachineCard:
    """One machine on the first page."""

    machine: Machine
    latest: MachineReading | None
    link: LinkWords
    state_word: str
    phase: str
    roast: Roast | None
    held: tuple[OrderView, ...] = ()
    halts: tuple[Halt, ...] = ()
    suspension: Suspension | None = None
    alarm_count: int = 0

    @property
    def is_abnormal(self) -> bool:
        """Something is wrong; the card may use colour."""
        return bool(self.halts) or self.alarm_count > 0 or not self.link.is_normal


@dataclass(frozen=True, slots=True)
class Queue:
    """What asks for a person: held orders, those that run unless vetoed, and those that ran and want a look."""

    held: tuple[OrderView, ...]
    vetoable: tuple[OrderView, ...]
    to_review: tuple[OrderView, ...]

    @property
    def asking(self) -> tuple[OrderView, ...]:
        """Held ones and open veto windows in one list, the nearest deadline first."""
        return tuple(sorted((*self.held, *self.vetoable), key=lambda v: v.proposal.runs_at or v.proposal.expires_at))


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything the first page shows."""

    cards: tuple[MachineCard, ...]
    queue: Queue
    alarms: tuple[Alarm, ...] = field(default=())


def machines_on_show(principal: Principal) -> QuerySet[Machine]:
    """The organisation's machines that are in use, with site, latest row and lease."""
    return Machine.objects.for_principal(principal).filter(is_archived=False).select_related("site", "latest", "lease")


def newest_reading(machine: Machine, now: dt.datetime) -> dict[str, Any] | None:
    """The newest reading anybody has of this machine, with its age."""
    return machine_state.newest_reading(
        words.latest_of(machine), live.latest_reading(machine.organization_id, machine.pk), now
    )


def link_of(machine: Machine, now: dt.datetime) -> LinkWords:
    """The link in words; a loop that is gone cannot vouch for it."""
    latest, payload = words.latest_of(machine), live.latest_reading(machine.organization_id, machine.pk)
    reading = machine_state.newest_reading(latest, payload, now)
    return words.link_words(*machine_state.link_of(machine, latest, payload, reading, now))


def full_scales(machine_ids: list[str]) -> dict[tuple[str, str], int]:
    """(machine, control) → the step that is 100 percent."""
    limits = ControlLimit.objects.filter(machine_id__in=machine_ids)
    return {(limit.machine_id, limit.control): limit.full_scale_step for limit in limits}


def held_on(machine_ids: list[str]) -> QuerySet[Proposal]:
    """Held orders of these machines, oldest deadline first."""
    held = Proposal.objects.filter(machine_id__in=machine_ids, runs_at__isnull=True).awaiting_decision()
    return held.select_related(*WITH_NAMES)[: HELD_LIMIT * max(1, len(machine_ids))]


def vetoable_on(machine_ids: list[str]) -> QuerySet[Proposal]:
    """Orders that run by themselves at the end of their window, soonest first."""
    rows = Proposal.objects.filter(
        machine_id__in=machine_ids, runs_at__isnull=False, status__in=order_words.VETO_STATUSES
    )
    return rows.select_related(*WITH_NAMES).order_by("runs_at", "id")[:HELD_LIMIT]


def to_review_on(machine_ids: list[str], now: dt.datetime) -> QuerySet[Proposal]:
    """Agents' orders that ran at once (L5) and that nobody has looked at yet, oldest first."""
    rows = Proposal.objects.filter(
        machine_id__in=machine_ids, proposer_agent__isnull=False, decision="ALLOW", approver__isnull=True,
        reviewed_at__isnull=True, status__in=order_words.ATTEMPTED, proposed_at__gt=now - REVIEW_WITHIN,
    )  # fmt: skip
    return rows.select_related(*WITH_NAMES).order_by("proposed_at", "id")[:HELD_LIMIT]


def open_halts_on(machine_ids: list[str]) -> QuerySet[Halt]:
    """Latched stops of these machines, newest first."""
    return Halt.objects.filter(machine_id__in=machine_ids, closed_at__isnull=True)


def standing_alarms(principal: Principal) -> list[Alarm]:
    """Alarms that stand and are not shelved, worst first: by priority, unacknowledged first, newest first."""
    alarms = Alarm.objects.for_principal(principal).filter(unshelved(clock.now()), cleared_at__isnull=True)
    rows = list(alarms.select_related("machine", "acknowledged_by").order_by("-raised_at")[:ALARMS_LIMIT])
    return sorted(rows, key=lambda a: (PRIORITY_ORDER.get(a.priority, 3), a.acknowledged_at is not None))


def gather_overview(principal: Principal, now: dt.datetime) -> Overview:
    """The first page, in a number of queries that does not grow with the machines."""
    machines = list(machines_on_show(principal))
    ids = [machine.pk for machine in machines]
    queue = queue_of(principal, ids, full_scales(ids), now)
    held: dict[str, list[OrderView]] = {}
    for view in queue.asking:
        held.setdefault(view.proposal.machine_id, []).append(view)
    halts: dict[str, list[Halt]] = {}
    for halt in open_halts_on(ids):
        halts.setdefault(halt.machine_id, []).append(halt)
    suspensions = {
        s.machine_id: s
        for s in Suspension.objects.filter(machine_id__in=ids, given_back_at__isnull=True).select_related("taken_by")
    }
    roasts = {roast.machine_id: roast for roast in Roast.objects.open().filter(machine_id__in=ids)}
    kinds: dict[str, set[str]] = {}
    events = RoastEvent.objects.filter(roast__in=list(roasts.values()), withdrawn_at__isnull=True)
    for roast_id, kind in events.values_list("roast_id", "kind"):
        kinds.setdefault(roast_id, set()).add(kind)
    alarms = standing_alarms(principal)
    cards = []
    for machine in machines:
        latest, roast = words.latest_of(machine), roasts.get(machine.pk)
        state = latest.state if latest else "unknown"
        cards.append(
            MachineCard(
                machine=machine,
                latest=latest,
                link=link_of(machine, now),
                state_word=words.state_word(state),
                phase=words.phase_word(state, kinds.get(roast.pk, set()) if roast else set()),
                roast=roast,
                held=tuple(held.get(machine.pk, ())),
                halts=tuple(halts.get(machine.pk, ())),
                suspension=suspensions.get(machine.pk),
                alarm_count=sum(1 for alarm in alarms if alarm.machine_id == machine.pk),
            )
        )
    return Overview(cards=tuple(cards), queue=queue, alarms=tuple(alarms))


def queue_of(
    principal: Principal, machine_ids: list[str], scales: dict[tuple[str, str], int], now: dt.datetime
) -> Queue:
    """The queue of these machines, nearest deadline first: five queries for any number of them."""
    held, vetoable = _plans_as_one(held_on(machine_ids)), _plans_as_one(vetoable_on(machine_ids))
    prefetch_related_objects([order for order in held if order.approvals_needed > 1], "given_approvals__user")

    titles = _titles_of_plans([order.plan_id for order in (*held, *vetoable) if order.plan_id])

    def views(rows: Iterable[Proposal]) -> tuple[OrderView, ...]:
        found = (order_words.order_view(row, principal, scales, has_steps=False) for row in rows)
        return tuple(replace(view, plan_titles=titles.get(view.proposal.plan_id or "", ())) for view in found)

    return Queue(views(held), views(vetoable), views(to_review_on(machine_ids, now)))


def _plans_as_one(rows: Iterable[Proposal]) -> list[Proposal]:
    """Of each plan only the first order that asks: it is decided as a whole."""
    kept: dict[str, Proposal] = {}
    for row in rows:
        key = row.plan_id or row.pk
        first = kept.get(key)
        if first is None or (row.plan_position or 0) < (first.plan_position or 0):
            kept[key] = row
    return list(kept.values())


def _titles_of_plans(plan_ids: list[str]) -> dict[str, tuple[str, ...]]:
    """plan → its orders in words, in turn; no query where there is no plan."""
    titles: dict[str, tuple[str, ...]] = {}
    if plan_ids:
        for order in Proposal.objects.filter(plan_id__in=plan_ids).order_by("plan_id", "plan_position"):
            titles[order.plan_id or ""] = (*titles.get(order.plan_id or "", ()), order_words.order_title(order))
    return titles


def gather_queue(principal: Principal, machine: Machine, now: dt.datetime) -> dict[str, Any]:
    """The queue of one machine, and its fresh advice."""
    scales = full_scales([machine.pk])
    queue = queue_of(principal, [machine.pk], scales, now)
    since = now - dt.timedelta(seconds=ADVICE_WINDOW_S)
    recent = Proposal.objects.filter(
        machine=machine, status=Status.REJECTED.value, proposer_agent__isnull=False, proposed_at__gte=since
    ).select_related(*WITH_NAMES)[:HELD_LIMIT]
    candidates = [proposal for proposal in recent if order_words.is_advice(proposal)]
    adopted = set(Proposal.objects.filter(adopted_from__in=candidates).values_list("adopted_from_id", flat=True))
    newest: dict[str, Proposal] = {}
    for proposal in candidates:  # newest first: an older advice on the same control is stale
        if proposal.pk not in adopted:
            newest.setdefault(proposal.order_type, proposal)
    advice = [order_words.order_view(p, principal, scales, has_steps=False) for p in newest.values()]
    return {
        "queue": queue,
        "advice": advice,
        "plans": plan_words.shown_on(machine.pk, now),
        "trips": list(
            BreakerTrip.objects.filter(machine=machine, seen_at__isnull=True, grant__revoked_at__isnull=True)
            .select_related("agent")
            .order_by("-at")[:TRIPS_SHOWN]
        ),
        "rejections": order_words.REJECTION_WORDS,
        "server_now": now,
    }


def gather_orders(principal: Principal, machine: Machine, now: dt.datetime) -> dict[str, Any]:
    """The latest orders of one machine with their whole timelines."""
    rows = (
        Proposal.objects.filter(machine=machine)
        .select_related("machine", "proposer_agent", "proposer_user", "approver", "execution")
        .prefetch_related(
            Prefetch("transitions", ProposalTransition.objects.order_by("at", "id")),
            Prefetch("execution__stages", ExecutionStage.objects.order_by("at", "id")),
        )[:ORDERS_LIMIT]
    )
    scales = full_scales([machine.pk])
    return {"orders": [order_words.order_view(p, principal, scales, has_steps=True) for p in rows]}


def gather_halts(principal: Principal, machine: Machine, now: dt.datetime) -> dict[str, Any]:
    """Open halts, the link, and whether orders wait for a person after a replug."""
    latest, reading = words.latest_of(machine), newest_reading(machine, now)
    halts = [
        words.HaltView(halt, machine_state.may_hold_hot_beans(halt, reading)) for halt in open_halts_on([machine.pk])
    ]
    return {
        "halts": halts,
        "latest": latest,
        "link": link_of(machine, now),
        "are_orders_paused": bool(latest and latest.is_orders_paused),
    }


def gather_hands(principal: Principal, machine: Machine, now: dt.datetime) -> dict[str, Any]:
    """Who has the machine, and its controls for a person's own orders."""
    held = Suspension.objects.filter(machine=machine, given_back_at__isnull=True)
    suspension = held.select_related("taken_by").first()
    latest = words.latest_of(machine)
    controls = words.control_views(latest, list(ControlLimit.objects.filter(machine=machine)))
    acts = words.STATE_ACTS.get(latest.state if latest else "", ())
    present = attendance.latest_attendance(machine)
    return {
        "suspension": suspension,
        "controls": controls,
        "latest": latest,
        "state_acts": acts,
        "attendance": present,
        "attended_until": attendance.counts_until(machine, present),
        "server_now": now,
    }


def gather_drill(principal: Principal, machine: Machine, now: dt.datetime) -> dict[str, Any]:
    """Whether a STOP drill is due, and whether agents may act here at all."""
    done = Commissioning.objects.filter(machine=machine, completed_at__isnull=False).order_by("-completed_at", "-id")
    last = done.first()
    is_commissioned = last is not None and last.ended_at is None
    return {
        "drill": facts.drill_state(machine, now),
        "is_commissioned": is_commissioned,
        "commissioning_ended": None if is_commissioned else last,
    }


def gather_roast(principal: Principal, machine: Machine, now: dt.datetime) -> dict[str, Any]:
    """The open roast, or the last one, with its standing marks."""
    roast = Roast.objects.filter(machine=machine).order_by("-started_at", "-id").first()
    latest = words.latest_of(machine)
    state = latest.state if latest else "unknown"
    shown: dict[str, Any] = {
        "latest": latest,
        "state_word": words.state_word(state),
        "tells_no_state": latest is not None and latest.at is not None and state == MachineState.UNKNOWN.value,
    }
    if roast is None:
        return {**shown, "view": None, "pressable": (), "roast_json": "null"}
    events = list(RoastEvent.objects.filter(roast=roast).select_related("marked_by").order_by("elapsed_ms", "id"))
    marks = words.standing_marks(events)
    is_open = roast.status not in (RoastStatus.FINISHED.value, RoastStatus.ABORTED.value)
    kinds = {mark.kind for mark in marks}
    view = RoastView(roast, is_open, words.phase_word(state, kinds) if is_open else gettext("Finished"), marks)
    pressable = tuple((kind, str(KIND_WORDS[kind]), key, kind in kinds) for kind, key in words.PRESSABLE_MARKS)
    last = max((e for e in events if e.source == "person" and not e.withdrawn_at), key=lambda e: e.at, default=None)
    mark_of_person = next((mark for mark in marks if last is not None and mark.id == last.pk), None)
    return {
        **shown,
        "view": view,
        "pressable": pressable,
        "roast_json": json.dumps(view.for_script()),
        "last_mark": mark_of_person,
    }


def gather_alarms(principal: Principal, machine: Machine, now: dt.datetime) -> dict[str, Any]:
    """Standing alarms of one machine, worst first."""
    return {"alarms": [alarm for alarm in standing_alarms(principal) if alarm.machine_id == machine.pk]}


def gather_grants(principal: Principal, machine: Machine, now: dt.datetime) -> dict[str, Any]:
    """Every agent of the organisation with its live grant on this machine (none means L2)."""
    grants = {
        grant.agent_id: grant
        for grant in Grant.objects.filter(machine=machine, revoked_at__isnull=True).select_related("granted_by")
        if grant.expires_at is None or grant.expires_at > now
    }
    agents = Agent.objects.for_principal(principal).filter(is_active=True).select_related("owner").order_by("name")
    rows = [(agent, grants.get(agent.pk)) for agent in agents[:50]]
    return {"rows": rows, "levels": words.LEVEL_WORDS}
