"""What our endpoints repeat: a list by filters, and one act on one row. Each view says only what is its own."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kernel import clock
from kernel.idempotency import idempotent
from kernel.pagination import paginate
from kernel.permissions import MemberOnly, Requires
from kernel.principals import Principal
from kernel.schema import errors
from kernel.serializers import read_body


def principal_of(request: Request) -> Principal:
    """Who asks; the permission has seen to it that somebody does."""
    return request.principal  # type: ignore[attr-defined]


class Endpoint(APIView):
    """Any member may, but for methods that need a capability: ``needs = {"POST": "lead"}``."""

    needs: ClassVar[Mapping[str, str]] = {}

    def get_permissions(self) -> list[Any]:
        method = str(self.request.method)
        if method == "OPTIONS" and not hasattr(self, "get"):
            method = "POST"  # who may not post is not told what may be posted
        capability = self.needs.get(method)
        return [Requires(capability)() if capability is not None else MemberOnly()]


def one_page(
    rows: QuerySet[Any],
    filters: Mapping[str, Any],
    *,
    columns: Mapping[str, str],
    order: tuple[str, ...],
    render: Callable[[Any], dict[str, Any]],
) -> Response:
    """The page asked for of the rows that the filters choose; ``columns``: filter → column. See `paginate`."""
    chosen = rows.filter(**{column: filters[name] for name, column in columns.items() if name in filters})
    return paginate(chosen, order=order, limit=filters["limit"], cursor=filters.get("cursor"), render=render)


class RowAct(Endpoint):
    """`POST …/{id}/<verb>`: find the row (404), read the body (400), do one thing to it, show what came of it.

    A room says once how its rows are found and shown; each act, under ``@acts``, says what it does.
    """

    body: ClassVar[type[serializers.Serializer]]
    status: ClassVar[int] = 200
    #: Takes who asks, the row, the body's fields by their names, and ``now``; what it returns is shown.
    service: ClassVar[Callable[..., Any]]

    def find(self, request: Request, row_id: str) -> Any:
        """The principal's organisation's row, or NotFound."""
        raise NotImplementedError

    def act(self, who: Principal, row: Any, body: dict[str, Any], now: dt.datetime) -> Any:
        """Call the one service; a view whose body is not what the service takes calls it in its own words."""
        return self.service(who, row, **body, now=now)

    def show(self, request: Request, row: Any) -> Response:
        """The answer, with ``self.status``."""
        raise NotImplementedError

    @idempotent
    def post(self, request: Request, **address: str) -> Response:
        (row_id,) = address.values()
        row = self.find(request, row_id)
        body = read_body(self.body, request)
        return self.show(request, self.act(principal_of(request), row, body, clock.now()))


def acts(
    operation_id: str, description: str, body: type[serializers.Serializer], answer: Any, *refusals: int,
    status: int = 200, service: Callable[..., Any] | None = None,
) -> Callable[[type[RowAct]], type[RowAct]]:
    """What one act takes, does and answers, for the view and for OpenAPI. ``refusals``: 409 and 422, if none is named.

    ``service`` None: the view says in ``act`` what it does.
    """

    def described(view: type[RowAct]) -> type[RowAct]:
        view.body, view.status = body, status
        if service is not None:
            view.service = staticmethod(service)
        told = extend_schema(
            operation_id=operation_id, description=description, request=body,
            responses={status: answer, **errors(*(refusals or (409, 422)))},
        )
        return extend_schema_view(post=told)(view)

    return described
