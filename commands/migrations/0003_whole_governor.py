"""The whole governor: policy, presence, second approvals, breakers, plans, commissioning, alerts, order history."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import commands.models_authority
import commands.models_history
import commands.models_plans
from kernel import append_only, triggers_aside


class Migration(migrations.Migration):
    dependencies = [
        ("commands", "0002_guards"),
        ("kernel", "0005_german"),
        ("roasts", "0007_ramp_and_exhaust"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        triggers_aside.set_aside(),
        migrations.CreateModel(
            name="Alert",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=commands.models_history.alert_id,
                        editable=False,
                        max_length=40,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("kind", models.CharField(max_length=30)),
                ("severity", models.CharField(max_length=10)),
                ("subject", models.CharField(max_length=120)),
                ("message", models.TextField()),
                ("how_to_fix", models.TextField(blank=True, default="")),
                ("trigger", models.JSONField(default=dict)),
                ("raised_at", models.DateTimeField()),
                ("last_seen_at", models.DateTimeField()),
                ("times_seen", models.IntegerField(default=1)),
                ("acknowledged_at", models.DateTimeField(blank=True, null=True)),
                ("shelved_until", models.DateTimeField(blank=True, null=True)),
                ("shelve_reason", models.CharField(blank=True, default="", max_length=500)),
                ("resolved_at", models.DateTimeField(blank=True, null=True)),
                ("resolution", models.CharField(blank=True, default="", max_length=500)),
            ],
            options={
                "ordering": ["-raised_at", "-id"],
            },
        ),
        migrations.CreateModel(
            name="Approval",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=commands.models_authority.approval_id,
                        editable=False,
                        max_length=40,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("digest", models.CharField(max_length=64)),
                ("at", models.DateTimeField()),
            ],
            options={
                "ordering": ["at", "id"],
            },
        ),
        migrations.CreateModel(
            name="Attendance",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=commands.models_authority.attendance_id,
                        editable=False,
                        max_length=40,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("at", models.DateTimeField()),
            ],
            options={
                "ordering": ["-at", "-id"],
            },
        ),
        migrations.CreateModel(
            name="BreakerTrip",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=commands.models_authority.trip_id,
                        editable=False,
                        max_length=40,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("kind", models.CharField(max_length=40)),
                ("order_type", models.CharField(blank=True, default="", max_length=12)),
                ("from_level", models.CharField(max_length=2)),
                ("to_level", models.CharField(max_length=2)),
                ("evidence", models.JSONField(default=dict)),
                ("at", models.DateTimeField()),
                ("seen_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ["-at", "-id"],
            },
        ),
        migrations.CreateModel(
            name="Commissioning",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=commands.models_authority.commissioning_id,
                        editable=False,
                        max_length=40,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("begun_at", models.DateTimeField()),
                ("steps", models.JSONField(default=list)),
                ("completed_at", models.DateTimeField(blank=True, null=True)),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                ("end_reason", models.CharField(blank=True, default="", max_length=500)),
            ],
            options={
                "ordering": ["-begun_at", "-id"],
            },
        ),
        migrations.CreateModel(
            name="GovernorPolicy",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=commands.models_authority.policy_id,
                        editable=False,
                        max_length=40,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("version", models.IntegerField()),
                ("document", models.JSONField()),
                ("digest", models.CharField(max_length=64)),
                ("reason", models.CharField(max_length=500)),
                ("signed_at", models.DateTimeField()),
            ],
            options={
                "verbose_name_plural": "governor policies",
                "ordering": ["-version", "-id"],
            },
        ),
        migrations.CreateModel(
            name="OrderHour",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("hour_at", models.DateTimeField()),
                ("machine_key", models.CharField(blank=True, default="", max_length=40)),
                ("agent_key", models.CharField(blank=True, default="", max_length=40)),
                ("order_type", models.CharField(blank=True, default="", max_length=12)),
                ("counts", models.JSONField(default=dict)),
                ("latencies", models.BinaryField(default=bytes)),
            ],
        ),
        migrations.CreateModel(
            name="Plan",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=commands.models_plans.plan_id,
                        editable=False,
                        max_length=40,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("title", models.CharField(max_length=200)),
                ("reasoning", models.TextField()),
                ("status", models.CharField(default="PENDING_APPROVAL", max_length=20)),
                ("decision", models.CharField(max_length=10)),
                ("reasons", models.JSONField(default=list)),
                ("significance", models.CharField(blank=True, default="", max_length=10)),
                ("digest", models.CharField(max_length=64)),
                ("proposed_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField()),
                ("decided_at", models.DateTimeField(blank=True, null=True)),
                ("settled_at", models.DateTimeField(blank=True, null=True)),
                ("outcome_code", models.CharField(blank=True, default="", max_length=40)),
                ("outcome_message", models.TextField(blank=True, default="")),
            ],
            options={
                "ordering": ["-proposed_at", "-id"],
            },
        ),
        migrations.CreateModel(
            name="SavedView",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=commands.models_history.view_id,
                        editable=False,
                        max_length=40,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("name", models.CharField(max_length=80)),
                ("query", models.CharField(max_length=1000)),
                ("is_shared", models.BooleanField(default=False)),
                ("created_at", models.DateTimeField()),
            ],
            options={
                "ordering": ["name", "id"],
            },
        ),
        migrations.CreateModel(
            name="StopDrill",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=commands.models_authority.drill_id,
                        editable=False,
                        max_length=40,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("at", models.DateTimeField()),
                ("is_passed", models.BooleanField()),
                ("result", models.CharField(max_length=20)),
                ("first_byte_ms", models.FloatField(blank=True, null=True)),
                ("proved_ms", models.FloatField(blank=True, null=True)),
                ("proof", models.JSONField(default=dict)),
                ("note", models.CharField(blank=True, default="", max_length=500)),
            ],
            options={
                "ordering": ["-at", "-id"],
            },
        ),
        migrations.RemoveConstraint(
            model_name="proposal",
            name="one_unsettled_agent_order",
        ),
        migrations.AddField(
            model_name="alarm",
            name="shelve_reason",
            field=models.CharField(blank=True, default="", max_length=500),
        ),
        migrations.AddField(
            model_name="alarm",
            name="shelved_by",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="alarm",
            name="shelved_until",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="execution",
            name="effect",
            field=models.JSONField(default=dict),
        ),
        migrations.AddField(
            model_name="grant",
            name="agent_release",
            field=models.CharField(blank=True, default="", max_length=100),
        ),
        migrations.AddField(
            model_name="grant",
            name="evidence",
            field=models.JSONField(default=list),
        ),
        migrations.AddField(
            model_name="grant",
            name="lowered_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="grant",
            name="lowered_reason",
            field=models.CharField(blank=True, default="", max_length=500),
        ),
        migrations.AddField(
            model_name="grant",
            name="lowered_to",
            field=models.CharField(blank=True, default="", max_length=2),
        ),
        migrations.AddField(
            model_name="proposal",
            name="abort_requested_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="proposal",
            name="abort_requested_by",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="proposal",
            name="approvals_needed",
            field=models.IntegerField(default=1),
        ),
        migrations.AddField(
            model_name="proposal",
            name="plan_position",
            field=models.IntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="proposal",
            name="review_finding",
            field=models.CharField(blank=True, default="", max_length=20),
        ),
        migrations.AddField(
            model_name="proposal",
            name="review_text",
            field=models.CharField(blank=True, default="", max_length=500),
        ),
        migrations.AddField(
            model_name="proposal",
            name="reviewed_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="proposal",
            name="reviewed_by",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="proposal",
            name="rolls_back",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="rollbacks",
                to="commands.proposal",
            ),
        ),
        migrations.AddField(
            model_name="proposal",
            name="runs_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="proposal",
            name="significance",
            field=models.CharField(blank=True, default="", max_length=10),
        ),
        migrations.AddField(
            model_name="proposal",
            name="significance_reason",
            field=models.CharField(blank=True, default="", max_length=300),
        ),
        migrations.AddField(
            model_name="alert",
            name="acknowledged_by",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="alert",
            name="agent",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="alerts",
                to="kernel.agent",
            ),
        ),
        migrations.AddField(
            model_name="alert",
            name="machine",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="alerts",
                to="roasts.machine",
            ),
        ),
        migrations.AddField(
            model_name="alert",
            name="organization",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="alerts", to="kernel.organization"
            ),
        ),
        migrations.AddField(
            model_name="alert",
            name="resolved_by",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="alert",
            name="shelved_by",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="approval",
            name="proposal",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="given_approvals", to="commands.proposal"
            ),
        ),
        migrations.AddField(
            model_name="approval",
            name="user",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="given_approvals", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddField(
            model_name="attendance",
            name="machine",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="attendances", to="roasts.machine"
            ),
        ),
        migrations.AddField(
            model_name="attendance",
            name="organization",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="attendances", to="kernel.organization"
            ),
        ),
        migrations.AddField(
            model_name="attendance",
            name="user",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="attendances", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddField(
            model_name="breakertrip",
            name="agent",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="breaker_trips", to="kernel.agent"
            ),
        ),
        migrations.AddField(
            model_name="breakertrip",
            name="grant",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="breaker_trips", to="commands.grant"
            ),
        ),
        migrations.AddField(
            model_name="breakertrip",
            name="machine",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="breaker_trips", to="roasts.machine"
            ),
        ),
        migrations.AddField(
            model_name="breakertrip",
            name="organization",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="breaker_trips", to="kernel.organization"
            ),
        ),
        migrations.AddField(
            model_name="breakertrip",
            name="seen_by",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="commissioning",
            name="begun_by",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddField(
            model_name="commissioning",
            name="completed_by",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="commissioning",
            name="machine",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="commissionings", to="roasts.machine"
            ),
        ),
        migrations.AddField(
            model_name="commissioning",
            name="organization",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="commissionings", to="kernel.organization"
            ),
        ),
        migrations.AddField(
            model_name="governorpolicy",
            name="organization",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="governor_policies", to="kernel.organization"
            ),
        ),
        migrations.AddField(
            model_name="governorpolicy",
            name="signed_by",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="policies_signed", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddField(
            model_name="orderhour",
            name="organization",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="order_hours", to="kernel.organization"
            ),
        ),
        migrations.AddField(
            model_name="plan",
            name="approver",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="plan_approvals",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="plan",
            name="compensates",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="compensations",
                to="commands.plan",
            ),
        ),
        migrations.AddField(
            model_name="plan",
            name="machine",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="order_plans", to="roasts.machine"
            ),
        ),
        migrations.AddField(
            model_name="plan",
            name="organization",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="order_plans", to="kernel.organization"
            ),
        ),
        migrations.AddField(
            model_name="plan",
            name="proposer_agent",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="order_plans",
                to="kernel.agent",
            ),
        ),
        migrations.AddField(
            model_name="plan",
            name="proposer_user",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="order_plans",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="plan",
            name="roast",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="order_plans",
                to="roasts.roast",
            ),
        ),
        migrations.AddField(
            model_name="proposal",
            name="plan",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="orders",
                to="commands.plan",
            ),
        ),
        migrations.AddConstraint(
            model_name="proposal",
            constraint=models.UniqueConstraint(
                condition=models.Q(
                    ("plan__isnull", True),
                    ("proposer_agent__isnull", False),
                    ("status__in", ["PENDING_APPROVAL", "APPROVED", "EXECUTING", "IN_DOUBT"]),
                ),
                fields=("machine", "control"),
                name="one_unsettled_agent_order",
            ),
        ),
        migrations.AddConstraint(
            model_name="proposal",
            constraint=models.UniqueConstraint(fields=("plan", "plan_position"), name="plan_position_once"),
        ),
        migrations.AddField(
            model_name="savedview",
            name="organization",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="saved_views", to="kernel.organization"
            ),
        ),
        migrations.AddField(
            model_name="savedview",
            name="user",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="saved_views", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddField(
            model_name="stopdrill",
            name="machine",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="stop_drills", to="roasts.machine"
            ),
        ),
        migrations.AddField(
            model_name="stopdrill",
            name="organization",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="stop_drills", to="kernel.organization"
            ),
        ),
        migrations.AddField(
            model_name="stopdrill",
            name="user",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="stop_drills", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddIndex(
            model_name="alert",
            index=models.Index(fields=["organization", "-raised_at", "-id"], name="alert_by_time"),
        ),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.UniqueConstraint(
                condition=models.Q(("resolved_at__isnull", True)),
                fields=("organization", "kind", "subject"),
                name="one_standing_alert",
            ),
        ),
        migrations.AddConstraint(
            model_name="approval",
            constraint=models.UniqueConstraint(fields=("proposal", "user"), name="approves_once"),
        ),
        migrations.AddIndex(
            model_name="attendance",
            index=models.Index(fields=["machine", "-at"], name="attendance_by_machine"),
        ),
        migrations.AddConstraint(
            model_name="breakertrip",
            constraint=models.UniqueConstraint(
                fields=("grant", "kind", "order_type"), name="grant_broken_once_of_a_kind"
            ),
        ),
        migrations.AddConstraint(
            model_name="commissioning",
            constraint=models.UniqueConstraint(
                condition=models.Q(("completed_at__isnull", True), ("ended_at__isnull", True)),
                fields=("machine",),
                name="one_commissioning_under_way",
            ),
        ),
        migrations.AddConstraint(
            model_name="commissioning",
            constraint=models.UniqueConstraint(
                condition=models.Q(("completed_at__isnull", False), ("ended_at__isnull", True)),
                fields=("machine",),
                name="one_commissioning_in_force",
            ),
        ),
        migrations.AddConstraint(
            model_name="governorpolicy",
            constraint=models.UniqueConstraint(fields=("organization", "version"), name="policy_version_once"),
        ),
        migrations.AddIndex(
            model_name="orderhour",
            index=models.Index(fields=["organization", "hour_at"], name="order_hour_by_time"),
        ),
        migrations.AddConstraint(
            model_name="orderhour",
            constraint=models.UniqueConstraint(
                fields=("organization", "hour_at", "machine_key", "agent_key", "order_type"), name="order_hour_once"
            ),
        ),
        migrations.AddIndex(
            model_name="plan",
            index=models.Index(fields=["machine", "status"], name="plan_by_machine"),
        ),
        migrations.AddConstraint(
            model_name="plan",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("proposer_agent__isnull", False), ("proposer_user__isnull", True)),
                    models.Q(("proposer_agent__isnull", True), ("proposer_user__isnull", False)),
                    _connector="OR",
                ),
                name="plan_one_proposer",
            ),
        ),
        migrations.AddConstraint(
            model_name="plan",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("approver__isnull", True),
                    ("proposer_user__isnull", True),
                    models.Q(("approver", models.F("proposer_user")), _negated=True),
                    _connector="OR",
                ),
                name="plan_proposer_is_not_approver",
            ),
        ),
        migrations.AddConstraint(
            model_name="plan",
            constraint=models.UniqueConstraint(
                condition=models.Q(
                    ("proposer_agent__isnull", False), ("status__in", ("PENDING_APPROVAL", "APPROVED", "EXECUTING"))
                ),
                fields=("machine",),
                name="one_open_plan",
            ),
        ),
        migrations.AddConstraint(
            model_name="savedview",
            constraint=models.UniqueConstraint(fields=("user", "organization", "name"), name="view_name_once"),
        ),
        migrations.AddIndex(
            model_name="stopdrill",
            index=models.Index(fields=["machine", "-at"], name="drill_by_machine"),
        ),
        triggers_aside.put_back(),
        *append_only.protect("commands_governorpolicy"),
        *append_only.protect("commands_attendance"),
        *append_only.protect("commands_approval"),
        *append_only.protect("commands_stopdrill"),
    ]
