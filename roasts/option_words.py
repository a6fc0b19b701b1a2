"""Why a driver does not take an option, in the language of who reads. Drivers know no catalog: they say it in English,
as sentences with gaps (`drivers.registry.BadOption`), and here the same sentences are filled in another language."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

DID_YOU_MEAN = _("; did you mean {meant}?")
#: Every sentence of a `BadOption` (a test finds them in the drivers' source).
SENTENCES = (
    _("{kind} has no option {name}"),
    _("{kind} needs the option {name}"),
    _("{name} cannot be {value}"),
    _("{name} must be a whole number from {low} to {high}, not {value}"),
    _("{name} must be text of 1–{longest} characters, not {value}"),
    _("{name} must be true or false, not {value}"),
    _("{name} must be an object of at most {most} entries, not {value}"),
    _("{name} names one twice"),
    _("{name} cannot be read from {value}"),
    _("{name}: min {low} is not below max {high}"),
    _("{value} is no {kind}"),
    _("{count} options are more than any driver has"),
    _("there is no temperature {name}"),
    _("there is no control {name}"),
    _("there is no backend {name}"),
    _("the offset of {name} must be a number of °C from -100 to 100, not {value}"),
    _("the backend virtual-socket takes exactly kind and path"),
    _("two controls cannot share an output"),
    _("delimiter must be one character that can be seen, or a tab"),
    _("Known: {known}."),
    _("With CHAN;{chan}: {known}."),
    _("Four digits 0–4, as in CHAN;1200."),
    _("A list of names, as in the table of docs/line-protocols.md."),
    DID_YOU_MEAN,
)


def fault_words(message: str, how_to_fix: str, *, meant: str, gaps: Mapping[str, str]) -> str:
    """What is wrong and what would be right, of a `BadOption`'s parts, as one or two sentences."""
    said = gettext(message).format(**gaps) + (gettext(DID_YOU_MEAN).format(meant=repr(meant)) if meant else "")
    # The empty text is the catalog's own heading.
    return as_sentences(said, gettext(how_to_fix).format(**gaps) if how_to_fix else "")


def as_sentences(message: str, how_to_fix: str) -> str:
    """Both, each with its end."""
    return f"{message}{'' if message.endswith('?') else '.'} {how_to_fix}".strip()
