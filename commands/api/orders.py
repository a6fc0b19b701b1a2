"""Orders, grants and envelopes over REST. Machines (STOP, reset, suspend) are in `commands.api.machines`."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from commands import services, situation
from commands.api import serializers as shapes
from commands.lifecycle import Status
from commands.models import ExecutionStage, Grant, Proposal
from commands.records.moves import WITH_NAMES, own_order
from commands.rules.conversion import CONTROL_OF, OrderType
from commands.rules.envelopes import render_envelope
from kernel import clock
from kernel.endpoints import Endpoint, RowAct, acts, one_page, principal_of
from kernel.errors import NotFound
from kernel.etags import NOT_MODIFIED, READING, if_match, require_match, tagged
from kernel.idempotency import idempotent
from kernel.loaded_rows import loaded
from kernel.models import Agent
from kernel.prepared import Prepared, PreparedObjects
from kernel.principals import Principal
from kernel.request_gate import turn_away
from kernel.schema import errors
from kernel.serializers import read_body, read_filters
from roasts.models import Machine, Roast

_FILED = OpenApiResponse(
    shapes.ProposalSerializer,
    description="Judged and filed. `status`: PENDING_APPROVAL, APPROVED, or REJECTED with every reason.",
)


def orders_of(principal: Principal) -> QuerySet[Proposal]:
    """Orders this principal may see, with the names that are shown."""
    return Proposal.objects.for_principal(principal).select_related(*WITH_NAMES)


def order_or_404(request: Request, proposal_id: str) -> Proposal:
    proposal = own_order(principal_of(request), proposal_id)
    if proposal is None:
        raise NotFound("proposal_not_found", "There is no such proposal here.", "List them with GET /v1/proposals.")
    return proposal


#: What an order needs of a machine itself (a column left out costs a query of its own); the governor reads the rest.
_MACHINE_COLUMNS = ("id", "organization_id", "name", "is_remote")
_MACHINE = Prepared(
    lambda machine, organization: Machine.objects.filter(pk=machine, organization_id=organization).values_list(
        *_MACHINE_COLUMNS
    ),
    "machine",
    "organization",
)


def machine_or_404(request: Request, machine_id: str) -> Machine:
    organization = principal_of(request).organization
    row = _MACHINE.first(machine=machine_id, organization=organization.pk) if organization is not None else None
    if row is None:
        raise NotFound("machine_not_found", "There is no such machine here.", "List them with GET /v1/machines.")
    return loaded(Machine, _MACHINE_COLUMNS, row)


_AGENT = PreparedObjects(
    lambda agent, organization: Agent.objects.filter(pk=agent, organization_id=organization).order_by(),
    "agent",
    "organization",
)


def look_or_404(request: Request, machine_id: str, order_type: str) -> tuple[Machine, situation.OrderLook]:
    """The principal's organisation's machine, and all that an order of theirs on it is judged by: one statement."""
    principal = principal_of(request)
    try:
        agent_id = "" if principal.is_person else principal.id
        look = situation.order_look(machine_id, CONTROL_OF[OrderType(order_type)], agent_id)
    except Machine.DoesNotExist:
        look = None
    own = principal.organization
    if look is None or own is None or look.machine.organization_id != own.pk:
        raise NotFound("machine_not_found", "There is no such machine here.", "List them with GET /v1/machines.")
    row = (machine_id, look.machine.organization_id, look.machine.name, look.machine.is_remote)
    return loaded(Machine, _MACHINE_COLUMNS, row), look


_ORDER_COLUMNS = {
    "status": "status",
    "machine": "machine_id",
    "roast": "roast_id",
    "order_type": "order_type",
    "from": "proposed_at__gte",
    "to": "proposed_at__lt",
}


class ProposalList(Endpoint):
    """`GET/POST /v1/proposals`."""

    needs = {"POST": "propose"}

    @extend_schema(
        operation_id="list_proposals",
        description="Orders, newest first.",
        parameters=[shapes.ProposalFilters],
        responses={200: shapes.ProposalPageSerializer},
    )
    def get(self, request: Request) -> Response:
        filters = read_filters(shapes.ProposalFilters, request)
        rows = orders_of(principal_of(request))
        if "actor" in filters:
            rows = rows.filter(proposer_agent__isnull=filters["actor"] == "person")
        if "agent" in filters:
            rows = rows.filter(Q(proposer_agent_id=filters["agent"]) | Q(proposer_agent__name=filters["agent"]))
        order = ("-proposed_at", "-id")
        return one_page(rows, filters, columns=_ORDER_COLUMNS, order=order, render=shapes.render_proposal)

    @extend_schema(
        operation_id="propose",
        description="Ask for an order. An agent's is held for a person, waits out a veto window, runs, is refused, or"
        " kept as advice; an operator's own runs at once. A refusal is recorded and answered 201 with status REJECTED"
        " and every reason.",
        request=shapes.ProposeBody,
        responses={201: _FILED, **errors(409, 422)},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        body = read_body(shapes.ProposeBody, request)
        machine, look = look_or_404(request, body["machine_id"], body["order_type"])
        principal = principal_of(request)
        wanted = [body.get(name) for name in ("order_type", "target_value", "target_unit")]
        turn_away(request, lambda: services.would_make_safe(principal, machine, *wanted, now=clock.now()))
        proposal = services.propose_order(
            principal,
            machine=machine,
            order_type=body["order_type"],
            target_value=body.get("target_value"),
            target_unit=body.get("target_unit"),
            reasoning=body["reasoning"],
            roast=roast_or_404(machine, body.get("roast_id")),
            evidence=body.get("evidence", ()),
            constraints=body.get("constraints"),
            expires_in_s=body.get("expires_in_s"),
            mission=body.get("mission"),
            look=look,
            now=clock.now(),
        )
        return tagged(request, shapes.render_proposal(proposal), status=201)


def roast_or_404(machine: Machine, roast_id: str | None) -> Roast | None:
    if roast_id is None:
        return None
    roast = Roast.objects.filter(pk=roast_id, machine=machine).first()
    if roast is None:
        raise NotFound(
            "roast_not_found", "This machine has no such roast.", "Leave roast_id out, or list GET /v1/roasts."
        )
    return roast


class ProposalPending(Endpoint):
    """`GET /v1/proposals/pending`."""

    @extend_schema(
        operation_id="list_pending_proposals",
        description="Held orders that may still be approved, oldest deadline first.",
        parameters=[shapes.PendingFilters],
        responses={200: shapes.ProposalPageSerializer},
    )
    def get(self, request: Request) -> Response:
        filters = read_filters(shapes.PendingFilters, request)
        rows = orders_of(principal_of(request)).filter(status=Status.PENDING_APPROVAL.value, expires_at__gt=clock.now())
        columns, order = {"machine": "machine_id"}, ("expires_at", "id")
        return one_page(rows, filters, columns=columns, order=order, render=shapes.render_proposal)


class ProposalDetail(Endpoint):
    """`GET /v1/proposals/{id}`."""

    @extend_schema(
        operation_id="get_proposal",
        parameters=READING,
        responses={200: shapes.ProposalSerializer, 304: NOT_MODIFIED},
    )
    def get(self, request: Request, proposal_id: str) -> Response:
        return tagged(request, shapes.render_proposal(order_or_404(request, proposal_id)))


class OrderAct(RowAct):
    """One thing done to an order."""

    def find(self, request: Request, row_id: str) -> Proposal:
        return order_or_404(request, row_id)

    def show(self, request: Request, row: Proposal) -> Response:
        return tagged(request, shapes.render_proposal(row), status=self.status)


@acts(
    "approve_proposal",
    "Approve exactly this order. Where it needs two people, the first yes leaves it PENDING_APPROVAL, "
    "shown in `approvals`. 403 `agents_cannot_approve`, `proposer_cannot_approve`, "
    "`owner_cannot_approve`, `role_required`; 409 `not_awaiting_approval` (says by whom), `expired`, "
    "`approved_already`; 412 `stale_digest`.",
    shapes.ApproveBody, shapes.ProposalSerializer, 409, 412, 422, service=services.approve_proposal,
)
class ProposalApprove(OrderAct):
    """`POST /v1/proposals/{id}/approve`. Who may is the governor's to say, by name, so a member gets as far as it."""


@acts(
    "reject_proposal",
    "Turn a held order down, with a reason. 403 `role_required`; "
    "409 `not_awaiting_approval`, `expired`.",
    shapes.RejectBody, shapes.ProposalSerializer, service=services.reject_proposal,
)
class ProposalReject(OrderAct):
    """`POST /v1/proposals/{id}/reject`."""


@acts(
    "adopt_proposal",
    "Make an agent's advice, or its held order, your own: a new order, judged as yours. "
    "403 `agents_cannot_adopt`; 409 `not_advice`, `already_adopted`, `expired`.",
    shapes.NothingBody, _FILED, status=201, service=services.adopt_proposal,
)
class ProposalAdopt(OrderAct):
    """`POST /v1/proposals/{id}/adopt`."""


@acts(
    "abort_proposal",
    "Call an order off; an agent may withdraw its own held one. One that is EXECUTING stays so until "
    "the machine has said what came of it: nothing more of it is sent, then it is ABORTED, with the step it stands "
    "at, or COMPLETED where everything had left already. It makes nothing safe: that is STOP. "
    "409 `in_doubt` (nothing more is sent anyway: resolve it), `not_abortable`.",
    shapes.AbortBody, shapes.ProposalSerializer, service=services.abort_proposal,
)
class ProposalAbort(OrderAct):
    """`POST /v1/proposals/{id}/abort`."""


class ProposalTimeline(Endpoint):
    """`GET /v1/proposals/{id}/timeline`."""

    @extend_schema(
        operation_id="proposal_timeline",
        description="Every move of the order and every stage of its attempt on the wire, in order.",
        responses={200: shapes.TimelineSerializer},
    )
    def get(self, request: Request, proposal_id: str) -> Response:
        proposal = order_or_404(request, proposal_id)
        moves = [shapes.render_transition(row) for row in proposal.transitions.order_by("id")]
        stages = [
            {"at": shapes.render_time(row.at), "kind": "stage", "what": row.stage, "actor": None, "detail": row.detail}
            for row in ExecutionStage.objects.filter(execution__proposal=proposal).order_by("id")
        ]
        entries = sorted(moves + stages, key=_place)
        return Response({"proposal_id": proposal.pk, "entries": entries})


#: Told in one breath with the last stage, and after it: the wire first, then what was concluded from it.
_ENDINGS = frozenset({Status.COMPLETED.value, Status.FAILED.value, Status.ABORTED.value, Status.IN_DOUBT.value})


def _place(entry: dict[str, Any]) -> tuple[str, int]:
    """By time; of one moment, moves before the wire, then its stages, then the ending."""
    rank = 1 if entry["kind"] == "stage" else 2 if entry["what"] in _ENDINGS else 0
    return entry["at"] or "", rank


class GrantList(Endpoint):
    """`GET/POST /v1/grants`."""

    needs = {"POST": "lead"}

    @extend_schema(
        operation_id="list_grants", parameters=[shapes.GrantFilters], responses={200: shapes.GrantPageSerializer}
    )
    def get(self, request: Request) -> Response:
        filters = read_filters(shapes.GrantFilters, request)
        rows = Grant.objects.for_principal(principal_of(request)).select_related("agent", "granted_by")
        if "is_live" in filters:
            rows = rows.filter(revoked_at__isnull=filters["is_live"] == "true")
        columns, order = {"machine": "machine_id", "agent": "agent_id"}, ("-granted_at", "-id")
        return one_page(rows, filters, columns=columns, order=order, render=shapes.render_grant)

    @extend_schema(
        operation_id="grant_autonomy",
        description="A lead signs how far an agent may go on a machine; the live grant there is replaced.",
        request=shapes.GrantBody,
        responses={201: shapes.GrantSerializer, **errors(409, 422)},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        body = read_body(shapes.GrantBody, request)
        principal = principal_of(request)
        machine = machine_or_404(request, body["machine_id"])
        agent = _AGENT.first(agent=body["agent_id"], organization=machine.organization_id)
        if agent is None:
            raise NotFound("agent_not_found", "There is no such agent here.", "See the agents of your organisation.")
        grant = services.grant_autonomy(
            principal, agent=agent, machine=machine, level=body["level"], order_types=body["order_types"],
            reason=body["reason"], expires_at=body["expires_at"], agent_release=body["agent_release"],
            evidence=body["evidence"], now=clock.now(),
        )  # fmt: skip
        return tagged(request, shapes.render_grant(grant), status=201)


def grant_or_404(request: Request, grant_id: str, *, is_locked: bool = False) -> Grant:
    """The principal's organisation's grant; ``is_locked`` (in a transaction): nobody changes it meanwhile."""
    grants = Grant.objects.for_principal(principal_of(request)).select_related("agent", "granted_by", "organization")
    if is_locked:
        grants = grants.select_for_update(of=("self",))
    grant = grants.filter(pk=grant_id).first()
    if grant is None:
        raise NotFound("grant_not_found", "There is no such grant here.", "List them with GET /v1/grants.")
    return grant


class GrantDetail(Endpoint):
    """`GET /v1/grants/{id}`."""

    @extend_schema(
        operation_id="get_grant", parameters=READING, responses={200: shapes.GrantSerializer, 304: NOT_MODIFIED}
    )
    def get(self, request: Request, grant_id: str) -> Response:
        return tagged(request, shapes.render_grant(grant_or_404(request, grant_id)))


class GrantRevoke(Endpoint):
    """`POST /v1/grants/{id}/revoke`."""

    needs = {"POST": "lead"}

    @extend_schema(
        operation_id="revoke_grant",
        description="A lead takes a grant back: from now on the agent may only recommend. 412 `stale` where "
        "`If-Match` is not its ETag.",
        parameters=[if_match("GET /v1/grants/{id}")],
        request=shapes.NothingBody,
        responses={200: shapes.GrantSerializer, **errors(409, 412, 422)},
    )
    @idempotent
    def post(self, request: Request, grant_id: str) -> Response:
        principal = principal_of(request)
        read_body(shapes.NothingBody, request)
        with transaction.atomic():
            grant = grant_or_404(request, grant_id, is_locked=True)
            require_match(request, shapes.render_grant(grant))
            grant = services.revoke_grant(principal, grant, now=clock.now())
        return tagged(request, shapes.render_grant(grant))


class EnvelopeList(Endpoint):
    """`GET /v1/envelopes`."""

    @extend_schema(
        operation_id="list_envelopes",
        description="The limits of each machine, in native steps. They are the server's, never a proposer's.",
        parameters=[shapes.EnvelopeFilters],
        responses={200: shapes.EnvelopePageSerializer},
    )
    def get(self, request: Request) -> Response:
        filters = read_filters(shapes.EnvelopeFilters, request)
        rows = Machine.objects.for_principal(principal_of(request)).filter(is_archived=False).prefetch_related("limits")
        return one_page(rows, filters, columns={"machine": "pk"}, order=("id",), render=render_envelope)
