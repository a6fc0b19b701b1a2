"""The Aillio Bullet R2's bytes, and nothing else: no I/O, no clock, no decisions.

Source of every offset and command: docs/bullet-usb.md (gathered facts about the wire, tagged there by how sure they
are). All numbers are little-endian, but for the preheat target. Nobody asks an R2: it pushes 64-byte frames of five
types, told apart by byte 0. A command is four bytes and their CRC-32/MPEG-2.

The only exception that bytes from outside can cause here is :class:`~drivers.port.ProtocolError`.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from drivers.port import Control, ControlRange, MachineState, ProtocolError

VENDOR_ID = 0x0483
PRODUCT_IDS = (0xA4CD,)
CONFIGURATION = 1
INTERFACE = 1  # its endpoints are not known beforehand: the last IN and the last OUT of alternate setting 0

FRAME_BYTES = 64
COMMAND_BYTES = 8
TEMPERATURES, FANS, POWER, SPARE_3, SPARE_4 = 0xA0, 0xA1, 0xA2, 0xA3, 0xA4
FRAME_TYPES = frozenset({TEMPERATURES, FANS, POWER, SPARE_3, SPARE_4})

RANGES: dict[Control, ControlRange] = {
    Control.HEATER: ControlRange(0, 14),
    Control.FAN: ControlRange(1, 12),
    Control.DRUM: ControlRange(1, 9),
}
READABLE_MAX = {Control.HEATER: 14, Control.FAN: 12, Control.DRUM: 9}  # a panel may show fan or drum 0
PREHEAT_RANGE_C = (20, 350)

PLAUSIBLE_TEMP_C = (-60.0, 450.0)
_LOUD = 1e6  # no temperature and no rate is beyond it; NaN and infinities may stand there
_FAINT = 1e-30  # nor is a temperature nearer to zero, but for zero
_ERRORS_MAX = 16
_RPM_MAX = 30_000
_VOLTAGE_TENTHS_MAX = 3000

_TEMPERATURES = struct.Struct("<BxH7f7H14BI")
_FANS = struct.Struct("<BxHB3x8B8HH8HHH4xHI")
_POWER = struct.Struct("<BxH19H2BI3fI")


# --- Frames → values ------------------------------------------------------------------------------------


class Temperatures(NamedTuple):
    """Frame A0, in wire order; raw, unrounded. Floats may be NaN or infinite, as the wire may."""

    frame_type: int  # 0
    frame_counter: int  # 2: unread by the existing client; the shipped virtual machine counts tenths there
    temp_a_c: float  # 4: the infrared sensor (IBTS), by the existing client
    rate_a_c_per_min: float  # 8: its rate
    sensor_ambient_temp_c: float  # 12: the infrared sensor's own
    temp_b_c: float  # 16: the bean probe
    rate_b_c_per_min: float  # 20: its rate
    energy: float  # 24: of this roast, unit unstated
    pressure_difference: float  # 28: of the air, unit unstated
    fan_rpm: int  # 32: exhaust fan
    inlet_tenths_c: int  # 34
    hot_air_tenths_c: int  # 36
    exhaust_tenths_c: int  # 38
    pressure_tenths: int  # 40: absolute, hPa assumed
    humidity_tenths: int  # 42: %
    humidity_tenths_c: int  # 44: the humidity sensor's own temperature
    clock_min: int  # 46
    crack_button: int  # 47
    clock_s: int  # 48
    byte_49: int
    heater_step: int  # 50
    fan_step: int  # 51
    hot_air_setting: int  # 52
    drum_step: int  # 53
    roast_counter: int  # 54
    first_crack_index: int  # 55
    crack_count: int  # 56
    method: int  # 57: by hand or by recipe
    status: int  # 58
    state_code: int  # 59
    crc: int  # 60: presumably; rule unknown

    @property
    def roast_clock_s(self) -> int:
        """The machine's own roast clock."""
        return self.clock_min * 60 + self.clock_s

    @property
    def state(self) -> MachineState:
        """The state, in the house's words; an unknown code is UNKNOWN, which permits nothing."""
        return state_of(self.state_code)


class Fans(NamedTuple):
    """Frame A1: errors, duties and speeds. Duties unscaled."""

    frame_type: int
    frame_counter: int
    error_count: int  # 4
    error_1_category: int  # 8
    error_1_type: int
    error_1_info: int
    error_1_value: int
    error_2_category: int  # 12
    error_2_type: int
    error_2_info: int
    error_2_value: int
    coil_fan_1_duty: int  # 16
    coil_fan_2_duty: int
    induction_fan_1_duty: int
    induction_fan_2_duty: int
    induction_blower_duty: int
    icf_1_duty: int  # 26
    exhaust_fan_duty: int
    vibrator_duty: int  # 30
    reserved_32: int
    coil_fan_1_rpm: int  # 34
    coil_fan_2_rpm: int
    induction_fan_1_rpm: int
    induction_fan_2_rpm: int
    induction_blower_rpm: int
    icf_1_rpm: int  # 44
    infrared_fan_rpm: int  # 46: IBTS fan
    drum_rpm: int  # 48
    reserved_50: int
    board_critical: int  # 52: width unknown, read as u16
    buttons: int  # 58: width unknown, read as u16
    crc: int

    @property
    def errors(self) -> tuple[tuple[int, int, int, int], ...]:
        """(category, type, info, value) of each error that stands."""
        both = (self[3:7], self[7:11])
        return tuple(each for each in both[: min(2, self.error_count)] if any(each))

    @property
    def error_codes(self) -> tuple[int, ...]:
        """Category × 256 + type of each: one number, as other machines have it."""
        return tuple(category * 256 + kind for category, kind, _, _ in self.errors)


class Power(NamedTuple):
    """Frame A2: the induction stage and the mains."""

    frame_type: int
    frame_counter: int
    setpoint_w: int  # 4
    line_hundredths_hz: int  # 6
    igbt_hz: int  # 8
    igbt_error: int
    igbt_1_tenths_c: int  # 12
    igbt_2_tenths_c: int
    state_runtime: int  # 16, unit unstated
    status_register: int
    status_error: int
    active_tenths: int  # 22: W
    reactive_tenths: int  # 24
    apparent_tenths: int  # 26
    voltage_tenths_v: int  # 28: rms
    current_ma: int  # 30: rms
    energy_accumulator: int
    spare_34: int
    spare_36: int
    spare_38: int
    spare_40: int
    byte_42: int
    byte_43: int
    word_44: int
    spare_48: float
    spare_52: float
    spare_56: float
    crc: int


class Undecoded(NamedTuple):
    """Frames A3 and A4: known to exist, contents unknown."""

    frame_type: int
    data: bytes


Frame = Temperatures | Fans | Power | Undecoded
_SHAPES: dict[int, tuple[Callable[..., tuple[float, ...]], type[Temperatures] | type[Fans] | type[Power]]] = {
    TEMPERATURES: (_TEMPERATURES.unpack, Temperatures),
    FANS: (_FANS.unpack, Fans),
    POWER: (_POWER.unpack, Power),
}
_NEW = tuple.__new__


def decode_frame(data: bytes) -> Frame:
    """One pushed transfer by its type. ProtocolError unless it is 64 bytes of a known type.

    Says nothing about whether the values make sense: :func:`require_plausible` does.
    """
    try:
        unpack, shape = _SHAPES[data[0]]
        return _NEW(shape, unpack(data))  # type: ignore[return-value]
    except KeyError:
        return _undecoded(data)
    except (struct.error, TypeError, ValueError, IndexError) as error:
        raise ProtocolError(f"not a {FRAME_BYTES}-byte frame: {error}") from None


def _undecoded(data: bytes) -> Undecoded:
    """A3, A4; ProtocolError for anything else."""
    if data[0] not in FRAME_TYPES:
        raise ProtocolError(f"there is no frame of type {data[0]!r}")
    try:
        raw = bytes(data)
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"not bytes: {error}") from None
    if len(raw) != FRAME_BYTES:
        raise ProtocolError(f"the frame has {len(raw)} bytes, not {FRAME_BYTES}")
    return Undecoded(raw[0], raw)


def encode_frame(frame: Temperatures | Fans | Power) -> bytes:
    """The 64 bytes that decode to ``frame`` (for captures and tests)."""
    structs = {TEMPERATURES: _TEMPERATURES, FANS: _FANS, POWER: _POWER}
    return structs[frame.frame_type].pack(*frame)


def require_plausible(frame: Frame) -> Frame:
    """``frame`` where a machine can be so; ProtocolError for noise that happens to begin with a type.

    Only what no machine shows in any state: a sensor that says NaN is a fault, not noise. An unknown state passes,
    for it must be seen (and permits nothing).
    """
    is_noise = False
    if isinstance(frame, Temperatures):
        is_noise = (
            frame.heater_step > READABLE_MAX[Control.HEATER]
            or frame.fan_step > READABLE_MAX[Control.FAN]
            or frame.drum_step > READABLE_MAX[Control.DRUM]
            or frame.clock_s > 59
            or any(_LOUD < abs(value) < math.inf for value in frame[2:7])
            or any(0.0 < abs(frame[place]) < _FAINT for place in (2, 4, 5))
        )
    elif isinstance(frame, Fans):
        is_noise = frame.error_count > _ERRORS_MAX or max(frame[20:28]) > _RPM_MAX
    elif isinstance(frame, Power):
        is_noise = not (
            (frame.line_hundredths_hz == 0 or 4000 <= frame.line_hundredths_hz <= 7000)
            and frame.voltage_tenths_v <= _VOLTAGE_TENTHS_MAX
        )
    if is_noise:
        raise ProtocolError(f"a frame {frame.frame_type:02X} that no machine can show")
    return frame


_STATES: dict[int, MachineState] = {
    0x00: MachineState.OFF,
    0x02: MachineState.PREHEATING,
    0x03: MachineState.STABILISING,
    0x04: MachineState.CHARGE,
    0x06: MachineState.ROASTING,
    0x07: MachineState.COOLING,  # cooldown
    0x08: MachineState.COOLING,  # also between two batches ("back to back")
    0x09: MachineState.SHUTDOWN,
    # 0x0B, power-on reset: known, and nothing may be done in it; it is left UNKNOWN on purpose
}


def state_of(state_code: int) -> MachineState:
    """Byte 59 → the house's state."""
    return _STATES.get(state_code, MachineState.UNKNOWN)


# --- Checksums ------------------------------------------------------------------------------------------

_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def crc32_mpeg2(data: bytes) -> int:
    """CRC-32/MPEG-2: polynomial 0x04C11DB7, from 0xFFFFFFFF, most significant bit first, no final XOR.

    By way of zlib's, which is the same polynomial with all bits mirrored and inverted at the end.
    """
    mirrored = zlib.crc32(data.translate(_REVERSED)).to_bytes(4, "little").translate(_REVERSED)
    return int.from_bytes(mirrored, "big") ^ 0xFFFFFFFF


def _word_swapped(data: bytes) -> bytes:
    """Each four bytes the other way round: what a checksum unit fed with the processor's own words sees."""
    return struct.pack(f">{len(data) // 4}I", *struct.unpack(f"<{len(data) // 4}I", data))


#: Rules by which the last four bytes of a pushed frame may be its checksum. The true one is unknown; a machine whose
#: frames keep one of these is held to it (:class:`SealWatch`).
SEAL_RULES: dict[str, Callable[[bytes], int]] = {
    "mpeg2": crc32_mpeg2,
    "mpeg2_words": lambda data: crc32_mpeg2(_word_swapped(data)),
    "crc32": zlib.crc32,
}
SEALS_UNTIL_SURE = 8


class SealWatch:
    """Finds out whether this machine's frames carry a checksum we can compute; once sure, it is required.

    No clock, no I/O; one per connection.
    """

    def __init__(self) -> None:
        self.rule: str | None = None
        self._kept = dict.fromkeys(SEAL_RULES, 0)
        self._tries_left = 64

    def check(self, data: bytes) -> None:
        """ProtocolError where ``data`` (64 bytes) breaks the rule this machine keeps."""
        if self.rule is not None:
            if _seal_of(data) != SEAL_RULES[self.rule](data[:60]):
                raise ProtocolError("the frame's checksum is wrong")
        elif self._tries_left > 0:
            self._tries_left -= 1
            seal = _seal_of(data)
            for name, rule in SEAL_RULES.items():
                self._kept[name] = self._kept[name] + 1 if rule(data[:60]) == seal else 0
                if self._kept[name] >= SEALS_UNTIL_SURE:
                    self.rule = name


def _seal_of(data: bytes) -> int:
    return int.from_bytes(data[60:64], "little")


# --- Orders → bytes -------------------------------------------------------------------------------------


def _sealed(command_hex: str) -> bytes:
    """Four bytes and their checksum, as the machine wants them."""
    command = bytes.fromhex(command_hex)
    return command + crc32_mpeg2(command).to_bytes(4, "little")


PRS = _sealed("30010000")
HEATER_UP, HEATER_DOWN = _sealed("3401AAAA"), _sealed("3402AAAA")
FAN_UP, FAN_DOWN = _sealed("3101AAAA"), _sealed("3102AAAA")
DRUM_UP, DRUM_DOWN = _sealed("3201AAAA"), _sealed("3202AAAA")

_STEPS: dict[tuple[Control, bool], bytes] = {
    (Control.HEATER, True): HEATER_UP,
    (Control.HEATER, False): HEATER_DOWN,
    (Control.FAN, True): FAN_UP,
    (Control.FAN, False): FAN_DOWN,
    (Control.DRUM, True): DRUM_UP,
    (Control.DRUM, False): DRUM_DOWN,
}


def encode_step(control: Control, *, up: bool) -> bytes:
    """One relative step; on an R2 the drum moves by steps too."""
    return _STEPS[control, up]


def encode_preheat(target_c: int) -> bytes:
    """The preheat temperature, 20–350 °C, big-endian on the wire. ProtocolError outside."""
    low_c, high_c = PREHEAT_RANGE_C
    if not low_c <= target_c <= high_c:
        raise ProtocolError(f"a preheat target of {target_c} °C is outside {low_c}–{high_c}")
    return _sealed(f"3500{target_c:04x}")


def encode_setting(control: Control, from_step: int, target_step: int) -> list[bytes]:
    """The writes, in order, that bring ``control`` from one step to another. Empty where they are equal."""
    limits = RANGES[control]
    if not limits.min_step <= target_step <= limits.max_step:
        raise ProtocolError(f"{control.value} {target_step} is outside {limits.min_step}–{limits.max_step}")
    if not 0 <= from_step <= READABLE_MAX[control]:
        raise ProtocolError(f"{control.value} cannot stand at {from_step}")
    return [encode_step(control, up=target_step > from_step)] * abs(target_step - from_step)


MEANINGS: dict[bytes, str] = {
    PRS: "press PRS",
    **{step: f"{control.value} {'+1' if up else '-1'}" for (control, up), step in _STEPS.items()},
    **{encode_preheat(target_c): f"preheat {target_c} °C"
       for target_c in range(PREHEAT_RANGE_C[0], PREHEAT_RANGE_C[1] + 1)},
}


def check_command(data: bytes) -> str:
    """What these bytes mean; ProtocolError unless they are, to the last byte, a command we speak.

    The dangerous ones (4A 01, 20 FF, 30 99) and the absolute settings that only a third-party note knows are not
    in the table, whatever checksum they carry.
    """
    meaning = MEANINGS.get(data)
    if meaning is None:
        raise ProtocolError(
            f"{bytes(data)[:8].hex(' ')} ({len(data)} bytes) is no command we send to a Bullet R2",
            "R2 commands are eight bytes with their checksum; send the exact bytes from codec_r2.",
        )
    return meaning


# --- What a value can be --------------------------------------------------------------------------------


def plausible_temp_c(value: float) -> float | None:
    """``value`` where it can be a temperature inside or around a roaster, else None (NaN and inf too)."""
    low, high = PLAUSIBLE_TEMP_C
    return value if math.isfinite(value) and low < value < high else None


def tenths(value: int) -> float | None:
    """A u16 in tenths; None where it says "nothing there" (0 and all ones)."""
    return value / 10 if 0 < value < 0xFFFF else None


# --- As Artisan sees it ---------------------------------------------------------------------------------

_ARTISAN_TEXTS = {
    0x00: "off", 0x02: "preheat", 0x03: "stabilising", 0x04: "ready", 0x06: "roasting", 0x07: "cooldown",
    0x08: "cooling", 0x09: "shutdown", 0x0B: "power-on reset",
}  # fmt: skip


@dataclass(slots=True)
class ArtisanR2:
    """What the existing Python client holds after a frame: its rounding and its memory; for conformance only.

    The differences to our decoding, each with its reason, are tabled in docs/bullet-usb.md.
    """

    bt: float = 0.0
    bt_ror: float = 0.0
    ibts_ambient: float = 0.0
    probe: float = 0.0
    probe_ror: float = 0.0
    inlet: float = 0.0
    hot_air: float = 0.0
    exhaust: float = 0.0
    fan_rpm: int = 0
    minutes: int = 0
    seconds: int = 0
    heater: int = 0
    fan: int = 0
    drum: int = 0
    state: int = 0
    state_text: str = ""
    error_count: int = 0
    voltage: float = 0.0
    active_power: float = 0.0


def decode_as_artisan(data: bytes, previous: ArtisanR2 | None = None) -> ArtisanR2:
    """64 bytes as Artisan reads them, on top of what it remembers. A type it does not know changes nothing.

    It tests no checksum and no plausibility. Another length: ProtocolError (Artisan drops the frame).
    """
    if len(data) != FRAME_BYTES:
        raise ProtocolError(f"the frame has {len(data)} bytes, not {FRAME_BYTES}")
    old = previous or ArtisanR2()
    now = ArtisanR2(*(getattr(old, name) for name in ArtisanR2.__slots__))
    if data[0] not in _SHAPES:
        return now
    frame = decode_frame(data)
    if isinstance(frame, Temperatures):
        now.bt, now.bt_ror = round(frame.temp_a_c, 1), round(frame.rate_a_c_per_min, 1)
        now.ibts_ambient, now.probe = frame.sensor_ambient_temp_c, round(frame.temp_b_c, 1)
        now.probe_ror = frame.rate_b_c_per_min
        now.inlet, now.hot_air = frame.inlet_tenths_c / 10, frame.hot_air_tenths_c / 10
        now.exhaust, now.fan_rpm = frame.exhaust_tenths_c / 10, frame.fan_rpm
        now.minutes, now.seconds, now.state = frame.clock_min, frame.clock_s, frame.state_code
        now.heater, now.fan, now.drum = frame.heater_step, frame.fan_step, frame.drum_step
        now.state_text = _ARTISAN_TEXTS.get(frame.state_code, f"unknown-{frame.state_code:02x}")
    elif isinstance(frame, Fans):
        now.error_count = frame.error_count
    elif isinstance(frame, Power):
        now.voltage, now.active_power = frame.voltage_tenths_v / 10, frame.active_tenths / 10
    return now
