"""What the API says in English, in the words of the page that asked: a script asks after a refusal."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_GET

from commands.console import sentence_words
from commands.console.order_words import reasons_of
from commands.console.reason_words import reason_words
from commands.models import Proposal
from kernel.member_pages import members_only
from kernel.principals import Principal

MAX_TEXTS = 8
MAX_CHARACTERS = 600


@require_GET
@members_only
def said(request: HttpRequest, principal: Principal) -> JsonResponse:
    """`t`: sentences, answered one for one. `order`: an order's refusals instead, each with its cure."""
    order_id = request.GET.get("order", "")[:40].replace("\0", "")
    if order_id:
        return JsonResponse({"texts": refusals_of(principal, order_id)})
    texts = [text[:MAX_CHARACTERS] for text in request.GET.getlist("t")[:MAX_TEXTS]]
    return JsonResponse({"texts": [sentence_words.worded(text) for text in texts]})


def refusals_of(principal: Principal, order_id: str) -> list[str]:
    """Why an order of the principal's organisation was refused, in the page's language."""
    rows = Proposal.objects.for_principal(principal).select_related("machine", "proposer_agent", "proposer_user")
    order = rows.filter(pk=order_id).first()
    if order is None:
        return []
    refusals = [reason for reason in reasons_of(order) if reason.get("decision", "REFUSE") == "REFUSE"]
    told = [reason_words(reason, order) for reason in refusals]
    return [f"{each.message} {each.how_to_fix}".strip() for each in told]
