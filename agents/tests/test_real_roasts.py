"""The corridor's table counted again from the recorded roasts, and the heuristics played over them."""

from __future__ import annotations

import ast
import functools
import os
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest

from agents import corridor, heuristics
from agents.heuristics import Advice, Look, Plan, View

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "bullet-r1-roasts"
SETTLED_S = 45  # after the turning point the 30-second rate is a rate of the beans


@dataclass(frozen=True)
class Recording:
    """One roast from charge to drop, by its marks. Temperatures °C, times s, settings native steps."""

    name: str
    times_s: list[float]
    bean_temp_c: list[float]
    infrared_temp_c: list[float]
    heater: list[int]
    fan: list[int]
    charge: int
    crack: int
    drop: int

    @property
    def turning_point(self) -> int:
        return min(range(self.charge, self.crack), key=lambda i: self.bean_temp_c[i])


@functools.cache
def recordings() -> tuple[Recording, ...]:
    """Every roast with its marks, duplicates left out."""
    if not FOLDER.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{FOLDER} is not there")
        pytest.skip(f"the recorded roasts are not at {FOLDER}")
    found: dict[tuple[float, ...], Recording] = {}
    for path in sorted(FOLDER.glob("*.alog")):
        log = ast.literal_eval(path.read_text(encoding="utf-8"))
        charge, crack, drop = log["timeindex"][0], log["timeindex"][2], log["timeindex"][6]
        if charge < 0 or crack <= 0 or drop <= 0:
            continue
        heater, fan = ([round(value / 10) for value in log[key][0]] for key in ("extratemp1", "extratemp2"))
        fingerprint = tuple(log["temp2"][charge:drop:20])
        found.setdefault(
            fingerprint,
            Recording(path.name, log["timex"], log["temp2"], log["temp1"], heater, fan, charge, crack, drop),
        )
    return tuple(found.values())


def look_at(roast: Recording, i: int) -> Look:
    state = "roasting" if i >= roast.charge else "charge"
    bean, infrared = (value if value > 0 else None for value in (roast.bean_temp_c[i], roast.infrared_temp_c[i]))
    return Look(round(roast.times_s[i] * 1000), state, bean, infrared, roast.heater[i], roast.fan[i])


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    place = (len(ordered) - 1) * share
    low = int(place)
    return ordered[low] + (ordered[min(low + 1, len(ordered) - 1)] - ordered[low]) * (place - low)


def test_the_corridor_is_what_the_recorded_roasts_say() -> None:
    rates: dict[int, list[float]] = defaultdict(list)
    for roast in recordings():
        looks = tuple(look_at(roast, i) for i in range(roast.charge, roast.drop + 1))
        mine: dict[int, list[float]] = defaultdict(list)
        settled_s = roast.times_s[roast.turning_point] + SETTLED_S
        for i, look in enumerate(looks):
            if look.device_ms < settled_s * 1000 or look.bean_temp_c is None:
                continue
            rate = heuristics.rate_c_per_min(looks[max(0, i - 40) : i + 1], look.device_ms)
            if rate is not None:
                mine[int(look.bean_temp_c // 10 * 10)].append(rate)
        for bin_c, values in mine.items():
            rates[bin_c].append(statistics.median(values))
    assert len(recordings()) == 38
    for bin_c in range(100, 201, 10):
        here = corridor.corridor_at(bin_c + 5)
        assert here is not None
        counted = [percentile(rates[bin_c], share) for share in (0.1, 0.5, 0.9)]
        written = [here.low_c_per_min, here.middle_c_per_min, here.high_c_per_min]
        assert counted == pytest.approx(written, abs=0.25), f"{bin_c}–{bin_c + 10} °C"


def test_the_expected_temperatures_are_the_medians_of_the_marks() -> None:
    crack_c = statistics.median(roast.bean_temp_c[roast.crack] for roast in recordings())
    drop_c = statistics.median(roast.bean_temp_c[roast.drop] for roast in recordings())
    setpoint_c = statistics.median(
        max(roast.infrared_temp_c[max(0, roast.charge - 15) : roast.charge + 1]) for roast in recordings()
    )
    assert 0 <= crack_c - corridor.FIRST_CRACK_TEMP_C <= 1.5, "earlier is the safe side"
    assert drop_c == pytest.approx(corridor.DROP_TEMP_C, abs=2.5)
    assert setpoint_c == pytest.approx(corridor.CHARGE_SETPOINT_C, abs=1.0)


def test_over_real_roasts_the_agent_is_neither_silent_nor_a_nuisance() -> None:
    said: Counter[str] = Counter()
    for roast in recordings():
        view, last_ms = View(), None
        for i in range(roast.drop + 1):
            view = heuristics.observe(view, look_at(roast, i))
            if i == roast.crack:
                view = heuristics.note_first_crack(view, round(roast.times_s[i] * 1000))
            found = heuristics.advise(view, Plan(), {"heater": (0, 9), "fan": (1, 12)})
            if isinstance(found, Advice):
                assert last_ms is None or found.device_ms - last_ms >= 40_000
                assert i < roast.crack or found.control != "heater" or found.target_step < found.from_step
                last_ms = found.device_ms
                view = heuristics.note_order(view, found)
                said[found.heuristic] += 1
            elif found is not None:
                view = heuristics.note_said(view, found)
    per_roast = sum(said.values()) / len(recordings())
    assert 0.5 <= per_roast <= 3.0, said
    assert set(said) == {"hot", "scorch_risk", "stall"}, "each heuristic met a real roast that needed it"
