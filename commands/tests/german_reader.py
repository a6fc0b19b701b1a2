"""Reads a page as a person does, and says what English of ours is left on it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from html.parser import HTMLParser

from django.test import Client

from roastops.testing.bare_words import SPOKEN_ATTRIBUTES

#: Words that English sentences cannot do without, and German ones do not have.
ENGLISH = frozenset(
    """
    the and of with this that is are it its by from has have been be not no yes only when which who why what where how
    to for order orders machine roast roasts heat heater fan drum held refused approved rejected since until step steps
    reading readings nothing nobody somebody there they than then after before first last more less most one two none
    never again may must does did share show look looked away above below under beans bean rise rate bound while
    """.split()
)
#: Codes and names that stand on a page as they are.
AS_IT_IS = ("Bench Bullet", "Demo Roastery", "roastrunner", "Drop", "Release", "Bullet R1", "First in", "order watch")
_WORD = re.compile(r"[A-Za-zÄÖÜäöüß][\wÄÖÜäöüß']+")
_MASKED = re.compile(r"\S*\*{6,}")  # the begin of a password's digest may spell a word
_NOT_READ = frozenset({"code", "kbd", "script", "style", "textarea"})
_VOID = frozenset({"br", "hr", "img", "input", "link", "meta", "use", "rect", "path", "circle", "line", "wbr"})


class Reader(HTMLParser):
    """What a person reads or hears of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.stack: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.said += [value for name, value in attrs if name in SPOKEN_ATTRIBUTES and value]
        if tag not in _VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.said += [value for name, value in attrs if name in SPOKEN_ATTRIBUTES and value]

    def handle_endtag(self, tag: str) -> None:
        while self.stack and self.stack.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if data.strip() and not _NOT_READ & set(self.stack):
            self.said.append(" ".join(data.split()))


def english_in(body: str) -> list[str]:
    """What a page says with an English word in it."""
    reader = Reader()
    reader.feed(body)
    found = []
    for said in reader.said:
        rest = _MASKED.sub("", said)
        for name in AS_IT_IS:
            rest = rest.replace(name, "")
        words = {word if word == "Not" else word.lower() for word in _WORD.findall(rest)}
        if words & ENGLISH:
            found.append(said)
    return found


def no_english_left(client: Client, paths: Iterable[str], *, of: Callable[[str], str] = str) -> None:
    """Every page answers, and says nothing in English. ``of``: what of a page is read; `/nowhere/` is not there."""
    left = {}
    for path in paths:
        answer = client.get(path)
        assert answer.status_code == (404 if path == "/nowhere/" else 200), (path, answer.status_code)
        if said := english_in(of(answer.content.decode())):
            left[path] = said
    assert left == {}, "\n".join(f"{path}: {each}" for path, said in left.items() for each in sorted(set(said)))
