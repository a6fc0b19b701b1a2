"""The library's questions: which roasts, in which order, a page at a time. Reads only."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import QuerySet

from kernel import pagination
from kernel.principals import Principal
from roasts.library import words as library_search
from roasts.models import Roast, RoastQuerySet

#: Sort word → columns, all in one direction, ending in the key. A measure lists the roasts that have it.
ORDERS: dict[str, tuple[str, ...]] = {
    "newest": ("-started_at", "-id"),
    "oldest": ("started_at", "id"),
    "bean": ("bean", "id"),
    "ratio": ("-development_ratio", "-id"),
    "total": ("-total_ms", "-id"),
    "drop": ("-drop_bean_temp_c", "-id"),
}
#: Columns that may be empty: sorting by them leaves the empty ones out.
MEASURES = {"ratio": "development_ratio", "total": "total_ms", "drop": "drop_bean_temp_c"}
PAGE_ROWS = 50
#: So many of the next roasts are looked through for several words before the index of words is asked for all of them.
WALKED = 3_000
MAX_COMPARED = 6
MAX_OF_PROFILE = 40
#: What a row of the library shows: the summary and other wide columns stay in the database.
SHOWN = (
    "id", "machine_id", "status", "title", "bean", "origin", "lot", "weight_in_g", "weight_out_g", "source",
    "started_at", "total_ms", "first_crack_ms", "development_ratio", "drop_bean_temp_c", "machine__name",
    "profile_version_id", "profile_version__version", "profile_version__profile__name",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for. ``ratio_from`` and ``ratio_to`` are DTR, 0..1; days are inclusive, in UTC."""

    words: str = ""
    machine_id: str = ""
    from_day: dt.date | None = None
    to_day: dt.date | None = None
    ratio_from: float | None = None
    ratio_to: float | None = None
    order: str = "newest"

    @property
    def is_narrowed(self) -> bool:
        """Whether it leaves any roast out."""
        given = (self.machine_id, self.from_day, self.to_day, self.ratio_from, self.ratio_to)
        return bool(library_search.words_of(self.words)) or any(value not in (None, "") for value in given)


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of one page, and where the next begins ("" at the end)."""

    rows: tuple[Roast, ...]
    next_cursor: str


def find(principal: Principal, search: Search) -> RoastQuerySet:
    """The roasts of the principal's organisation that answer the search; not yet ordered."""
    rows = Roast.objects.for_principal(principal).filter(library_search.saying(search.words))
    if search.machine_id:
        rows = rows.filter(machine_id=search.machine_id)
    if search.from_day:
        rows = rows.filter(started_at__gte=_midnight(search.from_day))
    if search.to_day:
        rows = rows.filter(started_at__lt=_midnight(search.to_day) + dt.timedelta(days=1))
    if search.ratio_from is not None:
        rows = rows.filter(development_ratio__gte=search.ratio_from)
    if search.ratio_to is not None:
        rows = rows.filter(development_ratio__lte=search.ratio_to)
    measure = MEASURES.get(search.order)
    return rows.filter(**{f"{measure}__isnull": False}) if measure else rows


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)


def page_of(principal: Principal, search: Search, cursor: str = "") -> Page:
    """One page. Malformed `bad_cursor` where the cursor is none of ours, or of another order."""
    order = ORDERS[search.order]
    found = find(principal, search).select_related("machine", "profile_version__profile").only(*SHOWN)
    after = cursor or None
    if connection.vendor == "postgresql" and len(library_search.words_of(search.words)) > 1:
        nearby = _nearby(found, find(principal, dataclasses.replace(search, words="")), order, after)
        rows, next_cursor = pagination.slice_of(nearby, order=order, limit=PAGE_ROWS, cursor=after)
        if next_cursor is not None or nearby is found:
            return Page(tuple(rows), next_cursor or "")
        keys = _found_by_index(pagination.rows_after(found, order=order, cursor=after), order)
        found, after = found.filter(pk__in=keys), None
    rows, next_cursor = pagination.slice_of(found, order=order, limit=PAGE_ROWS, cursor=after)
    return Page(tuple(rows), next_cursor or "")


def _nearby(
    found: RoastQuerySet, all_roasts: RoastQuerySet, order: tuple[str, ...], after: str | None
) -> RoastQuerySet:
    """``found`` among the next WALKED roasts alone; ``found`` itself where there are no more than those.

    Several words, each common, may never stand together. The planner does not know, walks every roast in the page's
    order and finds nothing; so the walk has an end.
    """
    column = order[0].lstrip("-")
    ordered = pagination.rows_after(all_roasts, order=order, cursor=after).order_by(*order)
    edge = ordered.values_list(column, flat=True)[WALKED : WALKED + 1].first()
    if edge is None:
        return found
    return found.filter(**{f"{column}__{'gte' if order[0].startswith('-') else 'lte'}": edge})


def _found_by_index(found: QuerySet[Roast], order: tuple[str, ...]) -> list[str]:
    """Keys of the next page's rows, and one more, from everything that the index of words finds.

    OFFSET 0 keeps the planner from walking the page's order again: what is inside is planned for all of its rows.
    """
    columns = [name.lstrip("-") for name in order]
    inner, params = found.order_by().values_list(*dict.fromkeys(["id", *columns])).query.sql_with_params()
    direction = "DESC" if order[0].startswith("-") else "ASC"
    sorted_by = ", ".join(f'm."{column}" {direction}' for column in columns)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT m.id FROM ({inner} OFFSET 0) m ORDER BY {sorted_by} LIMIT {PAGE_ROWS + 1}", params)
        return [row[0] for row in cursor.fetchall()]


def chosen_of(principal: Principal, roast_ids: Iterable[str]) -> list[Roast]:
    """Narrow rows of the roasts a profile was made of, those that are still there for the principal."""
    wanted = list(roast_ids)[:MAX_OF_PROFILE]
    rows = Roast.objects.for_principal(principal).only("id", "title", "bean", "started_at")
    found: dict[str, Any] = rows.in_bulk(wanted)
    return [found[roast_id] for roast_id in wanted if roast_id in found]


def chosen(principal: Principal, roast_ids: Iterable[str]) -> list[Roast]:
    """Roasts by id in the order asked for, each once, at most MAX_COMPARED; those not there for them are left out."""
    wanted = list(dict.fromkeys(roast_ids))[:MAX_COMPARED]
    rows: QuerySet[Roast] = Roast.objects.for_principal(principal).select_related(
        "machine", "organization", "profile_version__profile"
    )
    found: dict[str, Any] = rows.in_bulk(wanted)
    return [found[roast_id] for roast_id in wanted if roast_id in found]
