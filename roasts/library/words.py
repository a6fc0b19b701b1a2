"""How the library finds words: the beginning of any word of what people say of a roast, in any case.

On PostgreSQL a column that the database itself keeps (the words as ``tsvector``, with a GIN index) answers, on
SQLite a scan; both split at everything that is no letter and no digit, so that "gotiti" and "no40" are found in
"Yirgacheffee-Banko-Gotiti_no40". The column is kept, not made as it is asked: where the planner walks the roasts
in order of time, not the index (two words, each common, that never come together), a row costs 1 µs, not 12.
"""

from __future__ import annotations

import re
from typing import Any

from django.db.models import BooleanField, F, Func, Q, Value

#: What people say of a roast.
COLUMNS = ("title", "bean", "origin", "process", "variety", "lot")
#: SQLite has no regular expressions of its own: these become spaces, letters and digits stay.
SEPARATORS = "-_./,;:()#'&+"
MAX_WORDS = 6
INDEX_NAME, WORDS_COLUMN = "roast_words", "said_words"


def words_of(text: str) -> list[str]:
    """The words somebody looks for, lower case, at most MAX_WORDS; none for text without letters or digits."""
    return re.findall(r"[^\W_]+", text.lower())[:MAX_WORDS]


def postgres_words() -> str:
    """What the kept column holds."""
    joined = " || ' ' || ".join(f'"{column}"' for column in COLUMNS)
    return f"to_tsvector('simple'::regconfig, regexp_replace(lower({joined}), '[^[:alnum:]]+', ' ', 'g'))"


class HasWord(Func):
    """Whether a roast says a word that begins so."""

    output_field = BooleanField()
    conditional = True

    def __init__(self, word: str) -> None:
        super().__init__(*(F(column) for column in COLUMNS), Value(word))

    def as_sql(self, compiler: Any, connection: Any, **_context: Any) -> Any:  # type: ignore[override]
        *columns, word = self.get_source_expressions()
        names = [compiler.compile(column)[0] for column in columns]
        if connection.vendor == "postgresql":
            table = names[0].rpartition(".")[0]
            return f"({table}.{WORDS_COLUMN} @@ to_tsquery('simple', %s))", [f"{word.value}:*"]
        text = "' ' || " + " || ' ' || ".join(names)
        for separator in SEPARATORS:
            quoted = separator.replace("'", "''")
            text = f"replace({text}, '{quoted}', ' ')"
        return f"({text} LIKE %s)", [f"% {word.value}%"]


def saying(text: str) -> Q:
    """Roasts that say every word of ``text``; all of them where it has none."""
    condition = Q()
    for word in words_of(text):
        condition &= Q(HasWord(word))
    return condition
