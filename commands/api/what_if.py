"""What would happen if: several candidate orders at once, by the twin. Nothing is filed, judged or sent."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from commands import situation
from commands.api import serializers as shapes
from commands.api.orders import machine_or_404
from commands.rules.conversion import CONTROL_OF, OrderType, Unit, to_native
from kernel.endpoints import Endpoint
from kernel.schema import errors
from kernel.serializers import StrictSerializer, read_body
from roasts import outlook, twin
from roasts.models import Machine
from roasts.twin.values import Order

MOST_CANDIDATES = 10


class CandidateBody(StrictSerializer):
    """One candidate."""

    order_type = serializers.ChoiceField([word.value for word in OrderType])
    target_value = shapes.NumberField(
        required=False, allow_null=True, min_value=-shapes.MAX_TARGET, max_value=shapes.MAX_TARGET
    )
    target_unit = serializers.ChoiceField([word.value for word in Unit], required=False, allow_null=True)


class WhatIfBody(StrictSerializer):
    """Candidates, each by itself against the same present."""

    orders = serializers.ListField(child=CandidateBody(), min_length=1, max_length=MOST_CANDIDATES)


class CandidateSerializer(serializers.Serializer):
    order_type = serializers.ChoiceField([word.value for word in OrderType])
    target_step = serializers.IntegerField(allow_null=True, help_text="native, after conversion")
    says = serializers.CharField(allow_blank=True, help_text="why there is no curve")
    curve = serializers.DictField(
        allow_null=True, help_text="times_s (since charge), with_c, without_c, within_c, is_extrapolating"
    )


class WhatIfSerializer(serializers.Serializer):
    machine_id = serializers.CharField()
    roast_id = serializers.CharField(allow_null=True)
    says = serializers.CharField(help_text="which twin speaks, or why none does")
    elapsed_s = serializers.FloatField(allow_null=True)
    candidates = CandidateSerializer(many=True)


class MachineWhatIf(Endpoint):
    """`POST /v1/machines/{id}/what-if`."""

    @extend_schema(
        operation_id="what_if",
        description="Up to 10 candidate orders, each by itself: the probe over the next 3 minutes with it and without "
        "it, by the machine's twin. Nothing is filed, judged or sent.",
        request=WhatIfBody,
        responses={200: WhatIfSerializer, **errors(422)},
    )
    def post(self, request: Request, machine_id: str) -> Response:
        machine = machine_or_404(request, machine_id)
        body = read_body(WhatIfBody, request)
        machine = Machine.objects.get(pk=machine.pk)
        return Response(_answer(machine, body["orders"]))


def _answer(machine: Machine, candidates: list[dict[str, Any]]) -> dict[str, Any]:
    found: outlook.Outlook | None = None
    try:
        found = outlook.outlook_of(machine)
        words = outlook.says(found)
    except outlook.NoOutlook as reason:
        words = str(reason)
    return {
        "machine_id": machine.pk,
        "roast_id": found.roast.pk if found is not None else None,
        "says": words,
        "elapsed_s": found.state.elapsed_s if found is not None else None,
        "candidates": [_candidate(machine, found, each) for each in candidates],
    }


def _candidate(machine: Machine, found: outlook.Outlook | None, asked: dict[str, Any]) -> dict[str, Any]:
    order_type = OrderType(asked["order_type"])
    control = CONTROL_OF[order_type]
    limits = situation.limits_of(machine.pk, control) if control else None
    full_scale = limits.full_scale_step if limits is not None else None
    native = to_native(order_type, asked.get("target_value"), asked.get("target_unit") or "", full_scale)
    curve, words = None, ""
    if native.misfit is not None:
        words = native.misfit.message
    elif native.step is None:
        words = "The twin knows settings, not states."
    elif limits is not None and not limits.min_step <= native.step <= limits.max_step:
        words = f"The {control} goes from {limits.min_step} to {limits.max_step} here."
    elif found is not None:
        curve = outlook.render_what_if(twin.what_if(found.state, Order(control, float(native.step))))  # type: ignore[arg-type]
    return {"order_type": order_type.value, "target_step": native.step, "says": words, "curve": curve}
