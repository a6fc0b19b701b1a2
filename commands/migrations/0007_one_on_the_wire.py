"""One order of an agent on the wire per control, plans included; indexes of the alarms that are not over.

Indexes alone: SQLite rebuilds no table for them, so every trigger stays.
"""

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("commands", "0006_authority_guards")]

    operations = [
        migrations.AddConstraint(
            model_name="proposal",
            constraint=models.UniqueConstraint(
                fields=["machine", "control"],
                condition=Q(proposer_agent__isnull=False, status__in=["EXECUTING", "IN_DOUBT"]),
                name="one_agent_order_on_the_wire",
            ),
        ),
        migrations.AddIndex(
            model_name="alarm",
            index=models.Index(
                fields=["organization", "-raised_at"], condition=Q(cleared_at__isnull=True), name="alarm_standing"
            ),
        ),
        migrations.AddIndex(
            model_name="alarm",
            index=models.Index(
                fields=["organization", "-raised_at"],
                condition=Q(cleared_at__isnull=True) | Q(acknowledged_at__isnull=True),
                name="alarm_not_over",
            ),
        ),
    ]
