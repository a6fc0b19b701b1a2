"""The house's way to its database: what is written is counted, and a statement costs what SQLite takes for it.

Django puts two wrappers round each cursor and rewrites the placeholders of every statement anew; a seed runs some
1,500 statements. :class:`Cursor` does the same once per statement.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Mapping
from typing import Any

from django.db.backends.sqlite3.base import SQLiteCursorWrapper

from commands.models import MachineLease
from roasts.models import MachineReading, Sample

#: What is written all the time and concerns no order, law or person: the newest reading, samples, a lease's time.
_UNTOLD = (
    f'UPDATE "{MachineReading._meta.db_table}"', f'UPDATE "{MachineLease._meta.db_table}"',
    f'INSERT INTO "{Sample._meta.db_table}"',
)  # fmt: skip
_READING = ("SELECT", "SAVEPOINT", "RELEASE", "ROLLBACK", "PRAGMA", "BEGIN")
_WRITING = re.compile(r'(?:INSERT (?:OR \w+ )?INTO|UPDATE|DELETE FROM) "(\w+)"')
#: The house's few hundred statements are compiled once each.
STATEMENTS = 2000


def table_of(statement: str) -> str:
    """The table it writes: "" where it writes nothing worth a look, "?" where we cannot say which."""
    if statement.startswith(_READING) or statement.startswith(_UNTOLD):
        return ""
    found = _WRITING.match(statement)
    return found.group(1) if found else "?"


class Writes:
    """How often something was written: in all, and by table. (A statement that was taken back counts, too.)"""

    def __init__(self) -> None:
        self.version = 0
        self.by_table: Counter[str] = Counter()
        self._tables: dict[str, str] = {}

    def note(self, statement: str) -> None:
        """A statement is run."""
        table = self._tables.get(statement)
        if table is None:
            if len(self._tables) > STATEMENTS:
                self._tables.clear()
            table = self._tables[statement] = table_of(statement)
        if table:
            self.version += 1
            self.by_table[table] += 1

    def forget(self) -> None:
        """Everything may be another now."""
        self.version += 1
        self.by_table["?"] += 1

    def of(self, tables: tuple[str, ...]) -> int:
        """Higher after each statement that may have written to one of them."""
        return self.by_table["?"] + sum(self.by_table[table] for table in tables)

    def wrapper(self, execute: Any, statement: str, params: Any, many: bool, context: Any) -> Any:
        """Where Django's own cursors are used."""
        self.note(statement)
        return execute(statement, params, many, context)


_PLAIN: dict[str, str] = {}


class Cursor(SQLiteCursorWrapper):
    """Django's cursor of SQLite; counts what it runs, and turns SQLite's errors into Django's."""

    link: Any

    def execute(self, query: str, params: Any = None) -> Any:
        link = self.link
        if link.needs_rollback:
            link.validate_no_broken_transaction()
        link.writes.note(query)
        try:
            if params is None:
                return sqlite3.Cursor.execute(self, query)
            if isinstance(params, Mapping):
                return super().execute(query, params)
            return sqlite3.Cursor.execute(self, self._plain(query), params)
        except sqlite3.Error:
            with link.wrap_database_errors:
                raise

    def executemany(self, query: str, param_list: Any) -> Any:
        self.link.writes.note(query)
        with self.link.wrap_database_errors:
            return super().executemany(query, param_list)

    def _plain(self, query: str) -> str:
        """With SQLite's own placeholders."""
        plain = _PLAIN.get(query)
        if plain is None:
            if len(_PLAIN) > STATEMENTS:
                _PLAIN.clear()
            plain = _PLAIN[query] = self.convert_query(query)
        return plain

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
