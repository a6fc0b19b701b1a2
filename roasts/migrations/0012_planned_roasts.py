"""The next batch of a machine may be planned: one at a time, beside the roast that is open."""

from django.db import migrations, models

PLANNED, OPEN = ("planned", "preheating"), ("charged", "roasting", "cooling")


def _forget_plans(apps, schema_editor):
    """Before this, a planned roast counted as an open one."""
    apps.get_model("roasts", "Roast").objects.filter(status__in=PLANNED).delete()
    if schema_editor.connection.vendor == "postgresql":  # no index is made while a row's going is still to be checked
        schema_editor.execute("SET CONSTRAINTS ALL IMMEDIATE", params=None)


class Migration(migrations.Migration):
    dependencies = [("roasts", "0011_stream_watch")]

    operations = [
        migrations.RemoveConstraint("roast", "one_open_roast_per_machine"),
        migrations.AddConstraint(
            "roast",
            models.UniqueConstraint(
                fields=["machine"], condition=models.Q(status__in=OPEN), name="one_open_roast_per_machine"
            ),
        ),
        migrations.AddConstraint(
            "roast",
            models.UniqueConstraint(
                fields=["machine"], condition=models.Q(status__in=PLANNED), name="one_planned_roast_per_machine"
            ),
        ),
        migrations.RunPython(migrations.RunPython.noop, _forget_plans),
    ]
