"""A lead sets a machine's limits over REST. (Reading them is `commands.api.orders.EnvelopeList`.)"""

from __future__ import annotations

from django.db import transaction
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from commands.api.serializers import EnvelopeSerializer, NumberField, WholeField
from commands.rules import envelopes
from kernel import clock
from kernel.endpoints import Endpoint, principal_of
from kernel.errors import Malformed, NotFound
from kernel.etags import NOT_MODIFIED, READING, if_match, require_match, tagged
from kernel.idempotency import idempotent
from kernel.schema import errors
from kernel.serializers import StrictSerializer, TextField, read_body
from roasts import machines
from roasts.models import Machine

_SMALL = 100_000


class LimitBody(StrictSerializer):
    """One control's limits, native steps; what is left out stays. ``max_ramp_step_per_s`` null: no ramp limit."""

    control = serializers.ChoiceField(["heater", "fan", "drum"])
    min_step = WholeField(required=False, min_value=0, max_value=_SMALL)
    max_step = WholeField(required=False, min_value=0, max_value=_SMALL)
    max_change_step = WholeField(required=False, min_value=0, max_value=_SMALL)
    min_interval_s = NumberField(required=False, min_value=0, max_value=86_400)
    daily_count = WholeField(required=False, min_value=0, max_value=_SMALL)
    roast_count = WholeField(required=False, min_value=0, max_value=_SMALL)
    max_ramp_step_per_s = NumberField(required=False, allow_null=True, min_value=0.001, max_value=_SMALL)


class MaximaBody(StrictSerializer):
    """The machine's own maxima, for interlocks and orders; what is left out stays. Exhaust null: not watched.
    ``max_preheat_temp_c`` counts on a machine that takes a preheat temperature by wire: a Bullet R2."""

    max_bean_temp_c = NumberField(required=False, min_value=50, max_value=400)
    max_infrared_temp_c = NumberField(required=False, min_value=50, max_value=500)
    max_exhaust_temp_c = NumberField(required=False, allow_null=True, min_value=50, max_value=500)
    max_rate_of_rise_c_per_min = NumberField(required=False, min_value=1, max_value=200)
    max_heat_time_s = WholeField(required=False, min_value=60, max_value=86_400)
    max_preheat_temp_c = NumberField(required=False, min_value=20, max_value=350)


class EnvelopeBody(StrictSerializer):
    """Either ``limit`` (one control) or ``maxima`` (the machine), with the reason for the trail."""

    limit = LimitBody(required=False)
    maxima = MaximaBody(required=False)
    reason = TextField(max_length=500)


class EnvelopeDetail(Endpoint):
    """`GET/POST /v1/envelopes/{machine_id}`."""

    needs = {"POST": "lead"}

    @extend_schema(
        operation_id="get_envelope", parameters=READING, responses={200: EnvelopeSerializer, 304: NOT_MODIFIED}
    )
    def get(self, request: Request, machine_id: str) -> Response:
        return tagged(request, envelopes.render_envelope(_machine_or_404(request, machine_id)))

    @extend_schema(
        operation_id="set_envelope",
        description="A lead sets one control's limits, or the machine's maxima. They count from the next order and the"
        " next look of the interlocks. 412 `stale` where `If-Match` is not its ETag.",
        parameters=[if_match("GET /v1/envelopes/{machine_id}")],
        request=EnvelopeBody,
        responses={200: EnvelopeSerializer, **errors(409, 412, 422)},
    )
    @idempotent
    def post(self, request: Request, machine_id: str) -> Response:
        body = read_body(EnvelopeBody, request)
        if ("limit" in body) == ("maxima" in body):
            raise Malformed("one_at_a_time", "Send `limit` or `maxima`.", "One of them, with the reason.")
        principal, now = principal_of(request), clock.now()
        with transaction.atomic():
            machine = _machine_or_404(request, machine_id, is_locked=True)
            require_match(request, envelopes.render_envelope(machine))
            if "limit" in body:
                envelopes.set_limit(principal, machine, body["limit"], reason=body["reason"], now=now)
            else:
                changed = {**envelopes.apply_maxima(machine, body["maxima"]), "reason": body["reason"]}
                machines.change_machine(principal, machine, changed=changed, now=now)
        return tagged(request, envelopes.render_envelope(_machine_or_404(request, machine_id)))


def _machine_or_404(request: Request, machine_id: str, *, is_locked: bool = False) -> Machine:
    rows = Machine.objects.for_principal(principal_of(request)).filter(is_archived=False)
    if is_locked:
        rows = rows.select_for_update(of=("self",))
    machine = rows.prefetch_related("limits").filter(pk=machine_id).first()
    if machine is None:
        raise NotFound("machine_not_found", "There is no such machine here.", "List them with GET /v1/machines.")
    return machine


envelope_urlpatterns = [
    path("envelopes/<str:machine_id>", EnvelopeDetail.as_view(), name="envelope"),
]
