"""Secrets that we generate once and keep in the data folder, readable by their owner alone."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from kernel import ids


def read_or_create(path: Path) -> str:
    """The secret in ``path``; a fresh one of 64 characters is written (0600) when there is none.

    Two processes that start together agree: the file is linked into place, and the loser reads the winner's.
    """
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        pass
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(ids.random_bytes(32).hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text(encoding="ascii").strip()
