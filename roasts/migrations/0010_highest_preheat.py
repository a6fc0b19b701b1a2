"""Highest preheat temperature an order may ask for. A column with a value for every machine: SQLite rebuilds the table,
so its triggers are set aside meanwhile."""

from django.db import migrations, models

from kernel import triggers_aside


class Migration(migrations.Migration):
    dependencies = [("roasts", "0009_area_from")]

    operations = [
        triggers_aside.set_aside(),
        migrations.AddField("machine", "max_preheat_temp_c", models.FloatField(default=260.0)),
        triggers_aside.put_back(),
    ]
