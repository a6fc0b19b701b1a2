"""Tables whose rows the database itself refuses to change: triggers, as a migration operation for both databases.

In a room's hand-written migration: ``operations = [*append_only.protect("kernel_auditentry")]``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation

logger = logging.getLogger(__name__)
PREFIX = "append_only_"
LIFTERS = frozenset({"demo_reset", "test_runner"})
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")


class NotLiftable(RuntimeError):
    """Somebody asked to lift the protection who may not, or where nobody may."""


def trigger_statements(vendor: str, table: str, key: str = "id") -> list[str]:
    """The DDL that makes ``table`` append-only. SQLite's REPLACE deletes silently, so it is refused by its key."""
    if not _NAME.fullmatch(table) or not _NAME.fullmatch(key):
        raise ValueError(table)
    if vendor == "sqlite":
        refuse = f"SELECT RAISE(ABORT, '{table} is append-only')"
        return [
            f"CREATE TRIGGER {PREFIX}{table}_update BEFORE UPDATE ON {table} BEGIN {refuse}; END",
            f"CREATE TRIGGER {PREFIX}{table}_delete BEFORE DELETE ON {table} BEGIN {refuse}; END",
            f"CREATE TRIGGER {PREFIX}{table}_replace BEFORE INSERT ON {table} "
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key}) BEGIN {refuse}; END",
        ]
    if vendor == "postgresql":
        return [
            "CREATE OR REPLACE FUNCTION append_only_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ "
            "BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation'; "
            "END $$",
            f"CREATE TRIGGER {PREFIX}{table}_change BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION append_only_refuse()",
            f"CREATE TRIGGER {PREFIX}{table}_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION append_only_refuse()",
        ]
    raise ValueError(f"no append-only triggers for {vendor}")


def trigger_names(vendor: str, table: str) -> set[str]:
    """Names of the triggers that must stand on ``table``."""
    kinds = ("update", "delete", "replace") if vendor == "sqlite" else ("change", "truncate")
    return {f"{PREFIX}{table}_{kind}"[:63] for kind in kinds}


class ProtectTable(Operation):
    """Migration operation: from here on the table only grows."""

    reversible = True
    reduces_to_sql = True

    def __init__(self, table: str, key: str = "id") -> None:
        self.table = table
        self.key = key

    def state_forwards(self, app_label: str, state: Any) -> None:
        return

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        for statement in trigger_statements(schema_editor.connection.vendor, self.table, self.key):
            schema_editor.execute(statement, params=None)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        vendor = schema_editor.connection.vendor
        for name in sorted(trigger_names(vendor, self.table)):
            on = f" ON {self.table}" if vendor == "postgresql" else ""
            schema_editor.execute(f"DROP TRIGGER IF EXISTS {name}{on}", params=None)

    def describe(self) -> str:
        return f"Make {self.table} append-only"


def protect(table: str, key: str = "id") -> list[Operation]:
    """Operations that make ``table`` append-only; ``key`` is its primary key's column."""
    return [ProtectTable(table, key)]


def expected_tables() -> dict[str, str]:
    """Protected tables and their keys, as the migrations on disk say."""
    loader = MigrationLoader(None, ignore_no_migrations=True)
    return {
        operation.table: operation.key
        for migration in loader.disk_migrations.values()
        for operation in migration.operations
        if isinstance(operation, ProtectTable)
    }


def standing_triggers() -> set[str]:
    """Names of our triggers that stand, enabled, in the database."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        else:
            cursor.execute("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled = 'O'")
        return {row[0] for row in cursor.fetchall() if row[0].startswith(PREFIX)}


def missing_triggers() -> set[str]:
    """What should stand and does not, for tables that exist."""
    existing = set(connection.introspection.table_names())
    wanted = {
        name for table in expected_tables() if table in existing for name in trigger_names(connection.vendor, table)
    }
    return wanted - standing_triggers()


@contextmanager
def lifted(by: str) -> Iterator[None]:
    """Take the triggers down for the block, in one transaction, and put them back: `demo --reset` and tests only."""
    if by not in LIFTERS:
        raise NotLiftable(f"{by!r} may not lift append-only protection; only {sorted(LIFTERS)} may.")
    if settings.IS_PRODUCTION or (by == "test_runner" and not settings.IS_TEST):
        raise NotLiftable("Append-only protection is never lifted here.")
    logger.warning("append-only protection lifted by %s", by)
    with transaction.atomic():
        tables = {t: k for t, k in expected_tables().items() if t in set(connection.introspection.table_names())}
        with connection.cursor() as cursor:
            for table in tables:
                for name in sorted(trigger_names(connection.vendor, table)):
                    on = f" ON {table}" if connection.vendor == "postgresql" else ""
                    cursor.execute(f"DROP TRIGGER IF EXISTS {name}{on}")
        yield
        with connection.cursor() as cursor:
            for table, key in tables.items():
                for statement in trigger_statements(connection.vendor, table, key):
                    cursor.execute(statement)
