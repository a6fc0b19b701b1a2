"""Taking the demo organisation away again, with all that hangs on it. Never in production."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection, models, transaction

from commands import models as commands
from drivers import keeper_config, keeper_process
from evals import models as evals
from kernel import append_only, live
from kernel import models as kernel
from roastops import demo
from roasts import models as roasts

#: model → lookup from a row to its organisation. Everything that belongs to an organisation, leaves first.
ROWS: dict[type[models.Model], str] = {
    evals.RoastReport: "organization",
    commands.ExecutionStage: "execution__machine__organization",
    commands.Execution: "machine__organization",
    commands.ProposalTransition: "proposal__organization",
    commands.Approval: "proposal__organization",
    commands.Proposal: "organization",
    commands.Plan: "organization",
    commands.BreakerTrip: "organization",
    commands.Alert: "organization",
    commands.RequestRefusal: "organization",
    commands.OrderHour: "organization",
    commands.SavedView: "organization",
    commands.Attendance: "organization",
    commands.Commissioning: "organization",
    commands.StopDrill: "organization",
    commands.GovernorPolicy: "organization",
    commands.Halt: "organization",
    commands.Suspension: "organization",
    commands.Alarm: "organization",
    commands.MachineLease: "machine__organization",
    commands.Grant: "organization",
    roasts.ImportedFile: "roast__organization",
    roasts.PackedRoast: "roast__organization",
    roasts.RoastCorrection: "roast__organization",
    roasts.QcNote: "roast__organization",
    roasts.RoastEvent: "roast__organization",
    roasts.Gap: "roast__organization",
    roasts.Sample: "roast__organization",
    roasts.Roast: "organization",
    roasts.ProfileVersion: "profile__organization",
    roasts.Profile: "organization",
    roasts.TwinFit: "machine__organization",
    roasts.TelemetryBatch: "machine__organization",
    roasts.TelemetryStream: "machine__organization",
    roasts.StreamWatch: "machine__organization",
    roasts.TelemetryPolicy: "organization",
    roasts.DeviceKey: "organization",
    roasts.MachineReading: "machine__organization",
    roasts.ControlLimit: "machine__organization",
    roasts.Machine: "organization",
    kernel.StreamEvent: "organization",
    kernel.AuditSeal: "organization",
    kernel.AuditCheckpoint: "organization",
    kernel.AuditEntry: "organization",
    kernel.ApiKey: "organization",
    kernel.Agent: "organization",
    kernel.Membership: "organization",
    kernel.Site: "organization",
    kernel.Organization: "pk",
}


class NotHere(Exception):
    """Nobody takes an organisation away in production."""


def reset() -> str | None:
    """Delete the demo organisation and its people; returns the machine's id, which the new one is to keep, so that
    a server that is running goes on with the same machine."""
    if settings.IS_PRODUCTION:
        raise NotHere("`demo --reset` deletes records for good and is refused in production.")
    organization = kernel.Organization.objects.filter(slug=demo.ORGANIZATION).first()
    if organization is None:
        return None
    machines = dict(roasts.Machine.objects.filter(organization=organization).values_list("name", "pk"))
    kept = machines.get(demo.machine_name())
    for machine_id in machines.values():
        _let_go(machine_id, forget=machine_id != kept)
    with append_only.lifted("demo_reset"), transaction.atomic():
        user_ids = list(organization.memberships.values_list("user_id", flat=True))
        for model, lookup in ROWS.items():
            rows = model._base_manager.filter(**{lookup: organization.pk})
            rows._raw_delete(rows.db)
        kernel.IdempotencyRecord.objects.all().delete()
        leavers = User.objects.filter(pk__in=user_ids, username__in=demo.PEOPLE, memberships__isnull=True)
        leavers.delete()
        connection.check_constraints()
    (settings.DATA_DIR / "agent-roastrunner.key").unlink(missing_ok=True)
    live.forget_readings()
    return kept


def _let_go(machine_id: str, *, forget: bool) -> None:
    """End the machine's keeper; where the machine goes for good, its run file too."""
    path = keeper_config.config_path(settings.RUN_DIR, machine_id)
    try:
        keeper_process.stop_keeper(keeper_config.read(path))
    except (OSError, keeper_config.BadConfig):
        pass  # there is none
    if forget:
        path.unlink(missing_ok=True)
