"""The order history's questions: which orders, newest first, a page at a time. Reads only."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from commands.console.order_words import ATTEMPTED, VETO_STATUSES
from commands.lifecycle import UNSETTLED, Status
from commands.models import Proposal
from commands.rules.conversion import OrderType
from kernel import pagination
from kernel.principals import Principal

PAGE_ROWS = 50
NEWEST_FIRST = ("-proposed_at", "-id")
MAX_NEWS = 100  # more new orders than this are "100 and more"
WITH_NAMES = ("machine", "proposer_agent", "proposer_user", "approver")
#: Spans that move with the clock, so that a saved view stays of use.
PERIODS = {"hour": dt.timedelta(hours=1), "day": dt.timedelta(days=1), "week": dt.timedelta(days=7)}
PERIOD_WORDS = {"hour": _("Last hour"), "day": _("Last 24 hours"), "week": _("Last 7 days")}
#: Questions that are asked more often than a single status.
GROUP_WORDS = {
    "open": _("Open: may still move a control"),
    "veto": _("Runs unless vetoed"),
    "refused": _("Refused by the governor"),
    "rejected": _("Rejected or vetoed by a person"),
    "went_wrong": _("Failed or in doubt"),
    "to_review": _("Ran at once, not reviewed"),
}
ACTORS = ("agent", "person")


@dataclass(frozen=True, slots=True)
class OrderSearch:
    """What is looked for; "" and None leave nothing out. Times are half-open [from_at, to_at)."""

    status: str = ""  # a Status, or one of GROUP_WORDS
    machine_id: str = ""
    roast_id: str = ""
    order_type: str = ""
    actor: str = ""
    agent_id: str = ""
    period: str = ""
    from_at: dt.datetime | None = None
    to_at: dt.datetime | None = None

    @property
    def is_narrowed(self) -> bool:
        """Whether it leaves any order out."""
        return self != OrderSearch()


def read_search(asked: Mapping[str, str]) -> OrderSearch:
    """The search of an address; what makes no sense there is left out, as if it had not been chosen."""

    def one_of(name: str, known: object) -> str:
        value = asked.get(name, "")
        return value if value in known else ""  # type: ignore[operator]

    def key(name: str) -> str:
        return asked.get(name, "")[:40].replace("\0", "")

    return OrderSearch(
        status=one_of("status", {*(word.value for word in Status), *GROUP_WORDS}),
        machine_id=key("machine"),
        roast_id=key("roast"),
        order_type=one_of("order_type", {word.value for word in OrderType}),
        actor=one_of("actor", ACTORS),
        agent_id=key("agent"),
        period=one_of("period", PERIODS),
        from_at=_moment(asked.get("from", "")),
        to_at=_moment(asked.get("to", "")),
    )


def _moment(text: str) -> dt.datetime | None:
    """What a person wrote into a date-and-time field, in their own zone (the active one). UTC, so that a moment
    beyond the calendar's ends is noticed here and not by the database."""
    try:
        at = dt.datetime.fromisoformat(text[:40])
        return (timezone.make_aware(at) if timezone.is_naive(at) else at).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None


def orders_found(principal: Principal, search: OrderSearch, now: dt.datetime) -> QuerySet[Proposal]:
    """Orders of the principal's organisation that answer the search, in no order yet."""
    rows: QuerySet[Proposal] = Proposal.objects.for_principal(principal).filter(_of_status(search.status, now))
    columns = {"machine_id": search.machine_id, "roast_id": search.roast_id, "order_type": search.order_type}
    rows = rows.filter(**{column: value for column, value in columns.items() if value})
    if search.actor:
        rows = rows.filter(proposer_agent__isnull=search.actor == "person")
    if search.agent_id:
        rows = rows.filter(proposer_agent_id=search.agent_id)
    if search.period:
        rows = rows.filter(proposed_at__gte=now - PERIODS[search.period])
    if search.from_at is not None:
        rows = rows.filter(proposed_at__gte=search.from_at)
    if search.to_at is not None:
        rows = rows.filter(proposed_at__lt=search.to_at)
    return rows


def _of_status(word: str, now: dt.datetime) -> Q:
    """A status, or a group of orders by what became of them."""
    by_governor = Q(status=Status.REJECTED.value, decision="REFUSE")
    groups = {
        "": Q(),
        "open": Q(status__in=[status.value for status in UNSETTLED]),
        "veto": Q(status__in=VETO_STATUSES, runs_at__isnull=False),
        "refused": by_governor,
        "rejected": Q(status=Status.REJECTED.value) & ~Q(decision="REFUSE"),
        "went_wrong": Q(status__in=[Status.FAILED.value, Status.IN_DOUBT.value]),
        "to_review": Q(
            proposer_agent__isnull=False, decision="ALLOW", approver__isnull=True, reviewed_at__isnull=True,
            status__in=ATTEMPTED,
        ),
    }  # fmt: skip
    return groups.get(word, Q(status=word))


def page_of(
    principal: Principal, search: OrderSearch, cursor: str, now: dt.datetime
) -> tuple[list[Proposal], str | None]:
    """One page, newest first, and the cursor of the next. Malformed (`bad_cursor`)."""
    rows = orders_found(principal, search, now).select_related(*WITH_NAMES)
    return pagination.slice_of(rows, order=NEWEST_FIRST, limit=PAGE_ROWS, cursor=cursor or None)


def newer_than(principal: Principal, search: OrderSearch, order_id: str, now: dt.datetime) -> list[Proposal]:
    """Orders that answer the search and were asked for after ``order_id`` (or all, where it is none), newest first."""
    rows = orders_found(principal, search, now)
    known = Proposal.objects.for_principal(principal).filter(pk=order_id).values_list("proposed_at", "id").first()
    if known is not None:
        at, key = known
        rows = rows.filter(Q(proposed_at__gt=at) | Q(proposed_at=at, id__gt=key))
    return list(rows.select_related(*WITH_NAMES).order_by(*NEWEST_FIRST)[: MAX_NEWS + 1])
