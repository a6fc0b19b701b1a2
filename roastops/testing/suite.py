"""`python -m roastops.testing.suite`: the whole suite on SQLite, and the tests that meet the database on PostgreSQL.

`--prove` runs what `make test` leaves out because it takes long (the marker `prove`), `--short` fewer moments of it.
Two jobs run beside each other, for that is how many cores the smallest machine has, and a third lane of tests that
mostly wait; what a job says is shown at its end.
What cannot run here is named with its reason; with `CI=true` it fails. A few failures among those that look at the
clock are tried once more, alone, at the end: what passes then is named UNSTEADY (docs/decisions.md).
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from roastops.testing import servers

#: Everything that meets the database runs a second time on PostgreSQL.
ON_POSTGRES = [
    room for room in ("kernel", "roasts", "commands", "evals", "trials", "roastops") if Path(room, "tests").is_dir()
]
#: These start servers of their own with a database of their own choosing: a second run would be the first again.
ONCE = [
    "test_bench_figures.py", "test_environment.py", "test_faults_live.py", "test_isolation.py", "test_replay_live.py",
    "test_schemathesis.py", "test_strangers.py", "test_up.py",
]  # fmt: skip
#: A machine loop with a real keeper, by the clock: on SQLite in `make test`, on PostgreSQL in `make prove`.
BY_THE_CLOCK = [
    f"commands/tests/{name}.py"
    for name in ("test_loop_real", "test_orders_real", "test_loop_lines", "test_order_aborts_real", "test_plans_real")
    if Path(f"commands/tests/{name}.py").is_file()
]
ROOMS = [room for room in ON_POSTGRES if room != "roastops"]
#: Rooms that know no database, and the simulation, which brings its own.
LEAVES = ["drivers", "agents", "simulation"]
#: Of the real processes: those with a browser or a bridge, and walks over every page and endpoint, which share one
#: server. (Half of the time.)
WALKS = [
    str(path)
    for name in ("bridge", "browser", "isolation", "nonsense", "sound", "translation", "strangers", "schemathesis")
    for path in sorted(Path("roastops/tests").glob(f"test_{name}*.py"))
]
PAIR = [
    "--meeting-database",
    *ON_POSTGRES, *(f"--ignore=roastops/tests/{name}" for name in ONCE), *(f"--ignore={path}" for path in BY_THE_CLOCK),
]  # fmt: skip
DURATIONS = "--durations=10"
#: So many jobs beside each other.
LANES = 2
#: More failures than this, in all, are no accident: there is no second try.
UNSTEADY_MAX = 5
LONG = {"MOMENTS": "50", "SCHEMATHESIS_SECONDS": "60", "SEEDS": os.environ.get("SEEDS") or "200"}
SHORT = {"MOMENTS": "8", "SCHEMATHESIS_SECONDS": "14", "SEEDS": os.environ.get("SEEDS") or "20"}


class Job:
    """One pytest of this suite."""

    def __init__(
        self, name: str, *arguments: str, environment: dict[str, str] | None = None, may_try_again: bool = False
    ) -> None:
        self.name = name
        self.may_try_again = may_try_again
        self.status = 1
        self._cache = tempfile.TemporaryDirectory(prefix="roastops-suite-")
        self._arguments = [*arguments, "-o", f"cache_dir={self._cache.name}"]
        self._environment = {**os.environ, **(environment or {})}
        self._words = " ".join(["pytest", *arguments])

    @property
    def is_good(self) -> bool:
        """(5: nothing was selected, which is no fault of a selection by marker.)"""
        return self.status in (0, 5)

    @property
    def failed(self) -> list[str]:
        """Its failed tests; none where it ended in another way."""
        if self.status != 1:
            return []
        try:
            return sorted(json.loads(Path(self._cache.name, "v/cache/lastfailed").read_text("utf-8")))
        except (OSError, ValueError):
            return []

    def run(self) -> None:
        """To its end; then what it said."""
        say(f"\n$ {self._words}   # {self.name}: begins\n")
        started_s = time.monotonic()
        with tempfile.TemporaryFile() as said:
            self.status = self._pytest(said=said)
            said.seek(0)
            words = said.read().decode(errors="replace")
        say(f"\n--- {self.name}, {time.monotonic() - started_s:.0f} s:\n{words}")

    def try_again(self) -> None:
        """What failed, once more, alone; what passes now is named."""
        failed = self.failed
        say(f"\n$ once more, alone: {' '.join(failed)}\n")
        self.status = self._pytest("--last-failed", "--last-failed-no-failures", "none")
        if self.is_good:
            UNSTEADY.extend(failed)

    def _pytest(self, *more: str, said: IO[bytes] | None = None) -> int:
        return subprocess.run(
            [sys.executable, "-m", "pytest", *self._arguments, *more],
            env=self._environment,
            stdout=said,
            stderr=subprocess.STDOUT if said else None,
            check=False,
        ).returncode


#: Tests that passed only at the second try.
UNSTEADY: list[str] = []
_saying = threading.Lock()


def say(words: str) -> None:
    """Whole, whoever else speaks."""
    with _saying:
        sys.stdout.write(words)
        sys.stdout.flush()


def play(jobs: Sequence[Job], *, beside: Sequence[Job] = ()) -> list[str]:
    """All jobs, LANES of them at a time, in their order; those ``beside`` them one after the other in a lane of their
    own. The names of those that failed."""
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)

    def lane() -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                waiting.get_nowait().run()

    def lane_of_its_own() -> None:
        for job in beside:
            job.run()

    threads = [threading.Thread(target=lane) for _ in range(LANES)] + [threading.Thread(target=lane_of_its_own)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything = [*jobs, *beside]
    unsteady = [job for job in everything if job.may_try_again and job.failed]
    if sum(len(job.failed) for job in unsteady) <= UNSTEADY_MAX:
        for job in unsteady:
            job.try_again()
    return [job.name for job in everything if not job.is_good]


@contextlib.contextmanager
def postgres_url(given: str) -> Iterator[str]:
    """The given database, or a private server. servers.Missing where there is neither."""
    if given:
        yield given
        return
    with servers.running(servers.start_brief_postgres) as postgres:
        yield postgres.url


def test(given_url: str, extra: list[str]) -> tuple[list[str], str]:
    """`make test`: (what failed, what could not run)."""
    chosen = ["-m", "not prove", DURATIONS, *extra]
    clockless = [f"--ignore={path}" for path in BY_THE_CLOCK]
    others = [f"--ignore={path}" for path in [*ROOMS, *LEAVES, *WALKS]]
    jobs = [
        Job("SQLite pair, rooms", *ROOMS, *clockless, *chosen),
        Job("SQLite pair, walks", *WALKS, *chosen, may_try_again=True),
        Job("SQLite pair, real processes", ".", *others, *chosen, may_try_again=True),
    ]
    waiters = [
        Job("leaves and simulation", *LEAVES, *chosen, may_try_again=True),
        Job("SQLite pair, loops by the clock", *BY_THE_CLOCK, *chosen, may_try_again=True),
    ]
    marked = ["-m", "not fleet and not browser and not prove", DURATIONS, *extra]
    try:
        with postgres_url(given_url) as url:
            pair = Job("PostgreSQL pair", *PAIR, *marked, environment={"DATABASE_URL": url})
            return play([pair, *jobs], beside=waiters), ""
    except servers.Missing as reason:
        return play(jobs, beside=waiters), f"PostgreSQL pair: {reason}"


def prove(given_url: str, extra: list[str], *, is_short: bool) -> tuple[list[str], str]:
    """`make prove`: what `make test` left out."""
    environment = SHORT if is_short else LONG
    # A seed that fails has found something, whatever the next one does: the simulation is not tried again.
    jobs = [
        Job("simulation", "simulation", "-m", "prove", DURATIONS, *extra, environment=environment),
        Job(
            "proofs", "--ignore=simulation", "-m", "prove", DURATIONS, *extra,
            environment=environment, may_try_again=True,
        ),
    ]  # fmt: skip
    try:
        with postgres_url(given_url) as url:
            on_postgres = {"DATABASE_URL": url}
            jobs.append(
                Job("loops on PostgreSQL", *BY_THE_CLOCK, *extra, environment=on_postgres, may_try_again=True)
            )
            return play(jobs), ""
    except servers.Missing as reason:
        return play(jobs), f"loops on PostgreSQL: {reason}"


@contextlib.contextmanager
def own_temporary_folder() -> Iterator[None]:
    """What tests, servers and browsers leave in the temporary folder lies in one of ours, which goes with the suite."""
    with tempfile.TemporaryDirectory(prefix="rs-", ignore_cleanup_errors=True) as folder:  # short: sockets lie in it
        Path(folder).chmod(0o711)  # a database server runs as a user of its own
        before, os.environ["TMPDIR"] = tempfile.tempdir, folder
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before


def main() -> int:
    with own_temporary_folder():
        return _main()


def _main() -> int:
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
