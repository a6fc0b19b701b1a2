"""Where a roast on a Bullet R1 usually runs: rate of rise and settings over bean temperature. Pure data.

Source: 38 different roasts (39 with marks, one of them stored twice) of one Bullet R1 V2, 400 g, 200 V,
published by their owner as Artisan logs. For each roast and each 10 °C of probe temperature the median
of the 30-second least-squares rate of rise was taken, from 45 s after the turning point to the drop; the
table holds the 10th, 50th and 90th percentile over roasts, and the median heater and fan steps.
``agents/tests/test_real_roasts.py`` counts them again. Golden curves of one's own (issue B) replace this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Corridor:
    """At one bean temperature: rates in °C/min (low, middle, high) and the usual native steps."""

    low_c_per_min: float
    middle_c_per_min: float
    high_c_per_min: float
    heater_step: int
    fan_step: int


# bean temperature (middle of its 10 °C), 10th, 50th, 90th percentile of the rate, heater, fan
_TABLE: tuple[tuple[float, float, float, float, int, int], ...] = (
    (105.0, 16.5, 18.1, 19.2, 7, 2),
    (115.0, 18.8, 19.9, 21.3, 7, 2),
    (125.0, 20.0, 21.7, 22.9, 7, 2),
    (135.0, 19.1, 21.2, 23.2, 7, 2),
    (145.0, 17.0, 18.8, 21.7, 6, 2),
    (155.0, 14.7, 16.4, 18.7, 6, 3),
    (165.0, 11.6, 13.0, 15.9, 6, 4),
    (175.0, 8.9, 11.1, 13.1, 5, 4),
    (185.0, 7.3, 9.4, 11.3, 4, 4),
    (195.0, 5.6, 7.5, 9.8, 3, 4),
    (205.0, 3.7, 5.9, 7.1, 2, 3),
)

LOWEST_TEMP_C = 100.0  # below it the turning point is too near to speak of a corridor
FIRST_CRACK_TEMP_C = 188.0  # median of the marks people made: 188.9; earlier is the safe side
DROP_TEMP_C = 200.0  # median of the drops: 198
CHARGE_SETPOINT_C = 240.0  # infrared just before the beans went in, median 239.7


def corridor_at(bean_temp_c: float) -> Corridor | None:
    """The corridor at a bean temperature, linear between the table's rows; None below 100 °C."""
    if not bean_temp_c >= LOWEST_TEMP_C:
        return None
    if bean_temp_c <= _TABLE[0][0]:
        return Corridor(*_TABLE[0][1:])
    for left, right in pairwise(_TABLE):
        if bean_temp_c <= right[0]:
            return _between(left, right, (bean_temp_c - left[0]) / (right[0] - left[0]))
    return Corridor(*_TABLE[-1][1:])


def _between(
    left: tuple[float, float, float, float, int, int], right: tuple[float, float, float, float, int, int], share: float
) -> Corridor:
    low, middle, high = (a + (b - a) * share for a, b in zip(left[1:4], right[1:4], strict=True))
    nearest = left if share < 0.5 else right
    return Corridor(low, middle, high, nearest[4], nearest[5])
