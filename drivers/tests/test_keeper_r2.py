"""A keeper that holds an R2, both as processes: pushed frames at their own pace, a whole order, STOP from fourteen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from drivers import benches
from drivers.keeper_client import KeeperClient
from drivers.port import Control as C
from drivers.port import MachineState, Outcome, SettingOrder, StateOrder
from drivers.virtual.panel import Panel
from kernel import clock


@pytest.fixture(scope="module")
def bench() -> Iterator[benches.Bench]:
    with benches.served_machine(kind="bullet-r2") as made:
        yield made


def status_until(bench: benches.Bench, state: str, within_s: float) -> float:
    """Seconds until the link is in ``state``."""
    started_s = clock.monotonic()
    while clock.monotonic() - started_s < within_s:
        if bench.client.status()["link"]["state"] == state:
            return clock.monotonic() - started_s
        clock.sleep(0.02)
    raise AssertionError(f"the link did not become {state}: {bench.client.status()['link']}")


def test_readings_come_as_they_are_pushed_and_reach_a_follower_young(bench: benches.Bench) -> None:
    ages_ms, sequences = [], []
    started_s = clock.monotonic()
    for event in KeeperClient(bench.config.socket).follow(after_sequence=1 << 60, boot_id=bench.boot_id):
        if event["event"] == "reading":
            ages_ms.append((clock.monotonic() - event["reading"]["monotonic_s"]) * 1000)
            sequences.append(event["reading"]["sequence"])
        if clock.monotonic() - started_s > 3.0:
            break
    assert 24 <= len(sequences) <= 34, "ten a second"
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
    assert benches.quantile(ages_ms, 0.9) <= 150.0, ages_ms


def test_fourteen_steps_in_one_order_and_a_stop_within_its_bars(bench: benches.Bench) -> None:
    bench.heat_to(3, "r2-down")
    bench.client.beat(bench.token)
    up = bench.client.apply(SettingOrder("r2-up", C.HEATER, 14, from_step=3), token=bench.token, deadline_s=5.0)
    assert (up.outcome, len(up.writes), up.value_after) == (Outcome.PROVED, 11, 14), up
    assert up.first_byte_monotonic_s is not None
    assert up.first_byte_monotonic_s - up.started_monotonic_s < 0.05
    answer, asked_s = bench.stop("r2-stop")
    receipt = answer.receipt
    assert receipt.outcome is Outcome.PROVED and receipt.proved_monotonic_s is not None
    downs = [write.monotonic_s for write in receipt.writes if write.meaning == "heater -1"]
    assert len(downs) == 14 and downs[0] - asked_s < 0.25
    assert receipt.proved_monotonic_s - asked_s <= 3.0
    bench.release()


def test_a_pulled_cable_is_known_at_once_and_held_again_after(bench: benches.Bench) -> None:
    with Panel(bench.machine_socket) as panel:
        panel.unplug()
        assert status_until(bench, "down", 3.0) < 1.5
        panel.replug()
    assert status_until(bench, "up", 6.0) < 4.0


def test_a_silent_machine_is_stale_then_opened_again_with_a_reset(bench: benches.Bench) -> None:
    status_until(bench, "up", 5.0)
    with Panel(bench.machine_socket) as panel:
        before = len(panel.wire(directions=["usb"]))
        panel.fault("time_out@0+4.2")
        status_until(bench, "stale", 4.0)
        status_until(bench, "up", 9.0)
        resets = [each for each in panel.wire(directions=["usb"])[before:] if each["act"] == "reset"]
    assert resets, "silent for three seconds with the cable in: closed, and opened again with a reset"


def test_a_state_order_with_a_preheat_target_passes_the_socket(bench: benches.Bench) -> None:
    with Panel(bench.machine_socket) as panel:
        panel.drop_beans()
        for _ in range(100):
            if bench.client.status()["reading"]["state"] == "cooling":
                break
            clock.sleep(0.02)
        bench.client.beat(bench.token)
        off = bench.client.apply(StateOrder("r2-off", MachineState.OFF), token=bench.token, deadline_s=5.0)
        assert off.outcome is Outcome.PROVED, off
        bench.client.beat(bench.token)
        order = StateOrder("r2-preheat", MachineState.PREHEATING, preheat_target_c=210)
        receipt = bench.client.apply(order, token=bench.token, deadline_s=5.0)
        assert receipt.outcome is Outcome.PROVED
        assert [write.meaning for write in receipt.writes] == ["preheat 210 °C", "press PRS"]
        answer, _ = bench.stop("r2-stop-preheat")
    assert (answer.receipt.outcome, answer.receipt.reason) == (Outcome.UNPROVED, "firmware_owns_heat")
