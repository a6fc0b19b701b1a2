"""Roasts of the past for the demo: the virtual machine's own heat model, run and recorded as the loop would."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from agents.corridor import corridor_at
from drivers.port import MachineState, Quality, Reading
from drivers.virtual import heat
from kernel.principals import Principal
from roasts import services
from roasts.models import EventKind, Machine, Roast
from roasts.recording import recorder
from roasts.recording.filing import Filing

HEAT_STEP_S = 0.5
READY_S, COOLING_S, OFF_S = 5, 90, 3
FAN_RPM = {1: 810, 2: 915, 3: 1125, 4: 1350, 5: 1560, 6: 1740, 7: 1920}  # measured on a Bullet, by blower step


@dataclass(frozen=True, slots=True)
class Batch:
    """One roast to make up: how long ago it began, what was in the drum, how it was driven."""

    began_ago: dt.timedelta
    title: str
    bean: str
    weight_in_g: float
    drum_temp_c: float
    heater_change: int  # beside the usual heater at every bean temperature
    crack_probe_c: float
    drop_probe_c: float


@dataclass(frozen=True, slots=True)
class _Knobs:
    """Native steps."""

    heater: int
    fan: int
    drum: int


_READY, _COOLING, _OFF = _Knobs(0, 1, 0), _Knobs(0, 7, 1), _Knobs(0, 1, 0)


BATCHES = (
    Batch(dt.timedelta(days=1, hours=2), "Yirgacheffe 41", "Ethiopia Yirgacheffe, washed", 400, 240, 0, 188.6, 200.4),
    Batch(dt.timedelta(hours=3), "Jigesa 42", "Ethiopia Jigesa, natural", 400, 244, 1, 187.2, 203.1),
)


def file_batch(machine: Machine, batch: Batch, operator: Principal, *, now: dt.datetime) -> Roast:
    """Record the batch as the machine loop would have, then mark first crack as the operator would have."""
    connection_id = f"demo-{batch.title}"
    roast_id, state, filings = services.new_roast_id(), recorder.RecorderState(), []
    crack_ms = 0
    for reading in _readings(batch, now - batch.began_ago):
        step = recorder.step(state, reading, connection_id)
        state = step.state
        filings += [Filing(roast_id, connection_id, reading.sequence, decision) for decision in step.decisions]
        is_rising = (step.rate_of_rise_c_per_min or 0) > 0
        if not crack_ms and is_rising and (reading.bean_temp_c or 0) >= batch.crack_probe_c:
            crack_ms = state.elapsed_ms or 0
    end = next(i for i, filing in enumerate(filings) if isinstance(filing.decision, recorder.CloseRoast))
    services.file_decisions(machine, filings[:end], now=now)
    roast = Roast.objects.get(pk=roast_id)  # still open: once it is closed, only a correction changes what it was
    Roast.objects.filter(pk=roast_id).update(title=batch.title, bean=batch.bean, weight_in_g=batch.weight_in_g)
    if crack_ms:
        at = roast.started_at + dt.timedelta(milliseconds=crack_ms)
        services.mark_event(operator, roast, kind=EventKind.FIRST_CRACK_START.value, elapsed_ms=crack_ms, now=at)
    services.file_decisions(machine, filings[end:], now=now)
    return Roast.objects.get(pk=roast_id)


def _readings(batch: Batch, began_at: dt.datetime) -> Iterator[Reading]:
    """One reading a second from ready-to-charge to off."""
    drum = heat.preheated(heat.BULLET_R1, batch.drum_temp_c)
    second = 0
    for _ in range(READY_S):
        yield _reading(second, began_at, MachineState.CHARGE, drum, _READY)
        second += 1
    drum = heat.charge(drum, heat.BULLET_R1, batch.weight_in_g / 1000, 24.0)
    is_past_turning = False
    for elapsed_s in range(900):
        is_past_turning = is_past_turning or (elapsed_s > 90 and drum.probe_temp_c > 100)
        knobs = _settings(batch, drum.probe_temp_c if is_past_turning else 100.0)
        yield _reading(second, began_at, MachineState.ROASTING, drum, knobs)
        second += 1
        drum = _heated(drum, knobs)
        if is_past_turning and drum.probe_temp_c >= batch.drop_probe_c:
            break
    drum = heat.pour_out(drum)
    for _ in range(COOLING_S):
        yield _reading(second, began_at, MachineState.COOLING, drum, _COOLING)
        second += 1
        drum = _heated(drum, _COOLING)
    for _ in range(OFF_S):
        yield _reading(second, began_at, MachineState.OFF, drum, _OFF)
        second += 1


def _settings(batch: Batch, probe_temp_c: float) -> _Knobs:
    usual = corridor_at(max(100.0, probe_temp_c))
    heater, fan = (usual.heater_step, usual.fan_step) if usual else (6, 2)
    return _Knobs(min(9, max(1, heater + batch.heater_change)), fan, 9)


def _heated(drum: heat.HeatState, knobs: _Knobs) -> heat.HeatState:
    inputs = heat.HeatInputs(heater_step=knobs.heater, fan_step=knobs.fan, drum_step=knobs.drum)
    for _ in range(round(1 / HEAT_STEP_S)):
        drum = heat.step(drum, inputs, heat.BULLET_R1, HEAT_STEP_S)
    return drum


def _reading(second: int, began_at: dt.datetime, state: MachineState, drum: heat.HeatState, knobs: _Knobs) -> Reading:
    return Reading(
        sequence=second + 1,
        at=began_at + dt.timedelta(seconds=second),
        monotonic_s=float(second),
        device_ms=second * 1000,
        state=state,
        bean_temp_c=round(drum.probe_temp_c, 1),
        infrared_temp_c=round(drum.infrared_temp_c, 1),
        heater_step=knobs.heater,
        fan_step=knobs.fan,
        drum_step=knobs.drum,
        fan_rpm=FAN_RPM[knobs.fan],
        voltage_v=200,
        quality={"exhaust_temp_c": Quality.ABSENT},
    )
