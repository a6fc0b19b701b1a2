"""How fast an agent may move a control, and how hot the exhaust may get."""

from django.db import migrations, models

from kernel import triggers_aside


class Migration(migrations.Migration):
    dependencies = [
        ("roasts", "0006_environment_shown"),
    ]

    operations = [
        triggers_aside.set_aside(),
        migrations.AddField(
            model_name="controllimit",
            name="max_ramp_step_per_s",
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="machine",
            name="max_exhaust_temp_c",
            field=models.FloatField(blank=True, null=True),
        ),
        triggers_aside.put_back(),
    ]
