"""What a virtual R1 is, and the matrix of what nobody knows about the real firmware."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, field, fields, replace
from typing import Any

#: What the button does, by state code: the ring of the panel, and the other readings of scarce evidence.
PRS_RINGS: dict[str, dict[int, int]] = {
    "ring": {0: 2, 2: 4, 3: 4, 4: 6, 6: 8, 8: 9, 9: 0},
    "cool_to_off": {0: 2, 2: 4, 3: 4, 4: 6, 6: 8, 8: 0, 9: 0},
    "preheat_deaf": {0: 2, 4: 6, 6: 8, 8: 9, 9: 0},
    "preheat_cancels": {0: 2, 2: 0, 3: 0, 4: 6, 6: 8, 8: 9, 9: 0},
}

_CHOICES: dict[str, tuple[Any, ...]] = {
    "at_limit": ("clamp", "wrap"),
    "prs": tuple(PRS_RINGS),
    "idle_message": ("instead", "extra", "off"),
    "sensor_map": ("probe_b", "probe_a"),
    "product_id": (0x5741, 0xA27E),
}


@dataclass(frozen=True, slots=True)
class R1Settings:
    """One virtual machine. The second block is the matrix of unknowns: the contract suite turns each."""

    product_id: int = 0xA27E
    serial_number: int = 1183
    firmware_version: int = 563
    roast_count: int = 1237  # mod 256 is not itself: shows who reads it wrongly
    hours_on: int = 412
    preheat_target_c: int = 240
    ambient_temp_c: float = 24.0
    mains_voltage_v: float = 201.0
    start_heater_step: int = 7  # what the firmware itself sets when a roast starts
    start_fan_step: int = 2
    start_drum_step: int = 9
    batch_kg: float = 0.4
    has_exhaust_sensor: bool = False
    has_kernel_driver: bool = True
    may_open: bool = True  # False: the operating system refuses (no udev rule)

    at_limit: str = "clamp"  # a step past the end: clamp | wrap
    max_steps_per_s: int = 0  # relative steps beyond this in one second are dropped; 0: no limit
    prs: str = "ring"  # a key of PRS_RINGS
    has_absolute_commands: bool = False
    echo_lag_frames: int = 0  # frames until a control's new step is shown
    heater_owned_in_charge: bool = True  # does the firmware ignore heater steps in state 4 too?
    controls_when_off: bool = True  # do steps move the settings in state 0 (no heat flows)?
    idle_message: str = "instead"  # every 15 s when off: instead of a reply | extra | off
    sensor_map: str = "probe_b"  # probe_b: infrared at offset 0, probe at 8; probe_a: the other way
    has_short_drop_state: bool = True  # 6 → 7 → 8 instead of 6 → 8
    trip_temp_c: float = 290.0  # the firmware's own over-temperature cut-out (threshold unpublished)

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"virtual R1 setting {name} is one of {allowed}, not {getattr(self, name)!r}")


def settings_from(options: dict[str, Any] | str | None) -> R1Settings:
    """Settings from a dict, JSON text or ``name=value,name=value``; unknown names are errors naming the nearest."""
    if not options:
        return R1Settings()
    given = options if isinstance(options, dict) else _parse_options(options)
    known = {each.name: each for each in fields(R1Settings)}
    default = R1Settings()
    checked: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
            raise ValueError(f"no virtual R1 setting {name!r}" + (f"; did you mean {nearest[0]!r}?" if nearest else ""))
        checked[name] = _coerced(name, value, getattr(default, name))
    return replace(default, **checked)


def _parse_options(text: str) -> dict[str, Any]:
    if text.lstrip().startswith("{"):
        return dict(json.loads(text))
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    return {name.strip(): value.strip() for name, _, value in pairs}


def _coerced(name: str, value: Any, default: Any) -> Any:
    """``value`` in the type of ``default``; text from a command line is understood."""
    try:
        if isinstance(default, bool):
            words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
            return words[str(value).lower()]
        if isinstance(default, int):
            return int(value, 0) if isinstance(value, str) else int(value)
        if isinstance(default, float):
            return float(value)
        return str(value)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"virtual R1 setting {name}: {value!r} is not a {type(default).__name__}") from error


@dataclass(slots=True)
class MatrixCorner:
    """One combination of the unknowns, with a name for the test report."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)


def matrix() -> list[MatrixCorner]:
    """Each unknown turned alone, and all of them at once: what a contract suite runs under."""
    single: list[dict[str, Any]] = [
        {},
        {"at_limit": "wrap"},
        {"max_steps_per_s": 10},
        {"has_absolute_commands": True},
        {"echo_lag_frames": 1},
        {"echo_lag_frames": 3},
        {"heater_owned_in_charge": False},
        {"controls_when_off": False},
        {"idle_message": "extra"},
        {"idle_message": "off"},
        {"sensor_map": "probe_a"},
        {"has_short_drop_state": False},
        {"product_id": 0x5741},
        *({"prs": ring} for ring in PRS_RINGS if ring != "ring"),
    ]
    everything = {"at_limit": "wrap", "max_steps_per_s": 10, "echo_lag_frames": 2, "idle_message": "extra"}
    corners = [*single, everything]
    return [MatrixCorner(",".join(f"{k}={v}" for k, v in each.items()) or "default", each) for each in corners]
