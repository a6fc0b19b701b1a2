"""The Aillio Bullet R1's bytes, and nothing else: no I/O, no clock, no decisions.

Source of every offset and command: docs/bullet-usb.md (gathered facts about the wire, tagged there by how
sure they are). All numbers are little-endian. A poll of the machine is two requests, STATUS1 and STATUS2,
each answered by 64 bytes: frame A and frame B.

The only exception that bytes from outside can cause here is :class:`~drivers.port.ProtocolError`.
"""

from __future__ import annotations

import enum
import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from drivers.port import Control, ControlRange, MachineState, ProtocolError

VENDOR_ID = 0x0483
PRODUCT_IDS = (0x5741, 0xA27E)  # older board; "rev 3" (V1.5, V2)
CONFIGURATION = 1
INTERFACE = 1
ENDPOINT_OUT = 0x03
ENDPOINT_IN = 0x81

FRAME_BYTES = 64
INFO1_BYTES = 32
INFO2_BYTES = 36

INFO1 = bytes.fromhex("3002")
INFO2 = bytes.fromhex("8901")
STATUS1 = bytes.fromhex("3001")  # two bytes; the same two with two zeros after them press the button
STATUS2 = bytes.fromhex("3003")
PRS = bytes.fromhex("30010000")
HEATER_UP = bytes.fromhex("3401AAAA")
HEATER_DOWN = bytes.fromhex("3402AAAA")
FAN_UP = bytes.fromhex("3101AAAA")
FAN_DOWN = bytes.fromhex("3102AAAA")

REQUESTS: dict[bytes, int] = {INFO1: INFO1_BYTES, INFO2: INFO2_BYTES, STATUS1: FRAME_BYTES, STATUS2: FRAME_BYTES}
RANGES: dict[Control, ControlRange] = {
    Control.HEATER: ControlRange(0, 9),
    Control.FAN: ControlRange(1, 12),
    Control.DRUM: ControlRange(1, 9),
}
_READABLE_MAX = {Control.HEATER: 9, Control.FAN: 12, Control.DRUM: 9}  # a panel may show fan or drum 0

VALID_MARKER = 0x0A  # byte 41 of frame A; another value: another message (about every 15 s while idle)
TRAILER = 0xAAFF  # bytes FF AA at 62, read as one little-endian number
CRACK_BUTTON = 1 << 31
INFRARED_RESET_C = 25.0  # what the infrared field reads within 3 s of the roast's start
ABSENT_EXHAUST_BELOW_C = -20.0  # a machine without the sensor sends -65…-45
PLAUSIBLE_TEMP_C = (-60.0, 450.0)
IGBT_CLOCK_HZ = 40_000_000
GARBLED_FIRMWARE_ABOVE = 999

_FRAME_A = struct.Struct("<5fI6BH2fxBHHxxHxxHHxxxxBxH")
_FRAME_B = struct.Struct("<3f12x6HBB3H20x")
_INFO1 = struct.Struct("<I4BI3III")
_INFO2 = struct.Struct("<3I4IHH4x")
_FRAMES = struct.Struct(_FRAME_A.format + _FRAME_B.format.lstrip("<"))
_ARTISAN_A = struct.Struct("<fffxxxxf4x6Bxxff4xhxxhxxi8x")


class Status(NamedTuple):
    """One poll, decoded field by field in wire order; raw, unrounded.

    A named tuple and not a dataclass on purpose: it is built once per poll straight from ``struct``, at a
    third of a frozen dataclass's cost. Floats may be NaN or infinite, as the wire may; the driver judges.
    """

    temp_a_c: float  # frame A, 0: on every machine logged this is the infrared sensor
    rate_a_c_per_min: float  # 4: follows the slow probe
    temp_b_c: float  # 8: on every machine logged this is the bean probe
    rate_b_c_per_min: float  # 12
    exhaust_temp_c: float  # 16
    buttons: int  # 20: bit 31 is the crack-mark button
    clock_min: int  # 24
    clock_s: int  # 25
    fan_step: int  # 26
    heater_step: int  # 27
    drum_step: int  # 28
    state_code: int  # 29
    sample_counter: int  # 30
    ambient_temp_c: float  # 32: board (room) ambient
    sensor_ambient_temp_c: float  # 36: the infrared sensor's own
    marker: int  # 41
    samples_queued: int  # 42
    fan_rpm: int  # 44
    voltage_v: int  # 48
    coil_fan_rpm: int  # 52
    error_flags: int  # 54
    crc: int  # 60: algorithm unknown
    trailer: int  # 62
    crack_energy: float  # frame B, 0
    crack_baseline: float  # 4
    preheat_rate_c_per_min: float  # 8
    error_1_code: int  # 24
    error_1_value: int  # 26
    error_2_code: int  # 28
    error_2_value: int  # 30
    coil_fan_2_rpm: int  # 32
    current_raw: int  # 34: unit unknown
    igbt_1_temp_c: int  # 36
    igbt_2_temp_c: int  # 37
    igbt_timer_period: int  # 38
    preheat_target_c: int  # 40
    infrared_fan_rpm: int  # 42

    @property
    def roast_clock_s(self) -> int:
        """The machine's own roast clock."""
        return self.clock_min * 60 + self.clock_s

    @property
    def state(self) -> MachineState:
        """The state, in the house's words; an unknown code is UNKNOWN, which permits nothing."""
        return state_of(self.state_code)

    @property
    def is_crack_button_pressed(self) -> bool:
        """Somebody presses the machine's crack-mark button."""
        return bool(self.buttons & CRACK_BUTTON)

    @property
    def is_exhaust_fitted(self) -> bool:
        """False where the machine has no exhaust sensor."""
        return self.exhaust_temp_c >= ABSENT_EXHAUST_BELOW_C

    @property
    def igbt_hz(self) -> float | None:
        """Switching frequency of the induction stage, None while it stands."""
        return IGBT_CLOCK_HZ / self.igbt_timer_period if self.igbt_timer_period else None

    @property
    def error_codes(self) -> tuple[int, ...]:
        """The machine's own error codes that are set."""
        return tuple(code for code in (self.error_1_code, self.error_2_code) if code)

    @property
    def has_trailer(self) -> bool:
        """Frame A ends in FF AA."""
        return self.trailer == TRAILER


class OtherMessage(ProtocolError):
    """A well-formed answer that is not telemetry: ask again."""

    code = "other_message"


class SlippedFrames(ProtocolError):
    """Frame A came where B was expected, or the other way round: drain and ask again."""

    code = "slipped_frames"


def decode_status(frame_a: bytes, frame_b: bytes) -> Status:
    """Two 64-byte frames → :class:`Status`.

    Raises :class:`OtherMessage` where frame A's marker is not 0x0A, :class:`SlippedFrames` where the
    two changed places, :class:`ProtocolError` for anything else that is not two frames.
    """
    try:
        status: Status = tuple.__new__(Status, _FRAMES.unpack(bytes(frame_a) + frame_b))
        if status[15] == VALID_MARKER and len(frame_a) == 64 and frame_b[41] != VALID_MARKER:
            return status
        return _doubtful_status(status, frame_a, frame_b)
    except (struct.error, TypeError, ValueError, IndexError, OverflowError, MemoryError) as error:
        raise ProtocolError(f"not two {FRAME_BYTES}-byte frames: {error}") from None


def _doubtful_status(status: Status, frame_a: bytes, frame_b: bytes) -> Status:
    """The slow half of :func:`decode_status`: which of the ways to be wrong is it, if any?

    In a true frame B byte 41 is the high byte of the preheat target, 0 or 1. A frame there that carries
    the marker *and* ends as frame A does is a frame A.
    """
    if len(frame_a) != FRAME_BYTES:
        raise ProtocolError(f"frame A has {len(frame_a)} bytes, not {FRAME_BYTES}")
    b_looks_like_a = frame_b[41] == VALID_MARKER and (
        status.marker != VALID_MARKER or frame_b[62:64] == frame_a[62:64]
    )
    if b_looks_like_a:
        raise SlippedFrames("frame A stands where frame B belongs")
    if status.marker != VALID_MARKER:
        raise OtherMessage(f"frame A carries marker 0x{status.marker:02X}, not 0x0A")
    return status


def encode_status(status: Status) -> tuple[bytes, bytes]:
    """The two frames that decode to ``status`` (for virtual machines, captures and tests)."""
    packed = _FRAMES.pack(*status)
    return packed[:FRAME_BYTES], packed[FRAME_BYTES:]


_STATES: dict[int, MachineState] = {
    0x00: MachineState.OFF,
    0x02: MachineState.PREHEATING,
    0x03: MachineState.STABILISING,
    0x04: MachineState.CHARGE,
    0x05: MachineState.CHARGE,  # short, on the way into the roast: no heat-up yet
    0x06: MachineState.ROASTING,
    0x07: MachineState.COOLING,  # short (<= 1 s), on the way out of the roast: no heat-up any more
    0x08: MachineState.COOLING,
    0x09: MachineState.SHUTDOWN,
    0x23: MachineState.PREHEATING,
    0x24: MachineState.PREHEATING,
}


def state_of(state_code: int) -> MachineState:
    """Byte 29 → the house's state."""
    return _STATES.get(state_code, MachineState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Info1:
    """Who the machine is. ``made_on`` is (year, month, day, hour), the year as the byte says it."""

    serial: int
    made_on: tuple[int, int, int, int]
    hardware: int
    unique_id: tuple[int, int, int]
    firmware: int
    crc: int
    serial_as_artisan: int
    firmware_as_artisan: int

    @property
    def infrared_sensor_type(self) -> int:
        """Byte 10; 2 means IBTS."""
        return (self.hardware >> 16) & 0xFF


@dataclass(frozen=True, slots=True)
class Info2:
    """What the machine has done. ``roast_count_as_artisan`` is what Artisan's offset makes of it."""

    seconds_on: int
    drum_motor_s: int
    power_on_count: int
    state_counters: tuple[int, int, int, int]
    eeprom_failures: int
    roast_count: int
    roast_count_as_artisan: int


def decode_info1(reply: bytes) -> Info1:
    """The 32-byte answer to INFO1. A firmware above 999 is a garbled reply: ProtocolError, ask again."""
    raw = _exactly(reply, INFO1_BYTES, "INFO1")
    serial, year, month, day, hour, hardware, id_1, id_2, id_3, firmware, crc = _INFO1.unpack(raw)
    if firmware > GARBLED_FIRMWARE_ABOVE:
        raise ProtocolError(f"INFO1 is garbled: firmware {firmware}")
    return Info1(
        serial=serial,
        made_on=(year, month, day, hour),
        hardware=hardware,
        unique_id=(id_1, id_2, id_3),
        firmware=firmware,
        crc=crc,
        serial_as_artisan=int.from_bytes(raw[0:2], "little", signed=True),
        firmware_as_artisan=int.from_bytes(raw[24:26], "little", signed=True),
    )


def decode_info2(reply: bytes) -> Info2:
    """The 36-byte answer to INFO2."""
    raw = _exactly(reply, INFO2_BYTES, "INFO2")
    seconds_on, drum_motor_s, power_on_count, c_1, c_2, c_3, c_4, failures, roast_count = _INFO2.unpack(raw)
    return Info2(
        seconds_on=seconds_on,
        drum_motor_s=drum_motor_s,
        power_on_count=power_on_count,
        state_counters=(c_1, c_2, c_3, c_4),
        eeprom_failures=failures,
        roast_count=roast_count,
        roast_count_as_artisan=int.from_bytes(raw[27:31], "big"),
    )


def _exactly(reply: bytes, length: int, name: str) -> bytes:
    """``reply`` as bytes of exactly ``length``."""
    try:
        raw = bytes(memoryview(reply))
    except TypeError:
        raise ProtocolError(f"{name} is not bytes") from None
    if len(raw) != length:
        raise ProtocolError(f"{name} has {len(raw)} bytes, not {length}")
    return raw


# --- Orders → bytes -------------------------------------------------------------------------------------

_STEPS: dict[tuple[Control, bool], bytes] = {
    (Control.HEATER, True): HEATER_UP,
    (Control.HEATER, False): HEATER_DOWN,
    (Control.FAN, True): FAN_UP,
    (Control.FAN, False): FAN_DOWN,
}


def encode_step(control: Control, *, up: bool) -> bytes:
    """One relative step of heater or fan. The drum has none: :func:`encode_drum`."""
    try:
        return _STEPS[control, up]
    except KeyError:
        raise ProtocolError(f"{control.value} does not move by steps on a Bullet R1") from None


def encode_drum(step: int) -> bytes:
    """Absolute drum speed, 1–9."""
    limits = RANGES[Control.DRUM]
    if not limits.min_step <= step <= limits.max_step:
        raise ProtocolError(f"drum {step} is outside {limits.min_step}–{limits.max_step}")
    return bytes((0x32, 0x01, step, 0x00))


def encode_setting(control: Control, from_step: int, target_step: int) -> list[bytes]:
    """The writes, in order, that bring ``control`` from one step to another. Empty where they are equal."""
    limits = RANGES[control]
    if not limits.min_step <= target_step <= limits.max_step:
        raise ProtocolError(f"{control.value} {target_step} is outside {limits.min_step}–{limits.max_step}")
    if not 0 <= from_step <= _READABLE_MAX[control]:
        raise ProtocolError(f"{control.value} cannot stand at {from_step}")
    if from_step == target_step:
        return []
    if control is Control.DRUM:
        return [encode_drum(target_step)]
    return [encode_step(control, up=target_step > from_step)] * abs(target_step - from_step)


MEANINGS: dict[bytes, str] = {
    INFO1: "info1?",
    INFO2: "info2?",
    STATUS1: "status1?",
    STATUS2: "status2?",
    PRS: "press PRS",
    HEATER_UP: "heater +1",
    HEATER_DOWN: "heater -1",
    FAN_UP: "fan +1",
    FAN_DOWN: "fan -1",
    **{encode_drum(step): f"drum {step}" for step in range(1, 10)},
}


def check_command(data: bytes) -> str:
    """What these bytes mean; ProtocolError unless they are, to the last byte, a command we speak.

    This is where a padded command is refused: STATUS1 with two zeros after it *is* the button press. The
    dangerous ones (4A 01, 20 FF, 30 99) and those only a third-party note knows (absolute heater and fan,
    preheat target) are not in the table either.
    """
    meaning = MEANINGS.get(data)
    if meaning is None:
        raise ProtocolError(
            f"{bytes(data)[:8].hex(' ')} ({len(data)} bytes) is no command we send to a Bullet R1",
            "R1 commands are never padded; send the exact bytes from codec_r1.",
        )
    return meaning


# --- Which sensor is which ------------------------------------------------------------------------------


class TwoSensors(Protocol):
    """A decoded frame with the two fields in question; an R2's too."""

    @property
    def temp_a_c(self) -> float: ...

    @property
    def temp_b_c(self) -> float: ...


class SensorMap(enum.StrEnum):
    """Which field of frame A is the probe in the beans. The other one is the infrared sensor."""

    PROBE_B = "probe_b"  # offset 8: what the logs of 62 roasts show
    PROBE_A = "probe_a"  # offset 0: what Artisan's device 83 and its preset's labels say


def bean_and_infrared(status: TwoSensors, sensor_map: SensorMap) -> tuple[float, float]:
    """(bean probe °C, infrared °C), raw."""
    if sensor_map is SensorMap.PROBE_B:
        return status.temp_b_c, status.temp_a_c
    return status.temp_a_c, status.temp_b_c


def infrared_by_reset(status: TwoSensors) -> SensorMap | None:
    """At the start of a roast: the map under which the field that reads exactly 25.0 is the infrared one.

    None when neither or both read it. On all 60 starts logged the infrared field reads exactly 25.0
    within 3 s of the state change 4 → 6.
    """
    a_reset = status.temp_a_c == INFRARED_RESET_C
    b_reset = status.temp_b_c == INFRARED_RESET_C
    if a_reset == b_reset:
        return None
    return SensorMap.PROBE_B if a_reset else SensorMap.PROBE_A


def plausible_temp_c(value: float) -> float | None:
    """``value`` where it can be a temperature inside or around a roaster, else None (NaN and inf too)."""
    low, high = PLAUSIBLE_TEMP_C
    return value if math.isfinite(value) and low < value < high else None


def plausible_step(control: Control, value: int) -> int | None:
    """``value`` where the control can stand there, else None."""
    return value if 0 <= value <= _READABLE_MAX[control] else None


# --- As Artisan sees it ---------------------------------------------------------------------------------


@dataclass(slots=True)
class ArtisanStatus:
    """Artisan's view of the same bytes, its names, types, rounding and memory; for conformance only.

    The differences to :class:`Status`, each with its reason, are tabled in docs/bullet-usb.md.
    """

    bt: float = 0.0
    bt_ror: float = 0.0
    dt: float = 0.0
    exitt: float = 0.0
    minutes: int = 0
    seconds: int = 0
    fan: int = 0
    heater: int = 0
    drum: int = 0
    r1state: int = 0
    irt: float = 0.0
    pcbt: float = 0.0
    fan_rpm: int = 0
    voltage: int = 0
    coil_fan: int = 0
    coil_fan2: int = 0
    pht: int = 0
    state_text: str = ""


def decode_as_artisan(frames: bytes, previous: ArtisanStatus | None = None) -> ArtisanStatus:
    """128 bytes as Artisan reads them, on top of what it remembers from ``previous``.

    With a marker other than 0x0A only the coil fan 2, the preheat target and the state's text change;
    an unknown state leaves the previous text. Any other length: ProtocolError (Artisan drops the sample).
    """
    raw = _exactly(frames, 2 * FRAME_BYTES, "status")
    old = previous or ArtisanStatus()
    now = ArtisanStatus(*(getattr(old, name) for name in ArtisanStatus.__slots__))
    if raw[41] == VALID_MARKER:
        (bt, bt_ror, dt, exitt, now.minutes, now.seconds, now.fan, now.heater, now.drum, now.r1state,
         irt, pcbt, now.fan_rpm, now.voltage, now.coil_fan) = _ARTISAN_A.unpack(raw[:FRAME_BYTES])
        now.bt, now.bt_ror, now.dt, now.exitt, now.irt, now.pcbt = _rounded((bt, bt_ror, dt, exitt, irt, pcbt))
    now.coil_fan2 = int.from_bytes(raw[96:100], "little", signed=True)
    now.pht = int.from_bytes(raw[104:106], "little")
    texts = {0x00: "off", 0x02: f"pre-heating to {now.pht}C", 0x04: "charge", 0x06: "roasting",
             0x08: "cooling", 0x09: "shutdown"}
    now.state_text = texts.get(now.r1state, old.state_text)
    return now


def _rounded(values: Iterable[float]) -> list[float]:
    """To one decimal; NaN and infinities pass through (``round`` with a digit count keeps them)."""
    return [round(value, 1) for value in values]
