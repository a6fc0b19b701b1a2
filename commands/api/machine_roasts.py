"""A roast opened and closed by a person, on a machine that does not say itself when it roasts."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from commands.api.machines import machine_or_404
from kernel.endpoints import RowAct, acts
from kernel.serializers import FlagField, StrictSerializer, TextField
from roasts.api.roasts import RoastSerializer, render_roast
from roasts.models import Machine, Roast
from roasts.recording import services_by_hand


class OpenRoastBody(StrictSerializer):
    pass


class CloseRoastBody(StrictSerializer):
    is_aborted = FlagField(required=False, default=False)
    reason = TextField(max_length=500, required=False, default="A person said that the roast is over.")


class RoastByHand(RowAct):
    """What an operator says of a machine's roast."""

    needs = {"POST": "operate"}

    def find(self, request: Request, row_id: str) -> Machine:
        return machine_or_404(request, row_id)

    def show(self, request: Request, row: Roast) -> Response:
        return Response(render_roast(row), status=self.status)


@acts(
    "open_roast",
    "Open a roast as of the newest reading, with this person's mark of its charge; one that has dropped is finished "
    "by it. For machines that tell no state. 409 `roast_open`, `machine_says_itself`, `machine_not_read`.",
    OpenRoastBody, RoastSerializer, 409, status=201, service=services_by_hand.open_by_person,
)  # fmt: skip
class RoastOpening(RoastByHand):
    """`POST /v1/machines/{id}/roasts`: the beans are in, now."""


@acts(
    "close_roast",
    "Close the open roast as of the newest reading. For machines that tell no state. 409 `no_roast`, "
    "`machine_says_itself`.",
    CloseRoastBody, RoastSerializer, 409, service=services_by_hand.close_by_person,
)  # fmt: skip
class RoastClosing(RoastByHand):
    """`POST /v1/machines/{id}/roasts/close`: this roast is over."""
