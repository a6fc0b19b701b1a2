"""Orders, grants, envelopes and machines, under /v1/."""

from __future__ import annotations

from django.urls import path

from commands.alarms.api import alarm_urlpatterns
from commands.api import machine_roasts, orders, outlook
from commands.api.envelopes import envelope_urlpatterns
from commands.api.governor import governor_urlpatterns
from commands.api.machines import machine_urlpatterns
from commands.commissioning.api import commissioning_urlpatterns
from commands.history.api_analytics import analytics_urlpatterns
from commands.history.api_views import view_urlpatterns
from commands.plans.api import plan_urlpatterns

urlpatterns = [
    path("proposals", orders.ProposalList.as_view(), name="proposals"),
    path("proposals/pending", orders.ProposalPending.as_view(), name="proposals-pending"),
    path("proposals/<str:proposal_id>", orders.ProposalDetail.as_view(), name="proposal"),
    path("proposals/<str:proposal_id>/approve", orders.ProposalApprove.as_view(), name="proposal-approve"),
    path("proposals/<str:proposal_id>/reject", orders.ProposalReject.as_view(), name="proposal-reject"),
    path("proposals/<str:proposal_id>/adopt", orders.ProposalAdopt.as_view(), name="proposal-adopt"),
    path("proposals/<str:proposal_id>/abort", orders.ProposalAbort.as_view(), name="proposal-abort"),
    path("proposals/<str:proposal_id>/timeline", orders.ProposalTimeline.as_view(), name="proposal-timeline"),
    path("grants", orders.GrantList.as_view(), name="grants"),
    path("grants/<str:grant_id>", orders.GrantDetail.as_view(), name="grant"),
    path("grants/<str:grant_id>/revoke", orders.GrantRevoke.as_view(), name="grant-revoke"),
    path("envelopes", orders.EnvelopeList.as_view(), name="envelopes"),
    path("machines/<str:machine_id>/outlook", outlook.MachineOutlook.as_view(), name="machine-outlook"),
    path("machines/<str:machine_id>/roasts", machine_roasts.RoastOpening.as_view(), name="machine-roast-open"),
    path(
        "machines/<str:machine_id>/roasts/close", machine_roasts.RoastClosing.as_view(), name="machine-roast-close"
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
