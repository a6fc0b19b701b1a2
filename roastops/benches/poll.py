"""How old a sample is when its follower has it, over a real keeper and a real virtual machine."""

from __future__ import annotations

from drivers.benches import bench_poll
from kernel import clock
from roastops.benches.figures import Figure, Outcome, quantile

FULL_S, SHORT_S = 30.0, 4.0
NAPS = 30


def run(*, is_short: bool) -> Outcome:
    """The drivers' bench; the yardstick is how late this machine wakes a sleeper of 10 ms at p99."""
    found = bench_poll(SHORT_S if is_short else FULL_S)
    late_ms = _nap_lateness_ms()
    return Outcome(
        "poll",
        (
            Figure("readings per second", found.rate_hz, "Hz", at_least=9.0),
            Figure("age on arrival, p50", found.age_p50_ms, "ms"),
            Figure("age on arrival, p99", found.age_p99_ms, "ms", at_most=150.0),
            Figure("age on arrival, max", found.age_max_ms, "ms"),
            Figure("age of the newest held reading, p99", found.present_age_p99_ms, "ms", at_most=150.0),
            Figure("yardstick: waking late, p99", late_ms, "ms"),
            Figure("ratio of p99 to the yardstick", found.age_p99_ms / late_ms, "×"),
        ),
        "how late this machine wakes a process that slept 10 ms",
        is_short,
        (f"{found.readings} readings in {found.seconds:.1f} s",),
    )


def _nap_lateness_ms() -> float:
    late_ms = []
    for _ in range(NAPS):
        started_s = clock.monotonic()
        clock.sleep(0.01)
        late_ms.append(max(0.001, (clock.monotonic() - started_s - 0.01) * 1000))
    return quantile(late_ms, 0.99)
