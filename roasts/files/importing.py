"""Files become roasts: read, known again by their digest, filed; and what is said of each to a person."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import logging
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, TypeVar

from django.db import transaction

from kernel import ids
from kernel.canonical import utc_text
from kernel.errors import ApiError, Unprocessable
from kernel.models import Organization
from kernel.principals import Principal
from roasts.files.import_rows import ReadyRoast, read_ready
from roasts.files.reader_process import end_with_parent
from roasts.files.services_imports import Filed, file_roast, find_duplicate, is_copied, organization_of
from roasts.formats.imported import FormatError, ImportedRoast, TooLarge, clock_words
from roasts.formats.reading import read_roast
from roasts.models import Machine

logger = logging.getLogger(__name__)
#: Files of one transaction of a bulk import; as many are read ahead.
BATCH_FILES = 8

Read = TypeVar("Read")
#: A file's name, its bytes, and the roast that is being read of them.
Waiting = tuple[str, bytes, "Future[ReadyRoast]"]


def digest_of(data: bytes) -> str:
    """By which a file is known again: SHA-256, hex."""
    return hashlib.sha256(data).hexdigest()


def read_file(data: bytes) -> ImportedRoast:
    """The roast in the bytes, or a refusal that says what to do: 413 or 422. No database is asked."""
    return _told(lambda: read_roast(data))


def _told(read: Callable[[], Read]) -> Read:
    try:
        return read()
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


def import_files(
    principal: Principal, files: Iterable[tuple[str, bytes]], *, machine: Machine | None = None, now: dt.datetime
) -> Iterator[Filed | ApiError]:
    """Many files (name, bytes), in order, BATCH_FILES to a transaction; the next are read while those are filed.

    What cannot be read is answered with its refusal, and the rest goes on. A batch that a crash took is brought again:
    what came in before is known by its digest.
    """
    organization = organization_of(principal)
    remaining = iter(files)
    with _ReadAhead(remaining, now) as ahead:
        batch = ahead.next_batch()
        while batch:
            following = ahead.next_batch()
            with transaction.atomic():
                outcomes = [_file_next(principal, organization, each, machine=machine, now=now) for each in batch]
            yield from outcomes
            batch = following


class _ReadAhead:
    """Reads the next files while others are filed: the first batch in a thread, what follows in a process of its own
    (two threads of one would take turns), which a few files are not worth.
    """

    def __init__(self, files: Iterator[tuple[str, bytes]], now: dt.datetime) -> None:
        self._files = files
        self._now = now
        self._reader: Executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-roast")
        self._readers = ExitStack()
        self._readers.enter_context(self._reader)
        self._batches = 0

    def __enter__(self) -> _ReadAhead:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._readers.close()

    def next_batch(self) -> list[Waiting]:
        """The next files with what is being read of each; none at the end."""
        chosen = list(itertools.islice(self._files, BATCH_FILES))
        self._batches += bool(chosen)
        if chosen and self._batches == 2:
            spawned = multiprocessing.get_context("spawn")  # a fork would share the database's connection
            self._reader = self._readers.enter_context(
                ProcessPoolExecutor(max_workers=1, mp_context=spawned, initializer=end_with_parent)
            )
        return [(file_name, data, self._read(data)) for file_name, data in chosen]

    def _read(self, data: bytes) -> Future[ReadyRoast]:
        try:
            return self._reader.submit(read_ready, data, ids.new("rst"), self._now, is_copied())
        except BrokenExecutor:
            broken: Future[ReadyRoast] = Future()
            broken.set_exception(BrokenExecutor())
            return broken


def _file_next(
    principal: Principal,
    organization: Organization,
    waiting: Waiting,
    *,
    machine: Machine | None,
    now: dt.datetime,
) -> Filed | ApiError:
    file_name, data, reading = waiting
    digest = digest_of(data)
    known = find_duplicate(organization, digest)
    if known is not None:
        return known
    try:
        ready = _read_ahead(reading, data, now)
        return file_roast(
            principal,
            ready.imported,
            digest=digest,
            file_name=file_name,
            size_bytes=len(data),
            machine=machine,
            now=now,
            ready=ready,
        )
    except ApiError as error:
        return error


def _read_ahead(reading: Future[ReadyRoast], data: bytes, now: dt.datetime) -> ReadyRoast:
    """What the reader made of it; read here where the reader is gone."""
    try:
        return _told(reading.result)
    except BrokenExecutor:
        logger.warning("the process that reads files ahead is gone; they are read here")
        return _told(lambda: read_ready(data, ids.new("rst"), now, is_copied()))


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
