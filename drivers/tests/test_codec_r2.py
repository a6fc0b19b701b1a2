"""The R2's codec: offsets, verified bytes, checksums, and no exception but ProtocolError for any bytes."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.benches import decode_r2_plainly
from drivers.bullet import codec_r2 as codec
from drivers.port import Control, MachineState, ProtocolError
from drivers.virtual import frames_r2

TYPES = st.sampled_from((0xA0, 0xA1, 0xA2))


def frame_a0() -> bytearray:
    """Written by hand, offset by offset, from the reference's table (not by our encoder)."""
    frame = bytearray(64)
    frame[0] = 0xA0
    struct.pack_into("<H", frame, 2, 4711)
    floats = ((4, 201.5), (8, 8.25), (12, 31.5), (16, 187.75), (20, 9.5), (24, 0.25), (28, 12.5))
    for offset, value in floats:
        struct.pack_into("<f", frame, offset, value)
    for offset, number in ((32, 1125), (34, 241), (36, 1502), (38, 1903), (40, 10132), (42, 455), (44, 238)):
        struct.pack_into("<H", frame, offset, number)
    frame[46:50] = bytes((7, 1, 41, 99))
    frame[50:60] = bytes((14, 3, 2, 9, 213, 5, 6, 1, 4, 6))
    struct.pack_into("<I", frame, 60, 0xDEADBEEF)
    return frame


def test_every_field_of_the_temperatures_stands_at_its_documented_offset() -> None:
    assert codec.decode_frame(bytes(frame_a0())) == codec.Temperatures(
        frame_type=0xA0, frame_counter=4711, temp_a_c=201.5, rate_a_c_per_min=8.25, sensor_ambient_temp_c=31.5,
        temp_b_c=187.75, rate_b_c_per_min=9.5, energy=0.25, pressure_difference=12.5, fan_rpm=1125,
        inlet_tenths_c=241, hot_air_tenths_c=1502, exhaust_tenths_c=1903, pressure_tenths=10132, humidity_tenths=455,
        humidity_tenths_c=238, clock_min=7, crack_button=1, clock_s=41, byte_49=99, heater_step=14, fan_step=3,
        hot_air_setting=2, drum_step=9, roast_counter=213, first_crack_index=5, crack_count=6, method=1, status=4,
        state_code=6, crc=0xDEADBEEF,
    )


def test_every_field_of_fans_and_power_stands_at_its_documented_offset() -> None:
    fans, power = bytearray(64), bytearray(64)
    fans[0], fans[4], power[0] = 0xA1, 2, 0xA2
    fans[8:16] = bytes((4, 0, 1, 3, 26, 208, 2, 7))
    for place, offset in enumerate((16, 18, 20, 22, 24, 26, 28, 30, 34, 36, 38, 40, 42, 44, 46, 48, 52, 58)):
        struct.pack_into("<H", fans, offset, 1000 + place)
    for place, offset in enumerate((*range(4, 42, 2),)):
        struct.pack_into("<H", power, offset, 2000 + place)
    power[42], power[43] = 5, 6
    struct.pack_into("<I3f", power, 44, 77, 0.5, 1.5, 2.5)
    seen = codec.decode_frame(bytes(fans))
    assert isinstance(seen, codec.Fans)
    assert seen.errors == ((4, 0, 1, 3), (26, 208, 2, 7)) and seen.error_codes == (1024, 6864)
    assert (seen.coil_fan_1_duty, seen.icf_1_duty, seen.exhaust_fan_duty) == (1000, 1005, 1006)
    assert seen.vibrator_duty == 1007
    assert (seen.coil_fan_1_rpm, seen.infrared_fan_rpm, seen.drum_rpm) == (1008, 1014, 1015)
    assert (seen.board_critical, seen.buttons) == (1016, 1017)
    watts = codec.decode_frame(bytes(power))
    assert isinstance(watts, codec.Power)
    assert (watts.setpoint_w, watts.line_hundredths_hz, watts.igbt_hz, watts.igbt_error) == (2000, 2001, 2002, 2003)
    assert (watts.igbt_1_tenths_c, watts.state_runtime, watts.status_error) == (2004, 2006, 2008)
    assert (watts.active_tenths, watts.apparent_tenths, watts.voltage_tenths_v, watts.current_ma) == (
        2009, 2011, 2012, 2013)
    assert (watts.energy_accumulator, watts.spare_40, watts.byte_43, watts.word_44, watts.spare_56) == (
        2014, 2018, 6, 77, 2.5)


@pytest.mark.parametrize(("command", "wire"), [
    (codec.PRS, "30 01 00 00 AE 1A 21 DB"),
    (codec.HEATER_UP, "34 01 AA AA 90 E5 E4 F1"), (codec.HEATER_DOWN, "34 02 AA AA 19 10 8D F3"),
    (codec.FAN_UP, "31 01 AA AA 22 33 7C 51"), (codec.FAN_DOWN, "31 02 AA AA AB C6 15 53"),
    (codec.DRUM_UP, "32 01 AA AA 4C 81 0B 31"), (codec.DRUM_DOWN, "32 02 AA AA C5 74 62 33"),
    (codec.encode_preheat(200), "35 00 00 C8 BA 1D E3 01"), (codec.encode_preheat(250), "35 00 00 FA 44 4B 53 DC"),
    (codec.encode_preheat(300), "35 00 01 2C C3 8C 57 05"),
])
def test_commands_are_the_bytes_verified_on_the_wire(command: bytes, wire: str) -> None:
    assert command == bytes.fromhex(wire)
    assert codec.check_command(command)


def test_the_checksum_is_crc_32_mpeg_2() -> None:
    assert codec.crc32_mpeg2(b"123456789") == 0x0376E6E7  # the catalogue's check value


@given(st.binary(max_size=80))
def test_the_checksum_is_what_a_plain_loop_makes_of_it(data: bytes) -> None:
    register = 0xFFFFFFFF
    for value in data:
        register ^= value << 24
        for _ in range(8):
            register = ((register << 1) ^ (0x04C11DB7 if register & 0x80000000 else 0)) & 0xFFFFFFFF
    assert codec.crc32_mpeg2(data) == register == frames_r2.crc(data)


@pytest.mark.parametrize(("target_c", "is_taken"), [(19, False), (20, True), (350, True), (351, False)])
def test_a_preheat_target_is_from_20_to_350(target_c: int, is_taken: bool) -> None:
    if is_taken:
        assert codec.encode_preheat(target_c)[2:4] == target_c.to_bytes(2, "big")
        return
    with pytest.raises(ProtocolError):
        codec.encode_preheat(target_c)


@given(st.sampled_from(list(Control)), st.integers(0, 14), st.integers(-2, 17))
def test_a_setting_is_as_many_steps_as_it_is_away(control: Control, before: int, target: int) -> None:
    limits = codec.RANGES[control]
    if not limits.min_step <= target <= limits.max_step or before > codec.READABLE_MAX[control]:
        with pytest.raises(ProtocolError):
            codec.encode_setting(control, before, target)
        return
    writes = codec.encode_setting(control, before, target)
    assert writes == [codec.encode_step(control, up=target > before)] * abs(target - before)


@pytest.mark.parametrize("data", [
    b"", b"\x30\x01", b"\x30\x01\x00\x00", bytes.fromhex("3401AAAA"), codec.HEATER_UP + b"\0", codec.HEATER_UP[:7],
    bytes.fromhex("3401AAAA90E5E4F0"), codec.HEATER_UP[:4] + bytes(56) + codec.HEATER_UP[4:],
    *(codec._sealed(each) for each in ("4A010000", "20FF0000", "30990000", "34000EBA", "31000C00", "32010500",
                                       "35000013", "3500015F")),
])
def test_nothing_but_known_commands_is_sent_whatever_checksum_it_carries(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        codec.check_command(data)


@pytest.mark.parametrize(("code", "state"), [
    (0, MachineState.OFF), (2, MachineState.PREHEATING), (3, MachineState.STABILISING), (4, MachineState.CHARGE),
    (6, MachineState.ROASTING), (7, MachineState.COOLING), (8, MachineState.COOLING), (9, MachineState.SHUTDOWN),
    (0x0B, MachineState.UNKNOWN), (1, MachineState.UNKNOWN), (5, MachineState.UNKNOWN), (255, MachineState.UNKNOWN),
])
def test_a_state_is_known_or_unknown(code: int, state: MachineState) -> None:
    assert codec.state_of(code) is state


@settings(max_examples=500)
@given(st.one_of(st.binary(max_size=130), st.integers(0, 200), st.none(), st.text(max_size=70),
                 st.lists(st.integers(-1, 300), max_size=70)))
def test_nothing_but_protocol_errors_comes_of_anything(data: object) -> None:
    for decode in (codec.decode_frame, lambda each: codec.require_plausible(codec.decode_frame(each))):
        try:
            decode(data)  # type: ignore[arg-type]
        except ProtocolError:
            pass


@settings(max_examples=300)
@given(TYPES, st.binary(min_size=63, max_size=63))
def test_any_frame_of_a_known_type_survives_the_round_trip(kind: int, rest: bytes) -> None:
    frame = codec.decode_frame(bytes((kind,)) + rest)
    assert isinstance(frame, (codec.Temperatures, codec.Fans, codec.Power))
    again = codec.decode_frame(codec.encode_frame(frame))
    assert [each for each in again if not math.isnan(each)] == [each for each in frame if not math.isnan(each)]


def test_spare_frames_are_known_and_not_decoded_and_others_are_refused() -> None:
    for kind in (0xA3, 0xA4):
        assert codec.decode_frame(bytes((kind,)) + bytes(63)) == codec.Undecoded(kind, bytes((kind,)) + bytes(63))
    for kind in (0x00, 0x9F, 0xA5, 0xFF):
        with pytest.raises(ProtocolError):
            codec.decode_frame(bytes((kind,)) + bytes(63))


@pytest.mark.parametrize(("offset", "good", "bad"), [(50, 14, 15), (51, 12, 13), (53, 9, 10), (48, 59, 60)])
def test_a_step_or_second_beyond_its_range_is_noise(offset: int, good: int, bad: int) -> None:
    frame = frame_a0()
    frame[offset] = good
    codec.require_plausible(codec.decode_frame(bytes(frame)))
    frame[offset] = bad
    with pytest.raises(ProtocolError):
        codec.require_plausible(codec.decode_frame(bytes(frame)))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, -40.0, 1e6])
def test_a_sensor_that_fails_is_no_noise(value: float) -> None:
    frame = frame_a0()
    struct.pack_into("<f", frame, 16, value)
    assert codec.require_plausible(codec.decode_frame(bytes(frame)))


def test_a_checksum_rule_is_required_once_eight_frames_in_a_row_kept_it() -> None:
    for rule in ("mpeg2", "mpeg2_words", "crc32"):
        watch = codec.SealWatch()
        good = frames_r2.sealed(frame_a0(), rule)
        spoiled = good[:20] + bytes((good[20] ^ 1,)) + good[21:]
        for _ in range(7):
            watch.check(good)
        watch.check(spoiled)  # not sure yet; and it begins to count anew
        for _ in range(8):
            assert watch.rule is None
            watch.check(good)
        assert watch.rule == rule
        with pytest.raises(ProtocolError):
            watch.check(spoiled)
        watch.check(good)


@pytest.mark.parametrize("rule", ["own", "none"])
def test_a_machine_whose_checksum_nobody_knows_is_not_held_to_one(rule: str) -> None:
    watch = codec.SealWatch()
    for number in range(200):
        frame = frame_a0()
        frame[3] = number
        watch.check(frames_r2.sealed(frame, rule))
    assert watch.rule is None


@settings(max_examples=300)
@given(TYPES, st.binary(min_size=63, max_size=63))
def test_artisans_view_is_a_plain_clients_reading(kind: int, rest: bytes) -> None:
    data = bytes((kind,)) + rest
    seen, plain = codec.decode_as_artisan(data), decode_r2_plainly(data)
    for name in {"bt", "bt_ror", "probe", "probe_ror", "inlet", "exhaust", "fan_rpm", "heater", "fan", "drum",
                 "state", "minutes", "seconds", "error_count", "voltage", "active_power"} & set(plain):
        ours, theirs = getattr(seen, name), plain[name]
        assert ours == theirs or (math.isnan(ours) and math.isnan(theirs)), name


def test_artisans_view_remembers_and_names_unknown_states() -> None:
    first = codec.decode_as_artisan(bytes(frame_a0()))
    assert (first.bt, first.state_text, first.heater) == (201.5, "roasting", 14)
    after = codec.decode_as_artisan(bytes((0xA3,)) + bytes(63), first)
    assert after == first
    odd = frame_a0()
    odd[59] = 0x1C
    assert codec.decode_as_artisan(bytes(odd), first).state_text == "unknown-1c"
    with pytest.raises(ProtocolError):
        codec.decode_as_artisan(bytes(63))
