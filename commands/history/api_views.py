"""Saved views of the order history over REST."""

from __future__ import annotations

from typing import Any

from django.db.models import Q
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from commands.api.serializers import NothingBody, render_time
from commands.history import services_views
from commands.models import SavedView
from kernel import clock
from kernel.endpoints import Endpoint, principal_of
from kernel.idempotency import idempotent
from kernel.pagination import ListFilters, paginate
from kernel.schema import errors
from kernel.serializers import FlagField, StrictSerializer, TextField, read_body, read_filters


class SaveViewBody(StrictSerializer):
    """A search by its query string, as it stands in the address of `/orders/`."""

    name = TextField(max_length=80)
    query = TextField(max_length=1000)
    is_shared = FlagField(required=False, help_text="left out: as it was; a new view is not shared")


class ShareViewBody(StrictSerializer):
    is_shared = FlagField()


class SavedViewSerializer(serializers.Serializer):
    view_id = serializers.CharField()
    name = serializers.CharField()
    query = serializers.CharField()
    is_shared = serializers.BooleanField()
    owner = serializers.CharField()
    created_at = serializers.DateTimeField()


class SavedViewPageSerializer(serializers.Serializer):
    results = SavedViewSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


def render_view(view: SavedView) -> dict[str, Any]:
    return {
        "view_id": view.pk,
        "name": view.name,
        "query": view.query,
        "is_shared": view.is_shared,
        "owner": view.user.get_username(),
        "created_at": render_time(view.created_at),
    }


class SavedViewList(Endpoint):
    """`GET/POST /v1/saved-views`."""

    @extend_schema(
        operation_id="list_saved_views", description="Your own, and those shared with your organisation.",
        parameters=[ListFilters], responses={200: SavedViewPageSerializer},
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        filters = read_filters(ListFilters, request)
        principal = principal_of(request)
        mine_or_shared = Q(is_shared=True) | (Q(user=principal.user) if principal.user else Q(pk__in=[]))
        rows = SavedView.objects.for_principal(principal).filter(mine_or_shared).select_related("user")
        return paginate(
            rows, order=("id",), limit=filters["limit"], cursor=filters.get("cursor"), render=render_view
        )

    @extend_schema(
        operation_id="save_view", description="Keep a search under a name; your own view of that name is replaced.",
        request=SaveViewBody, responses={201: SavedViewSerializer, **errors(409, 422)},
    )  # fmt: skip
    @idempotent
    def post(self, request: Request) -> Response:
        body = read_body(SaveViewBody, request)
        principal = principal_of(request)
        return Response(render_view(services_views.save_view(principal, **body, now=clock.now())), status=201)


class SavedViewShare(Endpoint):
    """`POST /v1/saved-views/{id}/share`."""

    @extend_schema(
        operation_id="share_view", request=ShareViewBody, responses={200: SavedViewSerializer, **errors(409, 422)}
    )
    @idempotent
    def post(self, request: Request, view_id: str) -> Response:
        body = read_body(ShareViewBody, request)
        principal = principal_of(request)
        return Response(render_view(services_views.share_view(principal, view_id, is_shared=body["is_shared"])))


class SavedViewDelete(Endpoint):
    """`POST /v1/saved-views/{id}/delete`."""

    @extend_schema(
        operation_id="delete_view", request=NothingBody, responses={200: SavedViewSerializer, **errors(409, 422)}
    )
    @idempotent
    def post(self, request: Request, view_id: str) -> Response:
        read_body(NothingBody, request)
        return Response(render_view(services_views.delete_view(principal_of(request), view_id)))


view_urlpatterns = [
    path("saved-views", SavedViewList.as_view(), name="saved-views"),
    path("saved-views/<str:view_id>/share", SavedViewShare.as_view(), name="saved-view-share"),
    path("saved-views/<str:view_id>/delete", SavedViewDelete.as_view(), name="saved-view-delete"),
]
