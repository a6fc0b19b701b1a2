"""The virtual R1's own side of the wire, read with plain struct: neither our codec nor our driver is used."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.virtual.firmware_r1 import FirmwareR1
from drivers.virtual.settings import PRS_RINGS, R1Settings, matrix, settings_from

UP, DOWN = b"\x34\x01\xaa\xaa", b"\x34\x02\xaa\xaa"
FAN_UP, FAN_DOWN = b"\x31\x01\xaa\xaa", b"\x31\x02\xaa\xaa"
PRS = b"\x30\x01\x00\x00"


def made(initial_state: str = "roasting", **options: object) -> FirmwareR1:
    return FirmwareR1(R1Settings(**options), seed=3, initial_state=initial_state)  # type: ignore[arg-type]


def live(firmware: FirmwareR1, seconds: float) -> None:
    for _ in range(round(seconds * 10)):
        firmware.tick()


def asked(firmware: FirmwareR1, question: bytes) -> bytes:
    replies = firmware.receive(question).replies
    assert len(replies) == 1
    return replies[0]


def controls(firmware: FirmwareR1) -> tuple[int, int, int]:
    """(heater, fan, drum) as frame A shows them."""
    frame = asked(firmware, b"\x30\x01")
    return frame[27], frame[26], frame[28]


def test_frame_a_has_every_field_where_the_machine_puts_it() -> None:
    firmware = made()
    live(firmware, 12.3)
    frame = asked(firmware, b"\x30\x01")
    infrared_c, rate, probe_c, _, exhaust_c, buttons = struct.unpack_from("<5fI", frame, 0)
    assert len(frame) == 64
    assert frame[41] == 10 and frame[62:64] == b"\xff\xaa"
    assert abs(infrared_c - firmware.warmth.infrared_temp_c) < 1.0
    assert abs(probe_c - firmware.warmth.probe_temp_c) < 0.5
    assert 5.0 < rate < 40.0 and exhaust_c < -20.0 and buttons == 0
    assert (frame[24], frame[25]) == (2, 42)  # 150 s before, 12 s since
    assert (frame[27], frame[26], frame[28], frame[29]) == (5, 3, 7, 6)
    assert struct.unpack_from("<H", frame, 30)[0] == 123
    assert struct.unpack_from("<h", frame, 44)[0] in (1110, 1125, 1140)
    assert 195 <= struct.unpack_from("<h", frame, 48)[0] <= 206
    assert 0 < struct.unpack_from("<i", frame, 52)[0] < 10000  # no error flag: the i32 reading is a plain rpm


def test_frame_b_has_target_and_coil_fan() -> None:
    frame = asked(made(preheat_target_c=260), b"\x30\x03")
    assert struct.unpack_from("<H", frame, 40)[0] == 260  # above 255: one byte would not do
    assert 0 < struct.unpack_from("<i", frame, 32)[0] < 10000
    assert struct.unpack_from("<4H", frame, 24) == (0, 0, 0, 0)


def test_info_replies() -> None:
    firmware = made(serial_number=1183, firmware_version=563, roast_count=1237, initial_state="off")
    first, second = asked(firmware, b"\x30\x02"), asked(firmware, b"\x89\x01")
    assert (len(first), len(second)) == (32, 36)
    assert struct.unpack_from("<h", first, 0)[0] == 1183 and struct.unpack_from("<h", first, 24)[0] == 563
    assert first[10] == 2  # an infrared sensor is fitted
    assert struct.unpack_from("<H", second, 30)[0] == 1237
    assert struct.unpack_from(">I", second, 27)[0] & 0xFF != 1237  # the usual misreading loses it


def test_two_bytes_ask_and_four_bytes_press() -> None:
    firmware = made("off")
    assert len(firmware.receive(b"\x30\x01").replies) == 1
    assert firmware.state == 0
    assert firmware.receive(PRS).replies == []
    assert firmware.state == 2


def test_a_padded_status_poll_is_the_button_and_raises_an_alarm() -> None:
    firmware = made("off")
    answer = firmware.receive(b"\x30\x01" + bytes(62))
    assert firmware.state == 2 and "padded" in answer.alarm


@pytest.mark.parametrize("question", [b"\x4a\x01", b"\x20\xff", b"\x30\x99"])
def test_dangerous_commands_raise_an_alarm(question: bytes) -> None:
    assert "dangerous" in made().receive(question).alarm


@pytest.mark.parametrize("data", [b"", b"\x30", b"\x30\x30", b"\x34\x01\xaa", b"\x34\x01\xaa\xab", b"\xff" * 64])
def test_nonsense_moves_nothing_and_raises_an_alarm(data: bytes) -> None:
    firmware = made()
    answer = firmware.receive(data)
    assert answer.alarm and not answer.replies
    assert controls(firmware) == (5, 3, 7) and firmware.state == 6


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=70), min_size=1, max_size=5))
def test_any_bytes_are_survived_and_leave_the_controls_in_their_ranges(transfers: list[bytes]) -> None:
    firmware = FirmwareR1(seed=1, initial_state="charge")
    for transfer in transfers:
        firmware.receive(transfer)
        live(firmware, 0.2)
    heater, fan, drum = controls(firmware)
    assert 0 <= heater <= 9 and 0 <= fan <= 12 and 0 <= drum <= 9


def test_steps_move_one_at_a_time_and_drum_is_absolute() -> None:
    firmware = made()
    for _ in range(4):
        firmware.receive(UP)
    for _ in range(9):
        firmware.receive(FAN_UP)
    firmware.receive(b"\x32\x01\x02\x00")
    assert controls(firmware) == (9, 12, 2)
    firmware.receive(DOWN)
    firmware.receive(FAN_DOWN)
    assert controls(firmware) == (8, 11, 2)


@pytest.mark.parametrize(("at_limit", "heater", "fan"), [("clamp", 0, 12), ("wrap", 9, 1)])
def test_steps_past_the_end_clamp_or_wrap(at_limit: str, heater: int, fan: int) -> None:
    firmware = made(at_limit=at_limit)
    for _ in range(6):
        firmware.receive(DOWN)
    for _ in range(10):
        firmware.receive(FAN_UP)
    assert controls(firmware)[:2] == (heater, fan)


def test_steps_beyond_ten_a_second_may_be_dropped() -> None:
    firmware = made(max_steps_per_s=10)
    for _ in range(12):
        firmware.receive(FAN_UP if firmware.fan_step < 12 else FAN_DOWN)
    spent = controls(firmware)
    firmware.receive(DOWN)
    assert controls(firmware) == spent
    live(firmware, 1.0)
    firmware.receive(DOWN)
    assert controls(firmware)[0] == spent[0] - 1


def test_absolute_commands_work_only_where_the_firmware_knows_them() -> None:
    for has_them in (False, True):
        firmware = made(has_absolute_commands=has_them)
        firmware.receive(b"\x34\x00\x02\xba")
        firmware.receive(b"\x31\x00\x09\x00")
        assert controls(firmware)[:2] == ((2, 9) if has_them else (5, 3))


def test_the_echo_may_lag_by_frames() -> None:
    firmware = made(echo_lag_frames=2)
    for _ in range(3):
        controls(firmware)
    firmware.receive(UP)
    assert [controls(firmware)[0] for _ in range(4)] == [5, 5, 6, 6]


@pytest.mark.parametrize("ring", sorted(PRS_RINGS))
def test_the_button_follows_its_ring_from_every_state(ring: str) -> None:
    for state in (0, 2, 3, 4, 6, 8, 9):
        firmware = made("off", prs=ring, has_short_drop_state=False)
        firmware.state = state
        firmware.receive(PRS)
        assert firmware.state == PRS_RINGS[ring].get(state, state)


def test_drop_forces_heater_fan_and_drum_within_two_seconds() -> None:
    firmware = made()
    firmware.receive(PRS)
    assert firmware.state == 7
    live(firmware, 0.5)
    assert firmware.state == 8 and controls(firmware) == (5, 3, 7)
    live(firmware, 1.5)
    assert controls(firmware) == (0, 7, 1)
    firmware.receive(UP)
    assert controls(firmware)[0] == 0


def test_the_firmware_owns_the_heater_while_it_preheats() -> None:
    firmware = made("off")
    firmware.receive(PRS)
    live(firmware, 1)
    assert controls(firmware) == (7, 1, 0)
    for _ in range(3):
        firmware.receive(DOWN)
    assert controls(firmware) == (7, 1, 0)
    seen = set()
    for _ in range(1500):
        live(firmware, 1)
        seen.add((firmware.state, firmware.heater_step))
        if firmware.state == 4:
            break
    assert firmware.state == 4
    assert {(2, 7), (2, 1)} <= seen and any(state == 3 for state, _ in seen)
    live(firmware, 600)
    assert firmware.state == 4 and abs(firmware.warmth.infrared_temp_c - 240) < 6


def test_falling_temperature_starts_the_roast_and_the_infrared_eye_resets() -> None:
    firmware = made("charge")
    live(firmware, 30)
    assert firmware.state == 4
    firmware.charge_beans(0.4)
    shown = []
    for _ in range(30):
        live(firmware, 0.1)
        shown.append((firmware.state, struct.unpack_from("<f", asked(firmware, b"\x30\x01"), 0)[0]))
    assert (firmware.heater_step, firmware.fan_step, firmware.drum_step) == (7, 2, 9)
    started = next(i for i, (state, _) in enumerate(shown) if state == 6)
    assert started < 20 and any(temp_c == 25.0 for _, temp_c in shown[started : started + 30])
    live(firmware, 60)
    assert struct.unpack_from("<f", asked(firmware, b"\x30\x01"), 0)[0] > 80


def test_a_whole_roast_looks_like_the_recorded_ones() -> None:
    """Charge → the logs' usual heater and fan schedule → cracks near seven minutes → drop near nine."""
    firmware = made("charge")
    live(firmware, 5)
    firmware.charge_beans(0.4)
    live(firmware, 3)
    schedule = {
        2: ("heater", 6),
        90: ("fan", 2),
        205: ("fan", 3),
        320: ("heater", 5),
        340: ("fan", 4),
        400: ("heater", 4),
    }
    probe = []
    for second in range(540):
        if second in schedule:
            firmware.turn_knob(*schedule[second])
        live(firmware, 1)
        probe.append(firmware.warmth.probe_temp_c)
    turning_s = min(range(120), key=probe.__getitem__)
    crack_s = next(i for i, temp_c in enumerate(probe) if i > 200 and temp_c >= 188)
    assert 90 < probe[turning_s] < 105 and 45 <= turning_s <= 80
    assert 360 <= crack_s <= 510
    assert 190 < probe[-1] < 212
    firmware.drop_beans()
    live(firmware, 40)
    assert firmware.warmth.infrared_temp_c > 215  # the eye sees the empty drum
    assert firmware.warmth.probe_temp_c < probe[-1] - 20


def test_an_idle_machine_sends_its_other_message_every_fifteen_seconds() -> None:
    firmware = made("off")
    unmarked = 0
    for _ in range(60):
        live(firmware, 1)
        unmarked += asked(firmware, b"\x30\x01")[41] != 10
    assert unmarked == 4


def test_too_hot_a_drum_is_cut_off_by_the_firmware() -> None:
    firmware = made(trip_temp_c=243.0)
    firmware.turn_knob("heater", 9)
    live(firmware, 900)
    assert firmware.state == 8 and firmware.heater_step == 0
    assert struct.unpack_from("<H", asked(firmware, b"\x30\x03"), 24)[0] != 0


def test_nobody_sets_a_heater_by_hand_that_no_order_could_lower() -> None:
    firmware = FirmwareR1(settings_from({"controls_when_off": False}), seed=1, initial_state="off")
    assert firmware.turn_knob("heater", 5) == 0
    assert firmware.turn_knob("fan", 5) == 5
    roasting = made()
    assert roasting.turn_knob("heater", 5) == 5
    roasting.drop_beans()
    roasting.press_prs()
    live(roasting, 5)
    assert roasting.state == 8
    assert roasting.turn_knob("heater", 5) == 0


@pytest.mark.parametrize("corner", matrix(), ids=lambda corner: corner.name)
def test_every_corner_of_the_matrix_answers_and_steps(corner) -> None:
    firmware = FirmwareR1(settings_from(corner.settings), seed=1, initial_state="roasting")
    firmware.receive(UP)
    for _ in range(4):
        live(firmware, 0.1)
        frame = asked(firmware, b"\x30\x01")
    assert frame[27] == 6 and frame[41] == 10


def test_an_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'at_limit'"):
        settings_from("at_limt=wrap")
    with pytest.raises(ValueError, match="one of"):
        settings_from({"at_limit": "bounce"})
    assert settings_from("max_steps_per_s=10,has_absolute_commands=true").max_steps_per_s == 10
