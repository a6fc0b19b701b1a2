"""What becomes of the open roast without a reading: a person opens or closes it, or the machine falls silent. Pure.

For machines that tell no states (and, silence, for all). Used by the machine loop and by telemetry alike; the record of
who did it is the caller's.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

from roasts import inference
from roasts.recording import recorder
from roasts.recording.recorder import CloseRoast, OpenState, RecorderState, Step

#: After a drop, this much event time without a reading ends the roast.
SILENCE_S = 60.0


def close_if_silent(state: RecorderState, at: dt.datetime) -> tuple[RecorderState, CloseRoast | None]:
    """Close a dropped roast whose machine said nothing for SILENCE_S before ``at``: as of its last reading."""
    roast = state.roast
    if roast is None or roast.dropped_ms is None or state.last_at is None:
        return state, None
    if (at - state.last_at).total_seconds() <= SILENCE_S:
        return state, None
    return let_go(state), CloseRoast("finished", state.last_at)


def let_go(state: RecorderState) -> RecorderState:
    """The open roast is closed in the record. Where a charge is inferred, the probe's fall at a drop that may just
    have been is none: the next is looked for once it has cooled, was heated up again, or 5 minutes have passed.
    """
    if state.roast is None:
        return state
    watch = inference.dropped(state.expectation, at_ms=state.last_device_ms or 0)
    return replace(state, roast=None, watch=watch, recent=())


def take_over(state: RecorderState, *, device_start_ms: int) -> Step:
    """A person opened a roast in the record, charged at this device time: record what was read since, and go on.

    Nothing where a roast is open already. The charge is a person's word: it is never refuted; beans are proved by the
    probe's fall alone.
    """
    if state.roast is not None:
        return Step(state, (), state.rate.rate)
    decisions: list[recorder.Decision] = []
    roast = OpenState(offset_ms=-device_start_ms, is_charge_seen=True, is_inferred=True)
    watch = inference.begin(state.expectation, charge_ms=0, is_stated=False)
    state.rate.reset()
    for reading in state.recent:
        rate = state.rate.step(reading.device_ms, recorder.believed(reading, "bean_temp_c"))
        if reading.device_ms >= device_start_ms:
            watch, _ = inference.step(watch, reading, reading.device_ms - device_start_ms)
            roast = recorder.followed(roast, reading, rate, decisions)
    return Step(replace(state, roast=roast, watch=watch, recent=()), tuple(decisions), state.rate.rate)


def device_ms_at(state: RecorderState, at: dt.datetime) -> int | None:
    """Device time of a moment of the wall, counted from the newest reading; None before the first."""
    if state.last_at is None or state.last_device_ms is None:
        return None
    return state.last_device_ms - round((state.last_at - at).total_seconds() * 1000)
