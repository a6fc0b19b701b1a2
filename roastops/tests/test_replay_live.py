"""A recorded roast played into the running house: recorded as one roast, sample by sample what the log says.

`make run` and then `manage.py virtualroaster --replay FILE`, as a person does it; compared with the file itself.
"""

from __future__ import annotations

import ast
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from drivers import keeper_config
from drivers.tests.test_virtual_heat import some_logs
from drivers.virtual.panel import Panel
from drivers.virtual.playing import socket_of
from drivers.virtual.replay import OFF_AFTER_S
from roastops.testing.processes import Fleet, Running

pytestmark = [pytest.mark.prove, pytest.mark.slow, pytest.mark.timeout(120)]
SPEED = 20.0
POLL_MS = 100 * SPEED  # a reading comes every tenth of a second of ours; the machine lives this much meanwhile
LATEST_MS = 15_000  # a busy box reads later; further apart, nothing could be said of the marks


class House:
    """`manage.py up` with the demo at speed 4, an operator's key, and the demo's virtual machine."""

    def __init__(self, fleet: Fleet, up: Running) -> None:
        self.fleet = fleet
        self.up = up
        key = fleet.manage("createkey", "--org", "demo", "--user", "operator", "--scopes", "read").strip()
        self.client = httpx.Client(base_url=up.url, headers={"Authorization": f"Bearer {key}"}, timeout=20)
        self.machine_id = self.get("/v1/machines")["results"][0]["machine_id"]
        config = keeper_config.read(keeper_config.config_path(fleet.data_dir / "run", self.machine_id))
        self.panel = Panel(socket_of(config))

    def get(self, path: str) -> dict[str, Any]:
        answer = self.client.get(path)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:300]}"
        return dict(answer.json())

    def state(self) -> str:
        return str(self.get(f"/v1/machines/{self.machine_id}")["state"])

    def roast_id(self) -> str | None:
        """Of the roast that is open."""
        found = self.get(f"/v1/machines/{self.machine_id}")["roast_id"]
        return None if found is None else str(found)

    def roasts(self) -> list[dict[str, Any]]:
        """Newest first."""
        return list(self.get(f"/v1/roasts?machine={self.machine_id}")["results"])


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with Fleet(tmp_path, ROASTOPS_SPEED="4") as fleet:
        house = House(fleet, fleet.start_up())
        try:
            yield house
        finally:
            house.panel.close()
            house.client.close()


def until(is_true: Any, what: str, timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline_s, f"{what}: not within {timeout_s} s"
        time.sleep(0.1)


def test_a_real_log_is_played_into_the_running_house_and_recorded_as_that_roast(house: House) -> None:
    path = some_logs(1)[24]
    until(house.roast_id, "the demo's own roast", 30)
    own_id, device_before_ms = house.roast_id(), reading(house)["device_ms"]

    told = house.fleet.manage("virtualroaster", "--replay", str(path), "--speed", f"{SPEED:g}")
    assert f"{house.up.url}/machines/{house.machine_id}/" in told
    assert path.name in told and "7:5" in told  # the log's length in minutes

    until(lambda: house.roast_id() not in (None, own_id), "the log's roast", 15)
    roast_id = house.roast_id()
    assert house.get(f"/v1/roasts/{own_id}")["status"] == "finished"
    until(lambda: house.get(f"/v1/roasts/{roast_id}")["status"] == "finished", "the end of the log's roast", 40)

    roast, samples = house.get(f"/v1/roasts/{roast_id}"), house.get(f"/v1/roasts/{roast_id}/samples")
    log = ast.literal_eval(path.read_text(encoding="utf-8"))
    assert sum(gap["to_ms"] - gap["from_ms"] for gap in roast["gaps"]) < LATEST_MS  # none, but on a very busy box
    assert_marks(roast["marks"], log["computed"], slowest_ms(samples["elapsed_ms"]))
    assert_samples(samples, log)
    assert [each["roast_id"] for each in house.roasts()[:2]] == [roast_id, own_id]
    until(lambda: house.panel.status()["replay"] is None, "the machine itself again", 5)
    assert house.panel.status()["speed"] == 4
    until(lambda: house.state() == "preheating", "the demo person's next batch", 20)
    assert reading(house)["device_ms"] > device_before_ms + 1000 * log["timex"][-1]


def reading(house: House) -> dict[str, Any]:
    return dict(house.get(f"/v1/machines/{house.machine_id}")["reading"])


def slowest_ms(elapsed_ms: list[int]) -> int:
    """The longest time between two readings: no mark can be drawn more closely than that."""
    slowest = max(b - a for a, b in itertools.pairwise(elapsed_ms))
    assert slowest < LATEST_MS
    return slowest


def assert_marks(marks: dict[str, int], computed: dict[str, float], slowest: int) -> None:
    """Charge, turning point, drop and the end of cooling; near what Artisan computed from the same log."""
    assert set(marks) >= {"charge", "turning_point", "drop", "cool_end"}, "dry end and first crack are inferred besides"
    assert marks["charge"] == 0
    assert abs(marks["turning_point"] - 1000 * computed["TP_time"]) <= 2 * slowest + 2000
    assert abs(marks["drop"] - 1000 * computed["DROP_time"]) <= slowest + 2000


def assert_samples(samples: dict[str, Any], log: dict[str, Any]) -> None:
    """Every recorded sample is the log's row of its time. One shift for all of them: how late the charge was seen."""
    times_ms = [round(1000 * at_s) for at_s in log["timex"]]
    charge_ms = times_ms[log["extratemp1"][3].index(6)]
    assert samples["count"] > 0.5 * (times_ms[-1] - charge_ms) / POLL_MS
    faults = {}
    for shift_ms in range(charge_ms, charge_ms + LATEST_MS, 100):
        faults[shift_ms] = differences(samples, log, times_ms, shift_ms)
        if not faults[shift_ms]:
            return
    best = min(faults.values(), key=len)
    pytest.fail(f"at best {len(best)} of {samples['count']} samples are not the log's: {json.dumps(best[:10])}")


def differences(samples: dict[str, Any], log: dict[str, Any], times_ms: list[int], shift_ms: int) -> list[Any]:
    columns, first, second = samples["columns"], log["extratemp1"], log["extratemp2"]
    found, row = [], 0
    for i, elapsed_ms in enumerate(samples["elapsed_ms"]):
        if columns["state"][i] == "off" and elapsed_ms + shift_ms > times_ms[-1] + 1000 * OFF_AFTER_S:
            continue  # the reading that ended the roast
        while row + 1 < len(times_ms) and times_ms[row + 1] <= elapsed_ms + shift_ms:
            row += 1
        seen = {name: values[i] for name, values in columns.items()}
        wanted = {
            "bean_temp_c": log["temp2"][row],
            "infrared_temp_c": log["temp1"][row],
            "machine_rate_c_per_min": first[1][row],
            "heater_step": first[0][row] / 10,
            "fan_step": second[0][row] / 10,
            "drum_step": second[1][row] / 10,
            "voltage_v": first[2][row],
            "fan_rpm": second[3][row],
            "state": {6: "roasting", 7: "dropping", 8: "cooling"}[int(first[3][row])],
        }
        for name, logged in wanted.items():
            shown = round(seen[name], 1) if isinstance(seen[name], float) else seen[name]
            if shown != logged and not (logged == -1 and seen[name] is None):
                found.append([elapsed_ms, name, seen[name], logged])
    return found
