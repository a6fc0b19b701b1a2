"""The work an order belongs to, as its proposer names it, and requests that came over an agent's limit.

A column that may be null needs no new table on SQLite, so every trigger stays; the guards once more, for the order's
substance has it now.
"""

import django.db.models.deletion
from django.db import migrations, models

from commands.records import order_guards


class Migration(migrations.Migration):
    dependencies = [("commands", "0007_one_on_the_wire"), ("kernel", "0005_german")]

    operations = [
        migrations.AddField("proposal", "mission", models.CharField(max_length=100, null=True, blank=True)),
        migrations.CreateModel(
            name="RequestRefusal",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("kind", models.CharField(max_length=10)),
                ("count", models.IntegerField()),
                ("at", models.DateTimeField()),
                (
                    "agent",
                    models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="+", to="kernel.agent"),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="kernel.organization"
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["organization", "-at"], name="request_refusal_recent")],
            },
        ),
        migrations.RunPython(order_guards.install, migrations.RunPython.noop),
    ]
