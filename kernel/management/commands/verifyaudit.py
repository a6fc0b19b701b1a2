"""`manage.py verifyaudit`: walk every organisation's audit chain and name the first bad entry.

Exit 0 when all chains are whole, 1 when one is not, 2 when the data cannot be read.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connection

from kernel import canonical, chain, sealer
from kernel.verification import Checkpoint, Report, SealedEntry, verify_chain

Query = Callable[[str, Sequence[Any]], Iterator[tuple[Any, ...]]]

ORGANIZATIONS = (
    "SELECT organization_id FROM kernel_auditentry UNION SELECT organization_id FROM kernel_auditseal "
    "UNION SELECT organization_id FROM kernel_auditcheckpoint ORDER BY 1"
)
SEALED = (
    "SELECT s.sequence, s.previous_digest, s.digest, s.entry_id, e.id, e.organization_id, e.at, e.actor_kind, "
    "e.actor_id, e.actor_name, e.verb, e.subject_kind, e.subject_id, e.payload_digest, "
    "e.payload FROM kernel_auditseal s "
    "LEFT JOIN kernel_auditentry e ON e.id = s.entry_id WHERE s.organization_id = %s ORDER BY s.sequence"
)
CHECKPOINTS = (
    "SELECT sequence, digest, at, public_key, signature FROM kernel_auditcheckpoint "
    "WHERE organization_id = %s ORDER BY sequence"
)
UNSEALED = (
    "SELECT count(*) FROM kernel_auditentry e LEFT JOIN kernel_auditseal s ON s.entry_id = e.id "
    "WHERE s.entry_id IS NULL AND e.organization_id = %s"
)


class Unreadable(Exception):
    """The file or database cannot be read as an audit trail."""


def _text(value: Any) -> str:
    """Text as it stands, bytes that are not UTF-8 kept apart rather than raised."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def _time(value: Any) -> str:
    """A stored time as canonical UTC text; text that Django would not have written stays, and will not match."""
    if isinstance(value, dt.datetime):
        return canonical.utc_text(value if value.tzinfo else value.replace(tzinfo=dt.UTC))
    text = _text(value)
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError:
        return text
    return canonical.utc_text(at.replace(tzinfo=dt.UTC)) if at.tzinfo is None and str(at) == text else text


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _sealed_entries(query: Query, organization_id: str) -> Iterator[SealedEntry]:
    for row in query(SEALED, [organization_id]):
        sequence, previous, digest, _entry, found = row[:5]
        link = None
        if found is not None:
            fields = [_text(row[5]), _text(found), _time(row[6]), *(_text(value) for value in row[7:14])]
            link = chain.Link(*fields)
        yield SealedEntry(link, _text(row[14]), _whole(sequence), _text(previous), _text(digest))


def _checkpoints(query: Query, organization_id: str) -> Iterator[Checkpoint]:
    for sequence, digest, at, public_key, signature in query(CHECKPOINTS, [organization_id]):
        yield Checkpoint(_whole(sequence) or -1, _text(digest), _time(at), _text(public_key), _text(signature))


def verify_all(query: Query, trusted_key: str | None) -> list[Report]:
    """A report per organisation."""
    reports = []
    for (organization_id,) in list(query(ORGANIZATIONS, [])):
        unsealed = next(query(UNSEALED, [organization_id]))[0]
        reports.append(
            verify_chain(
                _text(organization_id),
                _sealed_entries(query, organization_id),
                _checkpoints(query, organization_id),
                unsealed,
                trusted_key=trusted_key,
            )
        )
    return reports


def _django_query(sql: str, arguments: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, list(arguments))
        while rows := cursor.fetchmany(500):
            yield from rows


def _file_query(path: Path) -> Query:
    """Queries on a SQLite copy, opened read-only; its structure is checked first."""
    if not path.is_file():
        raise Unreadable(f"{path} is not a file")
    try:
        database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        database.text_factory = bytes
        verdict = database.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if verdict != b"ok":
            raise Unreadable(f"{path}: the file is damaged: {_text(verdict)}")
    except sqlite3.Error as error:
        raise Unreadable(f"{path}: {error}") from error

    def query(sql: str, arguments: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        plain = [_text(argument) for argument in arguments]
        yield from database.execute(sql.replace("%s", "?"), plain)

    return query


class Command(BaseCommand):
    help = "Walk the audit chain, name the first bad entry, report the unsealed tail."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--database", metavar="FILE", help="a copy of the SQLite file instead of our database")
        parser.add_argument("--public-key", metavar="HEX", help="the key checkpoints must be signed with")
        parser.add_argument("--json", action="store_true", help="the reports as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["public_key"] and not re.fullmatch(r"[0-9a-f]{64}", options["public_key"]):
            raise CommandError("--public-key is 64 hexadecimal digits (0-9, a-f).", returncode=2)
        try:
            query = _file_query(Path(options["database"])) if options["database"] else _django_query
            reports = verify_all(query, options["public_key"] or _own_public_key())
        except (Unreadable, sqlite3.Error, DatabaseError) as error:
            if options["json"]:
                self.stdout.write(json.dumps({"intact": False, "unreadable": str(error), "organizations": []}))
            raise CommandError(f"unreadable: {error}", returncode=2) from error
        if options["json"]:
            body = {
                "intact": all(report.is_intact for report in reports),
                "organizations": [dataclasses.asdict(report) for report in reports],
            }
            self.stdout.write(json.dumps(body, indent=2))
        else:
            self._print(reports)
        if not all(report.is_intact for report in reports):
            raise CommandError("the audit trail is not intact", returncode=1)

    def _print(self, reports: list[Report]) -> None:
        for report in reports:
            tail = f", {report.unsealed} not sealed yet" if report.unsealed else ""
            counts = f"{report.sealed} sealed, {report.checkpoints} checkpoints{tail}"
            if report.fault is None:
                self.stdout.write(f"{report.organization_id}: intact, {counts}")
            else:
                fault = report.fault
                where = f"sequence {fault.sequence}" + (f", entry {fault.entry_id}" if fault.entry_id else "")
                self.stdout.write(f"{report.organization_id}: {fault.code} at {where}: {fault.message} ({counts})")
        if not reports:
            self.stdout.write("no audit entries")


def _own_public_key() -> str | None:
    """Our own public key, where this installation has one; a copy elsewhere is checked by the keys it names."""
    if not settings.AUDIT_KEY_FILE.exists():
        return None
    return chain.public_key_of(sealer.signing_key(settings.AUDIT_KEY_FILE))
