"""Five real logs, played as wire frames, read by the real driver, recorded: the samples are the log's channels."""

from __future__ import annotations

import bisect
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

import drivers.virtual
from drivers.port import Reading
from drivers.registry import open_driver
from drivers.virtual.clocks import ManualClock
from kernel import clock
from kernel.models import Organization, Site
from roasts import services
from roasts.models import Machine, MachineReading, Roast, Sample
from roasts.recording import recorder
from roasts.recording.filing import Filing
from roasts.tests import real_logs

POLL_S = 0.25
LOGS = [real_logs.paths()[n] for n in (1, 9, 17, 28, 39)] if len(real_logs.paths()) >= 40 else []
pytestmark = pytest.mark.django_db


@pytest.fixture
def manual_clock() -> Iterator[ManualClock]:
    made = ManualClock()
    before = clock.install(made)
    try:
        yield made
    finally:
        clock.install(before)


def on_the_wire(value: float) -> float:
    """A temperature as a 32-bit float holds it."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


def read_all(path: Path, now: ManualClock, until_s: float) -> Iterator[Reading]:
    backend = drivers.virtual.backend(seed=1, clock=now, replay=path)
    driver = open_driver("bullet-r1", {"backend": backend, "device_clock": "counter"})
    try:
        while now.monotonic() < until_s:
            now.advance(POLL_S)
            yield driver.read()
    finally:
        driver.close()


def machine_row() -> Machine:
    organization = Organization.objects.create(slug="demo", name="Demo", created_at=clock.now())
    site = Site.objects.create(organization=organization, name="Here")
    machine = Machine.objects.create(
        organization=organization, site=site, name="B", driver_kind="bullet-r1", created_at=clock.now()
    )
    MachineReading.objects.create(machine=machine)
    return machine


def record(path: Path, log: real_logs.Log, now: ManualClock) -> Roast:
    """Through the wire, the driver, the recorder and the store."""
    machine, state, roast_id = machine_row(), recorder.RecorderState(), ""
    filings: list[Filing] = []
    for reading in read_all(path, now, log.times_s[-1] + 5):
        taken = recorder.step(state, reading, "boot")
        state = taken.state
        for decision in taken.decisions:
            roast_id = services.new_roast_id() if isinstance(decision, recorder.OpenRoast) else roast_id
            filings.append(Filing(roast_id, "boot", reading.sequence, decision))
    services.file_decisions(machine, filings, now=clock.now())
    return Roast.objects.get()


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_recorded_samples_equal_the_logs_channels(path: Path, manual_clock: ManualClock) -> None:
    log = real_logs.read(path)
    roast = record(path, log, manual_clock)
    samples = list(Sample.objects.filter(roast=roast).order_by("elapsed_ms"))
    rows = wire_rows(log)
    states = [row[-1] for row in rows]
    charge_row = next(n for n in range(1, len(rows)) if states[n] == "roasting" and states[n - 1] != "roasting")
    seen_rows = set()
    for sample in samples:
        # Device time goes on from the charge; at a row's edge the poll's own 0.1 s decides which row was on show.
        time_s = log.times_s[charge_row] + sample.elapsed_ms / 1000
        near = bisect.bisect_right(log.times_s, time_s) - 1
        recorded = recorded_row(sample)
        matching = [n for n in (near, near + 1, near - 1) if 0 <= n < len(rows) and rows[n] == recorded]
        assert matching, f"{sample.elapsed_ms} ms: {recorded} is not {rows[near]}"
        seen_rows.add(matching[0])
    last_row = max(seen_rows)
    assert seen_rows == set(range(charge_row, last_row + 1)), "every row of the log from charge on is there"
    assert last_row >= len(rows) - 2
    check_marks(roast, log)


def wire_rows(log: real_logs.Log) -> list[tuple]:
    """Each row of the log as the wire can hold it; a temperature of -1 is no value (a rate of -1 is one)."""
    temps, rates = [log.channel(name) for name in ("bt", "et")], log.channel("ror")
    whole = [log.channel(name) for name in ("heater", "fan", "drum", "voltage", "fan_rpm")]
    states = [real_logs.STATES[round(code)].value for code in log.channel("state")]
    return [
        (
            *[None if column[n] == -1 else on_the_wire(column[n]) for column in temps],
            on_the_wire(rates[n]),
            *[round(column[n]) for column in whole],
            states[n],
        )
        for n in range(len(log.times_s))
    ]


def recorded_row(sample: Sample) -> tuple:
    return (
        sample.bean_temp_c, sample.infrared_temp_c, sample.machine_rate_c_per_min, sample.heater_step, sample.fan_step,
        sample.drum_step, sample.voltage_v, sample.fan_rpm, sample.state,
    )  # fmt: skip


def check_marks(roast: Roast, log: real_logs.Log) -> None:
    marks = dict(roast.events.values_list("kind", "elapsed_ms"))
    assert marks["charge"] == 0
    summary = log.raw["computed"]
    assert marks["turning_point"] / 1000 == pytest.approx(summary["TP_time"], abs=3)
    assert marks["drop"] / 1000 == pytest.approx(summary["DROP_time"], abs=3)


def test_the_logs_are_there_where_they_must_be() -> None:
    real_logs.need_logs()
    assert len(LOGS) == 5
