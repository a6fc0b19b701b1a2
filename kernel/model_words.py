"""Names of models and fields as the admin says them, in the language of who reads.

The house names a field with its unit (`max_bean_temp_c`); a label says it: `maximum bean temperature (°C)`. The words
are put on the models when Django is ready, and no migration knows of them: they are how a column is read, not what it
is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from django.apps import AppConfig
from django.db import models
from django.utils.translation import gettext_lazy

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

#: End of a field's name → the unit it is in. The longest first: `_c` ends the others, too.
_UNITS = (
    ("_c_per_min", "°C/min"),
    ("_step_per_s", "steps/s"),
    ("_rpm", "rpm"),
    ("_ms", "ms"),
    ("_c", "°C"),
    ("_s", "s"),
)
_SPELT_OUT = {
    "temp": "temperature", "max": "maximum", "min": "minimum", "id": "ID", "stop": "STOP",
    "organization": "organisation",
}  # fmt: skip
_YES_OR_NO = ("is_", "has_", "may_", "are_")


def label_of(name: str) -> str:
    """A field's name as a label: `is_archived` → `archived`, `min_interval_s` → `minimum interval (s)`."""
    for start in _YES_OR_NO:
        name = name.removeprefix(start)
    ending, unit = next(((end, unit) for end, unit in _UNITS if name.endswith(end)), ("", ""))
    words = " ".join(_SPELT_OUT.get(word, word) for word in name.removesuffix(ending).split("_"))
    return f"{words} ({unit})" if unit else words


def label_fields(model: type[models.Model]) -> None:
    """Each field's label, asked of the catalog whenever it is shown."""
    for field in model._meta.local_fields:
        field.verbose_name = gettext_lazy(label_of(field.name))


def speak(room: AppConfig, names: Mapping[str, tuple[StrOrPromise, StrOrPromise]]) -> None:
    """Labels for the fields of a room's models, and names (one, several) for those that the admin shows."""
    for model in room.get_models():
        label_fields(model)
    for model_name, (one, several) in names.items():
        shown = room.get_model(model_name)._meta
        shown.verbose_name, shown.verbose_name_plural = one, several  # type: ignore[assignment]
