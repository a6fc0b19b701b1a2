"""The codec: offsets, orders, and no exception but ProtocolError for any bytes."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.benches import decode_plainly
from drivers.bullet import codec_r1 as codec
from drivers.bullet.codec_r1 import SensorMap, Status
from drivers.port import Control, MachineState, ProtocolError

FRAMES = st.binary(min_size=64, max_size=64)


def good_frames() -> tuple[bytearray, bytearray]:
    """Frames written by hand, offset by offset, from the reference's table (not by our encoder)."""
    a, b = bytearray(64), bytearray(64)
    for offset, value in ((0, 201.5), (4, 8.25), (8, 187.75), (12, 9.5), (16, 150.0), (32, 28.5), (36, 41.0)):
        struct.pack_into("<f", a, offset, value)
    struct.pack_into("<I", a, 20, 1 << 31)
    a[24:30] = bytes((7, 41, 3, 6, 9, 6))
    struct.pack_into("<H", a, 30, 4711)
    a[41] = 0x0A
    struct.pack_into("<H", a, 42, 2)
    struct.pack_into("<HxxHxxHH", a, 44, 1125, 201, 2340, 0x0005)
    a[60:64] = b"\x77\x00\xff\xaa"
    struct.pack_into("<fff", b, 0, 0.5, 0.25, 1.5)
    struct.pack_into("<6H", b, 24, 1024, 3, 6864, 4, 2280, 512)
    struct.pack_into("<BB3H", b, 36, 55, 56, 1000, 260, 5400)
    return a, b


def test_every_field_stands_at_its_documented_offset() -> None:
    assert codec.decode_status(*map(bytes, good_frames())) == Status(
        temp_a_c=201.5, rate_a_c_per_min=8.25, temp_b_c=187.75, rate_b_c_per_min=9.5, exhaust_temp_c=150.0,
        buttons=1 << 31, clock_min=7, clock_s=41, fan_step=3, heater_step=6, drum_step=9, state_code=6,
        sample_counter=4711, ambient_temp_c=28.5, sensor_ambient_temp_c=41.0, marker=10, samples_queued=2,
        fan_rpm=1125, voltage_v=201, coil_fan_rpm=2340, error_flags=5, crc=0x77, trailer=0xAAFF,
        crack_energy=0.5, crack_baseline=0.25, preheat_rate_c_per_min=1.5, error_1_code=1024, error_1_value=3,
        error_2_code=6864, error_2_value=4, coil_fan_2_rpm=2280, current_raw=512, igbt_1_temp_c=55, igbt_2_temp_c=56,
        igbt_timer_period=1000, preheat_target_c=260, infrared_fan_rpm=5400,
    )


def test_derived_values() -> None:
    status = codec.decode_status(*map(bytes, good_frames()))
    assert status.roast_clock_s == 7 * 60 + 41
    assert status.state is MachineState.ROASTING
    assert status.is_crack_button_pressed and status.is_exhaust_fitted and status.has_trailer
    assert status.igbt_hz == 40_000
    assert status.error_codes == (1024, 6864)


@pytest.mark.parametrize(("exhaust_c", "is_fitted"), [(-20.0, True), (-20.001, False), (-45.0, False)])
def test_an_exhaust_below_minus_twenty_is_no_sensor(exhaust_c: float, is_fitted: bool) -> None:
    a, b = good_frames()
    struct.pack_into("<f", a, 16, exhaust_c)
    assert codec.decode_status(bytes(a), bytes(b)).is_exhaust_fitted is is_fitted


def test_another_marker_is_another_message() -> None:
    a, b = good_frames()
    a[41] = 0x0B
    with pytest.raises(codec.OtherMessage):
        codec.decode_status(bytes(a), bytes(b))


def test_changed_places_are_a_slip() -> None:
    a, b = map(bytes, good_frames())
    with pytest.raises(codec.SlippedFrames):
        codec.decode_status(b, a)
    with pytest.raises(codec.SlippedFrames):
        codec.decode_status(a, a)


def test_a_high_preheat_byte_alone_is_no_slip() -> None:
    a, b = good_frames()
    b[41] = 0x0A  # but it does not end as frame A does
    assert codec.decode_status(bytes(a), bytes(b)).preheat_target_c == 0x0A04


@pytest.mark.parametrize(("length_a", "length_b"), [(63, 65), (65, 63), (0, 128), (128, 0), (63, 64), (64, 65)])
def test_wrong_lengths_are_protocol_errors_even_where_they_sum_up(length_a: int, length_b: int) -> None:
    with pytest.raises(ProtocolError):
        codec.decode_status(b"\x0a" * length_a, b"\x00" * length_b)


@settings(max_examples=400)
@given(st.one_of(st.binary(max_size=140), st.integers(0, 200), st.none(), st.text(max_size=70)),
       st.one_of(st.binary(max_size=140), st.none()))
def test_nothing_but_protocol_errors_comes_of_anything(frame_a: object, frame_b: object) -> None:
    for decode in (lambda: codec.decode_status(frame_a, frame_b), lambda: codec.decode_info1(frame_a),  # type: ignore[arg-type]
                   lambda: codec.decode_info2(frame_a), lambda: codec.decode_as_artisan(frame_a)):  # type: ignore[arg-type]
        try:
            decode()
        except ProtocolError:
            pass


@settings(max_examples=400)
@given(FRAMES, FRAMES)
def test_random_frames_with_the_marker_survive_the_round_trip(frame_a: bytes, frame_b: bytes) -> None:
    frame_a = frame_a[:41] + b"\x0a" + frame_a[42:]
    frame_b = frame_b[:41] + b"\x00" + frame_b[42:]
    status = codec.decode_status(frame_a, frame_b)
    again = codec.decode_status(*codec.encode_status(status))
    assert [value for value in again if not math.isnan(value)] == [value for value in status if not math.isnan(value)]


@settings(max_examples=400)
@given(st.binary(min_size=128, max_size=128), st.booleans())
def test_artisans_view_is_a_plain_clients_reading(frames: bytes, is_valid: bool) -> None:
    raw = bytearray(frames)
    raw[41] = 10 if is_valid else 11
    plain = decode_plainly(bytes(raw))
    seen = codec.decode_as_artisan(bytes(raw))
    names = {"bt": seen.bt, "bt_ror": seen.bt_ror, "dt": seen.dt, "exit": seen.exitt, "fan": seen.fan,
             "heater": seen.heater, "drum": seen.drum, "state": seen.r1state, "ir": seen.irt, "pcb": seen.pcbt,
             "fan_rpm": seen.fan_rpm, "voltage": seen.voltage, "coil_fan": seen.coil_fan,
             "coil_fan_2": seen.coil_fan2, "preheat": seen.pht}
    for name, value in names.items():
        if name in plain:
            assert value == plain[name] or (math.isnan(value) and math.isnan(plain[name]))
        else:
            assert value == 0, "an invalid frame A must leave what was remembered"


def test_artisan_keeps_what_it_knew_when_the_marker_is_wrong() -> None:
    a, b = good_frames()
    before = codec.decode_as_artisan(bytes(a + b))
    a[41] = 0
    a[29] = 0x08
    struct.pack_into("<H", b, 40, 199)
    after = codec.decode_as_artisan(bytes(a + b), before)
    assert (after.bt, after.r1state, after.state_text) == (before.bt, 6, "roasting")
    assert after.pht == 199


def test_artisan_reads_error_flags_as_a_huge_fan_and_we_do_not() -> None:
    frames = tuple(map(bytes, good_frames()))
    assert codec.decode_as_artisan(frames[0] + frames[1]).coil_fan == 2340 + (5 << 16)
    assert codec.decode_status(*frames).coil_fan_rpm == 2340


def test_the_roast_count_is_read_where_it_stands() -> None:
    reply = bytearray(36)
    struct.pack_into("<H", reply, 30, 1005)  # 0x03ED
    found = codec.decode_info2(bytes(reply))
    assert found.roast_count == 1005
    assert found.roast_count_as_artisan == 0xED  # the batch number that jumped from 1000 to 237


def test_info1_is_decoded_and_a_garbled_one_is_refused() -> None:
    reply = bytearray(32)
    struct.pack_into("<I4BI3III", reply, 0, 70_001, 20, 5, 17, 9, 0x00020003, 1, 2, 3, 571, 9)
    found = codec.decode_info1(bytes(reply))
    assert (found.serial, found.firmware, found.infrared_sensor_type) == (70_001, 571, 2)
    assert found.serial_as_artisan == 70_001 - 65_536
    struct.pack_into("<I", reply, 24, 1000)
    with pytest.raises(ProtocolError):
        codec.decode_info1(bytes(reply))


def test_orders_become_the_documented_bytes() -> None:
    assert codec.encode_setting(Control.HEATER, 5, 7) == [bytes.fromhex("3401aaaa")] * 2
    assert codec.encode_setting(Control.HEATER, 9, 0) == [bytes.fromhex("3402aaaa")] * 9
    assert codec.encode_setting(Control.FAN, 3, 4) == [bytes.fromhex("3101aaaa")]
    assert codec.encode_setting(Control.FAN, 4, 3) == [bytes.fromhex("3102aaaa")]
    assert codec.encode_setting(Control.DRUM, 7, 2) == [bytes.fromhex("32010200")]
    assert codec.encode_setting(Control.FAN, 4, 4) == []


@pytest.mark.parametrize(("control", "target"), [
    (Control.HEATER, 10), (Control.HEATER, -1), (Control.FAN, 0), (Control.FAN, 13), (Control.DRUM, 0),
    (Control.DRUM, 10),
])
def test_settings_outside_the_range_are_refused(control: Control, target: int) -> None:
    with pytest.raises(ProtocolError):
        codec.encode_setting(control, 5, target)


@pytest.mark.parametrize("data", [
    codec.STATUS1 + b"\0", codec.STATUS1 + b"\0" * 62, codec.HEATER_DOWN + b"\0" * 60, codec.STATUS2 + b"\0\0",
    bytes.fromhex("4a01"), bytes.fromhex("20ff"), bytes.fromhex("3099"), bytes.fromhex("340009ba"),
    bytes.fromhex("350000c8"), bytes.fromhex("32010a00"), b"",
])
def test_padded_dangerous_and_unproved_commands_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        codec.check_command(data)


def test_the_status_poll_and_the_button_differ_by_length_alone() -> None:
    assert codec.check_command(bytes.fromhex("3001")) == "status1?"
    assert codec.check_command(bytes.fromhex("30010000")) == "press PRS"


def test_the_sensor_that_resets_to_25_is_the_infrared_one() -> None:
    status = codec.decode_status(*map(bytes, good_frames()))
    assert codec.infrared_by_reset(status) is None
    assert codec.infrared_by_reset(status._replace(temp_a_c=25.0)) is SensorMap.PROBE_B
    assert codec.infrared_by_reset(status._replace(temp_b_c=25.0)) is SensorMap.PROBE_A
    assert codec.infrared_by_reset(status._replace(temp_a_c=25.0, temp_b_c=25.0)) is None


@pytest.mark.parametrize("code", range(256))
def test_only_documented_state_codes_are_known(code: int) -> None:
    known = code in (0, 2, 3, 4, 5, 6, 7, 8, 9, 0x23, 0x24)
    assert (codec.state_of(code) is not MachineState.UNKNOWN) is known
    assert (codec.state_of(code) is MachineState.ROASTING) is (code == 6)
