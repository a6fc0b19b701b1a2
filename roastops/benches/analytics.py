"""Analytics and alerts over a million orders on PostgreSQL: the server's own time, and that it does not grow."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from roastops.benches.figures import Figure, Outcome, quantile
from roastops.benches.house import NotReady
from roastops.testing import servers
from roastops.testing.processes import Fleet

ROWS, ROWS_SHORT = 1_000_000, 20_000
ROUNDS, ROUNDS_SHORT = 40, 5
WAIT_S = 1800.0
YOUNG = "young history: "


def run(*, is_short: bool, rows: int | None = None) -> Outcome:
    """Every question at its 95th percentile: at most 50 ms; and no slower over ten times the history."""
    count = rows or (ROWS_SHORT if is_short else ROWS)
    found = _measured(count, ROUNDS_SHORT if is_short else ROUNDS)
    yardstick, summing = quantile(found.pop("yardstick"), 0.5), found.pop("summing, s")[0]
    young = {name.removeprefix(YOUNG): found.pop(name) for name in list(found) if name.startswith(YOUNG)}
    cpu = {name: found.pop(name)[0] for name in list(found) if name.startswith("cpu: ")}
    figures = [Figure(f"{name}, p95", quantile(ms, 0.95), "ms", at_most=50.0) for name, ms in found.items()]
    for name, ms in young.items():
        grown = quantile(found[name], 0.5) / quantile(ms, 0.5)
        figures.append(Figure(f"{name}: ten times the history, p50", grown, "×", at_most=1.5))
    slowest = max(quantile(ms, 0.5) for ms in found.values())
    return Outcome(
        "analytics",
        (
            *figures,
            *(Figure(f"{name} (this process alone)", ms, "ms") for name, ms in cpu.items()),
            Figure("yardstick: count of a week's orders, p50", yardstick, "ms"),
            Figure("ratio of the slowest's p50 to the yardstick", slowest / yardstick, "×"),
            Figure("summing the whole history", summing, "s"),
        ),
        "a bare `select count(*)` of the last 7 days in the same process",
        is_short,
        (f"{count:,} orders on PostgreSQL; Django from request to rendered answer, no network",),
    )


def _measured(count: int, rounds: int) -> dict[str, list[float]]:
    with (
        tempfile.TemporaryDirectory(prefix="roastops-bench-") as name,
        servers.running(servers.start_postgres) as postgres,
        Fleet(Path(name), database_url=postgres.url) as fleet,
    ):
        words = ("-m", "roastops.benches.order_store", str(count), str(rounds))
        running = fleet.start("measure", sys.executable, *words)
        if running.process.wait(WAIT_S):
            raise NotReady(f"nothing was measured:\n{running.log()[-2000:]}")
        line = next(line for line in running.log().splitlines() if line.startswith("MEASURED "))
        found: dict[str, list[float]] = json.loads(line[len("MEASURED ") :])
        return found
