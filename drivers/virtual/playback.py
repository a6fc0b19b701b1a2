"""A recorded roast played on a machine that somebody is already watching. Pure: advanced tick by tick.

The cable stays in and the sample counter goes on, so a driver that stays connected sees device time rise and
nothing break off. A roast under way is first ended as a person would end it (beans out, a moment of cooling);
then the machine is off for a moment, then it shows the log, then it is off again, as warm as the log left it.
"""

from __future__ import annotations

import enum
import math

from drivers.virtual.firmware import COOLING, DROPPING, ROASTING, TICKS_PER_S
from drivers.virtual.firmware_r1 import FirmwareR1
from drivers.virtual.replay import ReplayFirmware

COOL_S, OFF_S, LEAD_S = 5.0, 3.0, 3.0
SEEN_WITHIN_S = 0.5  # wall: whoever reads ten times a second has surely seen it


class Stage(enum.StrEnum):
    """Where a playback stands."""

    COOLING = "cooling"
    OFF = "off"
    PLAYING = "playing"
    OVER = "over"


class Playback:
    """One log on one machine. Speeds are device seconds per second; device time is counted by :meth:`tick`."""

    def __init__(self, own: FirmwareR1, replay: ReplayFirmware, *, name: str, own_speed: float, speed: float) -> None:
        self.name = name
        self.speed = speed
        self._own = own
        self._replay = replay
        self._seen_s = SEEN_WITHIN_S * own_speed
        self._left_ticks = 0
        if own.state == ROASTING:
            own.drop_beans()
        if own.state in (DROPPING, COOLING):
            self.stage = Stage.COOLING
            self._wait(COOL_S)
        else:
            self._switch_off()

    def tick(self) -> FirmwareR1:
        """A tenth of a second of device time has passed; the firmware that is on the wire now."""
        self._left_ticks -= 1
        if self.stage is Stage.COOLING and self._left_ticks <= 0:
            self._switch_off()
        elif self.stage is Stage.OFF and self._left_ticks <= 0:
            self._replay.sample_counter = self._own.sample_counter
            self._own.note("replay", f"{self.name} begins")
            self.stage = Stage.PLAYING
        elif self.stage is Stage.PLAYING and self._replay.is_over:
            return self.end()
        return self._replay if self.stage is Stage.PLAYING else self._own

    def end(self) -> FirmwareR1:
        """The machine is itself again: off, or still in its roast if the log is cut off in the middle of one."""
        if self.stage is not Stage.PLAYING:
            self.stage = Stage.OVER
            return self._own
        own, shown = self._own, self._replay
        left = shown.warmth
        is_known = all(math.isfinite(each) for each in (left.probe_temp_c, left.infrared_temp_c))
        own.switch_on_again(shown.sample_counter, left if is_known else own.warmth)
        if shown.state == ROASTING:
            own.state, own.drum_step, own.fan_step = ROASTING, shown.drum_step, shown.fan_step
        own.note("replay", f"{self.name} ends")
        self.stage = Stage.OVER
        return own

    @property
    def left_s(self) -> float:
        """Device seconds of the log still to come."""
        return self._replay.left_s

    def _switch_off(self) -> None:
        self._own.switch_on_again(self._own.sample_counter, self._own.warmth)
        self.stage = Stage.OFF
        self._wait(OFF_S)

    def _wait(self, device_s: float) -> None:
        self._left_ticks = round(max(device_s, self._seen_s) * TICKS_PER_S)


def lead_s(speed: float) -> float:
    """Device seconds for which the first row stands before the log begins to move, at ``speed``."""
    return max(LEAD_S, SEEN_WITHIN_S * speed)
