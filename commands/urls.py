"""Orders, grants, envelopes and machines, under /v1/."""

from __future__ import annotations

from django.urls import path

from commands import api, api_machine_roasts, api_outlook
from commands.api_alarms import alarm_urlpatterns
from commands.api_analytics import analytics_urlpatterns
from commands.api_commissioning import commissioning_urlpatterns
from commands.api_envelopes import envelope_urlpatterns
from commands.api_governor import governor_urlpatterns
from commands.api_machines import machine_urlpatterns
from commands.api_plans import plan_urlpatterns
from commands.api_views import view_urlpatterns

urlpatterns = [
    path("proposals", api.ProposalList.as_view(), name="proposals"),
    path("proposals/pending", api.ProposalPending.as_view(), name="proposals-pending"),
    path("proposals/<str:proposal_id>", api.ProposalDetail.as_view(), name="proposal"),
    path("proposals/<str:proposal_id>/approve", api.ProposalApprove.as_view(), name="proposal-approve"),
    path("proposals/<str:proposal_id>/reject", api.ProposalReject.as_view(), name="proposal-reject"),
    path("proposals/<str:proposal_id>/adopt", api.ProposalAdopt.as_view(), name="proposal-adopt"),
    path("proposals/<str:proposal_id>/abort", api.ProposalAbort.as_view(), name="proposal-abort"),
    path("proposals/<str:proposal_id>/timeline", api.ProposalTimeline.as_view(), name="proposal-timeline"),
    path("grants", api.GrantList.as_view(), name="grants"),
    path("grants/<str:grant_id>", api.GrantDetail.as_view(), name="grant"),
    path("grants/<str:grant_id>/revoke", api.GrantRevoke.as_view(), name="grant-revoke"),
    path("envelopes", api.EnvelopeList.as_view(), name="envelopes"),
    path("machines/<str:machine_id>/outlook", api_outlook.MachineOutlook.as_view(), name="machine-outlook"),
    path("machines/<str:machine_id>/roasts", api_machine_roasts.RoastOpening.as_view(), name="machine-roast-open"),
    path(
        "machines/<str:machine_id>/roasts/close", api_machine_roasts.RoastClosing.as_view(), name="machine-roast-close"
    ),
    *envelope_urlpatterns,
    *governor_urlpatterns,
    *analytics_urlpatterns,
    *machine_urlpatterns,
    *plan_urlpatterns,
    *view_urlpatterns,
    *alarm_urlpatterns,
    *commissioning_urlpatterns,
]
