"""What one more second says of a roast: charge, turning point, dry end, first crack, drop, cool end. Pure.

Each phase looks at the newest point for what may come in it. Where the machine tells its states, charge, drop and
cool end are its own facts and are not looked for here. Definitions and evidence: docs/events.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from roasts.events.crack_shape import Point, slope_c_per_min
from roasts.events.crack_track import Guess, advance, guess
from roasts.events.marks import Decision, Kind, Known, Over, Phase, confirm, confirm_all, emptied, make, withdraw

#: Points further apart than this do not belong to one fall or plateau.
CONTIGUOUS_S = 3.0

HOT_C = 80.0
FALL_WITHIN_S = 10.0
FALL_C = 4.0
PLATEAU_C = 0.25
#: After a charge the probe still shows what it showed before, for so long.
PLATEAU_S = 5.0
#: A Bullet's probe answers a charge so much later than the firmware does (60 real charges: 1 to 2 s).
PROBE_LATE_S = 1.5
#: The firmware sets the infrared reading to 25.0 °C at charge.
RESET_BELOW_C, RESET_ABOVE_C, RESET_WITHIN_S = 40.0, 120.0, 3.5
REAL_CHARGE_FALL_C, REAL_CHARGE_WITHIN_S = 15.0, 60.0
TURN_WITHIN_S = 300.0

TURN_AFTER_S = 20.0
TURN_FALL_C = 10.0
TURN_RISE_C, TURN_SURE_RISE_C = 1.0, 5.0
#: Seconds either side of the lowest point that the turning point is fitted over.
TURN_FIT_S = 8.0
#: So near a tenth of a degree is rounded to it (a 32-bit float on the wire is this exact), in tenths.
ROUNDED_C = 1e-3
#: What a source rounded to 0.1 °C shows as one temperature, either side.
FLAT_C = 0.04

SURE_ABOVE_C = 2.0
CRACK_AFTER_S = 150.0
CRACK_SURE_AFTER_S = 150.0
#: A mark of first crack moves when the better guess is this far off, and not more often than this.
CRACK_MOVE_S, CRACK_MOVE_EVERY_S = 8.0, 15.0

DROP_AFTER_S = 150.0
DROP_ABOVE_C = 120.0
DROP_FALL_C, DROP_SURE_FALL_C = 1.5, 8.0
DROP_RATE_C_PER_MIN = -10.0
DROP_WITHIN_S = 20.0
#: A Bullet's probe leaves its flat top (this much below its peak) so long after the beans left the drum.
TOP_C, DROP_PROBE_LATE_S = 0.2, 3.7
#: The infrared eye loses the beans at once: a step down of this size, in the seconds before the probe's peak.
DROP_STEP_C = 0.6
COOL_C = 50.0
COOL_AFTER_S = 300.0



# --- waiting: is this a charge? ---


def _wait(known: Known, point: Point, cut_s: float | None, decisions: list[Decision]) -> Known:
    if known.is_stated:
        return known
    reset_s = _reset_at(known.points)
    if reset_s is not None:
        known = make(known, Kind.CHARGE, reset_s, 0.95, decisions)
        return replace(known, phase=Phase.FALLING, plateau_c=max(p.bean_temp_c for p in known.points[-10:]))
    onset = _fall_onset(known.points)
    if onset is None:
        return known
    known = make(known, Kind.CHARGE, onset[0], 0.7, decisions)
    return replace(known, phase=Phase.FALLING, plateau_c=onset[1])


def _reset_at(points: tuple[Point, ...]) -> float | None:
    """When the infrared reading was set back: it was hot a moment ago and reads the room."""
    now = points[-1]
    if now.infrared_c is None or now.infrared_c > RESET_BELOW_C:
        return None
    hot = [p for p in points[:-1] if now.at_s - p.at_s <= RESET_WITHIN_S and (p.infrared_c or 0) >= RESET_ABOVE_C]
    return (hot[-1].at_s + now.at_s) / 2 if hot else None


def _recent(points: tuple[Point, ...], within_s: float) -> list[Point]:
    """The last points, back to a hole or ``within_s``."""
    found = [points[-1]]
    for point in reversed(points[:-1]):
        if found[-1].at_s - point.at_s > CONTIGUOUS_S or points[-1].at_s - point.at_s > within_s:
            break
        found.append(point)
    return found[::-1]


def _fall_onset(points: tuple[Point, ...]) -> tuple[float, float] | None:
    """(seconds, plateau °C) of a fall that only cold beans make; None where there is none."""
    recent = _recent(points, FALL_WITHIN_S)
    if len(recent) < 4:
        return None
    plateau_c = sum(point.bean_temp_c for point in recent[:3]) / 3
    now_c = recent[-1].bean_temp_c
    is_falling = recent[-1].bean_temp_c < recent[-2].bean_temp_c < recent[-3].bean_temp_c
    if plateau_c < HOT_C or plateau_c - now_c < FALL_C or not is_falling:
        return None
    last_hot = [point for point in recent if point.bean_temp_c >= plateau_c - PLATEAU_C][-1]
    return max(last_hot.at_s - PROBE_LATE_S, points[0].at_s), plateau_c


# --- charged: until the probe turns ---


def _fall(known: Known, point: Point, cut_s: float | None, decisions: list[Decision]) -> Known:
    elapsed_s = known.since_charge_s(point.at_s)
    if elapsed_s < 0:
        return known
    if _is_no_charge(known, point, elapsed_s):
        known = withdraw(known, Kind.CHARGE, decisions)
        decisions.append(Over(round(1000 * point.at_s), is_refuted=True))
        return emptied(known)
    if elapsed_s < PLATEAU_S or known.plateau_c == 0:
        known = replace(known, plateau_c=max(known.plateau_c, point.bean_temp_c))
    if known.lowest is None or point.bean_temp_c <= known.lowest.bean_temp_c:
        return replace(known, lowest=point)
    lowest_c = known.lowest.bean_temp_c
    last = known.points[-3:]
    is_risen = min(p.bean_temp_c for p in last) > lowest_c and point.bean_temp_c >= lowest_c + TURN_RISE_C
    if elapsed_s <= TURN_AFTER_S or not is_risen:
        return known
    if known.plateau_c - lowest_c < TURN_FALL_C:
        # No beans made it fall: a machine that says *roasting* goes on without a turning point.
        return replace(known, phase=Phase.RISING) if elapsed_s > REAL_CHARGE_WITHIN_S else known
    known = make(known, Kind.TURNING_POINT, _turning_s(known), 0.9, decisions)
    known = confirm(known, Kind.CHARGE, 0.95, decisions)
    return replace(known, phase=Phase.RISING, highest_c=point.bean_temp_c)


def _is_no_charge(known: Known, point: Point, elapsed_s: float) -> bool:
    """Whether an inferred charge is refuted: the probe came back, fell too little, or never turned."""
    charge = known.mark(Kind.CHARGE)
    if charge is None or charge.is_confirmed:
        return False
    fall_c = known.plateau_c - point.bean_temp_c
    is_back = 5 < elapsed_s <= REAL_CHARGE_WITHIN_S and fall_c < 1.0
    is_shallow = elapsed_s > REAL_CHARGE_WITHIN_S and known.lowest is not None and (
        known.plateau_c - known.lowest.bean_temp_c < REAL_CHARGE_FALL_C
    )
    return is_back or is_shallow or elapsed_s > TURN_WITHIN_S


def _turning_s(known: Known) -> float:
    """The latest of the lowest seconds (the definition). A source finer than 0.1 °C, or a noisy one, has no such
    thing: there it is the end of the flat bottom of the parabola round it.
    """
    lowest = known.lowest
    if lowest is None:
        return known.points[-1].at_s
    near = [(p.at_s - lowest.at_s, p.bean_temp_c) for p in known.points if abs(p.at_s - lowest.at_s) <= TURN_FIT_S]
    if all(abs(10 * temp_c - round(10 * temp_c)) < ROUNDED_C for _, temp_c in near):
        return lowest.at_s
    end_s = _flat_end(near)
    return lowest.at_s if end_s is None else lowest.at_s + end_s


def _flat_end(pairs: list[tuple[float, float]]) -> float | None:
    """Where the least-squares parabola through (s, °C) has risen by FLAT_C; None where it has no lowest point near."""
    if len(pairs) < 8:
        return None
    sums = [sum(s**power for s, _ in pairs) for power in range(5)]
    rights = [sum(temp_c * s**power for s, temp_c in pairs) for power in range(3)]
    rows = [[sums[r + c] for c in range(3)] + [rights[r]] for r in range(3)]
    for pivot in range(3):
        if abs(rows[pivot][pivot]) < 1e-12:
            return None
        for other in range(3):
            if other != pivot:
                factor = rows[other][pivot] / rows[pivot][pivot]
                rows[other] = [a - factor * b for a, b in zip(rows[other], rows[pivot], strict=True)]
    slope, curvature = rows[1][3] / rows[1][1], rows[2][3] / rows[2][2]
    if curvature <= 0:
        return None
    vertex_s = -slope / (2 * curvature)
    return vertex_s + math.sqrt(FLAT_C / curvature) if abs(vertex_s) <= TURN_FIT_S else None


# --- rising: dry end, first crack, drop ---


def _rise(known: Known, point: Point, cut_s: float | None, decisions: list[Decision]) -> Known:
    known = replace(known, highest_c=max(known.highest_c, point.bean_temp_c))
    known = _turn_settled(known, point, decisions)
    known = _dried(known, point, decisions)
    elapsed_s = known.since_charge_s(point.at_s)
    if elapsed_s >= CRACK_AFTER_S:
        known = _cracked(known, point, cut_s, decisions)
    if elapsed_s >= DROP_AFTER_S and not known.is_stated:
        known = _left(known, point, decisions)
    return known


def _turn_settled(known: Known, point: Point, decisions: list[Decision]) -> Known:
    """Confirm the turning point, or take it back: the probe fell lower again."""
    mark = known.mark(Kind.TURNING_POINT)
    if mark is None or mark.is_confirmed or known.lowest is None:
        return known
    if point.bean_temp_c >= known.lowest.bean_temp_c + TURN_SURE_RISE_C:
        return confirm(known, Kind.TURNING_POINT, 0.95, decisions)
    if point.bean_temp_c < known.lowest.bean_temp_c - 0.2:
        return replace(withdraw(known, Kind.TURNING_POINT, decisions), phase=Phase.FALLING, lowest=point)
    return known


def _dried(known: Known, point: Point, decisions: list[Decision]) -> Known:
    """Dry end: the first time the probe passes the temperature that stands for it."""
    mark, dry_end_c = known.mark(Kind.DRY_END), known.expectation.dry_end_c
    if mark is None:
        before = known.points[-2] if len(known.points) > 1 else None
        if before is None or point.at_s - before.at_s > CONTIGUOUS_S:
            return known
        if not before.bean_temp_c < dry_end_c <= point.bean_temp_c:
            return known
        share = (dry_end_c - before.bean_temp_c) / (point.bean_temp_c - before.bean_temp_c)
        at_s = before.at_s + share * (point.at_s - before.at_s)
        return make(known, Kind.DRY_END, at_s, 0.5, decisions)
    if point.bean_temp_c < dry_end_c - 1.0:
        return withdraw(known, Kind.DRY_END, decisions)
    return confirm(known, Kind.DRY_END, 0.6, decisions) if point.bean_temp_c >= dry_end_c + SURE_ABOVE_C else known


def _cracked(known: Known, point: Point, cut_s: float | None, decisions: list[Decision]) -> Known:
    """First crack: make, move, confirm or take back the mark as the probabilities go."""
    prior, track = known.expectation.crack, known.crack
    if track.is_settled:
        return known
    if not track.candidates and track.last_cut_s is None:
        track = replace(track, last_cut_s=known.last_cut_s)
    known = replace(
        known, crack=advance(track, prior, known.points, cut_s=cut_s, is_heater_known=known.is_heater_known)
    )
    mark, best = known.mark(Kind.FIRST_CRACK), guess(known.crack, prior, point.at_s)
    if mark is None and best is None:
        return known
    if mark is not None and point.at_s - mark.at_ms / 1000 >= CRACK_SURE_AFTER_S:
        known = _moved_crack(known, best, decisions, by_s=1.0)
        sure = known.mark(Kind.FIRST_CRACK)
        known = confirm(known, Kind.FIRST_CRACK, sure.confidence if sure else 0.0, decisions)
        return replace(known, crack=replace(known.crack, candidates=(), is_settled=True))
    is_soon = known.crack_moved_s is not None and point.at_s - known.crack_moved_s < CRACK_MOVE_EVERY_S
    if is_soon or (mark is not None and best is not None and abs(best.at_s - mark.at_ms / 1000) < CRACK_MOVE_S):
        return known
    known = replace(withdraw(known, Kind.FIRST_CRACK, decisions), crack_moved_s=point.at_s)
    return known if best is None else make(known, Kind.FIRST_CRACK, best.at_s, best.confidence, decisions)


def _moved_crack(known: Known, best: Guess | None, decisions: list[Decision], *, by_s: float) -> Known:
    """The mark of first crack where the best guess is; it stays where that is no further off than ``by_s``."""
    mark = known.mark(Kind.FIRST_CRACK)
    if best is None or (mark is not None and (mark.is_confirmed or abs(best.at_s - mark.at_ms / 1000) < by_s)):
        return known
    known = withdraw(known, Kind.FIRST_CRACK, decisions)
    return make(known, Kind.FIRST_CRACK, best.at_s, best.confidence, decisions)


def _left(known: Known, point: Point, decisions: list[Decision]) -> Known:
    """A drop by temperatures alone: the probe turns down as it never does with beans in a hot drum."""
    mark = known.mark(Kind.DROP)
    if mark is not None:
        return known
    recent = _recent(known.points, DROP_WITHIN_S)
    peak = _peak(recent)
    last = [(p.at_s, p.bean_temp_c) for p in recent[-5:]]
    slope = slope_c_per_min(last)
    is_falling = slope is not None and slope <= DROP_RATE_C_PER_MIN
    if peak.bean_temp_c < DROP_ABOVE_C or peak.bean_temp_c - point.bean_temp_c < DROP_FALL_C or not is_falling:
        return known
    at_s = _left_at(recent, peak)
    known = make(known, Kind.DROP, at_s, 0.8, decisions)
    return replace(known, phase=Phase.DROPPED, lowest=None, highest_c=peak.bean_temp_c)


def _peak(recent: list[Point]) -> Point:
    """The last point on the probe's flat top."""
    highest_c = max(point.bean_temp_c for point in recent)
    return [point for point in recent if point.bean_temp_c >= highest_c - TOP_C][-1]


def _left_at(recent: list[Point], peak: Point) -> float:
    """When the beans left: where the infrared eye lost them, else a little before the probe's peak."""
    best_s, best_c = peak.at_s - DROP_PROBE_LATE_S, DROP_STEP_C
    for before, after in zip(recent, recent[1:], strict=False):
        if before.infrared_c is None or after.infrared_c is None or not -6.5 <= after.at_s - peak.at_s <= 0.5:
            continue
        if before.infrared_c - after.infrared_c >= best_c:
            best_c = before.infrared_c - after.infrared_c
            best_s = (before.at_s + after.at_s) / 2
    return best_s


def settle_at_drop(known: Known, drop_s: float, decisions: list[Decision]) -> Known:
    """The beans are out: the last word on first crack, and on whatever else stood open."""
    best = guess(known.crack, known.expectation.crack, drop_s, is_dropped=True)
    known = _moved_crack(known, best, decisions, by_s=1.0)
    if best is not None:
        known = confirm(known, Kind.FIRST_CRACK, best.confidence, decisions)
    known = confirm_all(known, decisions, but=Kind.DROP)
    return replace(known, phase=Phase.DROPPED, lowest=None)


# --- dropped ---


def _cool(known: Known, point: Point, cut_s: float | None, decisions: list[Decision]) -> Known:
    drop = known.mark(Kind.DROP)
    if drop is None or known.is_stated:
        return known
    fallen_c = known.highest_c - point.bean_temp_c
    if not drop.is_confirmed:
        if fallen_c < -0.5:
            return replace(withdraw(known, Kind.DROP, decisions), phase=Phase.RISING)
        if fallen_c < DROP_SURE_FALL_C:
            return known
        known = confirm(known, Kind.DROP, 0.9, decisions)
        return settle_at_drop(known, drop.at_ms / 1000, decisions)
    if point.bean_temp_c <= COOL_C:
        known = make(known, Kind.COOL_END, point.at_s, 0.5, decisions)
        return over(confirm(known, Kind.COOL_END, 0.5, decisions), point.at_s, decisions)
    lowest = point if known.lowest is None or point.bean_temp_c < known.lowest.bean_temp_c else known.lowest
    is_reheated = point.bean_temp_c >= lowest.bean_temp_c + 3.0
    if is_reheated or point.at_s - drop.at_ms / 1000 >= COOL_AFTER_S:
        return over(known, point.at_s, decisions)
    return replace(known, lowest=lowest)


def over(known: Known, at_s: float, decisions: list[Decision]) -> Known:
    """The roast is over."""
    decisions.append(Over(round(1000 * at_s), is_refuted=False))
    return emptied(known)


def end(known: Known, decisions: list[Decision]) -> Known:
    """The readings end in the middle of a roast: a drop that had begun to show, else the last reading."""
    if known.is_stated or known.since_charge_s(known.points[-1].at_s) < DROP_AFTER_S:
        return known
    recent = _recent(known.points, DROP_WITHIN_S)
    peak = _peak(recent)
    at_s = _left_at(recent, peak)
    if at_s < peak.at_s - DROP_PROBE_LATE_S - 6 or peak.bean_temp_c < DROP_ABOVE_C:
        return known
    known = make(known, Kind.DROP, at_s, 0.4, decisions)
    return settle_at_drop(known, at_s, decisions)


LOOKS: dict[str, Callable[[Known, Point, float | None, list[Decision]], Known]] = {
    Phase.WAITING: _wait,
    Phase.FALLING: _fall,
    Phase.RISING: _rise,
    Phase.DROPPED: _cool,
}
