"""Migrations that rebuild a table on SQLite: its triggers, and those that mention it, are set aside and put back.

SQLite alters a table by copying it; the copy loses the table's own triggers, and any trigger that
names the table forbids the copy. PostgreSQL alters in place: nothing to do there. Both steps run in
the migration's own transaction, so that no guard is ever missing from a database that anybody can see.
"""

from __future__ import annotations

from typing import Any

from django.db import migrations

_SET_ASIDE = "CREATE TABLE triggers_set_aside AS SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"


def _aside(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor != "sqlite":
        return
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(_SET_ASIDE)
        cursor.execute("SELECT name FROM triggers_set_aside")
        for (name,) in cursor.fetchall():
            cursor.execute(f'DROP TRIGGER "{name}"')


def _back(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor != "sqlite":
        return
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT sql FROM triggers_set_aside")
        for (sql,) in cursor.fetchall():
            cursor.execute(sql)
        cursor.execute("DROP TABLE triggers_set_aside")


def set_aside() -> migrations.RunPython:
    """First operation of such a migration."""
    return migrations.RunPython(_aside, _back)


def put_back() -> migrations.RunPython:
    """Last operation of such a migration."""
    return migrations.RunPython(_back, _aside)
