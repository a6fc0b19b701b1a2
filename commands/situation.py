"""Reading rows into the governor's frozen Situation: what the machine and its agents are told in one statement, what
agents did here lately in another."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from django.db import connection
from django.db.models import Aggregate, Exists, FilteredRelation, JSONField, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import JSONArray

from commands.lifecycle import COUNTED
from commands.models import (
    Attendance,
    Commissioning,
    GovernorPolicy,
    Halt,
    Proposal,
    StopDrill,
    Suspension,
)
from commands.plans import places
from commands.rules import policies
from commands.rules.conversion import OrderType, Unit
from commands.rules.values import (
    AttendanceLook,
    Constraints,
    Fitness,
    GrantLook,
    HaltLook,
    Limits,
    Order,
    Phase,
    Policy,
    ReadingLook,
    Recent,
    Seen,
    Situation,
    UnsettledLook,
)
from kernel import live, prepared
from kernel.models import Membership
from kernel.prepared import Prepared, utc
from kernel.principals import ROLES_FOR, Principal
from roasts.models import OPEN as OPEN_ROAST
from roasts.models import ControlLimit, EventKind, Machine, RoastEvent

CONTROLS = ("heater", "fan", "drum")
MAX_UNSETTLED, MAX_HALTS = 50, 10
DAY = dt.timedelta(hours=24)


def gather(
    machine_id: str,
    proposal_like: Proposal | Order,
    principal: Principal | None,
    now: dt.datetime,
    *,
    reading: Any = None,
    keeper_latched: bool | None = None,
    is_store_reachable: bool = True,
    look: OrderLook | None = None,
) -> Situation:
    """What the governor must know about this order now, by the policy in force.

    ``reading``: the keeper's own (a ``drivers.port.Reading``) at dispatch; else the newest of the live stream and
    the latest row. ``look``: what the caller has just read for this very order. A ``Proposal`` is judged for dispatch,
    an ``Order`` for proposal. Machine.DoesNotExist.
    """
    is_dispatch = isinstance(proposal_like, Proposal)
    order = order_of(proposal_like) if isinstance(proposal_like, Proposal) else proposal_like
    agent_id = order.proposer_id if order.is_by_agent else None
    look = look or order_look(machine_id, order.control, agent_id or "")
    machine = look.machine
    policy = policies.policy_in_force(machine.organization_id, machine.policy_digest)
    found = Situation(
        now=now,
        phase=Phase.DISPATCH if is_dispatch else Phase.PROPOSAL,
        order=order,
        machine_name=machine.name,
        is_machine_archived=machine.is_archived,
        limits=look.limits,
        reading=_reading_look(machine, now, reading),
        are_beans_proved=are_beans_proved(machine),
        machine_kind=machine.driver_kind,
        is_orders_paused=machine.latest["is_orders_paused"] is True,
        is_store_reachable=is_store_reachable,
        keeper_latched=keeper_latched,
        halts=look.halts,
        suspended_by=machine.suspended_by,
        grant=look.grant,
        unsettled=look.unsettled,
        recent=_recent(machine_id, order, agent_id, look.roast_id, now, policy) if agent_id else Recent(),
        roast_id=look.roast_id,
        is_in_roast=look.roast_id is not None,
        is_after_first_crack=look.has_cracked,
        policy=policy,
        fitness=machine.fitness,
        attendance=machine.attendance,
        max_preheat_temp_c=machine.max_preheat_temp_c,
    )
    return places.placed(proposal_like, found) if isinstance(proposal_like, Proposal) else found


@dataclass(frozen=True, slots=True)
class MachineLook:
    """A machine, who suspended its agents, whether it is fit for agents, who is at it, the policy over it, and its
    latest reading as written (``at`` None: it never spoke)."""

    machine_id: str
    name: str
    is_archived: bool
    driver_kind: str
    max_preheat_temp_c: float
    organization_id: str
    is_remote: bool
    suspended_by: str | None
    policy_digest: str | None
    fitness: Fitness
    attendance: AttendanceLook | None
    latest: dict[str, Any]


_LATEST = (
    "link", "at", "state", "heater_step", "fan_step", "drum_step", "bean_temp_c", "rate_of_rise_c_per_min",
    "device_ms", "sequence", "quality", "are_beans_proved", "is_orders_paused", "interval_s",
)  # fmt: skip
#: Presence counts only of somebody who may still work here; a drill that failed voids an older one that passed.
_PRESENT = Attendance.objects.filter(
    Exists(
        Membership.objects.filter(
            user_id=OuterRef("user_id"), organization_id=OuterRef("organization_id"), role__in=ROLES_FOR["operate"]
        )
    ),
    machine_id=OuterRef("pk"),
    user__is_active=True,
).order_by("-at", "-id")
_DRILLS = StopDrill.objects.filter(machine_id=OuterRef("pk")).order_by("-at", "-id")
_LOOKED = {
    "suspended_by": Suspension.objects.filter(machine_id=OuterRef("pk"), given_back_at__isnull=True).values(
        "taken_by__username"
    ),
    "policy_digest": GovernorPolicy.objects.filter(organization_id=OuterRef("organization_id"))
    .order_by("-version")
    .values("digest"),
    "commissioned_at": Commissioning.objects.filter(
        machine_id=OuterRef("pk"), completed_at__isnull=False, ended_at__isnull=True
    ).values("completed_at"),
    "drilled_at": _DRILLS.values("at"),
    "is_drill_passed": _DRILLS.values("is_passed"),
    "attended_at": _PRESENT.values("at"),
    "attended_by": _PRESENT.values("user__username"),
}
_MACHINE_COLUMNS = (
    "name", "is_archived", "driver_kind", "max_preheat_temp_c", "organization_id", "is_remote", *_LOOKED,
    *(f"latest__{name}" for name in _LATEST)
)  # fmt: skip


def _machines(machine: str) -> QuerySet[Machine]:
    named = {name: Subquery(rows[:1]) for name, rows in _LOOKED.items()}
    return Machine.objects.filter(pk=machine).annotate(**named).order_by()


_MACHINE = Prepared(lambda machine: _machines(machine).values_list(*_MACHINE_COLUMNS), "machine")
_LIMIT_COLUMNS = (
    "min_step", "max_step", "full_scale_step", "max_change_step", "min_interval_s", "daily_count", "roast_count",
    "max_ramp_step_per_s",
)  # fmt: skip
_LIMITS = Prepared(
    lambda machine, control: ControlLimit.objects.filter(machine_id=machine, control=control).values_list(
        *_LIMIT_COLUMNS
    ),
    "machine",
    "control",
)
_GRANT_COLUMNS = ("level", "lowered_to", "order_types", "expires_at", "agent_release")


class _Rows(Aggregate):
    """Rows of a subquery as one JSON list."""

    function = "JSON_GROUP_ARRAY"
    output_field = JSONField()

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """By its own name there."""
        return self.as_sql(compiler, connection, function="JSONB_AGG", **context)


def _listed(rows: QuerySet[Any], *columns: str) -> Subquery:
    """The machine's rows as lists of these columns; null where there are none."""
    own = rows.filter(machine_id=OuterRef("pk")).order_by().values("machine_id")
    return Subquery(own.annotate(listed=_Rows(JSONArray(*columns))).values("listed"))


#: Everything of one machine that an order of one agent ("" for nobody) on one control is judged by: one statement, so
#: that all of it stood at the same moment. Each joined relation has at most one row (unique while it is open).
_ORDER = Prepared(
    lambda machine, control, agent: (
        _machines(machine)
        .annotate(
            envelope=FilteredRelation("limits", condition=Q(limits__control=control)),
            open_roast=FilteredRelation("roasts", condition=Q(roasts__status__in=OPEN_ROAST)),
            trust=FilteredRelation("grants", condition=Q(grants__agent=agent, grants__revoked_at__isnull=True)),
            has_cracked=Exists(
                RoastEvent.objects.filter(
                    roast_id=OuterRef("open_roast__id"),
                    kind=EventKind.FIRST_CRACK_START.value,
                    withdrawn_at__isnull=True,
                )
            ),
            halted_by=_listed(Halt.objects.filter(closed_at__isnull=True), "kind", "code", "id"),
            waiting=_listed(
                Proposal.objects.unsettled(), "proposed_at", "id", "status", "control", "proposer_agent_id",
                "proposer_agent__name", "proposer_user__username", "plan_id",
            ),
        )
        .values_list(
            *_MACHINE_COLUMNS, "open_roast__id", "has_cracked", "halted_by", "waiting",
            *(f"envelope__{name}" for name in _LIMIT_COLUMNS), *(f"trust__{name}" for name in _GRANT_COLUMNS),
        )
    ),
    "machine",
    "control",
    "agent",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class OrderLook:
    """A machine, and what of it concerns one order: the envelope of its control, the open roast, the agent's grant."""

    machine: MachineLook
    limits: Limits | None
    grant: GrantLook | None
    roast_id: str | None
    has_cracked: bool
    halts: tuple[HaltLook, ...]
    unsettled: tuple[UnsettledLook, ...]


def order_look(machine_id: str, control: str, agent_id: str) -> OrderLook:
    """What an order on this control ("": a state) by this agent ("": a person) is judged by. Machine.DoesNotExist."""
    row = _ORDER.first(machine=machine_id, control=control, agent=agent_id)
    if row is None:
        raise Machine.DoesNotExist(machine_id)
    columns = iter(row)
    machine = _machine_of(machine_id, list(islice(columns, len(_MACHINE_COLUMNS))))
    roast_id, has_cracked, halts, waiting = islice(columns, 4)
    limits, grant = tuple(islice(columns, len(_LIMIT_COLUMNS))), tuple(columns)
    return OrderLook(
        machine,
        Limits(*limits) if limits[0] is not None else None,
        _grant_of(*grant) if grant[0] is not None else None,
        roast_id,
        bool(has_cracked),
        tuple(HaltLook(*each) for each in (halts or [])[:MAX_HALTS]),
        tuple(_unsettled_of(*each) for each in sorted(waiting or [], key=_by_time)[:MAX_UNSETTLED]),
    )


def _by_time(row: list[Any]) -> tuple[str, str]:
    """Oldest first: time of proposal as text, then the id."""
    return row[0], row[1]


def _unsettled_of(
    _at: str, pk: str, status: str, control: str, agent_id: str | None, agent: str | None, person: str | None,
    plan_id: str | None,
) -> UnsettledLook:  # fmt: skip
    return UnsettledLook(pk, status, control, agent_id is not None, agent or person or "", plan_id or "")


def _grant_of(
    signed: str, lowered: str, order_types: list[str], expires_at: dt.datetime | None, release: str
) -> GrantLook:
    level = min(signed, lowered or signed)  # a breaker lowers; whatever the column says, it never raises
    return GrantLook(level, frozenset(order_types), expires_at, release, signed)


def machine_look(machine_id: str) -> MachineLook:
    """The machine as the governor needs it. Machine.DoesNotExist."""
    row = _MACHINE.first(machine=machine_id)
    if row is None:
        raise Machine.DoesNotExist(machine_id)
    return _machine_of(machine_id, row)


def _machine_of(machine_id: str, row: Sequence[Any]) -> MachineLook:
    name, is_archived, driver_kind, max_preheat_temp_c, organization_id, is_remote, *looked = row
    found = dict(zip((*_LOOKED, *_LATEST), looked, strict=True))
    attended_at = found["attended_at"]
    return MachineLook(
        machine_id, name, is_archived, driver_kind, max_preheat_temp_c, organization_id, is_remote,
        found["suspended_by"], found["policy_digest"],
        fitness=Fitness(found["commissioned_at"], found["drilled_at"], found["is_drill_passed"] is True),
        attendance=None if attended_at is None else AttendanceLook(found["attended_by"], attended_at),
        latest={each: found[each] for each in _LATEST},
    )  # fmt: skip


def limits_of(machine_id: str, control: str) -> Limits | None:
    """The envelope of one control; None for a state order or where nobody set one."""
    row = _LIMITS.first(machine=machine_id, control=control)
    return Limits(*row) if row else None


# Written by hand: building this aggregate through the ORM cost a third of the whole look.
_COUNTED = ", ".join(f"'{status.value}'" for status in sorted(COUNTED))
#: One that was called off while it stepped has moved its control, too.
_MOVES = f"(status IN ({_COUNTED}) OR (status = 'ABORTED' AND abort_requested_at IS NOT NULL))"
_RECENT = f"""
SELECT MAX(CASE WHEN {_MOVES} AND control = %(control)s THEN decided_at END),
       COUNT(CASE WHEN {_MOVES} AND control = %(control)s THEN 1 END),
       COUNT(CASE WHEN {_MOVES} AND control = %(control)s AND roast_id = %(roast)s THEN 1 END),
       COUNT(CASE WHEN {_MOVES} AND roast_id = %(roast)s THEN 1 END),
       COUNT(CASE WHEN status IN ('COMPLETED', 'FAILED') AND {{settled}} THEN 1 END),
       COUNT(CASE WHEN status = 'FAILED' AND {{settled}} THEN 1 END)
  FROM {Proposal._meta.db_table}
 WHERE machine_id = %(machine)s AND proposer_agent_id IS NOT NULL AND proposed_at > %(day)s AND id <> %(this)s
""".replace("{settled}", "proposer_agent_id = %(agent)s AND settled_at >= %(window)s")


def _recent(
    machine_id: str, order: Order, agent_id: str, roast_id: str | None, now: dt.datetime, policy: Policy
) -> Recent:
    """One aggregate over this machine's agents' orders of the last day (a roast is shorter than that)."""
    adapt = connection.ops.adapt_datetimefield_value
    values = {
        "control": order.control,
        "roast": roast_id or "",
        "machine": machine_id,
        "agent": agent_id,
        "day": adapt(now - DAY),
        "window": adapt(now - dt.timedelta(seconds=policy.failure_window_s)),
        "this": order.proposal_id,
    }
    ((last_at, *counts),) = prepared.run(_RECENT, values)
    return Recent(utc(last_at), *counts)


def _reading_look(machine: MachineLook, now: dt.datetime, reading: Any) -> ReadingLook | None:
    """The keeper's own reading where the loop gives it, else the newest anybody has."""
    if reading is None:
        return newest_reading(machine, now)
    return replace(look_at(reading, now, link="up"), interval_s=machine.latest["interval_s"])


def newest_reading(machine: MachineLook, now: dt.datetime) -> ReadingLook | None:
    """The newer of what the loop streamed and what it wrote; None when the machine never spoke."""
    row = machine.latest
    streamed = _streamed(machine, now)
    written = look_at(row, now, link=row["link"]) if row["at"] is not None else None
    if streamed is None or (written is not None and written.age_s < streamed.age_s):
        return written
    return streamed


def are_beans_proved(machine: MachineLook) -> bool:
    """As the loop says: streamed if it streams, else written."""
    payload = live.latest_reading(machine.organization_id, machine.machine_id)
    if isinstance(payload, dict) and "are_beans_proved" in payload and "at" in payload:
        return payload["are_beans_proved"] is True
    return machine.latest["are_beans_proved"] is True


def _streamed(machine: MachineLook, now: dt.datetime) -> ReadingLook | None:
    payload = live.latest_reading(machine.organization_id, machine.machine_id)
    if not isinstance(payload, dict) or "at" not in payload:
        return None
    try:
        return look_at({**payload, "at": dt.datetime.fromisoformat(payload["at"])}, now, link=payload.get("link", "up"))
    except (TypeError, ValueError, KeyError):
        return None


def look_at(source: Any, now: dt.datetime, *, link: str) -> ReadingLook:
    """A port Reading, a latest row or a streamed payload, as the governor sees it."""

    def value(name: str) -> Any:
        return source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)

    quality = value("quality") or {}
    return ReadingLook(
        age_s=(now - value("at")).total_seconds(),
        state=str(value("state") or "unknown"),
        steps={control: value(f"{control}_step") for control in CONTROLS},
        bean_temp_c=value("bean_temp_c"),
        rate_of_rise_c_per_min=value("rate_of_rise_c_per_min"),
        device_ms=value("device_ms") or 0,
        sequence=value("sequence") or 0,
        quality={name: str(word) for name, word in quality.items()},
        link=link,
        at=value("at"),
        interval_s=value("interval_s"),
    )


def order_of(proposal: Proposal) -> Order:
    """A stored proposal as the governor sees it (agent and user are loaded, or cost a query each)."""
    agent = proposal.proposer_agent
    return Order(
        order_type=OrderType(proposal.order_type),
        control=proposal.control,
        target_step=proposal.target_step,
        is_by_agent=agent is not None,
        proposer_id=agent.pk if agent is not None else f"usr_{proposal.proposer_user_id}",
        proposer_name=proposal.proposer_name,
        expires_at=proposal.expires_at,
        constraints=constraints_of(proposal.constraints),
        proposal_id=proposal.pk,
        seen=seen_of(proposal),
        is_approved=proposal.approver_id is not None,
        is_proposer_active=agent.is_active if agent is not None else _may_still_order(proposal),
        asked_value=proposal.asked_value,
        asked_unit=proposal.asked_unit,
        agent_release=proposal.agent_release,
        runs_at=proposal.runs_at,
        plan_id=proposal.plan_id or "",
        preheat_c=preheat_c_of(proposal),
    )


def preheat_c_of(proposal: Proposal) -> int | None:
    """The preheat temperature of a stored order in whole °C, rounded down; None where it has none."""
    if proposal.order_type != OrderType.PREHEAT or proposal.asked_unit != Unit.CELSIUS:
        return None
    return math.floor(proposal.asked_value) if proposal.asked_value is not None else None


def _may_still_order(proposal: Proposal) -> bool:
    found = _OPERATING.first(organization=proposal.organization_id, user=proposal.proposer_user_id or 0)
    return found is not None


_OPERATING = Prepared(
    lambda organization, user: (
        Membership.objects.filter(
            organization_id=organization, user_id=user, user__is_active=True, role__in=sorted(ROLES_FOR["operate"])
        )
        .order_by()
        .values_list("id")[:1]
    ),
    "organization",
    "user",
    numbers=["user"],
)


def seen_of(proposal: Proposal) -> Seen:
    """The reading the order was judged by when it was proposed."""
    return Seen(
        state=proposal.seen_state,
        steps={"heater": proposal.seen_heater_step, "fan": proposal.seen_fan_step, "drum": proposal.seen_drum_step},
        bean_temp_c=proposal.seen_bean_temp_c,
        rate_of_rise_c_per_min=proposal.seen_rate_c_per_min,
        device_ms=proposal.seen_device_ms,
    )


def constraints_of(document: Mapping[str, Any]) -> Constraints:
    """The proposer's stricter limits from their stored JSON."""
    numbers = ("min_step", "max_step", "max_change_step", "min_interval_s", "max_ramp_step_per_s", "daily_count")
    return Constraints(
        **{name: document.get(name) for name in numbers},
        require_states=frozenset(document.get("require_states", ())),
        forbidden_states=frozenset(document.get("forbidden_states", ())),
    )
