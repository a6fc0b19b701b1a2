"""The keeper's pure and small parts: interlocks, ring, wire log, latch, JSON forms, tokens, config, registry."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers import keeper_client, keeper_config, registry, stop_token, wire_json
from drivers.keeper_config import BadConfig, Limits
from drivers.keeper_events import RING_LINES, EventRing, MoveWatch
from drivers.keeper_record import Latch, LatchFile, WireLog
from drivers.keeper_watch import Reason, View, Watch, should_try_again
from drivers.port import (
    Control,
    MachineState,
    Outcome,
    ProtocolError,
    Quality,
    Reading,
    Receipt,
    SettingOrder,
    StateOrder,
    WireWrite,
    longest_age_s,
)

KEY = bytes(range(32))


def reading(**more: Any) -> Reading:
    made = Reading(
        sequence=1, at=dt.datetime(2026, 11, 21, 8, tzinfo=dt.UTC), monotonic_s=100.0, device_ms=500_000,
        state=MachineState.ROASTING, state_code=6, bean_temp_c=190.5, infrared_temp_c=200.0, heater_step=5,
        fan_step=3, drum_step=7, quality={"exhaust_temp_c": Quality.ABSENT}, extras={"a": 1},
    )
    return replace(made, **more)


def view(at_s: float, seen: Reading | None, **more: Any) -> View:
    usual = {"is_link_open": True, "loop_silent_s": 0.2, "up_for_s": 60.0, "link_up_for_s": 60.0, "is_applying": False,
             "is_latched": False}
    return View(now_s=at_s, reading=seen, **{**usual, **more})


# -- interlocks --


@pytest.mark.parametrize(("temp_c", "lasts_s", "expected"), [
    (225.0, 5.0, None), (225.1, 0.9, None), (225.1, 1.0, Reason.BEAN_TOO_HOT)])
def test_bean_above_maximum_for_a_second(temp_c: float, lasts_s: float, expected: Reason | None) -> None:
    watch = Watch(Limits(max_bean_temp_c=225.0), "hold_and_alarm")
    hot = reading(bean_temp_c=temp_c)
    assert watch.tick(view(100.0, hot)) is None
    assert watch.tick(view(100.0 + lasts_s, replace(hot, monotonic_s=100.0 + lasts_s))) is expected


def test_a_dip_below_the_maximum_starts_the_second_anew() -> None:
    watch = Watch(Limits(max_bean_temp_c=225.0), "hold_and_alarm")
    for at_s, temp_c in ((100.0, 230.0), (100.6, 224.0), (101.2, 230.0)):
        assert watch.tick(view(at_s, reading(bean_temp_c=temp_c, monotonic_s=at_s))) is None


def test_before_the_roast_no_maximum_holds() -> None:
    watch = Watch(Limits(max_bean_temp_c=225.0, max_infrared_temp_c=235.0), "hold_and_alarm")
    hot = reading(bean_temp_c=250.0, infrared_temp_c=250.0, state=MachineState.CHARGE)
    assert [watch.tick(view(100.0 + s, replace(hot, monotonic_s=100.0 + s))) for s in range(5)] == [None] * 5


def test_infrared_settles_for_a_minute_of_machine_time() -> None:
    watch = Watch(Limits(max_infrared_temp_c=235.0), "hold_and_alarm")
    seen = [watch.tick(view(100.0 + s, reading(infrared_temp_c=240.0, device_ms=1000 * s, monotonic_s=100.0 + s)))
            for s in range(63)]
    assert seen[:61] == [None] * 61
    assert seen[61] is Reason.INFRARED_TOO_HOT


@pytest.mark.parametrize(("temp_c", "limit_c", "expected"), [
    (210.0, 210.0, None), (210.1, 210.0, Reason.EXHAUST_TOO_HOT), (-47.0, 210.0, None), (400.0, None, None)])
def test_exhaust_above_its_maximum_for_a_second_where_there_is_a_sensor_and_a_maximum(
    temp_c: float, limit_c: float | None, expected: Reason | None
) -> None:
    watch = Watch(Limits(max_exhaust_temp_c=limit_c), "hold_and_alarm")
    hot = reading(exhaust_temp_c=temp_c)
    assert watch.tick(view(100.0, hot)) is None
    assert watch.tick(view(101.0, replace(hot, monotonic_s=101.0))) is expected


@pytest.mark.parametrize("limits", [
    Limits(max_bean_temp_c=225.0), Limits(max_exhaust_temp_c=210.0), Limits(max_heat_time_s=1.0)])
def test_a_machine_that_tells_no_state_is_watched_as_one_that_roasts(limits: Limits) -> None:
    watch = Watch(limits, "hold_and_alarm")
    told = []
    for s in range(4):
        hot = reading(bean_temp_c=230.0, exhaust_temp_c=230.0, heater_step=60, state=MachineState.UNKNOWN,
                      device_ms=1000 * s, monotonic_s=100.0 + s)
        told.append(watch.tick(view(100.0 + s, hot)))
    assert [reason for reason in told if reason]


def test_heat_for_too_long() -> None:
    watch = Watch(Limits(max_heat_time_s=600.0), "hold_and_alarm")
    assert watch.tick(view(100.0, reading(device_ms=0))) is None
    assert watch.tick(view(100.1, reading(device_ms=600_000))) is None
    assert watch.tick(view(100.2, reading(device_ms=600_001))) is Reason.HEAT_TOO_LONG


@pytest.mark.parametrize(("age_s", "expected"), [(5.0, None), (5.1, Reason.STALE_READING)])
def test_a_stale_reading_with_the_cable_in(age_s: float, expected: Reason | None) -> None:
    watch = Watch(Limits(), "hold_and_alarm")
    assert watch.tick(view(100.0 + age_s, reading())) is expected
    assert watch.tick(view(100.0 + age_s, reading(), is_link_open=False)) is None


@pytest.mark.parametrize(("interval_s", "age_s", "expected"), [
    (1.0, 5.0, None), (1.0, 5.1, Reason.STALE_READING), (10.0, 25.0, None), (10.0, 25.1, Reason.STALE_READING),
    (3600.0, 25.1, Reason.STALE_READING)])
def test_a_slow_source_is_stale_after_two_and_a_half_of_its_intervals(
    interval_s: float, age_s: float, expected: Reason | None,
) -> None:
    watch = Watch(Limits(), "hold_and_alarm")
    assert watch.tick(view(100.0 + age_s, reading(), interval_s=interval_s)) is expected


@pytest.mark.parametrize(("bound_s", "interval_s", "expected_s"), [
    (1.0, None, 1.0), (1.0, 0.0, 1.0), (1.0, -5.0, 1.0), (1.0, float("nan"), 1.0), (1.0, 0.4, 1.0), (1.0, 0.41, 1.025),
    (5.0, 2.0, 5.0), (5.0, 10.0, 25.0), (5.0, 10.1, 25.0), (5.0, float("inf"), 25.0)])
def test_the_longest_age_is_the_bound_or_the_slow_sources_own(
    bound_s: float, interval_s: float | None, expected_s: float,
) -> None:
    assert longest_age_s(bound_s, interval_s) == pytest.approx(expected_s)


@pytest.mark.parametrize(("policy", "silent_s", "heater", "more", "expected"), [
    ("heat_off", 2.1, 5, {}, Reason.LOOP_SILENT), ("heat_off", 2.0, 5, {}, None), ("hold_and_alarm", 9.0, 5, {}, None),
    ("heat_off", 2.1, 0, {}, None), ("heat_off", 2.1, 5, {"is_applying": True}, None),
    ("heat_off", 2.1, 5, {"is_latched": True}, None), ("heat_off", 2.1, None, {}, Reason.LOOP_SILENT),
    ("heat_off", None, 5, {"up_for_s": 10.0}, None), ("heat_off", None, 5, {"up_for_s": 10.1}, Reason.LOOP_SILENT),
])
def test_a_silent_loop(
    policy: str, silent_s: float | None, heater: int | None, more: dict[str, Any], expected: Reason | None,
) -> None:
    watch = Watch(Limits(), policy)
    assert watch.tick(view(100.1, reading(heater_step=heater), loop_silent_s=silent_s, **more)) is expected


def test_an_unproved_stop_is_tried_again_only_with_fresh_readings_and_our_heat() -> None:
    fresh = view(100.1, reading())
    assert should_try_again(fresh, is_proved=False, ended_ago_s=2.1)
    assert not should_try_again(fresh, is_proved=True, ended_ago_s=2.1)
    assert not should_try_again(fresh, is_proved=False, ended_ago_s=1.9)
    assert not should_try_again(view(102.0, reading()), is_proved=False, ended_ago_s=3.0)
    assert not should_try_again(view(100.1, reading(state=MachineState.CHARGE)), is_proved=False, ended_ago_s=3.0)


# -- ring and moves --


def test_a_slow_follower_is_told_what_it_lost() -> None:
    ring = EventRing()
    for number in range(RING_LINES + 10):
        ring.add("reading", {"n": number}, sequence=number + 1)
    lines, lost = ring.wait_from(0, 0.0)
    assert lost == 10 and json.loads(lines[0].raw)["n"] == 10
    assert ring.start_after(RING_LINES + 9) == RING_LINES + 9
    assert ring.start_after(10**9) == RING_LINES + 10


def test_only_moves_that_are_not_ours_are_told() -> None:
    moves = MoveWatch()
    assert moves.see(reading()) == []
    moves.wrote("heater +1", 100.0)
    assert moves.see(reading(heater_step=6, monotonic_s=100.3)) == []
    late = moves.see(reading(heater_step=7, monotonic_s=102.0))
    assert [(move["control"], move["from"], move["to"]) for move in late] == [("heater", 6, 7)]


# -- what is written down --


def test_the_wire_log_remembers_over_rotation_and_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "wire.jsonl"
    log = WireLog(path, bytes_max=800)
    for number in range(30):
        log.append("out", order_id=f"o{number}", hex="3401aaaa", meaning="heater +1", step=1, steps=2)
    log.append("done", order_id="o29", step=1)
    log.close()
    assert len(list(tmp_path.iterdir())) == 4
    with path.open("ab") as stream:
        stream.write(b'{"dir":"out","order_id":"torn')
    again = WireLog(path, bytes_max=10**6)
    again.append("out", order_id="after", hex="3402aaaa", meaning="heater -1", step=1, steps=1)
    again.close()
    last = WireLog(path)
    trace = last.trace("o29")
    assert trace is not None and [write["is_done"] for write in trace.writes] == [True]
    assert last.trace("after") is not None and last.trace("torn") is None and last.trace("never") is None
    last.close()


def test_latch_and_token_survive_and_an_unreadable_file_is_a_latch(tmp_path: Path) -> None:
    path = tmp_path / "m.latch.json"
    first = LatchFile(path)
    assert (first.latch, first.token) == (None, 0)
    first.set_latch(Latch("s", "user:1", "2026-11-21T08:00:00Z", "smoke"))
    first.set_token(7)
    first.set_token(3)
    second = LatchFile(path)
    assert (second.latch, second.token) == (first.latch, 7)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("{")
    assert LatchFile(path).latch is not None


def test_a_full_disk_does_not_hold_up_the_latch(tmp_path: Path) -> None:
    latches = LatchFile(tmp_path / "gone" / "m.latch.json")
    latches.set_latch(Latch("s", "u", "t", "r"))
    assert latches.latch is not None and latches.write_error


# -- JSON --


def test_readings_receipts_and_orders_survive_the_socket() -> None:
    seen = reading(error_codes=(1024,))
    receipt = Receipt("o", Outcome.PROVED, writes=(WireWrite(1.0, "3401aaaa", "heater +1"),), value_before=5,
                      value_after=6, proof=seen, started_monotonic_s=1.0, first_byte_monotonic_s=1.1, by_hand=("look",))
    setting = SettingOrder("o", Control.FAN, 5, from_step=3, allowed_states=frozenset({MachineState.ROASTING}))
    state = StateOrder("p", MachineState.COOLING, from_state=MachineState.ROASTING)
    through = json.loads(json.dumps([wire_json.reading_to_json(seen), wire_json.receipt_to_json(receipt)]))
    assert wire_json.reading_from_json(through[0]) == seen
    assert wire_json.receipt_from_json(through[1]) == receipt
    for each in (setting, state):
        plain = json.loads(json.dumps(wire_json.order_to_json(each)))
        assert wire_json.order_from_json(wire_json.order_kind(each), plain) == each


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3))
NAMES = st.sampled_from(["order_id", "control", "target_step", "from_step", "allowed_states", "target_state",
                         "max_reading_age_s", "at", "state", "sequence", "outcome", "writes", "quality", "proof"])


@given(st.sampled_from(["setting", "state", "x"]), st.dictionaries(NAMES, JSON, max_size=8))
def test_no_json_makes_anything_but_a_protocol_error(kind: str, data: dict[str, Any]) -> None:
    for parse in (lambda: wire_json.order_from_json(kind, data), lambda: wire_json.reading_from_json(data),
                  lambda: wire_json.receipt_from_json(data)):
        try:
            parse()
        except ProtocolError:
            pass


# -- tokens --


def test_a_token_is_for_one_machine_one_person_and_a_while() -> None:
    token = stop_token.sign(KEY, "mch_1", "usr_2", 1000)
    assert stop_token.verify(KEY, token, machine_id="mch_1", now_unix=999.9).user_id == "usr_2"
    for key, machine_id, now in ((KEY, "mch_1", 1000.0), (KEY, "mch_2", 1.0), (bytes(32), "mch_1", 1.0)):
        with pytest.raises(stop_token.BadToken):
            stop_token.verify(key, token, machine_id=machine_id, now_unix=now)


@given(st.text(max_size=120), st.integers(0, 200))
def test_no_altered_token_is_believed(noise: str, at: int) -> None:
    token = stop_token.sign(KEY, "mch_1", "usr_2", 1000)
    altered = token[:at] + noise + token[at:]
    for candidate in (noise, altered):
        if candidate == token:
            continue
        with pytest.raises(stop_token.BadToken):
            stop_token.verify(KEY, candidate, machine_id="mch_1", now_unix=1.0)


def test_request_signatures_bind_op_machine_and_stop() -> None:
    auth = stop_token.sign_request(KEY, "stop", "m", "s")
    assert stop_token.is_signed(KEY, "stop", "m", "s", auth)
    for op, machine_id, stop_id in (("release", "m", "s"), ("stop", "n", "s"), ("stop", "m", "t")):
        assert not stop_token.is_signed(KEY, op, machine_id, stop_id, auth)
    assert not stop_token.is_signed(KEY, "stop", "m", "s", "é")


# -- config --


def test_a_config_is_private_whole_and_read_back(tmp_path: Path) -> None:
    config = keeper_config.make(tmp_path / "run", machine_id="mch_1", name="One", driver_kind="bullet-r1",
                                driver_options={"product_id": "5741"}, limits=Limits(max_bean_temp_c=225.0))
    path = keeper_config.write(tmp_path / "run", config)
    assert keeper_config.read(path) == config
    for private in (path, tmp_path / "run" / "stop.key"):
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert config.stop_key() == keeper_config.ensure_stop_key(tmp_path / "run")
    assert len(config.stop_key()) == 32


def test_stop_without_a_keeper_says_so_every_way_and_names_no_path(tmp_path: Path) -> None:
    config = keeper_config.make(tmp_path, machine_id="m", name="m", driver_kind="bullet-r1", driver_options={})
    client = keeper_client.KeeperClient(config.socket, timeout_s=1.0)
    for ask in (
        lambda: asyncio.run(keeper_client.stop_async(config, stop_id="s", by="u", reason="r", token="t")),
        lambda: client.stop(stop_id="s", by="u", reason="r", token="t"),
        client.status,
    ):
        with pytest.raises(keeper_client.KeeperUnreachable) as told:
            ask()
        assert str(tmp_path) not in told.value.message


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"machine_id": 1, "surprise": 2}'])
def test_a_bad_config_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m.json"
    path.write_text(text)
    with pytest.raises(BadConfig):
        keeper_config.read(path)


def test_a_long_run_folder_still_gets_a_short_private_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 90)
    path = keeper_config.socket_path(deep, "mch_1")
    assert len(os.fsencode(path)) < 100 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert keeper_config.socket_path(deep, "mch_1") == path
    path.parent.rmdir()


# -- registry --


@pytest.mark.parametrize(("kind", "options", "words"), [
    ("bullet-r", {}, "'bullet-r"), ("tcp-lines", {}, "tcp-line"), ("bullet-r1", {"sensor_mop": 1}, "sensor_map"),
    ("bullet-r1", {"sensor_map": "probe_c"}, "probe_"), ("bullet-r1", {"product_id": 1}, "0x0001"),
    ("bullet-r1", {"backend": {"kind": "virtual-sock"}}, "virtual-socket"), ("bullet-r1", {"backend": 5}, "backend"),
    ("bullet-r1", {"read_timeout_ms": True}, "read_timeout_ms"), ("bullet-r1", {"device_clock": 4}, "device_clock"),
])
def test_unknown_kinds_and_options_name_the_nearest(kind: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises((registry.UnknownKind, registry.BadOption)) as refused:
        registry.make_driver(kind, options)
    assert words in refused.value.message


class _Wire:
    """One end of a connection that answers every request, until its keeper is killed."""

    def __init__(self) -> None:
        self.is_broken = False
        self._answers = b""

    def sendall(self, data: bytes) -> None:
        if self.is_broken:
            raise BrokenPipeError("nobody reads this any more")
        self._answers += json.dumps({"id": json.loads(data)["id"], "ok": True}).encode() + b"\n"

    def recv(self, size: int) -> bytes:
        taken, self._answers = self._answers, b""
        return taken

    def settimeout(self, timeout_s: float | None) -> None:
        return

    def close(self) -> None:
        return


def test_a_client_whose_keeper_was_started_anew_asks_the_new_one_once_more() -> None:
    """Found by the simulation: the first order after a keeper's restart ended in doubt, and nothing had been sent."""
    wires: list[_Wire] = []

    def dial(path: str, timeout_s: float) -> _Wire:
        wires.append(_Wire())
        return wires[-1]

    before = keeper_client.install_dial(dial)
    try:
        client = keeper_client.KeeperClient("/nowhere")
        client.status()
        wires[0].is_broken = True
        assert client.status() == {}
        assert len(wires) == 2
        wires[1].is_broken = True
        client.status()
        assert len(wires) == 3
    finally:
        keeper_client.install_dial(before)
