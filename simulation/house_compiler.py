"""Django's compiler of SQL, which remembers what a query's columns, joins and order come to.

A seed asks some hundred different questions a thousand times. What Django works out anew for each (which columns, of
which tables, in which order, how they become values) depends on the query's shape alone, and is kept here by shape.
Conditions, and with them every value, are compiled by Django each time. A query with anything that has no plain shape
(an annotation, a subquery's column, an expression to order by) is left to Django altogether.

``SQLCompiler.is_compared``: make each statement twice, and fail where the kept one is another (for tests).
"""

from __future__ import annotations

import dataclasses
from typing import Any

from django.db.models.expressions import Col
from django.db.models.sql import compiler as django_compiler
from django.db.models.sql.datastructures import BaseTable, Join
from django.db.models.sql.query import Query

#: The others, as `connection.ops.compiler` asks for them by name.
SQLInsertCompiler = django_compiler.SQLInsertCompiler
SQLDeleteCompiler = django_compiler.SQLDeleteCompiler
SQLUpdateCompiler = django_compiler.SQLUpdateCompiler
SQLAggregateCompiler = django_compiler.SQLAggregateCompiler

#: More shapes than that are no shapes of ours.
SHAPES = 2000


@dataclasses.dataclass(frozen=True, slots=True)
class _Kept:
    """What Django worked out for a shape."""

    setup: tuple[Any, Any, Any]
    select: Any
    klass_info: Any
    annotation_col_map: Any
    meta_ordering: Any
    source: Any
    converters: dict[int, Any]


_kept: dict[Any, _Kept] = {}


class SQLCompiler(django_compiler.SQLCompiler):
    """See the module."""

    is_compared = False
    _known: _Kept | None = None
    _meta_ordering: Any

    def pre_sql_setup(self, with_col_aliases: bool = False) -> Any:
        shape = None if with_col_aliases else shape_of(self.query)
        if shape is None:
            return super().pre_sql_setup(with_col_aliases=with_col_aliases)
        known = _kept.get(shape)
        if known is None:
            known = self._learnt()
            if len(_kept) < SHAPES:
                _kept[shape] = known
        elif self.is_compared:
            self._compare(known)
        self._known = known
        self.select, self.klass_info = known.select, known.klass_info
        self.annotation_col_map = known.annotation_col_map
        self._meta_ordering = known.meta_ordering
        self.col_count = len(known.select)
        self.has_extra_select = bool(known.setup[0])
        self.where, self.having, self.qualify = self.query.where.split_having_qualify(must_group_by=False)
        return known.setup

    def get_from_clause(self) -> Any:
        return super().get_from_clause() if self._known is None else self._known.source

    def get_converters(self, expressions: Any) -> Any:
        return super().get_converters(expressions) if self._known is None else self._known.converters

    def _learnt(self) -> _Kept:
        """Worked out by Django, of a copy: what it adds to a query is in what is kept already."""
        fresh: Any = django_compiler.SQLCompiler(self.query.clone(), self.connection, self.using)
        setup = fresh.pre_sql_setup()
        converters = fresh.get_converters([column[0] for column in fresh.select])
        return _Kept(setup, fresh.select, fresh.klass_info, fresh.annotation_col_map, fresh._meta_ordering,
                     fresh.get_from_clause(), converters)  # fmt: skip

    def _compare(self, known: _Kept) -> None:
        found = self._learnt()
        if _words(found) != _words(known):
            raise AssertionError(f"a statement of another shape: {_words(found)}, kept was {_words(known)}")


def _words(kept: _Kept) -> Any:
    """What makes it into the statement, and out of its rows."""
    columns = [(sql, list(params), alias) for _, (sql, params), alias in [*kept.select, *kept.setup[0]]]
    order = [(sql, list(params)) for _, (sql, params, _) in kept.setup[1]]
    converters = {
        place: [getattr(each, "__qualname__", type(each).__name__) for each in found]
        for place, (found, _) in kept.converters.items()
    }
    return columns, order, list(kept.setup[2]), kept.source, kept.annotation_col_map, converters


def shape_of(asked: Query) -> Any:
    """What columns, joins and order depend on; None where that cannot be said plainly."""
    query: Any = asked
    if (
        type(asked) is not Query
        or query.annotations
        or query.extra
        or query.extra_tables
        or query.extra_order_by
        or query.combinator
        or query.group_by is not None
        or query.distinct_fields
        or query.external_aliases
        or query._filtered_relations
    ):
        return None
    joins = []
    for alias, table in query.alias_map.items():
        if type(table) is Join and table.filtered_relation is None:
            joins.append((alias, table.table_name, table.join_type, table.parent_alias, id(table.join_field)))
        elif type(table) is BaseTable:
            joins.append((alias, table.table_name, "", "", 0))
        else:
            return None
    columns = []
    for column in query.select:
        if type(column) is not Col:
            return None
        columns.append((column.alias, id(column.target), id(column.output_field)))
    selected = tuple((query.selected or {}).items())
    if not all(isinstance(name, str) for name in query.order_by) or not all(type(each) is int for _, each in selected):
        return None
    names, is_deferred = query.deferred_loading
    return (
        query.model, tuple(joins), tuple(query.alias_refcount.values()), tuple(columns), selected, query.order_by,
        query.default_cols, query.default_ordering, query.standard_ordering, query.distinct, query.values_select,
        query.subquery, query.is_sliced, frozenset(names), is_deferred, _nested(query.select_related), query.max_depth,
    )  # fmt: skip


def _nested(related: bool | dict[str, Any]) -> Any:
    """`select_related`'s names, and theirs."""
    if isinstance(related, bool):
        return related
    return tuple((name, _nested(more)) for name, more in related.items())
