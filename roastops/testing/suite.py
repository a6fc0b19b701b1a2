"""`python -m roastops.testing.suite`: the whole suite on SQLite, and the tests of the database rooms on PostgreSQL.

`--prove` runs what `make test` leaves out because it takes long (the marker `prove`), `--short` fewer moments of it.
The rooms' own tests run on both databases beside each other; what starts real processes and looks at the clock runs
alone afterwards. What cannot run here is named with its reason; with `CI=true` it fails. A few failures among those
that look at the clock are tried once more, alone: what passes then is named UNSTEADY (docs/decisions.md).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from roastops.testing import servers

#: Everything that meets the database runs a second time on PostgreSQL.
ON_POSTGRES = [
    room for room in ("kernel", "roasts", "commands", "evals", "trials", "roastops") if Path(room, "tests").is_dir()
]
#: These start servers of their own with a database of their own choosing: a second run would be the first again.
ONCE = [
    "test_bench_figures.py", "test_environment.py", "test_faults_live.py", "test_replay_live.py",
    "test_schemathesis.py", "test_strangers.py", "test_up.py",
]  # fmt: skip
#: A machine loop with a real keeper, by the clock: alone on SQLite in `make test`, on PostgreSQL in `make prove`.
BY_THE_CLOCK = [
    f"commands/tests/{name}.py"
    for name in ("test_loop_real", "test_orders_real", "test_loop_lines", "test_order_aborts_real", "test_plans_real")
    if Path(f"commands/tests/{name}.py").is_file()
]
#: Rooms whose tests start nothing and may run beside the PostgreSQL pair.
BESIDE = [room for room in ON_POSTGRES if room != "roastops"]
LEAVES = ["drivers", "agents"]
PAIR = [
    *ON_POSTGRES, *(f"--ignore=roastops/tests/{name}" for name in ONCE), *(f"--ignore={path}" for path in BY_THE_CLOCK),
]  # fmt: skip
DURATIONS = "--durations=10"
#: More failures than this are no accident: there is no second try.
UNSTEADY_MAX = 5
LONG = {"MOMENTS": "50", "SCHEMATHESIS_SECONDS": "60", "SEEDS": os.environ.get("SEEDS") or "200"}
SHORT = {"MOMENTS": "8", "SCHEMATHESIS_SECONDS": "14", "SEEDS": os.environ.get("SEEDS") or "20"}


class Run:
    """One pytest of this suite, under way or done; what it says is shown at its end when another ran beside it."""

    def __init__(
        self, name: str, *arguments: str, said: IO[bytes] | None = None, environment: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self._said = said
        self._cache = tempfile.TemporaryDirectory(prefix="roastops-suite-")
        self._arguments = [*arguments, "-o", f"cache_dir={self._cache.name}"]
        self._environment = {**os.environ, **(environment or {})}
        sys.stdout.write("\n$ " + " ".join(["pytest", *arguments]) + f"   # {name}\n")
        sys.stdout.flush()
        self._process = self._start()

    def _start(self, *more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *self._arguments, *more],
            env=self._environment,
            stdout=self._said,
            stderr=subprocess.STDOUT if self._said else None,
        )

    def is_good(self, *, may_try_again: bool = False) -> bool:
        """Wait for its end. (5: nothing was selected, which is no fault of a selection by marker.)

        ``may_try_again``: a few failures are tried once more, alone, and named; twice failed is failed.
        """
        status = self._process.wait()
        if self._said is not None:
            self._said.seek(0)
            sys.stdout.write(f"\n--- {self.name}:\n" + self._said.read().decode(errors="replace"))
            sys.stdout.flush()
        failed = self._failed() if status == 1 and may_try_again else []
        if 0 < len(failed) <= UNSTEADY_MAX:
            sys.stdout.write(f"\n$ once more, alone: {' '.join(failed)}\n")
            sys.stdout.flush()
            status = self._start("--last-failed", "--last-failed-no-failures", "none").wait()
            UNSTEADY.extend(failed if status == 0 else [])
        self._cache.cleanup()
        return status in (0, 5)

    def _failed(self) -> list[str]:
        try:
            return sorted(json.loads(Path(self._cache.name, "v/cache/lastfailed").read_text("utf-8")))
        except (OSError, ValueError):
            return []


#: Tests that passed only at the second try.
UNSTEADY: list[str] = []


@contextlib.contextmanager
def postgres_url(given: str) -> Iterator[str]:
    """The given database, or a private server. servers.Missing where there is neither."""
    if given:
        yield given
        return
    with servers.running(servers.start_postgres) as postgres:
        yield postgres.url


def leaves(chosen: list[str]) -> list[str]:
    """The rooms that know no database: what failed of them."""
    run = Run("drivers and agents", *LEAVES, *chosen)
    return [] if run.is_good(may_try_again=True) else [run.name]


def test(given_url: str, extra: list[str]) -> tuple[list[str], str]:
    """`make test`: (what failed, what could not run)."""
    chosen = ["-m", "not prove", DURATIONS, *extra]
    beside = [*BESIDE, *(f"--ignore={path}" for path in BY_THE_CLOCK), *chosen]
    skipped = ""
    try:
        with postgres_url(given_url) as url, tempfile.TemporaryFile() as said:
            marked = ["-m", "not fleet and not browser and not prove", DURATIONS, *extra]
            pair = Run("PostgreSQL pair", *PAIR, *marked, said=said, environment={"DATABASE_URL": url})
            failures = [] if Run("SQLite pair, rooms", *beside).is_good() else ["SQLite pair, rooms"]
            failures += leaves(chosen)  # they wait more than they work: beside the other database's run
            failures += [] if pair.is_good() else [pair.name]
    except servers.Missing as reason:
        skipped = f"PostgreSQL pair: {reason}"
        failures = [] if Run("SQLite pair, rooms", *beside).is_good() else ["SQLite pair, rooms"]
        failures += leaves(chosen)
    rest = [".", *(f"--ignore={room}" for room in [*BESIDE, *LEAVES]), *chosen]
    if BY_THE_CLOCK and not Run("SQLite pair, loops by the clock", *BY_THE_CLOCK, *chosen).is_good(may_try_again=True):
        failures.append("SQLite pair, loops by the clock")
    if not Run("SQLite pair, real processes", *rest).is_good(may_try_again=True):
        failures.append("SQLite pair, real processes")
    return failures, skipped


def prove(given_url: str, extra: list[str], *, is_short: bool) -> tuple[list[str], str]:
    """`make prove`: what `make test` left out."""
    environment = SHORT if is_short else LONG
    failures, skipped = [], ""
    # A seed that fails has found something, whatever the next one does: the simulation is not tried again.
    if not Run("simulation", "simulation", "-m", "prove", DURATIONS, *extra, environment=environment).is_good():
        failures.append("simulation")
    rest = ["--ignore=simulation", "-m", "prove", DURATIONS, *extra]
    if not Run("proofs", *rest, environment=environment).is_good(may_try_again=True):
        failures.append("proofs")
    try:
        with postgres_url(given_url) as url:
            loops = Run("loops on PostgreSQL", *BY_THE_CLOCK, *extra, environment={"DATABASE_URL": url})
            if not loops.is_good(may_try_again=True):
                failures.append("loops on PostgreSQL")
    except servers.Missing as reason:
        skipped = f"loops on PostgreSQL: {reason}"
    return failures, skipped


def main() -> int:
    is_ci = os.environ.get("CI", "").lower() in ("1", "true")
    started_s = time.monotonic()
    given_url = os.environ.pop("DATABASE_URL", "")
    ours = {"--prove", "--short"} & set(sys.argv[1:])
    extra = [argument for argument in sys.argv[1:] if argument not in ours]
    if "--prove" in ours:
        failures, skipped = prove(given_url, extra, is_short="--short" in ours)
    else:
        failures, skipped = test(given_url, extra)
    if skipped and is_ci:
        failures.append(skipped)
    sys.stdout.write(f"\nSuite: {time.monotonic() - started_s:.0f} s. ")
    if UNSTEADY:
        sys.stdout.write(f"UNSTEADY, passed at the second try: {', '.join(UNSTEADY)}. ")
    if skipped:
        sys.stdout.write(f"NOT RUN: {skipped}. ")
    sys.stdout.write(f"FAILED: {', '.join(failures)}.\n" if failures else "All that ran passed.\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
