"""German beside English. SQLite rebuilds the table for it; its triggers are kept."""

from django.db import migrations, models

from kernel import triggers_aside


class Migration(migrations.Migration):
    dependencies = [("kernel", "0004_wording")]

    operations = [
        triggers_aside.set_aside(),
        migrations.RemoveConstraint("preferences", "preferences_known_language"),
        migrations.AlterField(
            "preferences",
            "language",
            models.CharField(choices=[("en", "English"), ("de", "Deutsch")], default="en", max_length=8),
        ),
        migrations.AddConstraint(
            "preferences",
            models.CheckConstraint(
                condition=models.Q(("language__in", ["en", "de"])), name="preferences_known_language"
            ),
        ),
        triggers_aside.put_back(),
    ]
