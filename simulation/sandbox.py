"""A PostgreSQL database of the simulation's own: it deletes rows without asking, so it never touches another's."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from psycopg import sql

from roastops import environment
from roastops.testing import servers

PREFIX = "simulation_"
#: A template made once, that further processes copy instead of migrating anew.
TEMPLATE = f"{PREFIX}template"
#: A parked actor waits in its transaction as long as the machine takes.
_OPTIONS = (
    "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c synchronous_commit=off "
    "-c plan_cache_mode=force_generic_plan"
)
#: The same few hundred statements come again in every episode: each connection plans each of them once.
_PREPARED = {"server_side_binding": True, "prepare_threshold": 2}
_PREPARED_AT_MOST = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where the database is."""

    url: str
    name: str


@contextlib.contextmanager
def server(url: str) -> Iterator[str]:
    """The given server's address, or a private one's. servers.Missing where there is neither."""
    if url:
        yield url
        return
    with servers.running(servers.start_postgres) as started:
        parts = urllib.parse.urlsplit(started.url)
        address = parts._replace(query=urllib.parse.urlencode({"host": str(started.folder)})).geturl()
        with psycopg.connect(address, autocommit=True) as connection:
            for setting in ("autovacuum = off", "fsync = off"):
                connection.execute(f"ALTER SYSTEM SET {setting}")  # type: ignore[arg-type]
            connection.execute("SELECT pg_reload_conf()")
        yield address


@contextlib.contextmanager
def database(url: str) -> Iterator[Place]:
    """An empty, migrated database on that server, as Django's default; dropped afterwards."""
    place = Place(url, f"{PREFIX}{os.getpid()}")
    with psycopg.connect(url, autocommit=True) as connection:
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [TEMPLATE]).fetchone()
        statement = sql.SQL("CREATE DATABASE {}" + (" TEMPLATE {}" if known else "")).format(
            sql.Identifier(place.name), *([sql.Identifier(TEMPLATE)] if known else [])
        )
        connection.execute(statement)
    before = settings.DATABASES
    try:
        _use(place)
        if not known:
            call_command("migrate", verbosity=0)
        yield place
    finally:
        connections["default"].close()
        _configure(before)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(place.name)))


def make_template(url: str) -> None:
    """Migrate once, so that every further :func:`database` on this server is a copy."""
    with database(url) as place:
        connections["default"].close()
        with psycopg.connect(url, autocommit=True) as connection:
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            connection.execute(statement.format(sql.Identifier(TEMPLATE), sql.Identifier(place.name)))


@contextlib.contextmanager
def template(url: str) -> Iterator[None]:
    """The template, made where there is none; one that was made here is dropped afterwards."""
    with psycopg.connect(url, autocommit=True) as connection:
        is_ours = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [TEMPLATE]).fetchone() is None
    if is_ours:
        make_template(url)
    try:
        yield
    finally:
        if is_ours:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(TEMPLATE)))


def _use(place: Place) -> None:
    chosen = environment.database(place.url, settings.DATA_DIR)
    options = {**chosen["OPTIONS"], "options": _OPTIONS, **_PREPARED}
    _configure({"default": {**chosen, "NAME": place.name, "OPTIONS": options, "CONN_HEALTH_CHECKS": False}})


def _configure(databases: dict[str, Any]) -> None:
    settings.DATABASES = databases
    with contextlib.suppress(AttributeError):
        del connections["default"]
    connections.settings = connections.configure_settings(databases)


def address(place: Place) -> str:
    """The connection string of the sandbox itself, for the raw control connection."""
    parts = urllib.parse.urlsplit(place.url)
    return parts._replace(path=f"/{place.name}").geturl()


def keep_plans(link: psycopg.Connection[Any]) -> None:
    """What this connection has prepared it keeps. psycopg forgets a statement that fails and, at every ROLLBACK, all
    of them, since that may have taken back a table they read: here tables stand, and rollbacks are every episode's."""
    link.prepared_max = _PREPARED_AT_MOST
    manager: Any = link._prepared
    manager.clear = lambda: False
    manager.validate = lambda *_arguments: manager._rotate()


def audit_key_file() -> Path:
    """A signing key that is always the same, so that the same seed seals alike."""
    path = Path(settings.DATA_DIR) / "simulation-audit.key"
    path.write_text("07" * 32)
    path.chmod(0o600)
    return path
