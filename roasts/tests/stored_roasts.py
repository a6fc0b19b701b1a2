"""Closed roasts in the database, of curves made for tests."""

from __future__ import annotations

import datetime as dt

import numpy as np

from kernel import clock
from kernel.models import Organization, Site
from roasts.curve import Curve, Mark, Marks
from roasts.models import Machine, MachineReading, Roast, RoastEvent, Sample
from roasts.store import summaries

BEGUN = dt.datetime(2026, 3, 1, 9, 0, tzinfo=dt.UTC)
MARKS = (Mark("charge", 0, "device"), Mark("first_crack_start", 450, "inferred"), Mark("drop", 540, "device"))


def machine_of(organization: Organization, name: str = "Bench Bullet") -> Machine:
    """A machine with its row of readings."""
    site, _ = Site.objects.get_or_create(organization=organization, name="Here")
    machine = Machine.objects.create(
        organization=organization, site=site, name=name, driver_kind="bullet-r1", created_at=clock.now()
    )
    MachineReading.objects.create(machine=machine)
    return machine


def curve_of(*, faster: float = 1.0, every_s: float = 1.0, end_s: float = 600.0) -> Curve:
    """Turns at 60 s and 100 °C, rises 12 °C/min times ``faster``; heater 7, from 400 s on 5."""
    times_s = np.round(np.arange(0.0, end_s, every_s), 3)
    rise_c = np.maximum(0, times_s - 60) * 0.2 * faster
    temps_c = np.where(times_s < 60, 170 - times_s * 70 / 60, 100 + rise_c)
    return Curve(
        times_s,
        temps_c,
        infrared_temp_c=temps_c + 12,
        heater_step=np.where(times_s < 400, 7.0, 5.0),
        fan_step=np.where(times_s < 300, 2.0, 3.0),
        drum_step=np.full(len(times_s), 9.0),
        voltage_v=np.full(len(times_s), 230.0),
    )


def store_roast(
    machine: Machine, curve: Curve | None = None, marks: Marks = MARKS, *, days: int = 0, **values: object
) -> Roast:
    """A finished roast with its samples, marks and summary, ``days`` after BEGUN."""
    curve = curve if curve is not None else curve_of()
    started_at = BEGUN + dt.timedelta(days=days)
    ended_at = started_at + dt.timedelta(seconds=float(curve.elapsed_s[-1]))
    roast = Roast.objects.create(
        organization=machine.organization, machine=machine, started_at=started_at, device_start_ms=0, **values
    )
    names = ("bean_temp_c", "infrared_temp_c", "heater_step", "fan_step", "drum_step", "voltage_v")
    columns = {name: getattr(curve, name) for name in names if getattr(curve, name) is not None}
    Sample.objects.bulk_create(
        Sample(
            roast=roast,
            elapsed_ms=round(float(at_s) * 1000),
            sequence=row + 1,
            at=started_at + dt.timedelta(seconds=float(at_s)),
            state="roasting",
            **{name: float(column[row]) for name, column in columns.items()},
        )
        for row, at_s in enumerate(curve.elapsed_s)
    )
    RoastEvent.objects.bulk_create(
        RoastEvent(
            roast=roast,
            kind=mark.kind,
            elapsed_ms=round(mark.elapsed_s * 1000),
            source=mark.source,
            at=started_at + dt.timedelta(seconds=mark.elapsed_s),
        )
        for mark in marks
    )
    roast.status, roast.ended_at = "finished", ended_at
    Roast.objects.filter(pk=roast.pk).update(status="finished", ended_at=ended_at)
    summaries.summarise_roast(roast, now=ended_at)
    return roast
