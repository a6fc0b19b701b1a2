"""A roast that just goes on, point by point: what the recorder would do, at a fifth of its cost. Pure.

Nearly all telemetry is this, ten thousand points a second of it. Whatever may be more than one more sample (another
state, a hole, a time going back, a mark of inference) is left to the recorder, which then does all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from drivers.port import MachineState, Quality
from roasts import inference
from roasts.recording import recorder
from roasts.recording.recorder import RecorderState
from roasts.telemetry.envelope import Event, Point

#: A sample's sequence is its envelope's, and its place in it: so a row says which batch vouches for it.
INDEX_BITS = 12
#: A stretch without points is a gap when it is longer than this while the sender's interval is not known.
FIRST_GAP_S = 10.0
ROASTING = MachineState.ROASTING.value
FRESH = Quality.FRESH.value


class NewSample(NamedTuple):
    """A point on its way to the open roast."""

    roast_id: str
    elapsed_ms: int
    sequence: int
    state: str
    point: Point
    rate_of_rise_c_per_min: float | None


def is_steady(recording: RecorderState) -> bool:
    """Whether the next reading of *roasting* is one more sample and nothing else, but for what inference finds."""
    roast = recording.roast
    return (
        roast is not None
        and roast.status == "roasting"
        and roast.dropped_ms is None
        and roast.left_ms is None
        and not roast.is_inferred
        and not recording.is_resumed
        and recording.last_state is MachineState.ROASTING
        and recording.last_at is not None
        and recording.last_device_ms is not None
    )


def interval_after(interval_ms: float | None, passed_ms: float) -> float:
    """The sender's usual interval, slowly: one hole does not move it, a new habit does."""
    if interval_ms is None:
        return min(float(passed_ms), FIRST_GAP_S * 1000)
    return interval_ms + 0.1 * (min(float(passed_ms), 4 * interval_ms) - interval_ms)


class SteadyRun:
    """The few values of the recorder's state that move while a roast just goes on."""

    __slots__ = ("at", "axis_ms", "clock_s", "device_ms", "elapsed_ms", "interval_ms", "offset_ms", "rate", "watch")

    def __init__(self, recording: RecorderState, interval_ms: float | None) -> None:
        roast = recording.roast
        if roast is None or recording.last_at is None or recording.last_device_ms is None:
            raise ValueError("no roast goes on")
        self.at, self.device_ms, self.clock_s = recording.last_at, recording.last_device_ms, recording.last_clock_s
        self.elapsed_ms, self.offset_ms, self.axis_ms = roast.last_elapsed_ms, roast.offset_ms, roast.axis_ms
        self.watch, self.rate, self.interval_ms = inference.Running(recording.watch), recording.rate, interval_ms

    def follow(
        self, items: Sequence[Point | Event], begin: int, word: str, roast_id: str, sequence: int
    ) -> list[NewSample]:
        """The samples of the points from ``begin`` on, up to the first that may be more than a sample.

        ``word``: the machine's state where points tell none; ``sequence``: the envelope's.
        """
        samples: list[NewSample] = []
        for item in items[begin:]:
            if not isinstance(item, Point) or (item.values.get("state") or word) != ROASTING:
                break
            elapsed_ms = item.device_ms + self.offset_ms
            if (
                elapsed_ms <= self.elapsed_ms
                or not recorder.BEANS_WITHIN_MS < elapsed_ms <= recorder.LONGEST_MS
                or not 0.0 <= (item.at - self.at).total_seconds() <= recorder.GAP_S
            ):
                break
            rate, is_taken = self._take(item, elapsed_ms)
            if not is_taken:
                break
            index = sequence << INDEX_BITS | item.index
            samples.append(NewSample(roast_id, elapsed_ms, index, ROASTING, item, rate))
        return samples

    def _take(self, point: Point, elapsed_ms: int) -> tuple[float | None, bool]:
        """The rate after a point, and whether it is one more sample (nothing is done where it is not)."""
        get = point.values.get
        bean_c, eye_c, heater_step = get("bean_temp_c"), get("infrared_temp_c"), get("heater_step")
        quality = get("quality")
        if quality:
            bean_c, eye_c, heater_step = believed(quality, bean_c, eye_c, heater_step)
        if not self.watch.add(elapsed_ms + self.axis_ms, ROASTING, bean_c, eye_c, heater_step):
            return None, False
        rate = self.rate.step(point.device_ms, bean_c)
        self.interval_ms = interval_after(self.interval_ms, elapsed_ms - self.elapsed_ms)
        self.elapsed_ms, self.at, self.device_ms = elapsed_ms, point.at, point.device_ms
        clock_s = get("roast_clock_s")
        if clock_s is not None:
            self.clock_s = clock_s
        return rate, True


def believed(quality: dict[str, str], bean_c: Any, eye_c: Any, heater_step: Any) -> tuple[Any, Any, Any]:
    """The values that the sender does not call stale or absent."""
    return (
        bean_c if quality.get("bean_temp_c", FRESH) == FRESH else None,
        eye_c if quality.get("infrared_temp_c", FRESH) == FRESH else None,
        heater_step if quality.get("heater_step", FRESH) == FRESH else None,
    )
