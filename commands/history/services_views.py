"""A person's named searches of the order history: kept, shared with the organisation, deleted by their owner."""

from __future__ import annotations

import datetime as dt
from urllib.parse import parse_qsl, urlencode

from django.db import IntegrityError, transaction

from commands.models import SavedView
from kernel.errors import Conflict, Forbidden, Malformed, NotFound
from kernel.principals import Principal

MAX_VIEWS = 50  # of one person
#: Filters of the orders page; anything else an address might carry is not kept.
KEPT_FILTERS = ("status", "machine", "roast", "order_type", "actor", "agent", "period", "from", "to")


def save_view(
    principal: Principal, *, name: str, query: str, is_shared: bool | None = None, now: dt.datetime
) -> SavedView:
    """Keep a search under a name; the person's own view of that name is replaced. Forbidden: a key without a person.

    ``is_shared`` None: one that is replaced stays shared or not, as it was; a new one is not.
    """
    user, organization = principal.user, principal.organization
    if user is None or organization is None or not principal.is_person:
        raise Forbidden("not_allowed", "Saved views are people's.", "Sign in as a person.")
    kept = clean_query(query)
    try:
        with transaction.atomic():
            own = SavedView.objects.filter(organization=organization, user=user)
            if own.exclude(name=name).count() >= MAX_VIEWS:
                raise Conflict("too_many_views", f"You keep {MAX_VIEWS} views already.", "Delete one first.")
            view, _is_new = SavedView.objects.update_or_create(
                organization=organization, user=user, name=name,
                defaults={"query": kept} | ({} if is_shared is None else {"is_shared": is_shared}),
                create_defaults={"query": kept, "is_shared": bool(is_shared), "created_at": now},
            )  # fmt: skip
    except IntegrityError:
        raise Conflict("conflict", "This view was saved at the same moment.", "Look at your views again.") from None
    return view


def clean_query(query: str) -> str:
    """The filters of a query string, in one order, so that the same search is the same text. Malformed: none."""
    try:
        given = dict(parse_qsl(query.lstrip("?"), max_num_fields=30))
    except ValueError:
        given = {}
    kept = {name: given[name][:100] for name in KEPT_FILTERS if given.get(name)}
    if not kept:
        raise Malformed("empty_view", "This search leaves nothing out.", f"Filter by {', '.join(KEPT_FILTERS)}.")
    text = urlencode(kept)
    if len(text) > 1000:
        raise Malformed("view_too_long", "This search is too long to keep.", "Filter by less.")
    return text


def view_of(principal: Principal, view_id: str) -> SavedView:
    """The person's own view. NotFound: it is not there, or somebody else's."""
    view = SavedView.objects.for_principal(principal).filter(pk=view_id, user=principal.user).first()
    if view is None or principal.user is None:
        raise NotFound("view_not_found", "You have no such view.", "List them with GET /v1/saved-views.")
    return view


def share_view(principal: Principal, view_id: str, *, is_shared: bool) -> SavedView:
    """Show the view to everybody of the organisation, or to nobody else."""
    view = view_of(principal, view_id)
    view.is_shared = is_shared
    view.save(update_fields=["is_shared"])
    return view


def delete_view(principal: Principal, view_id: str) -> SavedView:
    """Forget the view; the row as it was."""
    view = view_of(principal, view_id)
    SavedView.objects.filter(pk=view.pk).delete()
    return view
