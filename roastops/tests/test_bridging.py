"""What a bridge makes of readings, and of a computer whose clock was never set."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from drivers.bridge import Queue
from drivers.port import Capabilities, Identity, MachineState, Reading
from kernel import clock
from roastops.bridging import Bridge, Sealer, point_of
from roasts.telemetry.envelope import read

NOW = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.UTC)


def reading(at: dt.datetime = NOW, **extras: Any) -> Reading:
    return Reading(1, at, 0.0, 5, MachineState.ROASTING, bean_temp_c=150.0, extras=extras)


class ThreeReadings:
    """A machine that is read three times; then the bridge is told to end."""

    identity = Identity("Three readings")
    capabilities = Capabilities({}, frozenset(), 0.0, frozenset({"bean_temp_c"}))

    def __init__(self, ended: Any) -> None:
        self._ended = ended
        self._left = 3

    def read(self) -> Reading:
        self._left -= 1
        if self._left == 0:
            self._ended()
        return reading(clock.now())

    def close(self) -> None:
        return


class SetClock(clock.SystemClock):
    def __init__(self, at: dt.datetime) -> None:
        self.at = at

    def now(self) -> dt.datetime:
        return self.at


def test_further_channels_of_a_machine_are_sent_as_far_as_the_server_takes_them() -> None:
    odd: dict[str, Any] = {"x\0": 1, "half": "a\ud800", "bean_temp_c": 3, "advice": ["long"]}
    point = point_of(reading(humidity=41, gas="on", **odd))
    assert point["extras"] == {"humidity": 41, "gas": "on"} and point["bean_temp_c"] == 150.0
    sealed = Sealer("mch_a", None).seal([point], 1, "")
    assert not read(json.loads(sealed.body), received_at=clock.now()).refused_points


@pytest.mark.parametrize(("at", "waiting"), [(NOW, 1), (dt.datetime(1970, 1, 1, tzinfo=dt.UTC), 0)])
def test_a_clock_that_was_never_set_is_said_and_ends_no_bridge(tmp_path: Path, at: dt.datetime, waiting: int) -> None:
    said: list[str] = []
    queue = Queue(tmp_path, "mch_a")
    previous = clock.install(SetClock(at))
    try:
        with httpx.Client() as client:
            bridge = Bridge(
                queue,
                Sealer("mch_a", None),
                open_driver=lambda: ThreeReadings(bridge.stop),  # type: ignore[arg-type,return-value]
                client=client,
                machine_id="mch_a",
                batch_s=60.0,
                say=said.append,
            )
            bridge.read_for_ever()
    finally:
        clock.install(previous)
    assert queue.waiting == waiting
    assert any("clock" in line for line in said) is (waiting == 0)
