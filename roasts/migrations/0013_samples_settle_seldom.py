"""PostgreSQL looks after the samples seldom: rows are only added, and each look goes through the whole table.

By its own rule it looks whenever a fifth was added: in a young store with a thousand machines every minute, and the
answers to batches wait while it does (`bench ingest --full`).
"""

from typing import Any

from django.db import migrations

TABLES = ("roasts_sample", "roasts_telemetrybatch")
SELDOM = {
    "autovacuum_vacuum_insert_threshold": 20_000_000,
    "autovacuum_analyze_threshold": 5_000_000,
}


def _alter(editor: Any, words: str) -> None:
    if editor.connection.vendor == "postgresql":
        for table in TABLES:
            editor.execute(f"ALTER TABLE {editor.quote_name(table)} {words}")


def seldom(_apps: Any, editor: Any) -> None:
    _alter(editor, f"SET ({', '.join(f'{name} = {rows}' for name, rows in SELDOM.items())})")


def as_usual(_apps: Any, editor: Any) -> None:
    _alter(editor, f"RESET ({', '.join(SELDOM)})")


class Migration(migrations.Migration):
    dependencies = [("roasts", "0012_planned_roasts")]
    operations = [migrations.RunPython(seldom, as_usual)]
