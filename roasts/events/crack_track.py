"""When was first crack? A probability over the seconds so far, moved on second by second. Pure.

Each second gets the share of the prior that the rising temperature passed in it (``CrackPrior``: probe and
infrared as one blend, and the habit of a round temperature), times how well what is seen around it fits a crack:
the heater step down before it, the next one after it, and the bend of the rates. What has not come yet counts by
the probability of not having come. The rest of the prior lies in the future.
"""

from __future__ import annotations

import functools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import attrgetter
from typing import NamedTuple

from roasts.events.crack_history import CrackPrior, blend_c
from roasts.events.crack_shape import BEND_AFTER_S, Bends, Point, bends_at, mean_infrared_c

#: Heater steps down come this often in a roast by themselves (mean seconds between them, real Bullet roasts).
CUT_EVERY_S = 40.0
#: Width of the kernel over earlier answers, seconds; and how many made-up roasts speak for "by chance".
AFTER_WIDTH_S, BEFORE_WIDTH_S, CHANCE_WEIGHT, CUT_WEIGHT = 4.0, 12.0, 1.0, 0.8
#: A step down within this of a candidate is no answer to it.
ANSWER_AFTER_S = 3.0
#: Bounds on how much one piece of evidence may say.
RATIO_MIN, RATIO_MAX = 0.02, 30.0
#: Log likelihood of a bend is cut off here, and set against that of any moment of a roast.
BEND_WORST, BEND_ANY = -4.0, -0.9
SMALLEST_SHARE = 1e-5
#: The confidence of a guess is the probability that the mark lies this near.
NEAR_S = 10.0
#: A drop comes about so long after the crack (log-normal, before any history), within this kernel of earlier ones.
DEVELOPMENT_S, DEVELOPMENT_LOG_SD, DEVELOPMENT_WIDTH_S = 85.0, 0.45, 12.0
#: How much less likely a roast is dropped before its first crack than after it, beside the density of a moment.
UNCRACKED = 0.0001
MAX_CANDIDATES = 420
#: More of the prior than this passed before we looked, or in a hole of this length: nothing can be said.
PAST_AT_ONCE, HOLE_S = 0.3, 5.0


class Candidate(NamedTuple):
    """One second that may have been the crack, and its weight so far (a tuple, as Point is)."""

    at_s: float
    weight: float
    is_answered: bool = False  # the next heater step down after it is known
    is_bent: bool = False  # its bend is known


@dataclass(frozen=True, slots=True)
class CrackTrack:
    """The seconds that may have been first crack. ``passed``: share of the prior the temperature has passed."""

    passed: float = 0.0
    habit_passed: bool = False
    last_cut_s: float | None = None
    candidates: tuple[Candidate, ...] = ()
    is_lost: bool = False  # we came when most of it had passed: nothing can be said
    is_heater_known: bool = False
    is_settled: bool = False  # the mark is confirmed: nothing is followed any more


@dataclass(frozen=True, slots=True)
class Guess:
    """Where the crack was: the posterior's median, the share within 10 s of it, and the share that has passed."""

    at_s: float
    confidence: float
    passed: float


def advance(
    track: CrackTrack, prior: CrackPrior, points: Sequence[Point], *, cut_s: float | None, is_heater_known: bool
) -> CrackTrack:
    """Take the newest second (the last of ``points``); ``cut_s``: when in it the heater was stepped down."""
    now = points[-1]
    if track.is_heater_known != is_heater_known:
        track = replace(track, is_heater_known=is_heater_known)
    if cut_s is not None:
        track = _answered(track, prior, cut_s)
    last_cut_s = cut_s if cut_s is not None else track.last_cut_s
    candidates = _bent(track.candidates, prior, points, now.at_s)
    if candidates is not track.candidates or last_cut_s != track.last_cut_s:
        track = replace(track, candidates=candidates, last_cut_s=last_cut_s)
    return _grown(track, prior, points)


def guess(track: CrackTrack, prior: CrackPrior, now_s: float, *, is_dropped: bool = False) -> Guess | None:
    """The median of the posterior if it lies in the past; None while the crack is more likely still to come.

    ``is_dropped``: the beans left at ``now_s``. People drop some while after a crack, and hardly ever before one.
    """
    weights = _weights(track, prior, now_s)
    future = max(0.0, 1.0 - track.passed)
    if is_dropped:
        weights = [w * _dropped(prior, now_s - c.at_s) for c, w in zip(track.candidates, weights, strict=True)]
        future *= UNCRACKED
    sums = list(accumulate(weights))
    past = sums[-1] if sums else 0.0
    whole = past + future
    if track.is_lost or track.is_settled or past <= 0 or past < 0.5 * whole:
        return None
    best = track.candidates[min(bisect_left(sums, 0.5 * whole), len(sums) - 1)]
    first = bisect_left(track.candidates, best.at_s - NEAR_S - 1, key=_SECOND)
    beyond = bisect_right(track.candidates, best.at_s + NEAR_S + 1, key=_SECOND)
    around = zip(track.candidates[first:beyond], weights[first:beyond], strict=True)
    near = sum(weight for candidate, weight in around if abs(candidate.at_s - best.at_s) <= NEAR_S)
    return Guess(best.at_s, round(near / whole, 3), past / whole)


_SECOND = attrgetter("at_s")


def _weights(track: CrackTrack, prior: CrackPrior, now_s: float) -> list[float]:
    """What each candidate weighs now: one that no step down answered yet, by the chance of none having come."""
    if not track.is_heater_known:
        return [candidate.weight for candidate in track.candidates]
    waiting = _waiting_by_second(prior.cuts_after)  # looked up once: this runs over hundreds of candidates a second
    last = len(waiting) - 1
    return [
        weight
        if is_answered
        else weight
        * (waiting[int(since_s)] if 0 <= (since_s := now_s - at_s) < last else waiting[0 if since_s < 0 else last])
        for at_s, weight, is_answered, _ in track.candidates
    ]


def _grown(track: CrackTrack, prior: CrackPrior, points: Sequence[Point]) -> CrackTrack:
    """Give the newest second its share of the prior."""
    now = points[-1]
    heard = prior.temperature
    infrared_c = mean_infrared_c(points, now.at_s)
    if infrared_c is None:
        score = (now.bean_temp_c - heard.heard_c) / heard.heard_sd_c
    else:
        score = (blend_c(now.bean_temp_c, infrared_c) - prior.blend_c) / prior.blend_sd_c
    passed = (1 - heard.habit_share) * student_share(score)
    is_habit_passed = track.habit_passed or (heard.habit_c is not None and now.bean_temp_c >= heard.habit_c - 0.05)
    passed += heard.habit_share if is_habit_passed else 0.0
    share = passed - track.passed
    if share <= SMALLEST_SHARE:
        return track if is_habit_passed == track.habit_passed else replace(track, habit_passed=is_habit_passed)
    is_blind = not track.candidates or len(points) < 2 or now.at_s - points[-2].at_s > HOLE_S
    if is_blind and share > PAST_AT_ONCE:
        return replace(track, is_lost=True)
    if track.is_heater_known and track.last_cut_s is not None:
        share *= _before(prior, now.at_s - track.last_cut_s)
    candidates = (*track.candidates, Candidate(now.at_s, _short(share)))[-MAX_CANDIDATES:]
    return replace(track, passed=passed, habit_passed=is_habit_passed, candidates=candidates)


def _answered(track: CrackTrack, prior: CrackPrior, cut_s: float) -> CrackTrack:
    candidates = tuple(
        one
        if one.is_answered or cut_s - one.at_s <= ANSWER_AFTER_S
        else one._replace(is_answered=True, weight=_short(one.weight * _after(prior, cut_s - one.at_s)))
        for one in track.candidates
    )
    return replace(track, candidates=candidates)


def _bent(
    candidates: tuple[Candidate, ...], prior: CrackPrior, points: Sequence[Point], now_s: float
) -> tuple[Candidate, ...]:
    """Weigh those whose bend can be seen by now; they are in order of time, so it is one a second."""
    begin = end = bisect_left(candidates, True, key=lambda one: not one.is_bent)
    while end < len(candidates) and now_s - candidates[end].at_s >= BEND_AFTER_S:
        end += 1
    if begin == end:
        return candidates
    seen = (
        one._replace(is_bent=True, weight=_short(one.weight * _bend_ratio(prior, bends_at(points, one.at_s))))
        for one in candidates[begin:end]
    )
    return (*candidates[:begin], *seen, *candidates[end:])


def _bend_ratio(prior: CrackPrior, bends: Bends) -> float:
    logs = 0.0
    for value, expected in ((bends.bean, prior.bean_bend), (bends.infrared, prior.infrared_bend)):
        if value is not None:
            logs += max(-0.5 * ((value - expected.mean) / expected.sd) ** 2, BEND_WORST) - BEND_ANY
    return _bounded(math.exp(logs))


def _short(weight: float) -> float:
    """A weight in five digits: states are written out, and nothing hangs on more."""
    return float(f"{weight:.5g}")


def _bounded(ratio: float) -> float:
    return min(RATIO_MAX, max(RATIO_MIN, ratio))


def _after(prior: CrackPrior, after_s: float) -> float:
    return _cut_ratio(prior.cuts_after, after_s, AFTER_WIDTH_S)


def _before(prior: CrackPrior, before_s: float) -> float:
    return _cut_ratio(prior.cuts_before, max(0.0, before_s), BEFORE_WIDTH_S)


def _dropped(prior: CrackPrior, after_s: float) -> float:
    """Density of a drop so long after a crack (per second), from what this machine's people did before."""
    if after_s <= 0:
        return 0.0
    total = sum(weight for _, weight in prior.developments)
    kernel = sum(
        w * math.exp(-0.5 * ((after_s - seen_s) / DEVELOPMENT_WIDTH_S) ** 2) for seen_s, w in prior.developments
    ) / (DEVELOPMENT_WIDTH_S * math.sqrt(2 * math.pi))
    usual = math.exp(-0.5 * (math.log(after_s / DEVELOPMENT_S) / DEVELOPMENT_LOG_SD) ** 2) / DEVELOPMENT_S
    return (usual + kernel) / (1 + total)


def _cut_ratio(cuts: tuple[tuple[float, float], ...], at_s: float, width_s: float) -> float:
    """Density of a step down so long after a crack, over that of one by chance (exponential)."""
    total = sum(weight for _, weight in cuts)
    kernel = sum(weight * math.exp(-0.5 * ((at_s - seen_s) / width_s) ** 2) for seen_s, weight in cuts)
    kernel /= width_s * math.sqrt(2 * math.pi)
    chance = math.exp(-min(at_s, 150.0) / CUT_EVERY_S) / CUT_EVERY_S
    return _bounded((CHANCE_WEIGHT + CUT_WEIGHT * kernel / chance) / (CHANCE_WEIGHT + CUT_WEIGHT * total))


@functools.lru_cache(maxsize=256)
def _waiting_by_second(cuts: tuple[tuple[float, float], ...]) -> tuple[float, ...]:
    """Probability of no step down yet after a crack, over that of none by chance, by whole seconds since it."""
    total = sum(weight for _, weight in cuts)
    rows = []
    for for_s in range(200):
        still = sum(w * 0.5 * math.erfc((for_s - seen_s) / (AFTER_WIDTH_S * math.sqrt(2))) for seen_s, w in cuts)
        chance = math.exp(-min(for_s, 150.0) / CUT_EVERY_S)
        rows.append(_bounded((CHANCE_WEIGHT + CUT_WEIGHT * still / chance) / (CHANCE_WEIGHT + CUT_WEIGHT * total)))
    return tuple(rows)


def student_share(score: float) -> float:
    """Distribution function of Student's t with 5 degrees of freedom (closed form), at ``score``."""
    x = score / math.sqrt(5)
    return 0.5 + (x / (1 + x * x) * (1 + 2 / (3 * (1 + x * x))) + math.atan(x)) / math.pi
