"""What the twin is told and what it answers. Plain frozen values; temperatures °C, times in seconds since charge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from roasts.curve import Curve

Column = NDArray[np.float64]

#: Readings up to here tell the twin what kind of roast this is; from here on it can run alone.
KNOWN_UNTIL_S = 90.0


class TwinError(ValueError):
    """The twin was asked something it cannot answer; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The controls at one moment, in native steps, and the mains voltage (None: 200 V)."""

    heater_step: float
    fan_step: float
    drum_step: float = 9.0
    voltage_v: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Controls:
    """Controls over time: ``settings[i]`` holds from ``elapsed_s[i]`` (rising) on; the first holds before it too."""

    elapsed_s: tuple[float, ...]
    settings: tuple[Setting, ...]

    def __post_init__(self) -> None:
        if not self.settings or len(self.settings) != len(self.elapsed_s):
            raise TwinError("controls need one setting for each moment, and at least one")
        if any(b <= a for a, b in zip(self.elapsed_s, self.elapsed_s[1:], strict=False)):
            raise TwinError("the moments of controls must rise")


@dataclass(frozen=True, slots=True)
class Initial:
    """What is known at charge. ``known`` may hold readings up to 90 s after charge; later ones are not looked at.

    ``preheat_temp_c`` is the infrared before charge (a Bullet's set-point); None: the machine's usual.
    ``began_s`` (unix seconds of the charge) lets what this machine's earlier roasts showed go in, while ``known`` is
    not; those of the same ``bean`` say most.
    """

    mass_kg: float
    probe_temp_c: float
    preheat_temp_c: float | None = None
    known: Curve | None = None
    began_s: float | None = None
    bean: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class TwinRoast:
    """One recorded roast to fit on or to be judged on. ``drop_s`` is seconds after charge, ``began_s`` unix seconds."""

    curve: Curve
    mass_kg: float
    drop_s: float
    machine_key: str = ""
    name: str = ""
    began_s: float | None = None
    crack_s: float | None = None  # a person's first-crack mark, seconds after charge
    bean: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """One reading's temperatures; None where the sensor said nothing usable."""

    bean_temp_c: float | None
    infrared_temp_c: float | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """A control moved to a step: ``heater``, ``fan`` or ``drum``; from ``at_s`` on (None: now)."""

    control: Literal["heater", "fan", "drum"]
    step: float
    at_s: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """A prediction of the probe and the infrared with the bounds that ``confidence`` of the truth should lie in."""

    times_s: Column
    bean_temp_c: Column
    bean_low_c: Column
    bean_high_c: Column
    infrared_temp_c: Column
    confidence: float
    is_extrapolating: bool
    why_extrapolating: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class WhatIf:
    """The probe with an order and without it. ``band`` belongs to the curve with the order."""

    times_s: Column
    with_c: Column
    without_c: Column
    band: Band
    is_extrapolating: bool
    why_extrapolating: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Eta:
    """When something will come. A ``prediction`` comes by itself; a ``plan`` is where the person or agent said to stop.

    ``elapsed_s`` None: not within the horizon; ``low_s``/``high_s`` are the bounds of ``confidence``.
    """

    elapsed_s: float | None
    low_s: float | None
    high_s: float | None
    kind: Literal["prediction", "plan"]
    confidence: float = 0.8
    label: str = ""
    is_extrapolating: bool = False


@dataclass(frozen=True, slots=True)
class CrackTemperature:
    """Probe temperature at which this machine's first crack is marked, over ``count`` earlier roasts.

    A crack that is heard: ``mean_c`` ± ``spread_c``. With probability ``habit_share`` the mark follows a rule
    instead, at the round temperature ``habit_c`` (nearly half of the marks in real logs sit on 190.0 °C).
    """

    mean_c: float
    spread_c: float
    count: int = 0
    habit_c: float | None = None
    habit_share: float = 0.0
