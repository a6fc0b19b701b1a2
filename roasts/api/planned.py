"""The next batch of a machine over REST: planned before its beans are in, and withdrawn."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from kernel import clock
from kernel.endpoints import Endpoint
from kernel.errors import NotFound
from kernel.idempotency import idempotent
from kernel.permissions import require
from kernel.principals import Principal
from kernel.schema import errors
from kernel.serializers import NumberField, StrictSerializer, TextField, read_body
from roasts.api.profiles import check_sensor, version_or_none
from roasts.api.roasts import RoastList, RoastSerializer, render_roast, roast_or_404
from roasts.models import Machine, ProfileVersion
from roasts.recording import services_planned


class BatchBody(StrictSerializer):
    """The next batch of a machine. ``version_id``: the profile it is to follow; left out, what the machine follows."""

    machine_id = TextField(max_length=40)
    title = TextField(max_length=200, required=False, allow_blank=True)
    bean = TextField(max_length=200, required=False, allow_blank=True)
    origin = TextField(max_length=200, required=False, allow_blank=True)
    process = TextField(max_length=100, required=False, allow_blank=True)
    variety = TextField(max_length=100, required=False, allow_blank=True)
    lot = TextField(max_length=100, required=False, allow_blank=True)
    weight_in_g = NumberField(required=False, allow_null=True, min_value=0.1, max_value=1_000_000)
    moisture_in_percent = NumberField(required=False, allow_null=True, min_value=0, max_value=100)
    version_id = TextField(max_length=40, required=False, allow_null=True, default=None)


class RoastsAndPlans(RoastList):
    """`GET/POST /v1/roasts`: a POST plans the next batch of a machine."""

    @extend_schema(
        operation_id="plan_roast",
        description="Plan the next batch of a machine, before its beans are in: `planned`, then `preheating` once the "
        "machine heats up. The charge makes it the open roast, under the same id. Change it with "
        "`POST /v1/roasts/{id}/corrections` and `…/profile`. 409 `batch_planned`, `profile_archived`; "
        "422 `other_machines_profile`.",
        request=BatchBody,
        responses={201: RoastSerializer, **errors(404, 409, 422)},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        principal = require(request, "operate")
        said = dict(read_body(BatchBody, request))
        machine, version = _to_plan(principal, said.pop("machine_id"), said.pop("version_id"))
        planned = services_planned.plan_batch(principal, machine, said=said, version=version, now=clock.now())
        return Response(render_roast(planned), status=201)


def _to_plan(principal: Principal, machine_id: str, version_id: str | None) -> tuple[Machine, ProfileVersion | None]:
    """The machine in use, and the profile that fits it. NotFound; Unprocessable `other_machines_profile`."""
    machines = Machine.objects.for_principal(principal).select_related("organization")
    machine = machines.filter(pk=machine_id, is_archived=False).first()
    if machine is None:
        raise NotFound("machine_not_found", "There is no such machine here.", "List them with GET /v1/machines.")
    version = version_or_none(principal, version_id)
    check_sensor(version, machine.pk)
    return machine, version


class WithdrawalBody(StrictSerializer):
    pass


class RoastWithdrawal(Endpoint):
    """`POST /v1/roasts/{id}/withdraw`: a planned batch will not happen."""

    @extend_schema(
        operation_id="withdraw_planned_roast",
        description="The planned batch as it was; it is gone. 409 `roast_begun`: its beans are in.",
        request=WithdrawalBody,
        responses={200: RoastSerializer, **errors(404, 409)},
    )
    @idempotent
    def post(self, request: Request, roast_id: str) -> Response:
        principal = require(request, "operate")
        roast = roast_or_404(request, roast_id, or_planned=True)
        read_body(WithdrawalBody, request)
        return Response(render_roast(services_planned.withdraw_batch(principal, roast, now=clock.now())))
