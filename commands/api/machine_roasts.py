"""A roast opened and closed by a person, on a machine that does not say itself when it roasts."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from commands.api.machines import machine_or_404
from kernel import clock
from kernel.idempotency import idempotent
from kernel.permissions import Requires, require
from kernel.schema import errors
from kernel.serializers import FlagField, StrictSerializer, TextField, read_body
from roasts.api.roasts import RoastSerializer, render_roast
from roasts.recording import services_by_hand


class OpenRoastBody(StrictSerializer):
    pass


class CloseRoastBody(StrictSerializer):
    is_aborted = FlagField(required=False, default=False)
    reason = TextField(max_length=500, required=False, default="A person said that the roast is over.")


class RoastOpening(APIView):
    """`POST /v1/machines/{id}/roasts`: the beans are in, now."""

    permission_classes = [Requires("operate")]

    @extend_schema(
        operation_id="open_roast",
        description=(
            "Open a roast as of the newest reading, with this person's mark of its charge; one that has dropped is "
            "finished by it. For machines that tell no state. 409 `roast_open`, `machine_says_itself`, "
            "`machine_not_read`."
        ),
        request=OpenRoastBody,
        responses={201: RoastSerializer, **errors(409)},
    )
    @idempotent
    def post(self, request: Request, machine_id: str) -> Response:
        machine = machine_or_404(request, machine_id)
        read_body(OpenRoastBody, request)
        roast = services_by_hand.open_by_person(require(request, "operate"), machine, now=clock.now())
        return Response(render_roast(roast), status=201)


class RoastClosing(APIView):
    """`POST /v1/machines/{id}/roasts/close`: this roast is over."""

    permission_classes = [Requires("operate")]

    @extend_schema(
        operation_id="close_roast",
        description=(
            "Close the open roast as of the newest reading. For machines that tell no state. 409 `no_roast`, "
            "`machine_says_itself`."
        ),
        request=CloseRoastBody,
        responses={200: RoastSerializer, **errors(409)},
    )
    @idempotent
    def post(self, request: Request, machine_id: str) -> Response:
        machine = machine_or_404(request, machine_id)
        body = read_body(CloseRoastBody, request)
        roast = services_by_hand.close_by_person(require(request, "operate"), machine, **body, now=clock.now())
        return Response(render_roast(roast))
