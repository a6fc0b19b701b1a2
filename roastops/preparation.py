"""What must be done before the first request, and skipped when nothing changed since."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from roastops import catalogs

logger = logging.getLogger(__name__)


def _digest_of(paths: Iterable[Path]) -> str:
    """By name, size and time of change: enough to see an edit, quick enough for every start."""
    summary = hashlib.sha256()
    for path in sorted(paths):
        about = path.stat()
        summary.update(f"{path}|{about.st_size}|{about.st_mtime_ns}\n".encode())
    return summary.hexdigest()


def _remembered(name: str) -> str:
    try:
        return json.loads((settings.DATA_DIR / ".prepared.json").read_text()).get(name, "")
    except (OSError, ValueError):
        return ""


def _remember(name: str, digest: str) -> None:
    path = settings.DATA_DIR / ".prepared.json"
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        known = {}
    path.write_text(json.dumps({**known, name: digest}))


def migrate() -> bool:
    """Apply what is missing; True when something was."""
    executor = MigrationExecutor(connection)
    if not executor.migration_plan(executor.loader.graph.leaf_nodes()):
        return False
    call_command("migrate", interactive=False, verbosity=0)
    return True


def compile_catalogs() -> bool:
    """Compile the translations; True when something had changed. A folder that may not be written is said, no more."""
    try:
        return bool(catalogs.compile_all())
    except OSError as error:
        logger.warning("the translations were not compiled; pages may be in English", exc_info=error)
        return False


def collect_static() -> bool:
    """Collect static files; True when something had changed."""
    sources = [path for path in (settings.BASE_DIR / "static").rglob("*") if path.is_file()]
    digest = _digest_of([*sources, settings.BASE_DIR / "requirements.txt"])
    if digest == _remembered("static") and (settings.STATIC_ROOT / "staticfiles.json").is_file():
        return False
    call_command("collectstatic", interactive=False, verbosity=0)
    _remember("static", digest)
    return True
