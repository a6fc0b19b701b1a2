"""What a virtual Bullet is, and the matrix of what nobody knows about the real firmwares."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

#: What the button does, by state code: the ring of the panel, and the other readings of scarce evidence.
PRS_RINGS: dict[str, dict[int, int]] = {
    "ring": {0: 2, 2: 4, 3: 4, 4: 6, 6: 8, 8: 9, 9: 0},
    "cool_to_off": {0: 2, 2: 4, 3: 4, 4: 6, 6: 8, 8: 0, 9: 0},
    "preheat_deaf": {0: 2, 4: 6, 6: 8, 8: 9, 9: 0},
    "preheat_cancels": {0: 2, 2: 0, 3: 0, 4: 6, 6: 8, 8: 9, 9: 0},
}
#: The same for the R2: the ring the existing client presses around, and other guesses; 0x0B is deaf in all.
PRS_RINGS_R2: dict[str, dict[int, int]] = {
    "ring": {0: 2, 2: 4, 4: 6, 6: 7, 7: 0},
    "all_states": {0: 2, 2: 4, 3: 4, 4: 6, 6: 7, 7: 9, 8: 9, 9: 0},
    "back_to_back": {0: 2, 2: 4, 3: 4, 4: 6, 6: 8, 8: 2, 7: 0, 9: 0},
    "preheat_deaf": {0: 2, 4: 6, 6: 7, 7: 0},
    "preheat_cancels": {0: 2, 2: 0, 3: 0, 4: 6, 6: 7, 7: 0},
}


@dataclass(frozen=True, slots=True)
class MachineSettings:
    """What both models have. The second block belongs to the matrix of unknowns: the contract suite turns each."""

    CHOICES: ClassVar[dict[str, tuple[Any, ...]]] = {}
    RINGS: ClassVar[dict[str, dict[int, int]]] = {}

    serial_number: int = 1183
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
    prs: str = "ring"  # a key of the model's rings
    echo_lag_frames: int = 0  # frames until a control's new step is shown
    heater_owned_in_charge: bool = True  # does the firmware ignore heater steps in state 4 too?
    controls_when_off: bool = True  # do steps move the settings in state 0 (no heat flows)?
    sensor_map: str = "probe_b"  # probe_b: infrared in the first field, probe in the second; probe_a: the other way
    trip_temp_c: float = 290.0  # the firmware's own over-temperature cut-out (threshold unpublished)

    def __post_init__(self) -> None:
        for name, allowed in self.CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"virtual machine setting {name} is one of {allowed}, not {getattr(self, name)!r}")


@dataclass(frozen=True, slots=True)
class R1Settings(MachineSettings):
    """A Bullet R1."""

    CHOICES: ClassVar[dict[str, tuple[Any, ...]]] = {
        "at_limit": ("clamp", "wrap"),
        "prs": tuple(PRS_RINGS),
        "idle_message": ("instead", "extra", "off"),
        "sensor_map": ("probe_b", "probe_a"),
        "product_id": (0x5741, 0xA27E),
    }
    RINGS: ClassVar[dict[str, dict[int, int]]] = PRS_RINGS

    product_id: int = 0xA27E
    firmware_version: int = 563

    has_absolute_commands: bool = False
    idle_message: str = "instead"  # every 15 s when off: instead of a reply | extra | off
    has_short_drop_state: bool = True  # 6 → 7 → 8 instead of 6 → 8


@dataclass(frozen=True, slots=True)
class R2Settings(MachineSettings):
    """A Bullet R2."""

    CHOICES: ClassVar[dict[str, tuple[Any, ...]]] = {
        "at_limit": ("clamp", "wrap"),
        "prs": tuple(PRS_RINGS_R2),
        "sensor_map": ("probe_b", "probe_a"),
        "product_id": (0xA4CD,),
        "frame_seal": ("mpeg2_words", "mpeg2", "crc32", "own", "none"),
        "pipe_full": ("drops_oldest", "drops_newest"),
        "frame_order": ("a0_first", "a0_last"),
        "out_endpoint": (0x01, 0x02, 0x03),
        "in_endpoint": (0x81, 0x83),
    }
    RINGS: ClassVar[dict[str, dict[int, int]]] = PRS_RINGS_R2

    product_id: int = 0xA4CD
    start_heater_step: int = 10
    has_exhaust_sensor: bool = True
    out_endpoint: int = 0x03
    in_endpoint: int = 0x81

    frame_seal: str = "mpeg2_words"  # the checksum that ends a frame: own is a rule that nobody else computes
    has_frame_counter: bool = True  # tenths in bytes 2-3, which the existing client does not read
    has_spare_frames: bool = False  # A3 and A4 are pushed too
    has_decoy_endpoints: bool = False  # a silent pair of endpoints stands before the ones that work
    checks_crc: bool = True  # a command with a wrong checksum is ignored
    pipe_frames: int = 30  # frames that wait for whoever reads
    pipe_full: str = "drops_oldest"
    frame_order: str = "a0_first"
    reset_renumbers: bool = False  # a USB reset takes it off the bus and brings it back under another address
    infrared_resets: bool = True  # the infrared field shows 25.0 when the roast starts, as on an R1


_SETTINGS: dict[str, type[R1Settings] | type[R2Settings]] = {"bullet-r1": R1Settings, "bullet-r2": R2Settings}


def settings_from(
    options: dict[str, Any] | str | None, kind: str = "bullet-r1"
) -> R1Settings | R2Settings:
    """Settings from a dict, JSON text or ``name=value,name=value``; unknown names are errors naming the nearest."""
    shape = _SETTINGS[kind]
    if not options:
        return shape()
    given = options if isinstance(options, dict) else _parse_options(options)
    known = {each.name: each for each in fields(shape)}
    default = shape()
    checked: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise ValueError(f"no virtual {kind} setting {name!r}{hint}")
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
        raise ValueError(f"virtual machine setting {name}: {value!r} is not a {type(default).__name__}") from error


@dataclass(slots=True)
class MatrixCorner:
    """One combination of the unknowns, with a name for the test report."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)


_SHARED: tuple[dict[str, Any], ...] = (
    {},
    {"at_limit": "wrap"},
    {"max_steps_per_s": 10},
    {"echo_lag_frames": 1},
    {"echo_lag_frames": 3},
    {"heater_owned_in_charge": False},
    {"controls_when_off": False},
    {"sensor_map": "probe_a"},
)
_ALONE: dict[str, tuple[dict[str, Any], ...]] = {
    "bullet-r1": (
        {"has_absolute_commands": True},
        {"idle_message": "extra"},
        {"idle_message": "off"},
        {"has_short_drop_state": False},
        {"product_id": 0x5741},
        *({"prs": ring} for ring in PRS_RINGS if ring != "ring"),
        {"at_limit": "wrap", "max_steps_per_s": 10, "echo_lag_frames": 2, "idle_message": "extra"},
    ),
    "bullet-r2": (
        {"frame_seal": "mpeg2"},
        {"frame_seal": "own"},
        {"frame_seal": "none"},
        {"has_frame_counter": False},
        {"has_spare_frames": True},
        {"has_decoy_endpoints": True, "out_endpoint": 0x02, "in_endpoint": 0x83},
        {"checks_crc": False},
        {"pipe_full": "drops_newest", "pipe_frames": 167},
        {"frame_order": "a0_last"},
        {"reset_renumbers": True},
        {"infrared_resets": False},
        {"has_exhaust_sensor": False},
        *({"prs": ring} for ring in PRS_RINGS_R2 if ring != "ring"),
        {"at_limit": "wrap", "max_steps_per_s": 10, "echo_lag_frames": 2, "frame_seal": "own", "frame_order": "a0_last",
         "pipe_full": "drops_newest", "has_spare_frames": True},
    ),
}  # fmt: skip


def matrix(kind: str = "bullet-r1") -> list[MatrixCorner]:
    """Each unknown turned alone, and many of them at once: what a contract suite runs under."""
    corners = (*_SHARED, *_ALONE[kind])
    return [MatrixCorner(",".join(f"{k}={v}" for k, v in each.items()) or "default", each) for each in corners]
