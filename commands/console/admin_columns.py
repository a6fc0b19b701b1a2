"""Columns and filters of the admin: codes and sentences in the words that the console has for them, in its language."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from commands.console import code_words, sentence_words
from commands.console.order_words import DECISION_WORDS, REJECTION_WORDS, STATUS_WORDS, reasons_of
from commands.console.reason_words import reason_words, turned_down
from commands.models import Proposal
from roasts.models import Machine


def _by_table(table: Any) -> Callable[[object], str]:
    return lambda value: str(table.get(str(value), value))


def status_word(status: object) -> str:
    """An order's status as the console calls it."""
    word, _icon = STATUS_WORDS.get(str(status), (status, ""))
    return str(word)


RESULT_WORDS = {"heat_off": _("heat off, proved"), "unproved": _("not proved, use the panel or the mains")}


def _lines(values: object) -> str:
    return "\n".join(sentence_words.worded(each) for each in values) if isinstance(values, list) else str(values)


#: Field → how its value is said. What is in no table (times, figures, names, digests) Django shows as it is.
SAID: dict[str, Callable[[object], str]] = {
    **dict.fromkeys(
        (
            "asked_unit", "code", "kind", "opened_by_kind", "outcome", "outcome_code", "priority", "review_finding",
        ),
        code_words.spoken,
    ),
    **dict.fromkeys(
        (
            "action", "cause", "consequence", "lowered_reason", "outcome_message", "reasoning", "significance_reason",
        ),
        sentence_words.worded,
    ),
    "by_hand": _lines,
    "control": code_words.control_word,
    "decision": _by_table(DECISION_WORDS),
    "order_type": code_words.order_type_word,
    "result": _by_table(RESULT_WORDS),
    "rejection_code": lambda code: str(REJECTION_WORDS.get(str(code)) or code_words.spoken(code)),
    "seen_state": code_words.state_word,
    "significance": code_words.significance_word,
    "status": status_word,
}  # fmt: skip


def reasons_said(order: Proposal) -> str:
    """The governor's reasons, a line each."""
    return "\n".join(reason_words(reason, order).message for reason in reasons_of(order)) or NOTHING


#: What is said of the whole order.
SAID_OF_ORDERS: dict[str, Callable[[Proposal], str]] = {
    "reasons": reasons_said,
    "rejection_text": lambda order: turned_down(order) or NOTHING,
}
NOTHING = "-"


def shown(name: Any, model: type[models.Model]) -> Any:
    """A column of the admin: ``name`` itself, or a callable that says the field's value in words."""
    return _shown(name, model)


@functools.cache  # one callable for a column: Django compares them
def _shown(name: Any, model: Any) -> Any:
    if model is Proposal and name in SAID_OF_ORDERS:
        return _column(name, model, SAID_OF_ORDERS[name])
    say = SAID.get(name)
    if say is None:
        return name
    return _column(name, model, lambda row: say(value) if (value := getattr(row, name)) else NOTHING)


def _column(name: str, model: type[models.Model], say: Callable[[Any], str]) -> Callable[[Any], str]:
    def column(row: Any) -> str:
        return say(row)

    column.__name__ = f"{name}_said"
    label = model._meta.get_field(name).verbose_name  # type: ignore[union-attr]
    return admin.display(description=label, ordering=name)(column)


class _Spoken:
    """A filter whose choices are said in words."""

    def choices(self, changelist: Any) -> Any:
        for choice in super().choices(changelist):  # type: ignore[misc]
            yield {**choice, "display": code_words.by_word(str(choice["display"]))}


class SpokenChoices(_Spoken, admin.ChoicesFieldListFilter):
    """Of a field with choices."""


class SpokenValues(_Spoken, admin.AllValuesFieldListFilter):
    """Of a field with whatever values there are."""


class OwnMachines(admin.RelatedFieldListFilter):
    """The machines of the reader's organisation: Django's own filter would name everybody's."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> Any:
        own = Machine.objects.for_principal(getattr(request, "principal", None))  # type: ignore[attr-defined]
        return [(machine.pk, machine.name) for machine in own]
