"""What came with an imported roast; it is written once."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from kernel import append_only


class Migration(migrations.Migration):
    dependencies = [
        ("roasts", "0004_closed_roasts"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="ImportedFile",
            fields=[
                (
                    "roast",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="imported_file",
                        serialize=False,
                        to="roasts.roast",
                    ),
                ),
                ("file_name", models.CharField(max_length=255)),
                ("format", models.CharField(max_length=20)),
                ("size_bytes", models.IntegerField()),
                ("imported_at", models.DateTimeField()),
                ("understood", models.JSONField(default=list)),
                ("dropped", models.JSONField(default=list)),
                ("warnings", models.JSONField(default=list)),
                ("metadata", models.JSONField(default=dict)),
                ("channels", models.JSONField(default=list)),
                ("special_events", models.JSONField(default=list)),
                ("computed", models.JSONField(default=dict)),
                ("carried", models.JSONField(default=dict)),
                ("dry_end_c", models.FloatField(null=True)),
                (
                    "imported_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={"ordering": ["-imported_at", "roast_id"]},
        ),
        *append_only.protect("roasts_importedfile", key="roast_id"),
    ]
