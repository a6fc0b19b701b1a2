"""Python's own search for garbage stops every thread of a process while it looks, so here it looks seldom (no Django).

What nobody holds any more is let go at once, by its count; the search is for what holds itself in a circle. It goes
through all objects whenever a quarter more have come: 100 to 400 ms in a web process that follows a thousand machines
(`bench ingest --full`), and STOP, an approval or a batch that comes meanwhile waits.
"""

from __future__ import annotations

import gc

#: New objects before the young are gone through; that many times before the middle ones are, and then all.
SELDOM = (50_000, 20, 50)


def settle() -> None:
    """Call it when a process that lives long has made what it needs: that is not gone through again, and the rest
    seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*SELDOM)
