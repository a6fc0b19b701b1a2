"""How an R1 lays its values into bytes (little-endian). Source: ``reference/bullet-and-alog.md`` §1.4-1.6."""

from __future__ import annotations

import struct

from drivers.virtual.wire_values import WireValues

FRAME_BYTES = 64
VALID = 0x0A
#: First and last step a setting takes.
RANGES: dict[str, tuple[int, int]] = {"heater": (0, 9), "fan": (1, 12), "drum": (1, 9)}


def frame_a(values: WireValues) -> bytes:
    """The reply to STATUS1."""
    frame = bytearray(FRAME_BYTES)
    struct.pack_into(
        "<5fI", frame, 0,
        values.temp_a_c, values.rate_c_per_min, values.temp_b_c, values.infrared_rate_c_per_min,
        values.exhaust_c, values.buttons,
    )  # fmt: skip
    minutes, seconds = divmod(max(0, values.roast_clock_s), 60)
    frame[24:30] = bytes((minutes & 0xFF, seconds, values.fan_step, values.heater_step, values.drum_step, values.state))
    struct.pack_into("<H2f", frame, 30, values.sample_counter & 0xFFFF, values.ambient_c, values.board_c)
    frame[41] = VALID
    struct.pack_into("<H", frame, 42, 0)
    struct.pack_into("<h", frame, 44, values.fan_rpm)
    struct.pack_into("<h", frame, 48, values.voltage_v)
    struct.pack_into("<HH", frame, 52, values.coil_fan_rpm, 1 if values.error_codes else 0)
    return _sealed(frame)


def frame_b(values: WireValues) -> bytes:
    """The reply to STATUS2."""
    frame = bytearray(FRAME_BYTES)
    struct.pack_into("<3f", frame, 0, values.crack_energy, 12.0, values.infrared_rate_c_per_min)
    for place, (code, value) in enumerate(values.error_codes[:2]):
        struct.pack_into("<HH", frame, 24 + 4 * place, code & 0xFFFF, value & 0xFFFF)
    current = round(values.heater_watts / max(1, values.voltage_v) * 10)
    # 32 is an i32 to some readers and a u16 beside a u16 current to others: the current stays 0 there.
    struct.pack_into("<i", frame, 32, values.coil_fan_2_rpm)
    frame[36] = min(255, 30 + current // 4)
    frame[37] = min(255, 31 + current // 4)
    struct.pack_into("<H", frame, 38, 1600 if values.heater_watts else 0)
    struct.pack_into("<H", frame, 40, values.preheat_target_c)
    struct.pack_into("<H", frame, 42, values.infrared_fan_rpm)
    return _sealed(frame)


def idle_message(counter: int) -> bytes:
    """The different message an idle machine sends about every 15 s: no valid mark, contents unknown."""
    frame = bytearray(FRAME_BYTES)
    frame[0:4] = b"\xa5\x5a\x01\x00"
    struct.pack_into("<H", frame, 30, counter & 0xFFFF)
    return _sealed(frame)


def info_1(serial_number: int, firmware_version: int) -> bytes:
    """32 bytes: serial, date of manufacture, hardware (IBTS fitted), unique id, firmware."""
    head = struct.pack("<I4BI", serial_number, 19, 6, 14, 9, 0x00020003)
    body = head + struct.pack("<3I", 0x00340027, 0x39365107, 0x20393454) + struct.pack("<I", firmware_version)
    return body + struct.pack("<I", sum(body) & 0xFFFFFFFF)


def info_2(on_s: int, roast_count: int) -> bytes:
    """36 bytes: usage counters; roast count u16 at 30 (others read four bytes from 27, big-endian)."""
    counters = struct.pack("<3I4I", on_s, on_s // 2, 900, 1, 2, 3, 4)
    reply = counters + struct.pack("<HH", 0, roast_count & 0xFFFF)
    return reply + bytes(36 - len(reply))


def _sealed(frame: bytearray) -> bytes:
    """A checksum byte of our own making (the real algorithm is unknown) and the FF AA trailer."""
    frame[60] = sum(frame[:60]) & 0xFF
    frame[62], frame[63] = 0xFF, 0xAA
    return bytes(frame)
