"""`manage.py incident`: one file with all that is known of a stretch of time, for whoever must find out what happened.

Exit 1: nothing to bundle, or it could not be written; 2: the question itself is wrong.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import difflib
import functools
import hashlib
import json
import os
import zipfile
from argparse import ArgumentParser
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from kernel import canonical, clock
from roastops import incident
from roastops.incident import Line, Window
from roastops.scrubbing import Scrubber, known_secrets
from roasts.models import Machine

EXIT_WRONG = 2
MAX_DAYS = 31
#: Present whatever happened then: alone they are no finding.
AS_OF_NOW = frozenset({"latest_readings.jsonl", "checkpoints.jsonl"})
NOTE = (
    "Times are UTC, the window is half-open. orders, halts, alarms and roasts: all that stood in the window. "
    "audit: entries with their seals (organisation-wide, so that the chain can be followed), payload as it was sealed. "
    "logs and wire: of this host only. Secrets are replaced by [removed]."
)


class Command(BaseCommand):
    help = "Bundle logs, wire log, audit, readings and orders of a stretch of time into one zip file, without secrets."
    requires_system_checks: list[str] = []  # what is broken may be why somebody asks

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--from", dest="since", required=True, metavar="ISO", help="e.g. 2026-11-21T07:30:00Z")
        parser.add_argument("--to", dest="until", required=True, metavar="ISO", help="the first moment after")
        parser.add_argument("--machine", metavar="ID", default="", help="one machine only (default: all)")
        parser.add_argument("--out", required=True, metavar="FILE.zip", help="a new file")

    def handle(self, *args: Any, **options: Any) -> None:
        out = _new_file(options["out"])
        window = _window(options["since"], options["until"], options["machine"])
        problems: list[str] = []
        _check_machine(window, problems)
        part = out.with_name(f".{out.name}.{os.getpid()}.part")
        try:
            with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "wb") as raw:
                counts = write_bundle(raw, window, problems)
            if not any(count for name, count in counts.items() if name not in AS_OF_NOW):
                raise CommandError(_nothing(window, problems))
            _put_in_place(part, out)
        except OSError as error:
            raise CommandError(f"{out} cannot be written: {error.strerror or error}.") from error
        finally:
            part.unlink(missing_ok=True)
        self.stdout.write(f"{out}: " + ", ".join(f"{count} {Path(name).stem}" for name, count in counts.items()))
        for problem in problems:
            self.stderr.write(f"incomplete: {problem}")


def _new_file(text: str) -> Path:
    out = Path(text)
    if out.exists() or out.is_symlink():
        raise CommandError(f"{out} is there already. Name a new file.", returncode=EXIT_WRONG)
    if not out.parent.is_dir():
        raise CommandError(f"{out.parent} is no folder. Make it, or name another.", returncode=EXIT_WRONG)
    return out


def _window(since: str, until: str, machine_id: str) -> Window:
    window = Window(_time("--from", since), _time("--to", until), machine_id)
    if window.since >= window.until:
        raise CommandError("--from must lie before --to.", returncode=EXIT_WRONG)
    if window.until - window.since > dt.timedelta(days=MAX_DAYS):
        raise CommandError(f"More than {MAX_DAYS} days at once: ask for a shorter stretch.", returncode=EXIT_WRONG)
    return window


def _time(option: str, text: str) -> dt.datetime:
    try:
        at = dt.datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return at.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise CommandError(
            f"{option} {text!r} is no ISO 8601 time. Write it like 2026-11-21T07:30:00Z.", returncode=EXIT_WRONG
        ) from None
    raise CommandError(f"{option} {text!r} names no zone. Write {text}Z for UTC, or add +01:00.", returncode=EXIT_WRONG)


def _check_machine(window: Window, problems: list[str]) -> None:
    """An unknown machine is an error with the nearest known one; a database that is away is only told."""
    try:
        known = dict(Machine.objects.order_by("id").values_list("pk", "name"))
    except DatabaseError as error:
        problems.append(f"the database does not answer, so only files of this host are here: {_first_line(error)}")
        return
    if window.machine_id and window.machine_id not in known:
        near = difflib.get_close_matches(window.machine_id, known, n=1)
        named = [pk for pk, name in known.items() if name == window.machine_id]
        hint = f"Did you mean {(named or near)[0]}?" if named or near else f"Known: {', '.join(known) or 'none'}."
        raise CommandError(f"There is no machine {window.machine_id!r}. {hint}", returncode=EXIT_WRONG)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _nothing(window: Window, problems: list[str]) -> str:
    of = f" of {window.machine_id}" if window.machine_id else ""
    words = f"Nothing is known{of} from {canonical.utc_text(window.since)} to {canonical.utc_text(window.until)}"
    return " ".join([f"{words}: no file was written. Are the times right, and in UTC?", *problems])


def write_bundle(raw: Any, window: Window, problems: list[str]) -> dict[str, int]:
    """Write the zip; how many lines each part has. What cannot be read goes to ``problems``, and the rest stands."""
    scrub = Scrubber(known_secrets())
    counts: dict[str, int] = {}
    digests: dict[str, str] = {}
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, gather in _parts(window, problems).items():
            counts[name] = 0
            try:
                counts[name], digests[name] = _write_part(bundle, name, gather, scrub)
            except (DatabaseError, OSError) as error:
                problems.append(f"{name} is not whole: {scrub.text(_first_line(error))}")
        manifest = {
            "service": "roastops", "version": settings.VERSION, "build": settings.ENVIRONMENT.build,
            "host": settings.HOST_NAME, "made_at": canonical.utc_text(clock.now()), "note": NOTE,
            "from": canonical.utc_text(window.since), "to": canonical.utc_text(window.until),
            "machine_id": window.machine_id or None, "problems": scrub.value(problems),
            "files": {name: {"lines": counts[name], "sha256": digests.get(name)} for name in counts},
        }  # fmt: skip
        bundle.writestr("manifest.json", json.dumps(manifest, indent=2) + "\n")
    return counts


def _parts(window: Window, problems: list[str]) -> dict[str, Callable[[], Iterable[Line]]]:
    return {
        "logs.jsonl": functools.partial(incident.log_lines, window, problems),
        "wire.jsonl": functools.partial(incident.wire_lines, window, problems),
        "audit.jsonl": functools.partial(incident.audit, window),
        "checkpoints.jsonl": functools.partial(incident.checkpoints, window),
        "orders.jsonl": functools.partial(incident.orders, window),
        "halts.jsonl": functools.partial(incident.halts, window),
        "alarms.jsonl": functools.partial(incident.alarms, window),
        "roasts.jsonl": functools.partial(incident.roasts, window),
        "samples.jsonl": functools.partial(incident.samples, window),
        "latest_readings.jsonl": functools.partial(incident.latest_readings, window),
    }


def _write_part(
    bundle: zipfile.ZipFile, name: str, gather: Callable[[], Iterable[Line]], scrub: Scrubber
) -> tuple[int, str]:
    """One file of JSON lines; how many, and its SHA-256."""
    count, digest = 0, hashlib.sha256()
    with bundle.open(name, "w") as stream:
        for line in gather():
            text = json.dumps(scrub.value(line), ensure_ascii=False, default=str) + "\n"
            data = text.encode("utf-8", "backslashreplace")
            stream.write(data)
            digest.update(data)
            count += 1
    return count, digest.hexdigest()


def _put_in_place(part: Path, out: Path) -> None:
    """Never over a file that came meanwhile. OSError."""
    try:
        os.link(part, out)
    except FileExistsError:
        raise
    except OSError:  # a medium without hard links
        with contextlib.suppress(FileNotFoundError):
            out.lstat()
            raise FileExistsError(17, "it is there already") from None
        os.rename(part, out)
