"""The real Bullet logs of ``../shared/data``, read for tests (the project ships none of them)."""

from __future__ import annotations

import ast
import datetime as dt
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from drivers.port import MachineState, Quality, Reading

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "bullet-r1-roasts"
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
STATES = {
    0: MachineState.OFF,
    2: MachineState.PREHEATING,
    3: MachineState.STABILISING,
    4: MachineState.CHARGE,
    6: MachineState.ROASTING,
    7: MachineState.ROASTING,
    8: MachineState.COOLING,
    9: MachineState.SHUTDOWN,
}


@dataclass(frozen=True, slots=True)
class Log:
    """One recorded roast: the channels as lists, and Artisan's own summary."""

    name: str
    raw: dict[str, Any]

    @property
    def times_s(self) -> list[float]:
        return self.raw["timex"]

    def channel(self, name: str) -> list[float]:
        """A channel in the wire's unit: heater, fan, drum, state, voltage, fan_rpm, ror, exhaust, bt, et."""
        if name in ("et", "bt"):
            return self.raw["temp1" if name == "et" else "temp2"]
        device, which, divisor = {
            "heater": (84, 1, 10), "fan": (84, 2, 10), "ror": (85, 1, 1), "drum": (85, 2, 10),
            "voltage": (86, 1, 1), "exhaust": (86, 2, 1), "state": (87, 1, 1), "fan_rpm": (87, 2, 1),
        }[name]  # fmt: skip
        index = self.raw["extradevices"].index(device)
        return [value / divisor for value in self.raw[f"extratemp{which}"][index]]


def paths() -> list[Path]:
    """All logs; none where a user has no such folder (CI must have it)."""
    found = sorted(FOLDER.glob("*.alog"))
    if not found and os.environ.get("CI") == "true":
        raise FileNotFoundError("the real logs must be there in CI")
    return found


def read(path: Path) -> Log:
    return Log(path.stem, ast.literal_eval(path.read_text(encoding="utf-8")))


def need_logs() -> list[Path]:
    """The logs, or a skip that says why."""
    found = paths()
    if not found:
        pytest.skip("../shared/data holds no real logs here")
    return found


def readings(log: Log) -> list[Reading]:
    """The log as readings at its own times, without wire and driver."""
    columns = {name: log.channel(name) for name in ("bt", "et", "heater", "fan", "drum", "state", "voltage", "fan_rpm")}
    return [
        Reading(
            sequence=number + 1,
            at=START + dt.timedelta(seconds=time_s),
            monotonic_s=time_s,
            device_ms=round(time_s * 1000),
            state=STATES.get(round(columns["state"][number]), MachineState.UNKNOWN),
            bean_temp_c=columns["bt"][number],
            infrared_temp_c=columns["et"][number],
            heater_step=round(columns["heater"][number]),
            fan_step=round(columns["fan"][number]),
            drum_step=round(columns["drum"][number]),
            voltage_v=round(columns["voltage"][number]),
            fan_rpm=round(columns["fan_rpm"][number]),
            quality={"exhaust_temp_c": Quality.ABSENT},
        )
        for number, time_s in enumerate(log.times_s)
    ]
