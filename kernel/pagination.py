"""Lists: {"results": […], "next_cursor": …}, totally ordered, with an opaque cursor."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
import math
from collections.abc import Callable
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from rest_framework import serializers
from rest_framework.response import Response

from kernel.errors import Malformed
from kernel.serializers import StrictSerializer

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
MAX_CURSOR_CHARACTERS = 400


class ListFilters(StrictSerializer):
    """What every list takes; a list with filters of its own inherits."""

    limit = serializers.IntegerField(min_value=1, max_value=MAX_LIMIT, default=DEFAULT_LIMIT)
    cursor = serializers.CharField(max_length=MAX_CURSOR_CHARACTERS, required=False)


def _encode(values: list[Any]) -> str:
    plain = [value.isoformat() if isinstance(value, dt.datetime) else value for value in values]
    return base64.urlsafe_b64encode(json.dumps(plain).encode()).decode().rstrip("=")


def _decode(cursor: str, queryset: QuerySet, names: list[str]) -> list[Any]:
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)))
        is_plain = isinstance(values, list) and all(
            type(value) in (str, int) or (isinstance(value, float) and math.isfinite(value)) for value in values
        )
        if not is_plain or len(values) != len(names) or "\\u0000" in json.dumps(values):
            raise ValueError(cursor)
        fields = [_field(queryset, name) for name in names]
        return [field.to_python(value) for field, value in zip(fields, values, strict=True)]
    except (ValueError, UnicodeError, binascii.Error, RecursionError, TypeError, ValidationError) as error:
        raise _bad_cursor() from error


def _field(queryset: QuerySet, name: str) -> Any:
    """A column of the model, or one the query computes."""
    computed = queryset.query.annotations.get(name)
    return computed.output_field if computed else queryset.model._meta.get_field("id" if name == "pk" else name)


def _bad_cursor() -> Malformed:
    return Malformed(
        "bad_cursor", "This cursor is not one of ours.", "Use `next_cursor` as it was given, or leave it out."
    )


def paginate(
    queryset: QuerySet,
    *,
    order: tuple[str, ...],
    limit: int,
    cursor: str | None,
    render: Callable[[Any], dict[str, Any]],
) -> Response:
    """One page as a Response. ``order`` names columns (annotated ones too), all `-` or none, ending in a unique one."""
    rows, next_cursor = slice_of(queryset, order=order, limit=limit, cursor=cursor)
    return Response({"results": [render(row) for row in rows], "next_cursor": next_cursor})


def slice_of(
    queryset: QuerySet, *, order: tuple[str, ...], limit: int, cursor: str | None
) -> tuple[list[Any], str | None]:
    """The rows of one page and the cursor of the next, or None. ``order`` as in :func:`paginate`."""
    names = [name.lstrip("-") for name in order]
    rows = list(rows_after(queryset, order=order, cursor=cursor).order_by(*order)[: limit + 1])
    next_cursor = None
    if len(rows) > limit:
        rows = rows[:limit]
        next_cursor = _encode([getattr(rows[-1], name) for name in names])
    return rows, next_cursor


def rows_after(queryset: QuerySet, *, order: tuple[str, ...], cursor: str | None) -> QuerySet:
    """What a page that begins at the cursor may hold; everything without one. Malformed `bad_cursor`."""
    if not cursor:
        return queryset
    names = [name.lstrip("-") for name in order]
    return queryset.filter(_after(names, _decode(cursor, queryset, names), order[0].startswith("-")))


def _after(names: list[str], values: list[Any], is_descending: bool) -> Q:
    """Rows that come after ``values``: (a > x) or (a = x and b > y) …"""
    comparison = "lt" if is_descending else "gt"
    condition = Q(pk__in=[])
    for position, name in enumerate(names):
        equal = dict(zip(names[:position], values[:position], strict=True))
        condition |= Q(**equal, **{f"{name}__{comparison}": values[position]})
    return condition
