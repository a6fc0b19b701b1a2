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


class UnknownKind(DriverError):
    """No driver of that kind."""

    code = "unknown_driver_kind"


class BadOption(DriverError):
    """An option that the kind does not know, or a value it cannot take."""

    code = "bad_driver_option"


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
        raise BadOption(f"{len(given)} options are more than any driver has")
    return make(given, hooks)


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` or nothing."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.4)
    return f"; did you mean {found[0]!r}?" if found else ""
