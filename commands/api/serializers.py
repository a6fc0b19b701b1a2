"""What the orders' endpoints take and give: strict in, documented out."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from commands.lifecycle import Status
from commands.models import Grant, Proposal, ProposalTransition
from commands.reasons import Decision, RejectCode
from commands.records.moves import proposer_of
from commands.rules.conversion import OrderType, Unit
from commands.rules.values import Level
from commands.services import approver_id, is_advice
from drivers.port import MachineState
from kernel.pagination import ListFilters
from kernel.principals import person_id
from kernel.serializers import NumberField, StrictSerializer, TextField, WholeField

MAX_TARGET = 1_000_000
MAX_EVIDENCE = 50
_SMALL = 2**31 - 1


def _words(enumeration: Any) -> list[str]:
    return [word.value for word in enumeration]


def render_time(at: dt.datetime | None) -> str | None:
    """UTC, ISO 8601, with Z; null stays null."""
    return None if at is None else at.astimezone(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class ConstraintsBody(StrictSerializer):
    """Stricter limits than the machine's own. Looser ones change nothing."""

    min_step = WholeField(required=False, min_value=-_SMALL, max_value=_SMALL)
    max_step = WholeField(required=False, min_value=-_SMALL, max_value=_SMALL)
    max_change_step = WholeField(required=False, min_value=0, max_value=_SMALL)
    min_interval_s = NumberField(required=False, min_value=0, max_value=86_400)
    max_ramp_step_per_s = NumberField(required=False, min_value=0, max_value=_SMALL)
    daily_count = WholeField(required=False, min_value=0, max_value=_SMALL)
    require_states = serializers.ListField(
        child=serializers.ChoiceField(_words(MachineState)), required=False, max_length=10
    )
    forbidden_states = serializers.ListField(
        child=serializers.ChoiceField(_words(MachineState)), required=False, max_length=10
    )


@extend_schema_field({"oneOf": [{"type": "string", "maxLength": 500}, {"type": "object"}]})
class EvidenceField(serializers.JSONField):
    """One piece of evidence: an id as text, or a small object with ids and numbers."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str | dict):
            raise serializers.ValidationError(_("Evidence is text (an id) or an object."))
        if len(str(data)) > 2000:
            raise serializers.ValidationError(_("One piece of evidence has at most 2000 characters."))
        return data


class ProposeBody(StrictSerializer):
    """An order. Who proposes comes from the credential; limits from the machine; times are the server's."""

    machine_id = TextField(max_length=40)
    order_type = serializers.ChoiceField(_words(OrderType))
    target_value = NumberField(
        required=False, allow_null=True, min_value=-MAX_TARGET, max_value=MAX_TARGET,
        help_text="SET_* needs one; heat rounds down to whole steps, fan and drum to the nearest. PREHEAT may have one"
        " in celsius on a Bullet R2, rounded down to whole degrees; no other machine takes it by wire",
    )  # fmt: skip
    target_unit = serializers.ChoiceField(_words(Unit), required=False, allow_null=True)
    reasoning = TextField(max_length=4000, help_text="why, for the person who decides")
    roast_id = TextField(max_length=40, required=False, allow_null=True)
    expires_in_s = NumberField(
        required=False, allow_null=True, min_value=1, max_value=86_400,
        help_text="only shortens: 300 s off a roast, 45 s in one, 20 s after first crack",
    )  # fmt: skip
    evidence = serializers.ListField(child=EvidenceField(), required=False, max_length=MAX_EVIDENCE)
    constraints = ConstraintsBody(required=False)
    mission = TextField(
        max_length=100, required=False, allow_null=True, help_text="the work it belongs to, by any name or id"
    )


class ApproveBody(StrictSerializer):
    """The digest the approver saw."""

    digest = TextField(max_length=64)


class RejectBody(StrictSerializer):
    """Why; OTHER needs a text."""

    code = serializers.ChoiceField(_words(RejectCode))
    text = TextField(max_length=500, required=False, allow_blank=True, default="")


class NothingBody(StrictSerializer):
    """An empty object."""


class AbortBody(StrictSerializer):
    """Why, if you like."""

    text = TextField(max_length=500, required=False, allow_blank=True, default="")


class ProposalFilters(ListFilters):
    """``from`` and ``to`` bound the time of proposal, half-open [from, to)."""

    status = serializers.ChoiceField(_words(Status), required=False)
    machine = serializers.CharField(max_length=40, required=False)
    roast = serializers.CharField(max_length=40, required=False)
    order_type = serializers.ChoiceField(_words(OrderType), required=False)
    actor = serializers.ChoiceField(["agent", "person"], required=False)
    agent = serializers.CharField(max_length=100, required=False, help_text="id or name")
    to = serializers.DateTimeField(required=False)

    def get_fields(self) -> dict[str, serializers.Field]:
        """`from` is a Python keyword, so it is added here."""
        fields = super().get_fields()
        fields["from"] = serializers.DateTimeField(required=False)
        return fields


class PendingFilters(ListFilters):
    machine = serializers.CharField(max_length=40, required=False)


class GrantBody(StrictSerializer):
    """How far an agent may go on a machine."""

    agent_id = TextField(max_length=40)
    machine_id = TextField(max_length=40)
    level = serializers.ChoiceField(_words(Level))
    order_types = serializers.ListField(
        child=serializers.ChoiceField(_words(OrderType)), required=False, max_length=len(OrderType), default=list,
        help_text="empty: all settings, no states",
    )  # fmt: skip
    reason = TextField(max_length=500, required=False, allow_blank=True, default="")
    expires_at = serializers.DateTimeField(required=False, allow_null=True, default=None)
    agent_release = TextField(
        max_length=100,
        required=False,
        allow_blank=True,
        default="",
        help_text="only orders of that release; empty: any",
    )
    evidence = serializers.ListField(
        child=EvidenceField(), required=False, max_length=MAX_EVIDENCE, default=list, help_text="what you relied on"
    )


class GrantFilters(ListFilters):
    machine = serializers.CharField(max_length=40, required=False)
    agent = serializers.CharField(max_length=40, required=False)
    is_live = serializers.ChoiceField(["true", "false"], required=False)


class EnvelopeFilters(ListFilters):
    machine = serializers.CharField(max_length=40, required=False)


# What is given back (for the OpenAPI page and for tests of it).


class ReasonSerializer(serializers.Serializer):
    code = serializers.CharField(help_text="stable lower_snake code")
    legacy_code = serializers.CharField(required=False, help_text="the predecessor's code, where it had one")
    decision = serializers.ChoiceField(_words(Decision))
    message = serializers.CharField()
    how_to_fix = serializers.CharField(allow_blank=True)
    value = serializers.JSONField(allow_null=True)
    bound = serializers.JSONField(allow_null=True)


class VerdictSerializer(serializers.Serializer):
    decision = serializers.ChoiceField(_words(Decision))
    reasons = ReasonSerializer(many=True)


class ActorSerializer(serializers.Serializer):
    kind = serializers.CharField()
    id = serializers.CharField()
    name = serializers.CharField()


class RejectionSerializer(serializers.Serializer):
    code = serializers.CharField()
    text = serializers.CharField(allow_blank=True)


class OutcomeSerializer(serializers.Serializer):
    code = serializers.CharField(allow_blank=True)
    message = serializers.CharField(allow_blank=True)
    actual_step = serializers.IntegerField(allow_null=True)


class GivenApprovalSerializer(ActorSerializer):
    at = serializers.DateTimeField(allow_null=True)


class OrderReviewSerializer(serializers.Serializer):
    finding = serializers.CharField(help_text="in_order or not_in_order")
    text = serializers.CharField(allow_blank=True)
    by = ActorSerializer()
    at = serializers.DateTimeField()


class ProposalSerializer(serializers.Serializer):
    proposal_id = serializers.CharField()
    machine_id = serializers.CharField()
    roast_id = serializers.CharField(allow_null=True)
    status = serializers.ChoiceField(_words(Status))
    order_type = serializers.ChoiceField(_words(OrderType))
    control = serializers.CharField(allow_blank=True, help_text="heater, fan, drum, or empty for a state")
    target_value = serializers.FloatField(allow_null=True, help_text="as asked")
    target_unit = serializers.CharField(allow_null=True, help_text="as asked")
    target_step = serializers.IntegerField(allow_null=True, help_text="native, after conversion")
    from_step = serializers.IntegerField(allow_null=True)
    proposer = ActorSerializer()
    agent_release = serializers.CharField(allow_blank=True)
    reasoning = serializers.CharField()
    evidence = serializers.ListField()
    mission = serializers.CharField(allow_null=True, help_text="the work it belongs to, as its proposer said")
    constraints = serializers.DictField()
    adopted_from = serializers.CharField(allow_null=True)
    is_advice = serializers.BooleanField()
    digest = serializers.CharField()
    verdict = VerdictSerializer()
    proposed_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    decided_at = serializers.DateTimeField(allow_null=True)
    significance = serializers.CharField(allow_blank=True, help_text="none, watch, warning, distress, critical, severe")
    significance_reason = serializers.CharField(allow_blank=True)
    runs_at = serializers.DateTimeField(
        allow_null=True, help_text="end of its veto window: it runs by itself then, unless vetoed"
    )
    approvals_needed = serializers.IntegerField(help_text="by different people")
    approvals = GivenApprovalSerializer(many=True, help_text="given so far")
    plan_id = serializers.CharField(allow_null=True)
    plan_position = serializers.IntegerField(allow_null=True)
    rolls_back = serializers.CharField(allow_null=True, help_text="the order that this one takes back")
    review = OrderReviewSerializer(allow_null=True, help_text="of an order that ran at once (L5)")
    approver = ActorSerializer(allow_null=True)
    rejection = RejectionSerializer(allow_null=True)
    outcome = OutcomeSerializer(allow_null=True)
    settled_at = serializers.DateTimeField(allow_null=True)


class ProposalPageSerializer(serializers.Serializer):
    results = ProposalSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class TimelineEntrySerializer(serializers.Serializer):
    at = serializers.DateTimeField()
    kind = serializers.ChoiceField(["status", "stage"])
    what = serializers.CharField(help_text="a status, or a stage of the attempt on the wire")
    actor = ActorSerializer(allow_null=True)
    detail = serializers.DictField()


class TimelineSerializer(serializers.Serializer):
    proposal_id = serializers.CharField()
    entries = TimelineEntrySerializer(many=True)


class GrantSerializer(serializers.Serializer):
    grant_id = serializers.CharField()
    agent_id = serializers.CharField()
    agent = serializers.CharField()
    machine_id = serializers.CharField()
    level = serializers.ChoiceField(_words(Level))
    effective_level = serializers.ChoiceField(_words(Level), help_text="what a circuit breaker left of it")
    lowered_at = serializers.DateTimeField(allow_null=True)
    lowered_reason = serializers.CharField(allow_blank=True)
    order_types = serializers.ListField(child=serializers.CharField())
    agent_release = serializers.CharField(allow_blank=True)
    evidence = serializers.ListField()
    granted_by = serializers.CharField()
    reason = serializers.CharField(allow_blank=True)
    granted_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)


class GrantPageSerializer(serializers.Serializer):
    results = GrantSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class LimitSerializer(serializers.Serializer):
    control = serializers.CharField()
    min_step = serializers.IntegerField()
    max_step = serializers.IntegerField()
    full_scale_step = serializers.IntegerField(help_text="100 percent")
    max_change_step = serializers.IntegerField(help_text="longest single move an agent may ask for")
    min_interval_s = serializers.FloatField()
    daily_count = serializers.IntegerField()
    roast_count = serializers.IntegerField()
    max_ramp_step_per_s = serializers.FloatField(allow_null=True, help_text="agents: change over time since the last")


class EnvelopeSerializer(serializers.Serializer):
    machine_id = serializers.CharField()
    machine = serializers.CharField()
    max_bean_temp_c = serializers.FloatField()
    max_infrared_temp_c = serializers.FloatField()
    max_exhaust_temp_c = serializers.FloatField(allow_null=True, help_text="null: not watched")
    max_heat_time_s = serializers.IntegerField()
    max_rate_of_rise_c_per_min = serializers.FloatField()
    max_preheat_temp_c = serializers.FloatField(help_text="highest that PREHEAT may ask for, where a machine takes one")
    limits = LimitSerializer(many=True)


class EnvelopePageSerializer(serializers.Serializer):
    results = EnvelopeSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


def _person(user: Any, at: dt.datetime | None) -> dict[str, Any]:
    return {"kind": "person", "id": person_id(user), "name": user.get_username(), "at": render_time(at)}


def render_approvals(proposal: Proposal) -> list[dict[str, Any]]:
    """Who has said yes so far. One that needs a single approval has it in its approver: no query."""
    if proposal.approvals_needed > 1:
        given = proposal.given_approvals.select_related("user").order_by("at", "id")
        return [_person(row.user, row.at) for row in given]
    return [_person(proposal.approver, proposal.decided_at)] if proposal.approver is not None else []


def render_review(proposal: Proposal) -> dict[str, Any] | None:
    """What a person found afterwards of an order that ran at once; null until somebody looked."""
    if proposal.reviewed_at is None or proposal.reviewed_by is None:
        return None
    by = _person(proposal.reviewed_by, None)
    return {
        "finding": proposal.review_finding,
        "text": proposal.review_text,
        "by": {name: by[name] for name in ("kind", "id", "name")},
        "at": render_time(proposal.reviewed_at),
    }


def render_proposal(proposal: Proposal) -> dict[str, Any]:
    """An order with its verdict (agent, user and approver are loaded)."""
    approver = proposal.approver
    rejection = None
    if proposal.rejection_code:
        rejection = {"code": proposal.rejection_code, "text": proposal.rejection_text}
    outcome = None
    if proposal.outcome_code or proposal.actual_step is not None:
        outcome = {
            "code": proposal.outcome_code,
            "message": proposal.outcome_message,
            "actual_step": proposal.actual_step,
        }
    return {
        "proposal_id": proposal.pk,
        "machine_id": proposal.machine_id,
        "roast_id": proposal.roast_id,
        "status": str(proposal.status),
        "order_type": str(proposal.order_type),
        "control": proposal.control,
        "target_value": proposal.asked_value,
        "target_unit": proposal.asked_unit or None,
        "target_step": proposal.target_step,
        "from_step": proposal.from_step,
        "proposer": proposer_of(proposal),
        "agent_release": proposal.agent_release,
        "reasoning": proposal.reasoning,
        "evidence": proposal.evidence,
        "mission": proposal.mission,
        "constraints": proposal.constraints,
        "adopted_from": proposal.adopted_from_id,
        "is_advice": is_advice(proposal),
        "digest": proposal.digest,
        "verdict": {"decision": str(proposal.decision), "reasons": proposal.reasons},
        "proposed_at": render_time(proposal.proposed_at),
        "expires_at": render_time(proposal.expires_at),
        "decided_at": render_time(proposal.decided_at),
        "significance": proposal.significance,
        "significance_reason": proposal.significance_reason,
        "runs_at": render_time(proposal.runs_at),
        "approvals_needed": proposal.approvals_needed,
        "approvals": render_approvals(proposal),
        "plan_id": proposal.plan_id,
        "plan_position": proposal.plan_position,
        "rolls_back": proposal.rolls_back_id,
        "review": render_review(proposal),
        "approver": {"kind": "person", "id": approver_id(proposal), "name": approver.get_username()}
        if approver
        else None,
        "rejection": rejection,
        "outcome": outcome,
        "settled_at": render_time(proposal.settled_at),
    }


def render_transition(row: ProposalTransition) -> dict[str, Any]:
    """One move of an order."""
    return {
        "at": render_time(row.at),
        "kind": "status",
        "what": row.to_status,
        "actor": {"kind": row.actor_kind, "id": row.actor_id, "name": row.actor_name},
        "detail": row.detail,
    }


def render_grant(grant: Grant) -> dict[str, Any]:
    """A grant (agent and granter are loaded)."""
    return {
        "grant_id": grant.pk,
        "agent_id": grant.agent_id,
        "agent": grant.agent.name,
        "machine_id": grant.machine_id,
        "level": str(grant.level),
        "effective_level": grant.effective_level,
        "lowered_at": render_time(grant.lowered_at),
        "lowered_reason": grant.lowered_reason,
        "order_types": grant.order_types,
        "agent_release": grant.agent_release,
        "evidence": grant.evidence,
        "granted_by": grant.granted_by.get_username(),
        "reason": grant.reason,
        "granted_at": render_time(grant.granted_at),
        "expires_at": render_time(grant.expires_at),
        "revoked_at": render_time(grant.revoked_at),
    }
