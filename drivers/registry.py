"""Kind of driver → where it is. Options are plain JSON values; anything unknown is refused by its nearest name."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable
from typing import Any

from drivers.port import Driver, DriverError, Hooks

#: kind → dotted path of `make(options, hooks) -> Driver`
KINDS: dict[str, str] = {
    "bullet-r1": "drivers.bullet.making.make_r1",
    "bullet-r2": "drivers.bullet.making.make_r2",
    "tcp-line": "drivers.lines.making.make_tcp_line",
    "tc4-serial": "drivers.lines.making.make_tc4_serial",
    "tc4-tcp": "drivers.lines.making.make_tc4_tcp",
}

_OPTIONS_MAX = 32
#: Said of more than one option.
NO_OPTION = "{kind} has no option {name}"
CANNOT_BE = "{name} cannot be {value}"
NOT_WHOLE = "{name} must be a whole number from {low} to {high}, not {value}"
NO_TEMPERATURE = "there is no temperature {name}"
KNOWN = "Known: {known}."
DID_YOU_MEAN = "; did you mean {meant}?"


class UnknownKind(DriverError):
    """No driver of that kind."""

    code = "unknown_driver_kind"


class BadOption(DriverError):
    """An option that the kind does not know, or a value it cannot take.

    Both sentences have gaps, ``{name}``, that ``gaps`` fill; ``meant`` is the nearest known word, or nothing. A page in
    another language fills the same sentences' translations (``roasts.option_words``).
    """

    code = "bad_driver_option"

    def __init__(self, message: str, how_to_fix: str = "", *, meant: str = "", **gaps: object) -> None:
        self.message_words, self.how_to_fix_words = message, how_to_fix
        self.meant, self.gaps = meant, {name: str(value) for name, value in gaps.items()}
        ending = DID_YOU_MEAN.format(meant=repr(meant)) if meant else ""
        super().__init__(message.format(**self.gaps) + ending, how_to_fix.format(**self.gaps))


def open_driver(kind: str, options: dict[str, Any] | None = None, *, hooks: Hooks | None = None) -> Driver:
    """Make and open a driver. UnknownKind, BadOption, or whatever `open` raises."""
    driver = make_driver(kind, options, hooks=hooks)
    driver.open()
    return driver


def make_driver(kind: str, options: dict[str, Any] | None = None, *, hooks: Hooks | None = None) -> Driver:
    """Make a driver without opening it (the keeper opens it again and again). UnknownKind, BadOption."""
    path = KINDS.get(kind)
    if path is None:
        raise UnknownKind(f"there is no driver {kind!r}{nearest(kind, KINDS)}", f"Known: {', '.join(sorted(KINDS))}.")
    module, _, name = path.rpartition(".")
    make: Callable[[dict[str, Any], Hooks | None], Driver] = getattr(importlib.import_module(module), name)
    given = dict(options or {})
    if len(given) > _OPTIONS_MAX:
        raise BadOption("{count} options are more than any driver has", count=len(given))
    return make(given, hooks)


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` or nothing."""
    meant = closest(word, known)
    return DID_YOU_MEAN.format(meant=repr(meant)) if meant else ""


def closest(word: str, known: Iterable[str]) -> str:
    """The known word that is most like this one, or nothing."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.4)), "")
