"""The catalogs of `locale/`: each `.po`, which the repository keeps, compiled to the `.mo` that Django reads.

Done at set-up (`roastops.vendor`), by `up` and before tests; quick when nothing changed. Without a compiled
catalog, or for a sentence it lacks, pages are in English.
"""

from __future__ import annotations

import os
from pathlib import Path

import polib

LOCALE_DIR = Path(__file__).resolve().parent.parent / "locale"


def is_current(source: Path, compiled: Path) -> bool:
    """Whether ``compiled`` was made after the last change of ``source``."""
    return compiled.is_file() and compiled.stat().st_mtime_ns >= source.stat().st_mtime_ns


def compile_all(locale_dir: Path = LOCALE_DIR) -> list[Path]:
    """Compile what changed; the files written. OSError or UnicodeDecodeError for a catalog that cannot be read."""
    written = []
    for source in sorted(locale_dir.glob("*/LC_MESSAGES/*.po")):
        compiled = source.with_suffix(".mo")
        if is_current(source, compiled):
            continue
        unfinished = compiled.with_name(f"{compiled.name}.{os.getpid()}")
        unfinished.write_bytes(polib.pofile(str(source)).to_binary())
        unfinished.replace(compiled)  # several test processes may do this at once
        written.append(compiled)
    return written
