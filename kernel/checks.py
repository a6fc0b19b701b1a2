"""System checks: what must be true of a RoastOps installation, with stable ids."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError

from kernel import append_only


@register(Tags.database)
def append_only_stands(databases: Sequence[str] | None = None, **_kwargs: Any) -> list[CheckMessage]:
    """kernel.E001: the triggers that keep the trail are in the database (run by `migrate` and `check --database`)."""
    if not databases or "default" not in databases:
        return []
    try:
        missing = append_only.missing_triggers()
    except DatabaseError:
        return []  # readiness says that the database is away; this check is about what stands in it
    return [
        Error(
            f"The append-only trigger {name} is not in the database.",
            hint="Somebody lifted it. Restore the database, or re-apply the migration that protects the table.",
            id="kernel.E001",
        )
        for name in sorted(missing)
    ]


@register(Tags.security)
def secrets_are_private(**_kwargs: Any) -> list[CheckMessage]:
    """kernel.W001: files with secrets are readable by their owner alone."""
    found: list[CheckMessage] = []
    for path in (settings.DATA_DIR / "secret.key", settings.AUDIT_KEY_FILE, settings.RUN_DIR / "stop.key"):
        try:
            mode = path.stat().st_mode
        except OSError:
            continue
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            found.append(Warning(f"{path} can be read by others.", hint=f"chmod 600 {path}", id="kernel.W001"))
    return found
