"""What the twin expects of a machine's roast, and of each held order: beside the console, never in an order's way."""

from __future__ import annotations

import threading
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from commands.api.machines import machine_or_404
from commands.models import Proposal
from kernel import clock
from kernel.endpoints import Endpoint
from roasts import outlook, twin
from roasts.models import Machine
from roasts.twin.values import Order

#: One answer serves every page that looks at the machine for so long.
FRESH_FOR_S = 1.0
MOST_ORDERS = 5
MOST_KEPT = 256
EMPTY: dict[str, Any] = {
    "roast_id": None,
    "elapsed_s": None,
    "prediction": None,
    "first_crack": None,
    "drop": None,
    "by_temperature": None,
    "plan": None,
    "next": {},
    "orders": {},
}
CATCHING_UP = "The twin is catching up with this roast."
_answers: dict[str, tuple[float, dict[str, Any]]] = {}
_asked: set[str] = set()  # machines whose answer is being worked out
_lock = threading.Lock()


class EtaSerializer(serializers.Serializer):
    elapsed_s = serializers.FloatField(allow_null=True, help_text="seconds since charge; null: not within 10 minutes")
    low_s = serializers.FloatField(allow_null=True)
    high_s = serializers.FloatField(allow_null=True)
    kind = serializers.CharField(help_text="prediction: comes by itself. plan: where somebody means to stop")
    confidence = serializers.FloatField(help_text="share of roasts whose truth lies within low and high")
    label = serializers.CharField()  # type: ignore[assignment]
    is_extrapolating = serializers.BooleanField()


class OutlookSerializer(serializers.Serializer):
    machine_id = serializers.CharField()
    roast_id = serializers.CharField(allow_null=True)
    says = serializers.CharField(help_text="which twin speaks, or why none does")
    elapsed_s = serializers.FloatField(allow_null=True)
    prediction = serializers.DictField(allow_null=True, help_text="times_s, bean_c, low_c, high_c: the next 3 minutes")
    first_crack = EtaSerializer(allow_null=True)
    drop = EtaSerializer(allow_null=True)
    by_temperature = EtaSerializer(allow_null=True)
    plan = serializers.DictField(allow_null=True, help_text="drop_temp_c, development_s, source: person, profile, none")
    next = serializers.DictField(help_text="control → the profile's next setting")
    orders = serializers.DictField(help_text="held order → times_s, with_c, without_c, within_c")


class MachineOutlook(Endpoint):
    """`GET /v1/machines/{id}/outlook`."""

    @extend_schema(operation_id="machine_outlook", responses={200: OutlookSerializer})
    def get(self, request: Request, machine_id: str) -> Response:
        return Response(answer_for(machine_or_404(request, machine_id, is_shown=True)))


def answer_for(machine: Machine) -> dict[str, Any]:
    """The outlook as JSON, at most FRESH_FOR_S old unless the held orders changed meanwhile.

    One request at a time works it out; whoever asks meanwhile gets the answer before, and waits for nothing: threads
    that wait here would be missing where orders come in.
    """
    held = held_settings(machine)
    key = f"{machine.pk}|{','.join(proposal.pk for proposal in held)}"
    now_s = clock.monotonic()
    with _lock:
        kept = _answers.get(key)
        if kept is not None and (now_s - kept[0] < FRESH_FOR_S or machine.pk in _asked):
            return kept[1]
        if machine.pk in _asked:
            return {"machine_id": machine.pk, **EMPTY, "says": CATCHING_UP}
        _asked.add(machine.pk)
    try:
        found = _answer(machine, held)
    finally:
        with _lock:
            _asked.discard(machine.pk)
    with _lock:
        if len(_answers) >= MOST_KEPT:
            _answers.clear()
        _answers[key] = (now_s, found)
    return found


def forget_answers() -> None:
    """Drop what is kept (tests)."""
    with _lock:
        _answers.clear()


def held_settings(machine: Machine) -> list[Proposal]:
    """Held orders that move a control, oldest deadline first."""
    held = Proposal.objects.filter(machine=machine).awaiting_decision().exclude(control="")
    return list(held.exclude(target_step=None)[:MOST_ORDERS])


def _answer(machine: Machine, held: list[Proposal]) -> dict[str, Any]:
    try:
        found = outlook.outlook_of(machine)
    except outlook.NoOutlook as reason:
        return {"machine_id": machine.pk, **EMPTY, "says": str(reason)}
    plan = found.plan
    return {
        "machine_id": machine.pk,
        "roast_id": found.roast.pk,
        "says": outlook.says(found),
        "elapsed_s": found.state.elapsed_s,
        "prediction": outlook.render_band(found.prediction),
        "first_crack": outlook.render_eta(found.first_crack),
        "drop": outlook.render_eta(found.drop),
        "by_temperature": outlook.render_eta(found.by_temperature),
        "plan": {"drop_temp_c": plan.drop_temp_c, "development_s": plan.development_s, "source": plan.source},
        "next": found.next_settings,
        "orders": {proposal.pk: _effect(found, proposal) for proposal in held},
    }


def _effect(found: outlook.Outlook, proposal: Proposal) -> dict[str, Any]:
    order = Order(proposal.control, float(proposal.target_step or 0))  # type: ignore[arg-type]
    return outlook.render_what_if(twin.what_if(found.state, order))
