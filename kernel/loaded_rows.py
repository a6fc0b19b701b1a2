"""Rows as objects, as Django's ``from_db`` makes them, but without asking each field of the model anew.

``Model.__init__`` sets one attribute after the other and sends two signals; of a row that comes from the database all
its values are known at once, and nobody listens. (Of an order with its names, four objects, that was a third.)
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Model
from django.db.models.base import ModelState
from django.db.models.signals import post_init, pre_init

Row = TypeVar("Row", bound=Model)


def loaded(model: type[Row], names: Sequence[str], values: Sequence[Any]) -> Row:
    """The object of a row. ``names``: the columns' attributes, in the model's order; those left out are loaded when
    they are asked for. Where a model makes its objects in its own way, or somebody listens, Django makes it."""
    if not _is_plain(model) or pre_init.receivers or post_init.receivers:
        return model.from_db(DEFAULT_DB_ALIAS, names, values)
    made = model.__new__(model)
    state = made._state = ModelState()
    state.adding, state.db = False, DEFAULT_DB_ALIAS
    made.__dict__.update(zip(names, values, strict=True))
    return made


def join(related: Iterable[Any], row: Sequence[Any], made: Model) -> None:
    """What ``select_related`` loads with an object: as Django's own populators do it."""
    for each in related:
        if each.reorder_for_init:
            each.populate(row, made)
            continue
        values = row[each.cols_start : each.cols_end]
        found = None
        if values[each.pk_idx] is not None:
            found = loaded(each.model_cls, each.init_list, values)
            join(each.related_populators, row, found)
        each.local_setter(made, found)
        if found is not None:
            each.remote_setter(found, made)


@functools.cache
def _is_plain(model: type[Model]) -> bool:
    """Whether Django's own way to make an object does nothing of the model's."""
    ways: Any = model.from_db
    return model.__init__ is Model.__init__ and ways.__func__ is Model.from_db.__func__  # type: ignore[attr-defined]
