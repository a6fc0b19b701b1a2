"""Plans over REST, and the ways back: rollback of one order, compensation of a plan, a doubt resolved by a person."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

from django.db.models import Prefetch
from django.urls import path
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from commands.api import serializers as shapes
from commands.api.orders import OrderAct, machine_or_404, roast_or_404
from commands.api.what_if import MachineWhatIf
from commands.models import Plan, Proposal
from commands.plans import sequence, services_plans, services_rollback
from commands.reasons import Decision, RejectCode
from commands.records import doubts
from commands.records.moves import WITH_NAMES
from commands.rules.conversion import OrderType, Unit
from drivers.port import MachineState
from kernel import clock
from kernel.endpoints import Endpoint, RowAct, acts, one_page, principal_of
from kernel.errors import NotFound
from kernel.etags import NOT_MODIFIED, READING, tagged
from kernel.idempotency import idempotent
from kernel.pagination import ListFilters
from kernel.principals import Principal, person_id
from kernel.schema import errors
from kernel.serializers import StrictSerializer, TextField, read_body, read_filters


class PlannedOrderBody(StrictSerializer):
    """One order of a plan."""

    order_type = serializers.ChoiceField([word.value for word in OrderType])
    target_value = shapes.NumberField(
        required=False, allow_null=True, min_value=-shapes.MAX_TARGET, max_value=shapes.MAX_TARGET
    )
    target_unit = serializers.ChoiceField([word.value for word in Unit], required=False, allow_null=True)
    reasoning = TextField(max_length=4000, required=False, help_text="without: the plan's")
    evidence = serializers.ListField(child=shapes.EvidenceField(), required=False, max_length=shapes.MAX_EVIDENCE)
    constraints = shapes.ConstraintsBody(required=False)


class OrderPlanBody(StrictSerializer):
    """Several orders as one. They run in this order, each once the one before it is confirmed."""

    machine_id = TextField(max_length=40)
    title = TextField(max_length=200)
    reasoning = TextField(max_length=4000)
    orders = serializers.ListField(child=PlannedOrderBody(), min_length=1, max_length=sequence.MAX_ORDERS)
    roast_id = TextField(max_length=40, required=False, allow_null=True)
    expires_in_s = shapes.NumberField(
        required=False, allow_null=True, min_value=1, max_value=86_400,
        help_text="of the approval; only shortens. Later orders have 10 s more each, and their interval",
    )  # fmt: skip


class PlanApproveBody(StrictSerializer):
    """The plan's digest, as the approver saw it."""

    digest = TextField(max_length=64)


class PlanRejectBody(StrictSerializer):
    code = serializers.ChoiceField([word.value for word in RejectCode])
    text = TextField(max_length=500, required=False, allow_blank=True, default="")


class WordsBody(StrictSerializer):
    text = TextField(max_length=500, required=False, allow_blank=True, default="")


class GoBackBody(StrictSerializer):
    """Why."""

    reasoning = TextField(max_length=3000)


class ResolveBody(StrictSerializer):
    """What the person at the machine reads, and how they know."""

    reads_step = shapes.WholeField(required=False, min_value=0, max_value=1000, help_text="of a setting")
    reads_state = serializers.ChoiceField(
        [state.value for state in MachineState if state is not MachineState.UNKNOWN], required=False,
        help_text="of a state order",
    )  # fmt: skip
    evidence = TextField(max_length=1000, help_text="what was looked at: the panel, a photograph's name")


class PlanFilters(ListFilters):
    status = serializers.ChoiceField([word.value for word in sequence.PlanStatus], required=False)
    machine = serializers.CharField(max_length=40, required=False)


class PlanReasonSerializer(shapes.ReasonSerializer):
    position = serializers.IntegerField(help_text="of the order it is about, from 0")


class OrderPlanSerializer(serializers.Serializer):
    plan_id = serializers.CharField()
    machine_id = serializers.CharField()
    roast_id = serializers.CharField(allow_null=True)
    status = serializers.ChoiceField([word.value for word in sequence.PlanStatus])
    title = serializers.CharField()
    reasoning = serializers.CharField()
    proposer = shapes.ActorSerializer()
    decision = serializers.ChoiceField([word.value for word in Decision])
    reasons = PlanReasonSerializer(many=True)
    significance = serializers.CharField(allow_blank=True, help_text="the highest it contains")
    digest = serializers.CharField(help_text="over the digests of its orders, in order")
    proposed_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(help_text="for the approval, and for its first order to begin")
    decided_at = serializers.DateTimeField(allow_null=True)
    approver = shapes.ActorSerializer(allow_null=True)
    compensates = serializers.CharField(allow_null=True, help_text="the plan it takes back")
    outcome = shapes.RejectionSerializer(allow_null=True)
    settled_at = serializers.DateTimeField(allow_null=True)
    orders = shapes.ProposalSerializer(many=True)


class PlanPageSerializer(serializers.Serializer):
    results = OrderPlanSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


_FILED = OpenApiResponse(
    OrderPlanSerializer, description="Judged and filed, with its orders. A refused plan is filed as REJECTED."
)


def _plans_of(principal: Principal) -> Any:
    orders = Proposal.objects.select_related(*WITH_NAMES).order_by("plan_position")
    return (
        Plan.objects.for_principal(principal)
        .select_related(*services_plans.PLAN_NAMES)
        .prefetch_related(Prefetch("orders", queryset=orders))
    )


def plan_or_404(request: Request, plan_id: str) -> Plan:
    plan = services_plans.own_plan(principal_of(request), plan_id)
    if plan is None:
        raise NotFound("plan_not_found", "There is no such plan here.", "List them with GET /v1/plans.")
    return plan


def render_plan(plan: Plan) -> dict[str, Any]:
    """A plan with its orders (prefetched in order, with names)."""
    return _rendered(plan, plan.orders.all())  # type: ignore[attr-defined]


def _rendered(plan: Plan, orders: Iterable[Proposal]) -> dict[str, Any]:
    person, agent = plan.proposer_user, plan.proposer_agent
    approver = plan.approver
    outcome = None
    if plan.outcome_code or plan.outcome_message:
        outcome = {"code": plan.outcome_code, "text": plan.outcome_message}
    proposer = {"kind": "agent", "id": agent.pk, "name": agent.name} if agent is not None else {
        "kind": "person", "id": person_id(person), "name": person.get_username()  # type: ignore[arg-type,union-attr]
    }  # fmt: skip
    return {
        "plan_id": plan.pk,
        "machine_id": plan.machine_id,
        "roast_id": plan.roast_id,
        "status": str(plan.status),
        "title": plan.title,
        "reasoning": plan.reasoning,
        "proposer": proposer,
        "decision": plan.decision,
        "reasons": plan.reasons,
        "significance": plan.significance,
        "digest": plan.digest,
        "proposed_at": shapes.render_time(plan.proposed_at),
        "expires_at": shapes.render_time(plan.expires_at),
        "decided_at": shapes.render_time(plan.decided_at),
        "approver": {"kind": "person", "id": person_id(approver), "name": approver.get_username()}
        if approver is not None
        else None,
        "compensates": plan.compensates_id,
        "outcome": outcome,
        "settled_at": shapes.render_time(plan.settled_at),
        "orders": [shapes.render_proposal(order) for order in orders],
    }


def _shown(request: Request, plan: Plan, status: int = 200) -> Response:
    fresh = plan_or_404(request, plan.pk)
    return tagged(request, _rendered(fresh, services_plans.orders_of(fresh)), status=status)


class PlanList(Endpoint):
    """`GET/POST /v1/plans`."""

    needs = {"POST": "propose"}

    @extend_schema(
        operation_id="list_plans", description="Plans, newest first, each with its orders.",
        parameters=[PlanFilters], responses={200: PlanPageSerializer},
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        return one_page(
            _plans_of(principal_of(request)), read_filters(PlanFilters, request),
            columns={"status": "status", "machine": "machine_id"}, order=("-proposed_at", "-id"), render=render_plan,
        )  # fmt: skip

    @extend_schema(
        operation_id="propose_plan",
        description="Several orders as one: judged each where it stands, decided as the worst of them, approved as "
        "one digest, run in order, stopped at the first that is not confirmed. A state order may only come last. "
        "422 `state_order_not_last`; 409 `plan_open`.",
        request=OrderPlanBody,
        responses={201: _FILED, **errors(409, 422)},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        body = read_body(OrderPlanBody, request)
        machine = machine_or_404(request, body["machine_id"])
        orders = [
            services_plans.PlannedOrder(
                OrderType(order["order_type"]), order.get("target_value"), order.get("target_unit") or "",
                order.get("reasoning", ""), tuple(order.get("evidence", ())), order.get("constraints"),
            )
            for order in body["orders"]
        ]  # fmt: skip
        plan = services_plans.propose_plan(
            principal_of(request), machine=machine, title=body["title"], reasoning=body["reasoning"], orders=orders,
            roast=roast_or_404(machine, body.get("roast_id")), expires_in_s=body.get("expires_in_s"), now=clock.now(),
        )  # fmt: skip
        return _shown(request, plan, 201)


class PlanDetail(Endpoint):
    """`GET /v1/plans/{id}`."""

    @extend_schema(operation_id="get_plan", parameters=READING, responses={200: OrderPlanSerializer, 304: NOT_MODIFIED})
    def get(self, request: Request, plan_id: str) -> Response:
        return _shown(request, plan_or_404(request, plan_id))


class PlanAct(RowAct):
    """One thing done to a plan."""

    def find(self, request: Request, row_id: str) -> Plan:
        return plan_or_404(request, row_id)

    def show(self, request: Request, row: Plan) -> Response:
        return _shown(request, row, self.status)


@acts(
    "approve_plan",
    "Approve exactly these orders in exactly this order. Refusals as for one order; "
    "412 `stale_digest`, 409 `not_awaiting_approval`.",
    PlanApproveBody, OrderPlanSerializer, 409, 412, 422, service=services_plans.approve_plan,
)
class PlanApprove(PlanAct):
    """`POST /v1/plans/{id}/approve`."""


@acts(
    "reject_plan",
    "Turn a held plan down, with a reason.",
    PlanRejectBody, OrderPlanSerializer, service=services_plans.reject_plan,
)
class PlanReject(PlanAct):
    """`POST /v1/plans/{id}/reject`."""


@acts(
    "veto_plan",
    "Stop a plan in its veto window.",
    WordsBody, OrderPlanSerializer, service=services_plans.veto_plan,
)
class PlanVeto(PlanAct):
    """`POST /v1/plans/{id}/veto`."""


@acts(
    "abort_plan",
    "Call a plan off: what waits never goes; the order that is on the wire writes nothing more. "
    "It makes nothing safe: that is STOP. 409 `plan_over`, `in_doubt`.",
    WordsBody, OrderPlanSerializer, service=services_plans.abort_plan,
)
class PlanAbort(PlanAct):
    """`POST /v1/plans/{id}/abort`."""


@acts(
    "compensate_plan",
    "A new plan that takes back, the last first, what a plan that stopped half-way has moved; judged "
    "like any other. 409 `not_stopped`, `already_compensated`, `nothing_to_compensate`, `nothing_confirmed`, "
    "`moved_since`.",
    GoBackBody, _FILED, status=201, service=services_rollback.compensate_plan,
)
class PlanCompensate(PlanAct):
    """`POST /v1/plans/{id}/compensate`."""


@acts(
    "roll_back_proposal",
    "A new order, of whoever asks, that brings the control back to where it was read before this "
    "order moved it; judged like any other. 409 `not_a_setting`, `not_settled`, `nothing_moved`, "
    "`nothing_confirmed`, `moved_since`.",
    GoBackBody, shapes.ProposalSerializer, status=201, service=services_rollback.roll_back_order,
)
class ProposalRollback(OrderAct):
    """`POST /v1/proposals/{id}/rollback`."""


@acts(
    "resolve_proposal",
    "An operator at the machine says what it reads after an order whose end is in doubt. Nothing is "
    "sent. 409 `not_in_doubt`, `not_attended`, `still_under_way`, `disagrees_with_reading` (with both figures); "
    "422 `no_such_step`.",
    ResolveBody, shapes.ProposalSerializer,
)
class ProposalResolve(OrderAct):
    """`POST /v1/proposals/{id}/resolve`."""

    def act(self, who: Principal, order: Proposal, body: dict[str, Any], now: dt.datetime) -> Proposal:
        return doubts.resolve_doubt(
            who, order, reads_step=body.get("reads_step"), reads_state=body.get("reads_state"),
            evidence=body["evidence"], now=now,
        )  # fmt: skip


plan_urlpatterns = [
    path("plans", PlanList.as_view(), name="plans"),
    path("plans/<str:plan_id>", PlanDetail.as_view(), name="plan"),
    path("plans/<str:plan_id>/approve", PlanApprove.as_view(), name="plan-approve"),
    path("plans/<str:plan_id>/reject", PlanReject.as_view(), name="plan-reject"),
    path("plans/<str:plan_id>/veto", PlanVeto.as_view(), name="plan-veto"),
    path("plans/<str:plan_id>/abort", PlanAbort.as_view(), name="plan-abort"),
    path("plans/<str:plan_id>/compensate", PlanCompensate.as_view(), name="plan-compensate"),
    path("proposals/<str:proposal_id>/rollback", ProposalRollback.as_view(), name="proposal-rollback"),
    path("proposals/<str:proposal_id>/resolve", ProposalResolve.as_view(), name="proposal-resolve"),
    path("machines/<str:machine_id>/what-if", MachineWhatIf.as_view(), name="machine-what-if"),
]
