"""The house's database: SQLite in memory (whatever an example wrote is rolled back after it), or PostgreSQL.

``install`` puts a connection of our own in Django's place, so that a test run's database is never touched. Every
commit is told to ``watcher`` before and after, for crashes at transaction boundaries. ``version`` counts what was
written, so that who looks again and again need not where nothing was.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import shutil
import sqlite3
import tempfile
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.sqlite3.base import DatabaseWrapper as SqliteWrapper
from django.db.backends.sqlite3.operations import DatabaseOperations as SqliteOperations

from simulation.house_cursor import STATEMENTS, Cursor, Writes

CommitWatcher = Callable[[str], None]  # told "before" and "after"; may raise a BaseException: the process died
_KEPT, _TRANSACTION = "house_kept", "house_transaction"
_SESSION = "SET session_replication_role = {}"  # triggers guard what only we may delete


class _Operations(SqliteOperations):
    """Times as Django writes and reads them, without asking the settings for each: the house's are all in UTC."""

    compiler_module = "simulation.house_compiler"

    def adapt_datetimefield_value(self, value: Any) -> Any:
        if type(value) is dt.datetime and value.tzinfo is dt.UTC:
            return value.replace(tzinfo=None).isoformat(" ")
        return super().adapt_datetimefield_value(value)

    def convert_datetimefield_value(self, value: Any, expression: Any, connection: Any) -> Any:
        if type(value) is str:
            value = dt.datetime.fromisoformat(value)
            if value.tzinfo is None:
                return value.replace(tzinfo=dt.UTC)
        return super().convert_datetimefield_value(value, expression, connection)


class _Wrapper(SqliteWrapper):
    """Django's own, with savepoints for transactions once the content is kept: so that all of an example is one
    transaction that can be rolled back, which costs what was written, not what there is. (A foreign key that hangs in
    the air is refused by neither then: `Store.dangling` looks for them.)"""

    is_kept = False  # inside the transaction that is rolled back
    is_open = False  # a transaction of the product is under way
    ops_class = _Operations
    writes: Writes
    _thread_ident: int

    def create_cursor(self, name: str | None = None) -> Cursor:
        made = self.connection.cursor(factory=Cursor)
        made.link = self
        return made

    def cursor(self) -> Any:
        """Where nobody listens to statements, the driver's own cursor without Django's two wrappers round it."""
        is_heard = self.execute_wrappers or self.force_debug_cursor or self.connection is None
        if is_heard or self._thread_ident != threading.get_ident():
            return super().cursor()
        return self.create_cursor()

    def keep(self) -> None:
        """From here on everything can be taken back."""
        self._say("BEGIN")
        self._say(f"SAVEPOINT {_KEPT}")
        self.is_kept = True

    def take_back(self) -> None:
        """As it was when it was kept."""
        self._say(f"ROLLBACK TO {_KEPT}")
        self.is_open = False

    def _say(self, statement: str) -> None:
        self.connection.execute(statement)

    def _start_transaction_under_autocommit(self) -> None:
        if not self.is_kept:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]
            return
        self._say(f"SAVEPOINT {_TRANSACTION}")
        self.is_open = True

    def _set_autocommit(self, autocommit: bool) -> None:
        if not self.is_kept:
            super()._set_autocommit(autocommit)  # type: ignore[misc]

    def _commit(self) -> None:
        if not self.is_kept:
            super()._commit()  # type: ignore[misc]
        elif self.is_open:
            self._say(f"RELEASE {_TRANSACTION}")
            self.is_open = False

    def _rollback(self) -> None:
        if not self.is_kept:
            super()._rollback()  # type: ignore[misc]
        elif self.is_open:
            self._say(f"ROLLBACK TO {_TRANSACTION}")
            self._say(f"RELEASE {_TRANSACTION}")
            self.is_open = False


class Store:
    """One connection, and its content as it was when :meth:`keep` was called."""

    def __init__(self) -> None:
        self.watcher: CommitWatcher | None = None
        self.writes = Writes()
        self._previous: BaseDatabaseWrapper | None = None
        self._of_threads: Any = None  # Django's connections of each thread, while ours stands in their place
        self._rows: dict[str, tuple[list[str], list[tuple[Any, ...]]]] = {}

    @property
    def version(self) -> int:
        """Higher after each statement that wrote anything worth a look."""
        return self.writes.version

    @property
    def is_sqlite(self) -> bool:
        return connection.vendor == "sqlite"

    def install(self) -> None:
        """SQLite: a database in memory instead of the configured one. PostgreSQL: the configured one."""
        if not self.is_sqlite:
            self._watch(connections["default"])
            connections["default"].execute_wrappers.append(self.writes.wrapper)
            return
        self._previous = connections["default"]
        settings = dict(self._previous.settings_dict)
        settings |= {"NAME": ":memory:", "CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": False}
        settings["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE", "check_same_thread": False, "cached_statements": STATEMENTS,
        }  # fmt: skip
        ours = _Wrapper(settings, alias="default")
        ours.writes = self.writes
        self._watch(ours)
        held: Any = connections
        self._of_threads, held._connections = held._connections, types.SimpleNamespace()  # one thread, and quicker
        connections["default"] = ours

    def remove(self) -> None:
        """Django's own connection stands again."""
        if self._previous is not None:
            connections["default"].inc_thread_sharing()
            raw = connections["default"].connection
            if raw is not None:
                raw.close()
            held: Any = connections
            held._connections = self._of_threads
            connections["default"] = self._previous

    def migrate(self) -> None:
        """All tables, triggers and constraints, as the migrations make them. SQLite: made once of one and the same
        migrations and kept in a file, for the next process."""
        if not self.is_sqlite:
            call_command("migrate", verbosity=0, interactive=False)
            return
        connection.ensure_connection()
        path = _template()
        if path.exists():
            with contextlib.closing(sqlite3.connect(path)) as template:
                template.backup(connection.connection)
            return
        call_command("migrate", verbosity=0, interactive=False)
        making = path.with_suffix(f".{os.getpid()}")
        with contextlib.closing(sqlite3.connect(making)) as template:
            connection.connection.backup(template)
        os.replace(making, path)

    def spoil(self, statements: tuple[str, ...]) -> None:
        """What a planted bug does to the schema (`simulation/planted.py`)."""
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def keep(self) -> None:
        """From now on :meth:`restore` brings back what is there now."""
        if self.is_sqlite:
            self._ours.keep()
            return
        for table in _tables():
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
                columns = [column[0] for column in cursor.description]
                self._rows[table] = (columns, cursor.fetchall())

    def restore(self) -> None:
        """As it was when it was kept."""
        if connection.in_atomic_block:  # a process died in mid-transaction
            connection.rollback()
            connection.in_atomic_block = False
            connection.savepoint_ids = []
            connection.needs_rollback = False
        connection.run_on_commit = []
        self.writes.forget()
        if self.is_sqlite:
            self._ours.take_back()
            return
        self._restore_postgres()

    @property
    def _ours(self) -> _Wrapper:
        return cast(_Wrapper, connections["default"])

    def dangling(self) -> list[str]:
        """Foreign keys that lead nowhere: the tables they stand in. (PostgreSQL refuses them itself.)"""
        if not self.is_sqlite:
            return []
        return [f"{row[0]} {row[1]} to {row[2]}" for row in self._ours.connection.execute("PRAGMA foreign_key_check")]

    def _restore_postgres(self) -> None:
        """Delete what an example may have written, in one round trip, and put the kept rows back."""
        quote = connection.ops.quote_name
        with connection.cursor() as cursor, replica(cursor):
            cursor.execute("; ".join(f"DELETE FROM {quote(table)}" for table in self._rows))
            for table, (columns, rows) in self._rows.items():
                if rows:
                    names = ", ".join(map(quote, columns))
                    places = ", ".join(["%s"] * len(columns))
                    cursor.executemany(
                        f"INSERT INTO {quote(table)} ({names}) OVERRIDING SYSTEM VALUE VALUES ({places})",
                        [[_adapted(value) for value in row] for row in rows],
                    )
            cursor.execute(
                "SELECT setval(oid, COALESCE(pg_sequence_last_value(oid), 1)) FROM pg_class WHERE relkind = 'S'"
            )

    def _watch(self, wrapper: BaseDatabaseWrapper) -> None:
        """Every outermost commit of this connection is told to the watcher."""
        commit = wrapper._commit  # type: ignore[attr-defined]

        def told() -> None:
            is_alive = self.watcher is None
            try:
                if self.watcher is not None:
                    self.watcher("before")
                is_alive = True
            finally:
                if not is_alive:
                    wrapper._rollback()  # type: ignore[attr-defined]  # what the database does for a dead client
            commit()
            if self.watcher is not None:
                self.watcher("after")

        wrapper._commit = told  # type: ignore[attr-defined]


@contextlib.contextmanager
def replica(cursor: Any) -> Iterator[None]:
    """No triggers, no foreign keys, while rows are put back as they were (PostgreSQL)."""
    cursor.execute(_SESSION.format("replica"))
    try:
        yield
    finally:
        cursor.execute(_SESSION.format("origin"))


def clear_folder(folder: Path, run_dir: Path, kept_name: str) -> None:
    """Take out what an example has written; of ``run_dir`` the file of that name stays."""
    for entry in os.scandir(folder):
        if entry.path == str(run_dir):
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
    for entry in os.scandir(run_dir):
        if entry.name != kept_name:
            os.unlink(entry.path)


def _template() -> Path:
    """Where the migrated, empty database of exactly these migrations lies."""
    digest = hashlib.sha256()
    for config in sorted(apps.get_app_configs(), key=lambda each: each.label):
        for path in sorted(Path(config.path, "migrations").glob("*.py")):
            digest.update(path.read_bytes())
    for room in ("kernel", "commands", "roasts"):  # triggers come from modules that migrations call
        for pattern in ("*guard*.py", "append_only.py", "*trigger*.py", "lifecycle.py", "*search*.py"):
            for path in sorted((settings.BASE_DIR / room).rglob(pattern)):
                digest.update(path.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"roastops-{os.getuid()}-houses"
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    if about.st_uid != os.getuid() or about.st_mode & 0o077:
        raise PermissionError(f"{folder} is not ours alone")
    return folder / f"{digest.hexdigest()[:24]}.sqlite3"


def _tables() -> list[str]:
    names = connection.introspection.table_names()
    return sorted(name for name in names if name != "django_migrations")


def _adapted(value: Any) -> Any:
    if isinstance(value, dict | list):
        from psycopg.types.json import Jsonb

        return Jsonb(value)
    return value
