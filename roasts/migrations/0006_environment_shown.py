"""The newest reading of a machine shows its environment and ambient temperatures, too."""

from django.db import migrations, models

from kernel import triggers_aside


class Migration(migrations.Migration):
    dependencies = [("roasts", "0005_imported_file")]

    operations = [
        triggers_aside.set_aside(),
        migrations.AddField("machinereading", "environment_temp_c", models.FloatField(null=True)),
        migrations.AddField("machinereading", "ambient_temp_c", models.FloatField(null=True)),
        triggers_aside.put_back(),
    ]
