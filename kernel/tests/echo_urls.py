"""An address that takes a body and leaves an effect, for tests of what every endpoint inherits."""

from django.db import transaction
from django.urls import include, path
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from kernel import audit, clock, errors
from kernel.idempotency import idempotent
from kernel.models import Site
from kernel.pagination import ListFilters, paginate
from kernel.permissions import Requires
from kernel.serializers import StrictSerializer, read_body, read_filters


class SiteBody(StrictSerializer):
    name = serializers.CharField(max_length=100)
    weight_g = serializers.FloatField(required=False)
    count = serializers.IntegerField(required=False)
    extra = serializers.JSONField(required=False)


class SiteList(APIView):
    """Makes sites; refuses the name `refused` after a committed effect, breaks on `broken`."""

    permission_classes = [Requires("operate")]

    def get(self, request):
        filters = read_filters(ListFilters, request)
        return paginate(
            Site.objects.for_principal(request.principal),
            order=("name", "id"),
            limit=filters["limit"],
            cursor=filters.get("cursor"),
            render=lambda site: {"name": site.name},
        )

    @idempotent
    def post(self, request):
        body = read_body(SiteBody, request)
        now = clock.now()
        with transaction.atomic():
            site = Site.objects.create(organization=request.principal.organization, name=body["name"])
            audit.record(
                site.organization, request.principal, "site_made", "site", site.pk, {"name": site.name}, now=now
            )
        if body["name"] == "refused":
            raise errors.Conflict("refused", "Refused.", "Use another name.")
        if body["name"] == "broken":
            raise errors.NotNow("broken", "Broken.", "Try again.")
        return Response({"id": site.pk, "name": site.name}, status=201)


urlpatterns = [path("v1/sites", SiteList.as_view()), path("", include("kernel.urls"))]
handler400 = "kernel.error_pages.bad_request"
handler403 = "kernel.error_pages.permission_denied"
handler404 = "kernel.error_pages.page_not_found"
handler500 = "kernel.error_pages.server_error"
