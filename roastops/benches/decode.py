"""Frames decoded per second, against a plain client's way of decoding, turn about in one run."""

from __future__ import annotations

from drivers.benches import bench_decode
from roastops.benches.figures import Figure, Outcome

FULL_S, SHORT_S = 6.0, 1.5


def run(*, is_short: bool) -> Outcome:
    """The drivers' bench, with its bar: at least 3 times the yardstick."""
    found = bench_decode(SHORT_S if is_short else FULL_S)
    return Outcome(
        "decode",
        (
            Figure("frame pairs decoded", found.ours_per_s, "pairs/s"),
            Figure("yardstick", found.yardstick_per_s, "pairs/s"),
            Figure("ratio", found.ratio, "×", at_least=3.0),
        ),
        "one slice and one unpack per field, as a plain Python client reads the same frames",
        is_short,
    )
