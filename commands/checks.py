"""System checks of this room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.db import DatabaseError, connections
from django.db.migrations.loader import MigrationLoader

from commands.records import order_guards


def _is_behind(connection: Any) -> bool:
    """Is there a migration of this room that the database has not had?"""
    loader = MigrationLoader(connection)
    return any(name not in loader.applied_migrations for name in loader.graph.nodes if name[0] == "commands")


@register(Tags.database)
def order_guards_stand(databases: Sequence[str] | None = None, **_kwargs: Any) -> list[CheckMessage]:
    """commands.E001: the triggers that guard orders are in the database (run by `migrate` and `check --database`)."""
    if not databases or "default" not in databases:
        return []
    connection = connections["default"]
    try:
        if order_guards.PROPOSAL not in connection.introspection.table_names():
            return []  # not migrated yet
        if _is_behind(connection):
            return []  # a migration to come may bring a guard: it must not be forbidden for want of it
        missing = order_guards.missing(connection)
    except DatabaseError:
        return []  # readiness says that the database is away
    return [
        Error(
            f"The order guard {name} is not in the database.",
            hint="Restore the database, or run commands.records.order_guards.install again.",
            id="commands.E001",
        )
        for name in sorted(missing)
    ]
