"""The next batch of a machine over REST: planned before its beans are in, and withdrawn."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from kernel import clock
from kernel.endpoints import RowAct, acts, principal_of
from kernel.idempotency import idempotent
from kernel.schema import errors
from kernel.serializers import StrictSerializer, TextField, read_body
from roasts.api.library import BatchFields
from roasts.api.profiles import machine_or_404, version_for
from roasts.api.roasts import RoastList, RoastSerializer, render_roast, roast_or_404
from roasts.models import Roast
from roasts.recording import services_planned


class BatchBody(BatchFields):
    """The next batch of a machine. ``version_id``: the profile it is to follow; left out, what the machine follows."""

    machine_id = TextField(max_length=40)
    version_id = TextField(max_length=40, required=False, allow_null=True, default=None)


class RoastsAndPlans(RoastList):
    """`GET/POST /v1/roasts`: a POST plans the next batch of a machine."""

    needs = {"POST": "operate"}

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
        who, said = principal_of(request), dict(read_body(BatchBody, request))
        machine = machine_or_404(who, said.pop("machine_id"))
        version = version_for(who, machine.pk, said.pop("version_id"))
        planned = services_planned.plan_batch(who, machine, said=said, version=version, now=clock.now())
        return Response(render_roast(planned), status=201)


class WithdrawalBody(StrictSerializer):
    pass


@acts(
    "withdraw_planned_roast",
    "The planned batch as it was; it is gone. 409 `roast_begun`: its beans are in.",
    WithdrawalBody, RoastSerializer, 404, 409, service=services_planned.withdraw_batch,
)  # fmt: skip
class RoastWithdrawal(RowAct):
    """`POST /v1/roasts/{id}/withdraw`: a planned batch will not happen."""

    needs = {"POST": "operate"}

    def find(self, request: Request, row_id: str) -> Roast:
        return roast_or_404(request, row_id, or_planned=True)

    def show(self, request: Request, row: Roast) -> Response:
        return Response(render_roast(row), status=self.status)
