"""How an R2 lays its values into bytes (little-endian), and its checksums. Source: ``reference/bullet-and-alog.md`` §2.

Written from the reference and on purpose not from our own codec.
"""

from __future__ import annotations

import math
import struct
import zlib

from drivers.virtual.wire_values import WireValues

FRAME_BYTES = 64
#: First and last step a setting takes.
RANGES: dict[str, tuple[int, int]] = {"heater": (0, 14), "fan": (1, 12), "drum": (1, 9)}
_POLYNOMIAL = 0x04C11DB7


def _table() -> tuple[int, ...]:
    """The CRC-32 of each byte, most significant bit first."""
    rows = []
    for value in range(256):
        register = value << 24
        for _ in range(8):
            register = ((register << 1) ^ (_POLYNOMIAL if register & 0x80000000 else 0)) & 0xFFFFFFFF
        rows.append(register)
    return tuple(rows)


_TABLE = _table()


def crc(data: bytes) -> int:
    """CRC-32/MPEG-2, byte by byte."""
    register = 0xFFFFFFFF
    for value in data:
        register = ((register << 8) & 0xFFFFFFFF) ^ _TABLE[(register >> 24) ^ value]
    return register


def temperatures(values: WireValues, frame_counter: int) -> bytearray:
    """Frame A0, not sealed yet."""
    frame = _begun(0xA0, frame_counter)
    struct.pack_into("<ff", frame, 4, values.temp_a_c, values.rate_a_c_per_min)
    struct.pack_into("<f", frame, 12, values.ambient_c)
    struct.pack_into("<ff", frame, 16, values.temp_b_c, values.rate_b_c_per_min)
    struct.pack_into("<ff", frame, 24, values.heater_watts * values.roast_clock_s / 3.6e6, 12.5 + values.fan_step)
    struct.pack_into("<H", frame, 32, values.fan_rpm)
    hot_air_c = values.board_c + 2.0 * values.fan_step
    struct.pack_into("<HHH", frame, 34, _tenths(values.ambient_c), _tenths(hot_air_c), _tenths(values.exhaust_c))
    struct.pack_into("<HHH", frame, 40, 10132, 455, _tenths(values.ambient_c))
    minutes, seconds = divmod(max(0, values.roast_clock_s), 60)
    frame[46], frame[47], frame[48] = minutes & 0xFF, 1 if values.buttons else 0, seconds
    frame[50:54] = bytes((values.heater_step, values.fan_step, 0, values.drum_step))
    frame[54:60] = bytes((values.roast_count & 0xFF, 0, min(255, int(values.crack_energy)), 0, 0, values.state))
    return frame


def fans(values: WireValues, frame_counter: int) -> bytearray:
    """Frame A1, not sealed yet."""
    frame = _begun(0xA1, frame_counter)
    frame[4] = len(values.error_codes)
    for place, (code, value) in enumerate(values.error_codes[:2]):
        frame[8 + 4 * place : 12 + 4 * place] = bytes((code >> 8 & 0xFF, code & 0xFF, 0, value & 0xFF))
    duty = 40 + 3 * values.heater_step
    struct.pack_into("<8H", frame, 16, duty, duty, duty, duty, duty, 60, 8 * values.fan_step, 0)
    struct.pack_into(
        "<8H", frame, 34, values.coil_fan_rpm, values.coil_fan_2_rpm, values.coil_fan_rpm, values.coil_fan_2_rpm,
        2400, 5400, values.infrared_fan_rpm, 8 * values.drum_step,
    )  # fmt: skip
    return frame


def power(values: WireValues, frame_counter: int, state_runtime_s: int) -> bytearray:
    """Frame A2, not sealed yet."""
    frame = _begun(0xA2, frame_counter)
    watts = round(values.heater_watts)
    struct.pack_into("<HHHH", frame, 4, watts, 5000, 25_000 if watts else 0, 0)
    igbt_tenths_c = 300 + watts // 4
    struct.pack_into("<HHH", frame, 12, igbt_tenths_c, igbt_tenths_c + 8, state_runtime_s & 0xFFFF)
    apparent = min(0xFFFF, round(watts * 10 / 0.95))
    reactive = min(0xFFFF, round(math.sqrt(max(0.0, apparent**2 - (watts * 10.0) ** 2))))
    struct.pack_into("<HHH", frame, 22, min(0xFFFF, watts * 10), reactive, apparent)
    volts = max(1, values.voltage_v)
    struct.pack_into("<HH", frame, 28, values.voltage_v * 10, min(0xFFFF, round(watts / volts * 1000)))
    return frame


def spare(frame_type: int, frame_counter: int) -> bytearray:
    """Frames A3 and A4: known to exist; what is in them is not."""
    return _begun(frame_type, frame_counter)


def sealed(frame: bytearray, rule: str) -> bytes:
    """The frame with its last four bytes: a checksum by ``rule`` (see ``R2Settings.frame_seal``)."""
    body = bytes(frame[:60])
    if rule == "mpeg2":
        value = crc(body)
    elif rule == "mpeg2_words":
        value = crc(b"".join(body[place : place + 4][::-1] for place in range(0, 60, 4)))
    elif rule == "crc32":
        value = zlib.crc32(body)
    else:
        value = (sum(body) * 2654435761) & 0xFFFFFFFF if rule == "own" else 0
    return body + struct.pack("<I", value)


def _begun(frame_type: int, frame_counter: int) -> bytearray:
    frame = bytearray(FRAME_BYTES)
    frame[0] = frame_type
    struct.pack_into("<H", frame, 2, frame_counter & 0xFFFF)
    return frame


def _tenths(temp_c: float) -> int:
    """°C as an unsigned number of tenths; what does not fit is 0."""
    return min(0xFFFE, max(0, round(temp_c * 10))) if math.isfinite(temp_c) else 0
