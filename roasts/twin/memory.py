"""What a machine's earlier roasts let expect of its next one, at the moment of charge. Pure numpy.

Each earlier roast has told, in its first 90 seconds, how it differs from the model (``lanes.innovations``). Two
things make such differences alike: roasts near in time share the probe's dust and age, the room and the store;
roasts of one bean share the bean, however long ago. What is expected is the best linear guess under those two
likenesses and each roast's own share (kriging: Rasmussen & Williams, Gaussian Processes, 2.25, with mean 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from roasts.events.crack_history import bean_key
from roasts.twin.physics import Vector

#: What an opening says beyond the model: see ``lanes.innovations``.
INNOVATIONS = ("probe_c", "probe_rise_c", "infrared_c", "infrared_rise_c")
#: Variance that roasts near in time share, beside a roast's own (1.0), and how slowly it fades (days). These
#: three were chosen by the likelihood of 39 openings (docs/twin.md), not by the errors that are reported.
ERA_SHARE, ERA_DAYS = 3.0, 100.0
#: Variance that roasts of one bean share. Of a bean without a name nothing is known.
BEAN_SHARE = 1.0
#: The newest so many earlier roasts are asked; the sum to solve grows with their cube.
MOST_ASKED = 100
DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Remembered:
    """What one earlier roast's opening said beyond the model (lanes.innovations), when it was charged, its bean."""

    began_s: float
    found: tuple[float, ...]
    bean: str = ""


def expected_from(memory: Sequence[Remembered], at_s: float, bean: str = "") -> Vector:
    """The innovations (°C) that roasts begun before ``at_s`` (unix seconds) let expect of one begun then.

    Roasts without a time do not count; where none does, or ``at_s`` is NaN (not known), nothing is expected: zeros.
    """
    earlier = sorted((one for one in memory if one.began_s < at_s), key=lambda one: one.began_s)[-MOST_ASKED:]
    if not earlier:
        return np.zeros(len(INNOVATIONS))
    began_s = np.array([one.began_s for one in earlier])
    beans = [bean_key(one.bean) for one in earlier]
    among = _likeness(began_s[:, None], began_s[None, :], _is_same(beans, beans))
    towards = _likeness(began_s, np.full(len(earlier), at_s), _is_same(beans, [bean_key(bean)])[:, 0])
    weights = np.linalg.solve(among + np.eye(len(earlier)), towards)
    return np.asarray(np.array([one.found for one in earlier]).T @ weights)


def _likeness(one_s: Vector, other_s: Vector, is_same_bean: Vector) -> Vector:
    """Shared variance of roasts begun then and then, in units of a roast's own."""
    return np.asarray(ERA_SHARE * np.exp(-np.abs(one_s - other_s) / (ERA_DAYS * DAY_S)) + BEAN_SHARE * is_same_bean)


def _is_same(beans: Sequence[str], others: Sequence[str]) -> Vector:
    """1.0 where two names are one bean's, rows × columns; no name is nobody's."""
    one, other = np.array(beans)[:, None], np.array(others)[None, :]
    return np.asarray((one == other) & (one != ""), dtype=np.float64)
