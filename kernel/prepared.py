"""SQL compiled once, run many times: for the few hot paths where building it costs more than running it.

Measured on a proposal's look at its situation: of 7 ms, 5 went into compiling the same seven queries anew; on what
it writes, four rows cost 1.4 ms through ``save()`` and 0.5 ms through :func:`insert`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import json
import re
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import psycopg
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.models import (
    BooleanField,
    CharField,
    DateTimeField,
    Field,
    FloatField,
    ForeignKey,
    IntegerField,
    JSONField,
    Model,
    QuerySet,
    TextField,
)
from django.db.models.query import get_related_populators
from django.db.transaction import TransactionManagementError
from psycopg import pq

from kernel.loaded_rows import join, loaded

Converters = tuple[tuple[int, tuple[Callable[..., Any], ...], Any], ...]
Row = TypeVar("Row", bound=Model)
Given = str | int | dt.datetime  # what a parameter may be


@dataclass(frozen=True)
class _Plan:
    """One database kind's SQL: the parameters by name (a `_Slot`) or fixed, and how its columns become values."""

    sql: str
    params: tuple[Any, ...]
    converters: Converters
    compiler: Any
    is_locking: bool  # FOR UPDATE, where this database has it

    @functools.cached_property
    def shape(self) -> tuple[Any, int, int, list[str], list[Any]]:
        """How a row becomes an object: the model, where its columns begin and end, what they are called, and what
        makes those that are selected with it. (As Django's own ``ModelIterable`` does, which compiles anew.)"""
        info, select = self.compiler.klass_info, self.compiler.select
        begin, end = info["select_fields"][0], info["select_fields"][-1] + 1
        names = [column[0].target.attname for column in select[begin:end]]
        related = get_related_populators(info, select, DEFAULT_DB_ALIAS)  # type: ignore[call-arg]
        return info["model"], begin, end, names, related


@dataclass(frozen=True, slots=True)
class _Slot:
    """Where a value goes; a time may go there so much later."""

    name: str
    later: dt.timedelta | None = None


class _PlannedOnce(psycopg.RawCursor[Any]):
    """Binds on the server, where Django's own cursor puts the values into the text: so a plan can be kept."""

    def execute(self, query: Any, params: Any = None, **_options: Any) -> _PlannedOnce:
        """Prepared at once, by this connection. ``params`` by place, or by name."""
        numbered, names = _numbered(query)
        values = [params[name] for name in names] if names else params
        return super().execute(numbered, values, prepare=True)


_PLACEHOLDER = re.compile(r"%(?:\((\w+)\)s|s|%)")


@functools.lru_cache(maxsize=256)
def _numbered(statement: str) -> tuple[str, tuple[str, ...]]:
    """`%s` and `%(name)s` as PostgreSQL's own `$1`, and the names in that order. (psycopg does the same, but anew each
    time where a statement is long or has many parameters.)"""
    names: list[str] = []
    count = 0

    def place(found: re.Match[str]) -> str:
        nonlocal count
        if found.group() == "%%":
            return "%"
        if (name := found.group(1)) is not None:
            if name not in names:
                names.append(name)
            return f"${names.index(name) + 1}"
        count += 1
        return f"${count}"

    return _PLACEHOLDER.sub(place, statement), tuple(names)


def run(statement: str, params: Sequence[Any] | Mapping[str, Any], *, is_binary: bool = False) -> list[tuple[Any, ...]]:
    """The rows of a statement (none where it gives none), which PostgreSQL plans once a connection. Seen by whoever
    listens to Django's statements, like any other. ``is_binary``: bytes come as they are, not spelt in hex twice as
    long; a JSON column comes as its value then (from SQLite as text)."""
    return _run(connections[DEFAULT_DB_ALIAS], statement, params, is_binary=is_binary)


def _run(link: Any, statement: str, params: Any, *, is_binary: bool = False) -> list[tuple[Any, ...]]:
    """:func:`run` on that connection."""
    if link.vendor != "postgresql":
        with link.cursor() as plain:
            plain.execute(statement, params)
            return plain.fetchall() if plain.description else []
    link.ensure_connection()
    raw = link.connection
    if raw.prepare_threshold is None:
        raw.prepare_threshold = 5
    planned: Any = _PlannedOnce(raw)
    planned.format = pq.Format.BINARY if is_binary else pq.Format.TEXT
    if link.execute_wrappers or link.queries_logged:
        asking = (link.make_debug_cursor if link.queries_logged else link.make_cursor)(planned)
        asking.execute(statement, params)
    else:
        link.validate_no_broken_transaction()
        with link.wrap_database_errors:
            planned.execute(statement, params)
    link.health_check_done = True  # it has just answered: nobody need ask it `SELECT 1` in this request
    with link.wrap_database_errors:
        has_columns = planned.pgresult is not None and planned.pgresult.nfields > 0  # `description` words each of them
        return planned.fetchall() if has_columns else []


#: Everything that keeps plans.
_compiled_here: weakref.WeakSet[_Compiled] = weakref.WeakSet()


def forget_plans() -> None:
    """Every queryset is built and compiled anew at its next use: for whoever has changed what builds them."""
    for each in _compiled_here:
        each._plans.clear()


class _Compiled:
    """A queryset's SQL, compiled at first use, once per kind of database.

    ``build`` gets one stand-in per parameter name, and uses each as a plain comparison with a column: of text, or, for
    those named in ``times``, of a time, in ``numbers``, of whole numbers (of 32 bits at least).
    """

    def __init__(
        self, build: Callable[..., QuerySet[Any, Any]], *names: str, times: Sequence[str] = (),
        numbers: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._build = build
        self._names, self._known = names, frozenset(names)
        self._times = frozenset(times)
        self._numbers = frozenset(numbers)
        self._plans: dict[str, _Plan] = {}
        _compiled_here.add(self)

    def _fetched(self, values: Mapping[str, Given]) -> list[Sequence[Any]]:
        """The rows, their columns as the queryset would give them. TypeError: a name too many or too few."""
        if values.keys() != self._known:
            raise TypeError(f"needs exactly {self._names}, got {sorted(values)}")
        link: Any = connections[DEFAULT_DB_ALIAS]  # looked up once: that costs more than it looks
        plan = self._planned(link)
        if plan.is_locking and link.get_autocommit():
            raise TransactionManagementError("rows are locked only inside a transaction")
        params = [_filled(each, values, link) if type(each) is _Slot else each for each in plan.params]
        rows = _run(link, plan.sql, params)
        return [_converted(row, plan.converters, link) for row in rows] if plan.converters else list(rows)

    def _planned(self, link: Any) -> _Plan:
        plan = self._plans.get(link.vendor)
        if plan is None:
            plan = self._plans[link.vendor] = self._compiled()
        return plan

    def _compiled(self) -> _Plan:
        stand_ins = [self._stand_in(place, name) for place, name in enumerate(self._names)]
        compiler = self._build(*stand_ins).query.clone().get_compiler(connection=connection)
        sql, params = compiler.as_sql()
        named = tuple(self._slot(each, stand_ins) for each in params)
        found = {each.name for each in named if isinstance(each, _Slot)}
        if found != self._known:
            raise TypeError(f"the queryset does not use {sorted(self._known - found)}")
        converters = compiler.get_converters([column[0] for column in compiler.select])
        ordered = tuple((place, tuple(each), expression) for place, (each, expression) in sorted(converters.items()))
        is_locking = bool(compiler.query.select_for_update) and connection.features.has_select_for_update
        return _Plan(sql, named, ordered, compiler, is_locking)

    def _slot(self, param: Any, stand_ins: Sequence[Given]) -> Any:
        """The parameter itself, or which stand-in it is, or how much later than one."""
        if type(param) in (str, int) and param in stand_ins:
            return _Slot(self._names[stand_ins.index(param)])
        if not self._times or not isinstance(param, str | dt.datetime):
            return param
        try:
            at = utc(param)
        except ValueError:
            return param
        for each, name in zip(stand_ins, self._names, strict=True):
            if isinstance(each, dt.datetime) and at is not None and abs(at - each) < _FAR:
                return _Slot(name, at - each)
        return param

    def _stand_in(self, place: int, name: str) -> Given:
        """What no real value is, so that it is found again among the parameters."""
        if name in self._times:
            return dt.datetime(9900 + place, 7, 1, tzinfo=dt.UTC)
        if name in self._numbers:
            return _NO_NUMBER - place
        return f"\x1fprepared {name}\x1f"


class Prepared(_Compiled):
    """``Prepared(lambda machine: Halt.objects.filter(machine_id=machine).values_list("id"), "machine")``.

    ``build`` returns a ``values_list`` queryset. ``rows(machine=…)`` runs it.
    """

    def rows(self, **values: Given) -> list[tuple[Any, ...]]:
        """Every row, as the queryset's own ``values_list`` would give them. TypeError: a name too many or too few."""
        return [tuple(row) for row in self._fetched(values)]

    def first(self, **values: Given) -> tuple[Any, ...] | None:
        """The first row, or None."""
        return next(iter(self.rows(**values)), None)


class PreparedObjects(_Compiled, Generic[Row]):
    """The same for whole rows of a model: ``build`` returns a queryset of it, with its ``select_related``."""

    def __init__(
        self, build: Callable[..., QuerySet[Row, Row]], *names: str, times: Sequence[str] = (),
        numbers: Sequence[str] = (),
    ) -> None:  # fmt: skip
        super().__init__(build, *names, times=times, numbers=numbers)

    def rows(self, **values: Given) -> list[Row]:
        """Every row, as the queryset would give them. TypeError: a name too many or too few."""
        rows = self._fetched(values)
        if not rows:
            return []
        model, begin, end, names, related = self._planned(connections[DEFAULT_DB_ALIAS]).shape
        found = []
        for row in rows:
            made = loaded(model, names, row[begin:end])
            join(related, row, made)
            found.append(made)
        return found

    def first(self, **values: Given) -> Row | None:
        """The first row, or None."""
        return next(iter(self.rows(**values)), None)


#: No query compares with a time so far from the one it was given.
_FAR = dt.timedelta(days=100)
#: No row has this number, nor those below it; a column of 32 bits takes it.
_NO_NUMBER = -2_000_000_000


def _filled(slot: _Slot, values: Mapping[str, Given], link: Any) -> Any:
    """The value that goes there, as this database takes it."""
    value = values[slot.name]
    if type(value) is int and link.vendor == "postgresql":
        return str(value)  # one plan whatever its size: PostgreSQL reads it by its column's type
    if isinstance(value, dt.datetime):
        return link.ops.adapt_datetimefield_value(value + slot.later if slot.later is not None else value)
    return value


def insert(*rows: Model, skips_known: bool = False) -> None:
    """New rows of one model in one statement, as ``save(force_insert=True)`` would write them.

    A single row learns its generated key. No signals are sent; call it in the transaction the rows belong to.
    ``skips_known``: a row that is there already stays as it is, and no key is learnt. Inside :func:`together` they are
    written at its end.
    """
    model = type(rows[0])
    if any(type(row) is not model for row in rows):
        raise TypeError("rows of one model at a time")
    if _gathered.groups is not None and not skips_known:
        _gathered.groups.append(rows)
        return
    link = connections[DEFAULT_DB_ALIAS]
    fields, head, values, returning = _insertion(model, link.vendor)
    given = _as_text if link.vendor == "postgresql" else _as_saved
    params = [column.of(row, given) for row in rows for column in fields]
    is_keyed = bool(returning) and len(rows) == 1 and not skips_known
    end = returning if is_keyed else " ON CONFLICT DO NOTHING" if skips_known else ""
    statement = head + ", ".join([values] * len(rows)) + end
    found = run(statement, params)
    if is_keyed:
        rows[0].pk = found[0][0]
    for row in rows:
        row._state.adding, row._state.db = False, DEFAULT_DB_ALIAS


#: By SQLite, which bounds the parameters of a statement.
_ROWS_AT_ONCE = 50


def insert_many(rows: Sequence[Model]) -> None:
    """New rows of one model, however many, by one and the same statement on PostgreSQL (columns as arrays). No key is
    learnt, no signals are sent."""
    link: Any = connections[DEFAULT_DB_ALIAS]
    if not rows or link.vendor != "postgresql":
        for begin in range(0, len(rows), _ROWS_AT_ONCE):
            insert(*rows[begin : begin + _ROWS_AT_ONCE])
        return
    fields, head, _values, _returning = _insertion(type(rows[0]), link.vendor)
    columns = [[column.of(row, _as_text) for row in rows] for column in fields]
    source = _unnested([column.field for column in fields])
    run(f"{head.removesuffix('VALUES ')}SELECT * FROM {source}", columns)
    for row in rows:
        row._state.adding, row._state.db = False, DEFAULT_DB_ALIAS


def update_each(model: type[Model], name: str, values: Sequence[tuple[int, int]]) -> None:
    """Set a field of whole numbers, where it is null, to a value of its own for each primary key: (key, value)."""
    link: Any = connections[DEFAULT_DB_ALIAS]
    key, field = model._meta.pk, model._meta.get_field(name)
    names = (model._meta.db_table, field.column, key.column)  # type: ignore[union-attr]
    table, column, key_column = (link.ops.quote_name(str(each)) for each in names)
    if not values:
        return
    if link.vendor != "postgresql":
        with link.cursor() as cursor:
            statement = f"UPDATE {table} SET {column} = %s WHERE {key_column} = %s AND {column} IS NULL"
            cursor.executemany(statement, [(value, each) for each, value in values])
        return
    source = f"{_unnested((key, field))} AS given(own_key, fresh)"
    statement = f"UPDATE {table} SET {column} = given.fresh FROM {source} WHERE {table}.{key_column} = given.own_key"
    run(f"{statement} AND {table}.{column} IS NULL", [list(map(str, each)) for each in zip(*values, strict=True)])


def _unnested(fields: Sequence[Any]) -> str:
    """Arrays, one a column, as rows."""
    link = connections[DEFAULT_DB_ALIAS]
    kinds = (field.rel_db_type(link) if field.primary_key else field.db_type(link) for field in fields)
    return "unnest(" + ", ".join(f"%s::{kind}[]" for kind in kinds) + ")"


class _Gathered(threading.local):
    """What this thread's ``together`` holds back; None outside of one."""

    groups: list[tuple[Model, ...]] | None = None


_gathered = _Gathered()


@contextlib.contextmanager
def together(*, is_whole: bool = False) -> Iterator[None]:
    """What ``insert`` is given inside is written when the block ends, nothing of it where the block raises. PostgreSQL
    gets it as one statement: one way there and back instead of one for each.

    Nothing inside may ask the database for those rows, and no generated key is learnt. ``is_whole``: the outermost
    transaction does nothing else, so that PostgreSQL may commit the statement by itself, which saves BEGIN and COMMIT.
    """
    if _gathered.groups is not None:  # a wider block writes them
        yield
        return
    groups = _gathered.groups = []
    try:
        yield
    finally:
        _gathered.groups = None
    link: Any = connections[DEFAULT_DB_ALIAS]
    if link.vendor != "postgresql" or len(groups) < 2:
        for rows in groups:
            insert(*rows)
    else:
        with _committing_itself(link) if is_whole and _is_alone(link) else contextlib.nullcontext():
            _insert_groups(groups)


def _insert_groups(groups: Sequence[tuple[Model, ...]]) -> None:
    statement = _of_groups(tuple((type(rows[0]), len(rows)) for rows in groups))
    rows = [row for group in groups for row in group]
    run(statement, [each.of(row, _as_text) for row in rows for each in _insertion(type(row), "postgresql")[0]])
    for row in rows:
        row._state.adding, row._state.db = False, DEFAULT_DB_ALIAS


@functools.cache
def _of_groups(shapes: tuple[tuple[type[Model], int], ...]) -> str:
    """So many rows of each model, as one statement. (Their foreign keys are looked at when the transaction ends.)"""
    parts = []
    for model, count in shapes:
        _fields, head, values, _returning = _insertion(model, "postgresql")
        parts.append(head + ", ".join([values] * count))
    named = (f"part{place} AS ({part})" for place, part in enumerate(parts[:-1]))
    return f"WITH {', '.join(named)} {parts[-1]}"


def _is_alone(link: Any) -> bool:
    """Whether the transaction under way is the outermost, nothing of it has been sent yet, and nobody listens who may
    want to send something of his own."""
    is_silent = link.connection.pgconn.transaction_status == pq.TransactionStatus.IDLE
    return is_silent and len(link.atomic_blocks) == 1 and not link.execute_wrappers and not link.queries_logged


@contextlib.contextmanager
def _committing_itself(link: Any) -> Iterator[None]:
    """The next statement is a transaction of its own; Django's COMMIT finds nothing left to do then."""
    raw = link.connection
    raw.autocommit = True
    try:
        yield
    finally:
        if raw.pgconn.transaction_status == pq.TransactionStatus.IDLE:  # not where the line broke
            raw.autocommit = False


def update(model: type[Model], key: Any, values: Mapping[str, Any], *, where: Mapping[str, Any] | None = None) -> int:
    """Write these fields of the row with this primary key, as ``filter(pk=key, **where).update(**values)`` would; how
    many rows that were. ``where``: what fields must hold (None: nothing). No signals are sent."""
    link = connections[DEFAULT_DB_ALIAS]
    guards = where or {}
    names = tuple((name, value is None) for name, value in guards.items())
    fields, guarded, statement = _updating(model, tuple(values), names, link.vendor)
    given = _as_text if link.vendor == "postgresql" else _as_saved
    params = [given(field, value) for field, value in zip(fields, values.values(), strict=True)]
    params.append(str(key) if type(key) is int and link.vendor == "postgresql" else key)
    params += [given(guarded[name], value) for name, value in guards.items() if value is not None]
    return len(run(statement, params))


@functools.cache
def _updating(
    model: type[Model], names: tuple[str, ...], guards: tuple[tuple[str, bool], ...], _vendor: str
) -> tuple[tuple[_Column, ...], dict[str, _Column], str]:
    """The fields in the order of the statement, those that guard it, and the statement, which returns a row for each
    that it wrote. ``guards``: names, and whether nothing may stand there."""
    by_name = {name: field for field in model._meta.concrete_fields for name in (field.name, field.attname)}
    fields = tuple(by_name[name] for name in names)
    quote = connection.ops.quote_name
    columns = ", ".join(f"{quote(str(field.column))} = %s" for field in fields)
    conditions = [f"{quote(str(model._meta.pk.column))} = %s"]
    for name, is_null in guards:
        conditions.append(f"{quote(str(by_name[name].column))} {'IS NULL' if is_null else '= %s'}")
    where = " AND ".join(conditions)
    guarded = {name: _column(by_name[name]) for name, _is_null in guards}
    statement = f"UPDATE {quote(model._meta.db_table)} SET {columns} WHERE {where} RETURNING 1"
    return tuple(map(_column, fields)), guarded, statement


@functools.cache
def _insertion(model: type[Model], _vendor: str) -> tuple[tuple[_Column, ...], str, str, str]:
    """Columns to give, the statement's head, one row's placeholders, and how a generated key comes back."""
    key = model._meta.pk
    is_generated = bool(getattr(key, "db_returning", False))
    fields = tuple(field for field in model._meta.concrete_fields if not (is_generated and field is key))
    quote = connection.ops.quote_name
    columns = ", ".join(quote(str(field.column)) for field in fields)
    head = f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES "
    returning = f" RETURNING {quote(str(key.column))}" if is_generated and key is not None else ""
    return tuple(map(_column, fields)), head, "(" + ", ".join(["%s"] * len(fields)) + ")", returning


@dataclass(frozen=True, slots=True)
class _Column:
    """A field as a statement writes it: what is the same for all its values, found out once."""

    field: Field[Any, Any]
    attribute: str
    kept_as: type | None  # values of this type every database takes as they are
    is_auto: bool  # a time that Django sets by itself
    is_json: bool
    is_time: bool

    def of(self, row: Model, value_of: Callable[[_Column, Any], Any]) -> Any:
        """The row's value, as ``value_of`` gives it to the database."""
        if self.is_auto:
            value = self.field.pre_save(row, add=True)
            return self.field.get_db_prep_save(value, connection=connections[DEFAULT_DB_ALIAS])
        return value_of(self, row.__dict__.get(self.attribute))


def _column(field: Field[Any, Any]) -> _Column:
    own = field.target_field if isinstance(field, ForeignKey) else field
    kinds = ((CharField, str), (TextField, str), (IntegerField, int), (FloatField, float), (BooleanField, bool))
    is_auto = bool(getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False))
    return _Column(
        field, field.attname, next((kind for known, kind in kinds if isinstance(own, known)), None), is_auto,
        isinstance(field, JSONField), isinstance(field, DateTimeField),
    )  # fmt: skip


def _as_saved(column: _Column, value: Any) -> Any:
    """A field's value as ``save()`` would give it. (What Django would leave as it is, it is not asked about.)"""
    if value is None or type(value) is column.kept_as:
        return value
    if isinstance(value, Model):
        return _as_saved(column, value.pk)
    if column.is_json:
        return json.dumps(value, cls=column.field.encoder)  # type: ignore[attr-defined]
    link = connections[DEFAULT_DB_ALIAS]
    if column.is_time and type(value) is dt.datetime and value.tzinfo is not None:
        return link.ops.adapt_datetimefield_value(value)
    return column.field.get_db_prep_save(value, connection=link)


def _as_text(column: _Column, value: Any) -> Any:
    """The same as text, which PostgreSQL reads by its column's type: one plan whatever is null, small or large."""
    kind = type(value)
    if kind is str and not column.is_json:
        return value
    if value is None:
        return None
    if isinstance(value, Model):
        return _as_text(column, value.pk)
    if column.is_json:
        return json.dumps(value, cls=column.field.encoder)  # type: ignore[attr-defined]
    if kind is bool:
        return "t" if value else "f"
    if kind is int or kind is float:
        return repr(value)
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        return value.isoformat()
    return column.field.get_db_prep_save(value, connection=connections[DEFAULT_DB_ALIAS])


def _converted(row: Sequence[Any], converters: Converters, link: Any) -> list[Any]:
    values = list(row)
    for place, functions, expression in converters:
        for function in functions:
            values[place] = function(values[place], expression, link)
    return values


def utc(value: Any) -> dt.datetime | None:
    """A time from a hand-written query: SQLite keeps times as text, in UTC."""
    if isinstance(value, str):
        value = dt.datetime.fromisoformat(value)
    if isinstance(value, dt.datetime) and value.tzinfo is None:
        value = value.replace(tzinfo=dt.UTC)
    return value
