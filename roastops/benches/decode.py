"""Frames decoded per second, against a plain client's way of decoding, turn about in one run."""

from __future__ import annotations

from drivers.benches import bench_decode, bench_decode_r2
from roastops.benches.figures import Figure, Outcome

FULL_S, SHORT_S = 6.0, 1.5


def run(*, is_short: bool) -> Outcome:
    """The drivers' benches of both Bullets, with their bar: at least 3 times the yardstick."""
    seconds = SHORT_S if is_short else FULL_S
    found, pushed = bench_decode(seconds), bench_decode_r2(seconds)
    return Outcome(
        "decode",
        (
            Figure("frame pairs decoded", found.ours_per_s, "pairs/s"),
            Figure("yardstick", found.yardstick_per_s, "pairs/s"),
            Figure("ratio", found.ratio, "×", at_least=3.0),
            Figure("R2 frames decoded", pushed.ours_per_s, "frames/s"),
            Figure("R2 yardstick", pushed.yardstick_per_s, "frames/s"),
            Figure("R2 ratio", pushed.ratio, "×", at_least=3.0),
        ),
        "one slice and one unpack per field, as a plain Python client reads the same frames",
        is_short,
    )
