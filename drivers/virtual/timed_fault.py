"""One fault of a virtual machine at one moment of device time. As text: ``name@START[+DURATION][:key=value:…]``."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

#: name → (what it does, default duration in seconds of device time, parameters with defaults)
Catalogue = dict[str, tuple[str, float, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class TimedFault:
    """A kind of machine says which faults it knows. ValueError: there is no such one, or not with these parameters."""

    catalogue: ClassVar[Catalogue]

    name: str
    at_s: float = 0.0
    duration_s: float | None = None  # None: the catalogue's default
    parameters: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in self.catalogue:
            raise ValueError(_unknown(self.name, self.catalogue))
        known = self.catalogue[self.name][2]
        unknown = set(self.parameters) - set(known)
        if unknown:
            raise ValueError(f"fault {self.name} takes {sorted(known)}, not {sorted(unknown)}")
        if not (0.0 <= self.at_s < 1e7 and 0.0 <= self.lasts_s < 1e7):
            raise ValueError(f"fault {self.name}: times must be seconds from 0 on")
        for key in self.parameters:
            self.parameter(key)

    @property
    def lasts_s(self) -> float:
        """Duration in seconds of device time."""
        return self.catalogue[self.name][1] if self.duration_s is None else self.duration_s

    def parameter(self, key: str) -> Any:
        """A parameter in the type of its default."""
        default = self.catalogue[self.name][2][key]
        return type(default)(self.parameters.get(key, default))


AnyFault = TypeVar("AnyFault", bound=TimedFault)


def parse_faults(text: str, make: type[AnyFault], names: Collection[str]) -> list[AnyFault]:
    """Faults from their text form, by comma, of ``names`` only; a bad one is a ValueError that says which."""
    return [_parse_one(part.strip(), make, names) for part in text.split(",") if part.strip()]


def _parse_one(text: str, make: type[AnyFault], names: Collection[str]) -> AnyFault:
    head, *pairs = text.split(":")
    name, _, when = head.partition("@")
    start, _, duration = when.partition("+")
    try:
        if name not in names:
            raise ValueError(_unknown(name, names))
        parameters = dict(pair.split("=", 1) for pair in pairs)
        return make(name, float(start or 0.0), float(duration) if duration else None, parameters)
    except ValueError as error:
        raise ValueError(f"fault {text!r}: {error}") from error


def _unknown(name: str, names: Collection[str]) -> str:
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.3)
    return f"no fault {name!r}" + (f"; did you mean {nearest[0]!r}?" if nearest else "")
