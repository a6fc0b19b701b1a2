"""Where an imported file's own area (AUC) begins, if not at the turning point. A column that may be null needs no new
table on SQLite, so every trigger stays where it is. Roasts imported before keep the turning point."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("roasts", "0008_reading_interval")]

    operations = [
        migrations.AddField("importedfile", "area_from_s", models.FloatField(null=True)),
    ]
