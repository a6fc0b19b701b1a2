"""Recorded roasts as the twin reads them: from an imported file, or from a curve with its marks. Pure."""

from __future__ import annotations

import numpy as np

from roasts.curve import Curve, Marks, first_of
from roasts.events.crack_history import bean_in_file_name
from roasts.formats.imported import ImportedRoast
from roasts.twin.values import TwinError, TwinRoast

USUAL_MASS_KG = 0.4
ROASTING = "roasting"


def roast_of_file(found: ImportedRoast, name: str) -> TwinRoast:
    """An imported roast. ``name`` is the file's: where the log names no bean, people wrote it there.

    Raises:
        TwinError: it has no heater channel, or nothing says where the roast ended.
    """
    began_at = found.metadata.roasted_at
    start_s = float(found.curve.elapsed_s[0]) if len(found.curve) else 0.0
    return roast_of_curve(
        found.curve,
        found.marks,
        mass_g=found.metadata.weight_in_g,
        began_s=None if began_at is None else began_at.timestamp() - start_s,
        name=name,
        bean=found.metadata.bean or bean_in_file_name(name),
    )


def roast_of_curve(
    curve: Curve, marks: Marks, *, mass_g: float | None, began_s: float | None, name: str, bean: str = ""
) -> TwinRoast:
    """A curve with its marks; without a mark for the drop the last row in state *roasting* ends it.

    Raises:
        TwinError: it has no heater channel, or nothing says where the roast ended.
    """
    if curve.heater_step is None:
        raise TwinError(f"roast {name!r} has no heater channel")
    drop_s = first_of(marks, "drop")
    if drop_s is None:
        drop_s = _last_roasting_s(curve)
    if drop_s is None:
        raise TwinError(f"roast {name!r} has neither a drop nor states that say where it ended")
    return TwinRoast(
        curve=curve,
        mass_kg=USUAL_MASS_KG if not mass_g else mass_g / 1000.0,
        drop_s=drop_s,
        name=name,
        began_s=began_s,
        crack_s=first_of(marks, "first_crack_start"),
        bean=bean,
    )


def _last_roasting_s(curve: Curve) -> float | None:
    if curve.state is None:
        return None
    rows = np.nonzero([state == ROASTING for state in curve.state])[0]
    return float(curve.elapsed_s[rows[-1]]) if len(rows) else None
