"""Times and shares as a report writes them: `{{ phase.duration_s|clock }}`."""

from __future__ import annotations

from django import template
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

from evals import report, report_figure
from roasts.library import page_words

register = template.Library()
#: What `report_figure` says, which knows no catalog itself.
OF_THE_FIGURE = (
    _("TP"),
    _("FC end"),
    _("Second crack"),
    _("Cool end"),
    _("No curve was recorded."),
    _("Roast curve of {name}: bean temperature, rate of rise and controls over time"),
)
WORDS = {
    **report_figure.EVENT_WORDS,
    "charge": _("Charge"),
    "turning_point": _("Turning point"),
    "first_crack_end": _("First crack end"),
    "note": _("Note"),
    "drying": _("Drying"),
    "maillard": _("Maillard"),
    "development": _("Development"),
    "person": _("a person"),
    "device": _("the machine"),
    "inferred": _("inferred"),
    **page_words.FIELD_WORDS,
}


@register.filter
def clock(seconds: float | None) -> str:
    """Seconds as m:ss; a dash for none."""
    return report.clock_words(seconds) if isinstance(seconds, int | float) else "–"


@register.filter
def clock_ms(milliseconds: float | None) -> str:
    """Milliseconds as m:ss; a dash for none."""
    return report.clock_words(milliseconds / 1000) if isinstance(milliseconds, int | float) else "–"


@register.filter
def share(ratio: float | None) -> str:
    """0..1 as percent with one decimal; a dash for none."""
    return f"{100 * ratio:.1f} %" if isinstance(ratio, int | float) else "–"


@register.filter
def plain_word(code: object) -> str:
    """A stored word as people read it."""
    word = WORDS.get(str(code), str(code).replace("_", " "))
    return gettext(word) if isinstance(word, str) else str(word)


@register.filter
def kilowatt_hours(kilojoules: float | None) -> str:
    """Energy as kWh with two decimals; a dash for none."""
    return f"{kilojoules / 3600:.2f} kWh" if isinstance(kilojoules, int | float) else "–"
