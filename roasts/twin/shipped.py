"""The twin a new machine has at once: a Bullet R1, fitted on 39 recorded roasts of one machine (400 g, 200 V)."""

from __future__ import annotations

import functools
import json
from importlib import resources

from roasts.twin.parameters import TwinParameters, parameters_from_json

FILE = "bullet_r1.json"


@functools.cache
def shipped_defaults() -> TwinParameters:
    """The parameters in ``bullet_r1.json``; ``is_shipped_default`` is true until the machine is fitted itself."""
    text = resources.files("roasts.twin").joinpath(FILE).read_text(encoding="utf-8")
    return parameters_from_json(json.loads(text))
