"""How far apart a source's readings come: what is fresh for it hangs on that. A column that may be null needs no new
table on SQLite, so every trigger stays where it is."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("roasts", "0007_ramp_and_exhaust")]

    operations = [
        migrations.AddField("machinereading", "interval_s", models.FloatField(null=True)),
    ]
