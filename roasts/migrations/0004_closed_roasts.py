"""A closed roast stays as it is (roasts.store.closed_guards); the library's indexes; what next roasts follow."""

import django.db.models.deletion
from django.db import migrations, models

from kernel import append_only
from roasts.library import words as searched


def _index_words(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        column, words = searched.WORDS_COLUMN, searched.postgres_words()
        schema_editor.execute(
            f"ALTER TABLE roasts_roast ADD COLUMN {column} tsvector GENERATED ALWAYS AS ({words}) STORED", params=None
        )
        schema_editor.execute(
            f"CREATE INDEX {searched.INDEX_NAME} ON roasts_roast USING gin ({column})", params=None
        )
        # Summaries go beside the table: who walks the library in order of time reads narrow rows.
        schema_editor.execute("ALTER TABLE roasts_roast SET (toast_tuple_target = 1024)", params=None)
        schema_editor.execute(f"ALTER TABLE roasts_roast ALTER COLUMN {column} SET STORAGE MAIN", params=None)


def _forget_words(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(
            f"ALTER TABLE roasts_roast DROP COLUMN IF EXISTS {searched.WORDS_COLUMN}", params=None
        )


class Migration(migrations.Migration):
    dependencies = [
        ("kernel", "0003_people"),
        ("roasts", "0003_roast_plan"),
    ]

    operations = [
        migrations.AddField(
            model_name="machine",
            name="profile_version",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="machines",
                to="roasts.profileversion",
            ),
        ),
        migrations.AddIndex(
            model_name="roast",
            index=models.Index(fields=["organization", "-development_ratio", "-id"], name="roast_by_ratio"),
        ),
        migrations.AddIndex(
            model_name="roast", index=models.Index(fields=["organization", "-total_ms", "-id"], name="roast_by_total")
        ),
        migrations.AddIndex(
            model_name="roast",
            index=models.Index(fields=["organization", "-drop_bean_temp_c", "-id"], name="roast_by_drop"),
        ),
        migrations.AddIndex(
            model_name="roast", index=models.Index(fields=["organization", "bean", "id"], name="roast_by_bean")
        ),
        migrations.RunPython(_index_words, _forget_words),
        *append_only.protect("roasts_qcnote"),
        *append_only.protect("roasts_roastcorrection"),
        *append_only.protect("roasts_profileversion"),
        append_only.GuardRows("roasts.store.closed_guards.triggers"),
    ]
