"""Files become roasts: read, known again by their digest, filed; and what is said of each to a person."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any

from kernel.canonical import utc_text
from kernel.errors import ApiError, Unprocessable
from kernel.principals import Principal
from roasts.formats.imported import FormatError, ImportedRoast, TooLarge, clock_words
from roasts.formats.reading import read_roast
from roasts.models import Machine
from roasts.services_imports import Filed, file_roast, find_duplicate, organization_of


def digest_of(data: bytes) -> str:
    """By which a file is known again: SHA-256, hex."""
    return hashlib.sha256(data).hexdigest()


def read_file(data: bytes) -> ImportedRoast:
    """The roast in the bytes, or a refusal that says what to do: 413 or 422. No database is asked."""
    try:
        return read_roast(data)
    except TooLarge as error:
        raise ApiError(error.code, error.message, error.how_to_fix, status=413) from error
    except FormatError as error:
        raise Unprocessable(error.code, error.message, error.how_to_fix) from error


def import_file(
    principal: Principal, data: bytes, *, file_name: str, machine: Machine | None = None, now: dt.datetime
) -> Filed:
    """Read one file and file its roast. The same bytes a second time are answered with the roast they became."""
    organization = organization_of(principal)
    digest = digest_of(data)
    known = find_duplicate(organization, digest)
    if known is not None:
        return known
    return file_roast(
        principal, read_file(data), digest=digest, file_name=file_name, size_bytes=len(data), machine=machine, now=now
    )


def describe(filed: Filed) -> dict[str, Any]:
    """What the console, the API and the command say of one file."""
    roast, file = filed.roast, filed.file
    return {
        "status": "duplicate" if filed.is_duplicate else "imported",
        "roast_id": roast.pk,
        "machine_id": roast.machine_id,
        "title": roast.title or roast.bean,
        "file_name": file.file_name,
        "format": file.format,
        "digest": roast.source_digest,
        "started_at": utc_text(roast.started_at),
        "length": clock_words((roast.total_ms or 0) / 1000) if roast.total_ms else "",
        "samples": filed.samples,
        "understood": file.understood,
        "dropped": file.dropped,
        "warnings": file.warnings,
    }
