"""Tables whose rows the database itself refuses to change: triggers, as a migration operation for both databases.

In a room's hand-written migration: ``operations = [*append_only.protect("kernel_auditentry")]``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.utils.module_loading import import_string

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


@dataclass(frozen=True, slots=True)
class Trigger:
    """A room's own trigger: its name, its table, and the statements that put it in place."""

    name: str
    table: str
    statements: tuple[str, ...]


class GuardRows(Operation):
    """Migration operation: a room's own triggers, seen to stand and lifted together with the append-only ones.

    ``source`` is the dotted name of a function ``(vendor) -> list[Trigger]``.
    """

    reversible = True
    reduces_to_sql = True

    def __init__(self, source: str) -> None:
        self.source = source

    def triggers(self, vendor: str) -> list[Trigger]:
        named: Callable[[str], list[Trigger]] = import_string(self.source)
        return named(vendor)

    def state_forwards(self, app_label: str, state: Any) -> None:
        return

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        for trigger in self.triggers(schema_editor.connection.vendor):
            for statement in trigger.statements:
                schema_editor.execute(statement, params=None)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        vendor = schema_editor.connection.vendor
        for trigger in self.triggers(vendor):
            schema_editor.execute(_drop(vendor, trigger.name, trigger.table), params=None)

    def describe(self) -> str:
        return f"Guard rows by {self.source}"


def _drop(vendor: str, name: str, table: str) -> str:
    return f"DROP TRIGGER IF EXISTS {name}" + (f" ON {table}" if vendor == "postgresql" else "")


def guards(vendor: str) -> list[Trigger]:
    """Every room's own triggers, as the migrations on disk say."""
    loader = MigrationLoader(None, ignore_no_migrations=True)
    operations = [op for migration in loader.disk_migrations.values() for op in migration.operations]
    return [trigger for op in operations if isinstance(op, GuardRows) for trigger in op.triggers(vendor)]


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
    """Names of the triggers that stand, enabled, in the database."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        else:
            cursor.execute("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled = 'O'")
        return {row[0] for row in cursor.fetchall()}


def missing_triggers() -> set[str]:
    """What should stand and does not, for tables that exist."""
    existing = set(connection.introspection.table_names())
    wanted = {
        name for table in expected_tables() if table in existing for name in trigger_names(connection.vendor, table)
    }
    wanted |= {trigger.name for trigger in guards(connection.vendor) if trigger.table in existing}
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
        vendor, existing = connection.vendor, set(connection.introspection.table_names())
        tables = {table: key for table, key in expected_tables().items() if table in existing}
        own = [trigger for trigger in guards(vendor) if trigger.table in existing]
        names = [(name, table) for table in tables for name in sorted(trigger_names(vendor, table))]
        with connection.cursor() as cursor:
            for name, table in [*names, *((trigger.name, trigger.table) for trigger in own)]:
                cursor.execute(_drop(vendor, name, table))
        yield
        puts = [statement for table, key in tables.items() for statement in trigger_statements(vendor, table, key)]
        with connection.cursor() as cursor:
            for statement in [*puts, *(statement for trigger in own for statement in trigger.statements)]:
                cursor.execute(statement)
