"""Tables of what was planted and found, as docs/proof*.md show them. Imports nothing of the product: bugs are planted
while its modules are imported."""

from __future__ import annotations

from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"


def put_between(page: Path, begin: str, end: str, text: str) -> None:
    """Write ``text`` into the page between two marks, in place of what stood there. ValueError: a mark is missing."""
    before, opened, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise ValueError(f"{page.name} has no {begin if not opened else end}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def one_line(text: str, characters: int) -> str:
    """A cell of a table: no line of its own, no bar, and no longer than ``characters``."""
    return " ".join(text.split()).replace("|", "/")[:characters]


def said(name: str, seed: int | None, how: str) -> str:
    """What is printed of each while the hunt goes on."""
    return f"{name}: {'NOT FOUND' if seed is None else f'seed {seed}'} {how}\n"
