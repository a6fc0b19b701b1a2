"""The twin a new machine has at once: a Bullet R1, fitted on 39 recorded roasts of one machine (400 g, 200 V)."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from importlib import resources

from roasts.twin.parameters import SHIPPED, TwinParameters, parameters_from_json

FILE = "bullet_r1.json"


def as_shipped(parameters: TwinParameters) -> TwinParameters:
    """A Bullet's fit as a new machine may have it: labelled so, and without the memory of another machine's roasts."""
    origin = f"{SHIPPED}: Bullet R1 V2 (200 V, 400 g), fitted on {parameters.roast_count} recorded roasts"
    return replace(parameters, origin=origin, memory=())


@functools.cache
def shipped_defaults() -> TwinParameters:
    """The parameters in ``bullet_r1.json``; ``is_shipped_default`` is true until the machine is fitted itself."""
    text = resources.files("roasts.twin").joinpath(FILE).read_text(encoding="utf-8")
    return parameters_from_json(json.loads(text))
