"""The library of 100,000 roasts on PostgreSQL, and a 6,000-point roast on its page: the server's own time."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from roastops.benches.figures import Figure, Outcome, quantile
from roastops.benches.house import NotReady
from roastops.testing import servers
from roastops.testing.processes import Fleet

ROASTS, ROASTS_SHORT = 100_000, 2_000
ROUNDS, ROUNDS_SHORT = 40, 5
WAIT_S = 900.0
YARDSTICK = "GET /v1/me in the same process"


def run(*, is_short: bool) -> Outcome:
    """Every page and search at its 95th percentile: at most 100 ms."""
    count = ROASTS_SHORT if is_short else ROASTS
    found = _measured("library", count, ROUNDS_SHORT if is_short else ROUNDS)
    me = quantile(found.pop("me"), 0.5)
    cpu = found.pop("cpu of the slowest")[0]
    figures = tuple(Figure(f"{name}, p95", quantile(ms, 0.95), "ms", at_most=100.0) for name, ms in found.items())
    return Outcome(
        "library",
        (
            *figures,
            Figure("the slowest of them: CPU of the process", cpu, "ms"),
            Figure("yardstick: GET /v1/me, p50", me, "ms"),
        ),
        YARDSTICK,
        is_short,
        (f"{count:,} roasts on PostgreSQL; Django from request to rendered page, no network",),
    )


def run_curve(*, is_short: bool) -> Outcome:
    """A 6,000-point roast, its page and its curve: together at most 150 ms at the 95th percentile."""
    found = _measured("curve", 0, ROUNDS_SHORT if is_short else ROUNDS)
    summarise, one_pass = (quantile(found[name], 0.5) for name in ("summarise", "one pass of the causal rate"))
    return Outcome(
        "curve",
        (
            Figure("page and curve of 6,000 points, p95", quantile(found["both"], 0.95), "ms", at_most=150.0),
            Figure("of it CPU of the process, average", found["cpu of both"][0], "ms"),
            Figure("the page alone, p50", quantile(found["page"], 0.5), "ms"),
            Figure("the curve alone, p50", quantile(found["curve"], 0.5), "ms"),
            Figure("summarise 6,000 points, p50", summarise, "ms"),
            Figure("yardstick: one pass of the causal rate, p50", one_pass, "ms"),
            Figure("ratio of summarise to the yardstick", summarise / one_pass, "×"),
            Figure("yardstick: GET /v1/me, p50", quantile(found["me"], 0.5), "ms"),
        ),
        f"one pass of the causal rate over the same points; {YARDSTICK}",
        is_short,
        ("PostgreSQL; Django from request to rendered answer, no network",),
    )


def _measured(what: str, count: int, rounds: int) -> dict[str, list[float]]:
    with (
        tempfile.TemporaryDirectory(prefix="roastops-bench-") as name,
        servers.running(servers.start_postgres) as postgres,
        Fleet(Path(name), database_url=postgres.url) as fleet,
    ):
        words = ("-m", "roastops.benches.library_store", what, str(count), str(rounds))
        running = fleet.start("measure", sys.executable, *words)
        if running.process.wait(WAIT_S):
            raise NotReady(f"nothing was measured:\n{running.log()[-2000:]}")
        line = next(line for line in running.log().splitlines() if line.startswith("MEASURED "))
        found: dict[str, list[float]] = json.loads(line[len("MEASURED ") :])
        return found
