"""The process that reads files ahead of their filing. It knows no store, and ends with whoever started it."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
import threading


def end_with_parent() -> None:
    """In the new process: an importer that was killed says nothing, and files would be waited for for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), name="end-with-parent", daemon=True).start()


def _follow(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
