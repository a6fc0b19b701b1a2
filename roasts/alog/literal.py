"""Python and JSON literals read by hand: nothing is executed, and every bound is checked before it is spent. Pure.

An Artisan log is the ``repr`` of a dictionary; some programs write the same as JSON. One grammar reads both:
dictionaries with text keys, lists (and tuples, as lists), text, numbers, ``None/True/False``, ``null/true/false``
and not-a-number.
Sets, bytes, complex numbers, arithmetic, names and comments are refused, each with its place in the file.
"""

from __future__ import annotations

import re
from typing import Any

MAX_DEPTH = 24
#: Values that are read one by one (text, dictionaries, short lists) and escapes in text: about 2 µs each.
MAX_NODES = 200_000
#: Numbers in lists of nothing but numbers, which are read many at a time: about 0.2 µs and 32 bytes each.
MAX_NUMBERS = 1_000_000
MAX_NUMBER_CHARS = 64
MAX_KEY_CHARS = 200
#: Characters of a list of numbers that are split at once, so that its pieces never fill the memory.
CHUNK_CHARS = 65_536

Literal = dict[str, "Literal"] | list["Literal"] | str | int | float | bool | None

_SPACE = re.compile(r"[ \t\r\n\f]*+")
_NUMBER_LIST = re.compile(r"\[([0-9a-zA-Z+\-., \t\r\n]*+)\]")
_PLAIN = re.compile(r"[0-9.,\- \n]*+")
_NUMBER = re.compile(r"[+-]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d{1,4})?")
_WORD = re.compile(r"[+-]?[A-Za-z]++")
_TEXT = {
    "'": re.compile(r"'([^'\\\n]*+(?:\\.[^'\\\n]*+)*+)'", re.DOTALL),
    '"': re.compile(r'"([^"\\\n]*+(?:\\.[^"\\\n]*+)*+)"', re.DOTALL),
}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{1,3})|(.))", re.DOTALL)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "\n": ""}
_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
#: Missing numbers, as they stand in a list.
_MISSING = frozenset({"None", "null", " None", " null"})
_WORDS: dict[str, Any] = {
    "None": None, "null": None, "True": True, "true": True, "False": False, "false": False,
}  # fmt: skip


class BadLiteral(ValueError):
    """The text is no literal we read; the message says what and where."""


def parse_literal(text: str) -> Literal:
    """The one value that the text stands for. BadLiteral for everything else; time and memory are bounded."""
    reader = _Reader(text)
    value, position = reader.value(reader.skip(0), 0)
    position = reader.skip(position)
    if position != len(text):
        raise reader.error("something follows the end", position)
    return value


class _Reader:
    """Reads values from one text and counts what it spent."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._nodes = 0
        self._numbers = 0

    def error(self, what: str, position: int) -> BadLiteral:
        shown = self._text[position : position + 20]
        return BadLiteral(f"{what} at character {position}: {shown!r}" if shown else f"{what}: the text ends too soon")

    def skip(self, position: int) -> int:
        found = _SPACE.match(self._text, position)
        return found.end() if found else position

    def value(self, position: int, depth: int) -> tuple[Literal, int]:
        """The value that begins here, and where it ends."""
        self._spend(1, position)
        if depth > MAX_DEPTH:
            raise self.error(f"nested more than {MAX_DEPTH} deep", position)
        first = self._text[position : position + 1]
        if first == "{":
            return self._dictionary(position, depth)
        if first in ("[", "("):
            return self._list(position, depth)
        if first in _TEXT:
            return self._quoted(position)
        return self._plain(position)

    def _spend(self, nodes: int, position: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise self.error(f"more than {MAX_NODES} values", position)

    def _dictionary(self, position: int, depth: int) -> tuple[dict[str, Literal], int]:
        found: dict[str, Literal] = {}
        position = self.skip(position + 1)
        while self._text[position : position + 1] != "}":
            if self._text[position : position + 1] not in _TEXT:
                raise self.error("a dictionary's key must be text", position)
            key, position = self._quoted(position)
            if len(key) > MAX_KEY_CHARS:
                raise self.error(f"a key of more than {MAX_KEY_CHARS} characters", position)
            position = self.skip(position)
            if self._text[position : position + 1] != ":":
                raise self.error("a colon is missing", position)
            found[key], position = self.value(self.skip(position + 1), depth + 1)
            position = self._next(position, "}")
        return found, position + 1

    def _list(self, position: int, depth: int) -> tuple[list[Any], int]:
        numbers = self._number_list(position)
        if numbers is not None:
            return numbers
        close = "]" if self._text[position] == "[" else ")"
        found: list[Literal] = []
        position = self.skip(position + 1)
        while self._text[position : position + 1] != close:
            item, position = self.value(position, depth + 1)
            found.append(item)
            position = self._next(position, close)
        return found, position + 1

    def _next(self, position: int, close: str) -> int:
        """Past a comma, or at the closing bracket."""
        position = self.skip(position)
        if self._text[position : position + 1] == ",":
            return self.skip(position + 1)
        if self._text[position : position + 1] == close:
            return position
        raise self.error(f"a comma or {close!r} is missing", position)

    def _number_list(self, position: int) -> tuple[list[Any], int] | None:
        """A list of nothing but numbers and missing ones, many at a time; None where it is another kind of list."""
        found = _NUMBER_LIST.match(self._text, position)
        if found is None:
            return None
        start, end = found.span(1)
        self._numbers += self._text.count(",", start, end) + 1
        if self._numbers > MAX_NUMBERS:
            raise self.error(f"more than {MAX_NUMBERS} numbers", position)
        numbers: list[int | float | None] = []
        while start < end:
            stop = self._text.find(",", min(start + CHUNK_CHARS, end), end)
            stop = end if stop < 0 else stop
            pieces = self._text[start:stop].split(",")
            if stop == end and not pieces[-1].strip():
                pieces.pop()  # nothing, or a comma, before the bracket
            if pieces and max(map(len, pieces)) > MAX_NUMBER_CHARS:
                raise self.error(f"a number of more than {MAX_NUMBER_CHARS} characters", start)
            try:
                numbers.extend(_numbers(self._text[start:stop], pieces))
            except ValueError:
                return None  # words among them: read one by one
            start = stop + 1
        return numbers, found.end()

    def _quoted(self, position: int) -> tuple[str, int]:
        found = _TEXT[self._text[position]].match(self._text, position)
        if found is None:
            raise self.error("text without an end", position)
        inside = found.group(1)
        if "\\" in inside:
            self._spend(inside.count("\\"), position)
            inside = _ESCAPE.sub(self._unescape, inside)
        return well_formed(inside), found.end()

    def _unescape(self, found: re.Match[str]) -> str:
        code = found.group(1) or found.group(2) or found.group(3)
        if code:
            number = int(code, 16)
            return chr(number) if number <= 0x10FFFF else "\ufffd"
        if found.group(4):
            return chr(int(found.group(4), 8))
        letter = found.group(5)
        return _LETTERS.get(letter, letter)

    def _plain(self, position: int) -> tuple[Literal, int]:
        """A number or one of the few words."""
        found = _NUMBER.match(self._text, position) or _WORD.match(self._text, position)
        if found is None:
            raise self.error("no value", position)
        token, end = found.group(), found.end()
        follows = self._text[end : end + 1]
        if follows.isalnum() or follows in ("_", ".", "'", '"', "("):
            raise self.error("no value that a log may hold", position)
        if token in _WORDS:
            return _WORDS[token], end
        if len(token) > MAX_NUMBER_CHARS:
            raise self.error(f"a number of more than {MAX_NUMBER_CHARS} characters", position)
        try:
            return _number(token), end
        except ValueError:
            raise self.error("no value that a log may hold", position) from None


def _numbers(chunk: str, pieces: list[str]) -> list[int | float | None]:
    """The numbers of a stretch of a list; ValueError where there is something else."""
    if _PLAIN.fullmatch(chunk):
        if chunk.count(".") == len(pieces) and ".." not in chunk:
            return list(map(float, pieces))  # each has its point, or one has two and float() says so
        if "." not in chunk:
            return list(map(int, pieces))
    return [None if piece in _MISSING else _number(piece) for piece in pieces]


def _number(piece: str) -> int | float:
    """``3``, ``-1.5e3``, ``nan``, ``-inf``; ValueError for anything else."""
    if "." in piece or "e" in piece or "n" in piece:
        return float(piece)
    try:
        return int(piece)
    except ValueError:
        return float(piece)


def well_formed(text: str) -> str:
    """Halves of a surrogate pair joined; a lone half, which no UTF-8 can hold, becomes U+FFFD."""
    if not _SURROGATE.search(text):
        return text
    joined = _SURROGATE_PAIR.sub(lambda pair: pair.group().encode("utf-16", "surrogatepass").decode("utf-16"), text)
    return _SURROGATE.sub("\ufffd", joined)
