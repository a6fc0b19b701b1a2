"""What inference watched of a remote machine's open roast, now and then: another process goes on from there."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("roasts", "0010_highest_preheat")]

    operations = [
        migrations.CreateModel(
            name="StreamWatch",
            fields=[
                (
                    "machine",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="stream_watch",
                        serialize=False,
                        to="roasts.machine",
                    ),
                ),
                ("roast_id", models.CharField(max_length=40)),
                ("elapsed_ms", models.IntegerField()),
                ("content", models.TextField()),
            ],
        ),
    ]
