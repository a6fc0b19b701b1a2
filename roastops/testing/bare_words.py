"""Words in templates and scripts that no catalog can translate, because nothing asks for them. For the tests.

Reads the source, not a page: a branch that no test page shows is looked at like any other.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from django.template.base import Lexer, TokenType

BASE_DIR = Path(__file__).resolve().parent.parent.parent
#: Attributes that a person reads or hears.
SPOKEN_ATTRIBUTES = frozenset(
    {"aria-label", "title", "placeholder", "alt", "aria-description", "label"}
    | {f"data-{name}" for name in ("done", "said", "said-once", "title", "word", "label", "wait", "empty")}
)
#: What stands alike in every language: names, units, formats, what is written on a machine or a key.
ALIKE = frozenset(
    """
    RoastOps STOP BT ET RoR DTR AUC RMSE IR PIN Artisan RoasTime CSV JSON NDJSON PNG SVG MB GET SHA sha256 min ms kJ kg
    Esc Shift Enter SET_POWER SET_FAN SET_DRUM PREHEAT CHARGE DROP COOL L1 L2 L3 L4 L5 Maillard Agtron rpm lb
    """.split()
)
_WORD = re.compile(r"[A-Za-z]{2,}[\w'’]*")
_ENTITY = re.compile(r"&\w+;")
#: Shown as it was typed at a computer: code, keys, and what a page says in English on purpose (`lang="en"`).
_AS_IT_IS = frozenset({"code", "kbd", "script", "style", "svg-use"})
_VOID = frozenset({"br", "hr", "img", "input", "link", "meta", "use", "rect", "progress-bar", "source", "wbr"})
#: Filters with English words of their own.
_ENGLISH_FILTER = re.compile(
    r"\|\s*(?:pluralize|timesince|timeuntil|naturaltime|yesno(?!:_)|title\b|default:\"[^\"]*[A-Za-z]{2})"
)
_OPENS = {"blocktranslate": "endblocktranslate", "blocktrans": "endblocktrans", "comment": "endcomment"}


def bare(text: str) -> list[str]:
    """The words of ``text`` that somebody would have to translate."""
    words = _WORD.findall(_ENTITY.sub(" ", text))
    return [word for word in words if word not in ALIKE]


class _Reader(HTMLParser):
    """Collects what a person would see of a template whose own tags were taken out."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.found: list[str] = []
        self.stack: list[str] = []

    @property
    def _is_as_it_is(self) -> bool:
        return any(tag in _AS_IT_IS for tag in self.stack)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in SPOKEN_ATTRIBUTES and value and bare(value):
                self.found.append(f"{name}={value.strip()}")
        if tag not in _VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.stack.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in self.stack:
            while self.stack.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if not self._is_as_it_is and bare(data):
            self.found.append(" ".join(data.split()))


def of_template(source: str) -> list[str]:
    """Text and spoken attributes outside `translate` and `blocktranslate`, and filters that speak English."""
    found: list[str] = []
    kept: list[str] = []
    until = ""
    for token in Lexer(source).tokenize():
        name = token.contents.split()[0] if token.token_type is TokenType.BLOCK and token.contents.split() else ""
        if until:
            until = "" if name == until else until
        elif token.contents == "block body_class":
            until = "endblock"  # names of classes
        elif name in _OPENS:
            until = _OPENS[name]
            kept.append("…")
        elif token.token_type is TokenType.TEXT:
            kept.append(token.contents)
        elif token.token_type in (TokenType.VAR, TokenType.BLOCK):
            if _ENGLISH_FILTER.search(token.contents):
                found.append(token.contents)
            kept.append("…" if token.token_type is TokenType.VAR or name in ("translate", "trans") else " ")
    reader = _Reader()
    reader.feed("".join(kept))
    reader.close()
    return found + reader.found


def of_templates(paths: list[Path]) -> dict[str, list[str]]:
    """Template → its bare words, for those that have any."""
    read = {str(path.relative_to(BASE_DIR)): of_template(path.read_text()) for path in paths}
    return {name: found for name, found in read.items() if found}


# --- scripts -------------------------------------------------------------------------------------

_LITERAL = re.compile(
    r"//[^\n]*|/\*.*?\*/"  # a comment is skipped whole
    r"|(?P<before>[\w.]+\(\s*)?(?P<quote>[\"'`])(?P<text>(?:\\.|(?!(?P=quote)).)*)(?P=quote)",
    re.S,
)
#: One capitalised word; two words beside each other; or words that end like a sentence.
_SENTENCE = re.compile(
    r"^(?:[A-Z][a-z]{1,}[.…:!?]?"
    r"|[^<>{}\[\]#=;]*[A-Za-z]{2,}[,.:;]? [a-zA-Z]{2,}[^<>{}\[\]#=;]*"
    r"|[^<>{}#=]*[a-z]{3,}[.:!?]\s*)$"
)
#: Literals that look like words and are none that a person reads: events, keys, headers, names of fonts and the like.
NO_WORDS = frozenset(
    """
    Escape Enter Content-Type Accept Files Idempotency-Key GET POST Shift Space Tab
    """.split()
    + [
        "use strict", "textarea, input, button", "input, select, textarea", ".reasons button", "banner banner-warning",
        "notice notice-unsent", "(prefers-color-scheme: dark)", "roastops.sound.",
        "batch mass", "probe at charge", "time since charge", "mains voltage",  # of the twin: outlook.js words them
        # what goes into the record, in English (known_told has its translation)
        "Commissioning: one step while a person watches the machine.", "By hand in the console.",
        "Beans out: seen at the machine.",
    ]
)  # fmt: skip


def of_script(source: str) -> list[str]:
    """String literals that read like words and are not asked for by `t("…")`."""
    found = []
    for literal in _LITERAL.finditer(source):
        text = literal["text"]
        if text is None or text in NO_WORDS or not _SENTENCE.match(text):
            continue
        called = (literal["before"] or "").rstrip("( \n")
        if called.split(".")[-1] == "t":
            continue
        if bare(text):
            found.append(text)
    return found
