"""What the house does to be quick changes nothing: statements, what is written, errors."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.db.backends.sqlite3.operations import DatabaseOperations
from django.db.models import Count, F

from commands.models import BreakerTrip, Execution, Grant, Halt, Proposal
from kernel.models import Organization
from roasts.models import Roast, RoastEvent
from simulation import house_compiler, invariants
from simulation.house_compiler import shape_of
from simulation.house_cursor import Writes, table_of
from simulation.house_looks import Looks, has_json
from simulation.house_store import Store, clear_folder
from simulation.virtual_clock import BEGIN


@pytest.fixture(scope="module")
def store(django_db_blocker: Any) -> Iterator[Store]:
    """An empty database of the house."""
    with django_db_blocker.unblock():
        made = Store()
        if not made.is_sqlite:
            pytest.skip("NOT RUN: the house's own cursors and compiler are SQLite's")
        made.install()
        try:
            made.migrate()
            made.keep()
            yield made
        finally:
            made.remove()


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        ('INSERT INTO "commands_halt" ("id") VALUES (%s)', "commands_halt"),
        ('INSERT OR IGNORE INTO "commands_halt" ("id") VALUES (%s)', "commands_halt"),
        ('UPDATE "commands_proposal" SET "status" = %s', "commands_proposal"),
        ('DELETE FROM "commands_grant" WHERE "id" = %s', "commands_grant"),
        ('UPDATE "roasts_machinereading" SET "at" = %s', ""), ('SELECT 1 FROM "commands_halt"', ""),
        ("SAVEPOINT s1", ""), ("RELEASE SAVEPOINT s1", ""), ("REPLACE INTO x VALUES (1)", "?"),
        ("WITH a AS (SELECT 1) DELETE FROM b", "?"), ("ALTER TABLE x ADD y", "?"),
    ],
)  # fmt: skip
def test_it_is_known_which_table_a_statement_writes_or_that_it_is_not(statement: str, table: str) -> None:
    assert table_of(statement) == table


def test_what_cannot_be_told_counts_as_a_write_to_every_table() -> None:
    writes = Writes()
    before = writes.of(("commands_halt",))
    writes.note('UPDATE "commands_grant" SET "level" = %s')
    assert writes.of(("commands_halt",)) == before
    writes.note("REPLACE INTO somewhere VALUES (1)")
    assert writes.of(("commands_halt",)) > before
    middle = writes.of(("commands_halt",))
    writes.forget()
    assert writes.of(("commands_halt",)) > middle


def test_an_error_of_sqlite_is_djangos_and_the_transaction_goes_on_after_its_savepoint(store: Store) -> None:
    User.objects.create(username="once")
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.create(username="once")
    assert User.objects.filter(username="once").count() == 1
    store.restore()
    assert not User.objects.exists()


def test_who_listens_to_statements_hears_them_and_they_are_counted_all_the_same(store: Store) -> None:
    heard: list[str] = []

    def listen(execute: Any, statement: str, *rest: Any) -> Any:
        heard.append(statement)
        return execute(statement, *rest)

    before = store.version
    with connection.execute_wrapper(listen):
        User.objects.create(username="heard")
    assert any(statement.startswith("INSERT") for statement in heard)
    assert store.version == before + 1
    store.restore()


def test_a_percent_sign_is_one_as_with_django(store: Store) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s || '%%', 5 %% 3", ["a"])
        assert cursor.fetchall() == [("a%", 2)]
        cursor.execute("SELECT %(name)s", {"name": "b"})
        assert cursor.fetchone() == ("b",)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Proposal.objects.all, lambda: Proposal.objects.select_related("machine")),
        (Proposal.objects.all, lambda: Proposal.objects.only("id")),
        (lambda: Proposal.objects.only("id"), lambda: Proposal.objects.defer("id")),
        (lambda: Proposal.objects.order_by("id"), lambda: Proposal.objects.order_by("-id")),
        (lambda: Proposal.objects.order_by("machine__name"), lambda: Proposal.objects.order_by("machine_id")),
        (lambda: Proposal.objects.values("id"), lambda: Proposal.objects.values("status")),
        (lambda: Proposal.objects.values_list("id", "status"), lambda: Proposal.objects.values_list("status", "id")),
        (Proposal.objects.all, Proposal.objects.distinct),
        (lambda: Proposal.objects.filter(machine__name="a"), lambda: Proposal.objects.filter(machine_id="a")),
        (lambda: Proposal.objects.select_related("machine"),
         lambda: Proposal.objects.select_related("machine__organization")),
    ],
)  # fmt: skip
def test_another_question_has_another_shape(store: Store, first: Any, second: Any) -> None:
    assert shape_of(first().query) is not None
    assert shape_of(first().query) == shape_of(first().query)
    assert shape_of(first().query) != shape_of(second().query)


def test_what_has_no_plain_shape_is_left_to_django(store: Store) -> None:
    for made in (
        Proposal.objects.annotate(count=Count("transitions")), Proposal.objects.order_by(F("id").desc()),
        Proposal.objects.union(Proposal.objects.all()), Proposal.objects.extra(select={"one": "1"}),
    ):  # fmt: skip
        assert shape_of(made.query) is None


def test_a_shape_asked_again_with_other_values_finds_other_rows(store: Store) -> None:
    for slug in ("one", "two"):
        Organization.objects.create(slug=slug, name=slug, created_at=BEGIN)
    for slug in ("one", "two", "one"):
        assert Organization.objects.filter(slug=slug).get().slug == slug
    assert [each.slug for each in Organization.objects.filter(slug__in=["one", "two"]).order_by("-slug")] == [
        "two", "one",
    ]  # fmt: skip
    store.restore()


def test_a_kept_statement_that_django_would_make_otherwise_is_an_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house_compiler, "_kept", {})
    monkeypatch.setattr(house_compiler.SQLCompiler, "is_compared", True)
    list(Organization.objects.order_by("slug"))
    list(Organization.objects.order_by("slug"))
    [(shape, kept)] = house_compiler._kept.items()
    house_compiler._kept[shape] = dataclasses.replace(kept, source=['"kernel_site"'])
    with pytest.raises(AssertionError, match="another shape"):
        list(Organization.objects.order_by("slug"))


def test_breakers_are_asked_after_each_write_that_they_look_at_and_only_then(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Looks(store)
    monkeypatch.setattr(looks, "_any", lambda *_asked: True)  # an order of an agent has failed, at some time
    assert looks.has_new_incidents()
    assert not looks.has_new_incidents()
    for model in (Proposal, Execution, Halt, Grant, BreakerTrip):
        connection.cursor().execute(f'UPDATE "{model._meta.db_table}" SET id = id WHERE id = %s', ["nothing"])
        assert looks.has_new_incidents(), model
        assert not looks.has_new_incidents(), model
    Organization.objects.filter(pk="nothing").update(name="nothing")
    assert not looks.has_new_incidents()
    store.restore()
    assert looks.has_new_incidents(), "another example began"


@pytest.mark.parametrize("ask", [Looks.has_orders, Looks.has_halts, Looks.has_cracked])
def test_an_answer_is_kept_until_its_own_table_is_written(store: Store, ask: Any) -> None:
    looks, heard = Looks(store), list[str]()

    def listen(execute: Any, statement: str, *rest: Any) -> Any:
        heard.extend([statement] if statement.startswith("SELECT") else [])
        return execute(statement, *rest)

    own = {Looks.has_orders: (Proposal,), Looks.has_halts: (Halt,)}.get(ask, (RoastEvent, Roast))
    with connection.execute_wrapper(listen):
        assert ask(looks, "machine") is False
        assert len(heard) == 1
        for model in (Organization, Grant, *own):
            connection.cursor().execute(f'UPDATE "{model._meta.db_table}" SET id = id WHERE id = %s', ["nothing"])
            heard.clear()
            assert ask(looks, "machine") is False
            assert len(heard) == (model in own), model


def test_a_note_in_the_journal_is_seen(tmp_path: Path) -> None:
    assert not has_json(tmp_path / "halts")
    (tmp_path / "halts").mkdir()
    assert not has_json(tmp_path / "halts")
    (tmp_path / "halts" / "one.json").touch()
    assert has_json(tmp_path / "halts")


def test_a_cleared_folder_holds_nothing_but_its_run_folder_and_the_key(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for path in (run, tmp_path / "journal" / "halts"):
        path.mkdir(parents=True)
    for path in (run / "key", run / "lock", tmp_path / "journal" / "halts" / "one.json", tmp_path / "loose"):
        path.touch()
    clear_folder(tmp_path, run, "key")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["run", "run/key"]


@pytest.mark.parametrize("law", sorted(invariants.LAWS))
def test_a_law_is_asked_again_after_each_write_it_speaks_of(store: Store, law: str) -> None:
    """(None of the tables whose writes are not told of is in a law.)"""
    watch: Any = invariants.Watch.__new__(invariants.Watch)
    watch._house, watch._asked_at = SimpleNamespace(store=store), {}
    tables = invariants.SPEAKS_OF[law]
    assert tables and not [each for each in tables if not table_of(f'UPDATE "{each}" SET')]
    assert law in watch.due()
    watch._asked_at.update(watch.due())
    assert not watch.due()
    for statement in ("UPDATE {} SET id = id WHERE 0", "DELETE FROM {} WHERE 0"):
        for table in tables:
            connection.cursor().execute(statement.format(f'"{table}"'))
            assert law in watch.due(), table
            watch._asked_at.update(watch.due())
    connection.cursor().execute('UPDATE "kernel_site" SET id = id WHERE 0')
    assert not watch.due()
    store.restore()
    assert law in watch.due()


def test_a_write_that_breaks_a_law_is_found_at_the_next_look(store: Store) -> None:
    """With all laws asked once, and only the table of halts written since."""
    watch: Any = invariants.Watch.__new__(invariants.Watch)
    watch._house, watch._asked_at = SimpleNamespace(store=store), {}
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA table_info(commands_halt)")
        names = [row[1] for row in cursor.fetchall()]
        cursor.execute("DROP INDEX IF EXISTS one_open_halt_of_a_kind")
        watch._asked_at.update(watch.due())
        for number in (1, 2):
            values = {**dict.fromkeys(names, "x"), "id": f"hlt_{number}", "closed_at": None, "machine_id": "m"}
            places = ", ".join(["%s"] * len(names))
            columns = ", ".join(f'"{name}"' for name in names)
            cursor.execute(
                f'INSERT INTO "commands_halt" ({columns}) VALUES ({places})',
                ["{}" if name in ("proof", "by_hand") else values[name] for name in names],
            )
    due = watch.due()
    assert "one open halt of a kind" in due
    assert "one live grant" not in due
    query = invariants._asking(tuple(invariants._NAMES.index(law) for law in due))
    found = [invariants._NAMES[place] for place, _ in invariants._rows(query, [])]
    assert "one open halt of a kind" in found
    store.restore()


MOMENTS = (
    BEGIN, BEGIN + dt.timedelta(microseconds=1), BEGIN + dt.timedelta(milliseconds=250),
    BEGIN.astimezone(dt.timezone(dt.timedelta(hours=5, minutes=45))), dt.datetime(1, 1, 1, tzinfo=dt.UTC),
    dt.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC),
)  # fmt: skip


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_time_is_written_and_read_as_django_does(store: Store, moment: dt.datetime) -> None:
    ours: Any = connection.ops
    django: Any = DatabaseOperations(connection)  # type: ignore[no-untyped-call]
    text = django.adapt_datetimefield_value(moment)
    assert ours.adapt_datetimefield_value(moment) == text
    for kept in (text, f"{text}+05:45", moment, None):
        read = ours.convert_datetimefield_value(kept, None, connection)
        assert read == django.convert_datetimefield_value(kept, None, connection)
        assert read is None or read.tzinfo is not None
