"""`python -m roastops.testing.suite`: the whole suite on SQLite, then the tests of the database rooms on PostgreSQL.

What cannot run here is named with its reason; with `CI=true` it fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from roastops.testing import servers

# Everything that meets the database runs a second time on PostgreSQL.
ON_POSTGRES = ["kernel", "roasts", "commands", "roastops"]
# These start servers of their own with a database of their own choosing: a second run would be the first again.
ONCE = [
    "test_bench_figures.py", "test_environment.py", "test_faults_live.py", "test_replay_live.py",
    "test_schemathesis.py", "test_strangers.py", "test_up.py",
]  # fmt: skip
PAIR = [*ON_POSTGRES, *(f"--ignore=roastops/tests/{name}" for name in ONCE), "-m", "not fleet and not browser"]


def pytest(*arguments: str, **environment: str) -> int:
    """One pytest run; its exit status."""
    command = [sys.executable, "-m", "pytest", *arguments]
    sys.stdout.write("\n$ " + " ".join(["pytest", *arguments]) + "\n")
    sys.stdout.flush()
    return subprocess.run(command, env={**os.environ, **environment}, check=False).returncode


def main() -> int:
    is_ci = os.environ.get("CI", "").lower() in ("1", "true")
    started_s = time.monotonic()
    extra = sys.argv[1:]
    without_database = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    given_url = os.environ.get("DATABASE_URL", "")
    os.environ.clear()
    os.environ.update(without_database)
    failures = []
    if pytest("--durations=10", *extra):
        failures.append("SQLite pair")
    skipped = ""
    try:
        if given_url:
            status = pytest(*PAIR, *extra, DATABASE_URL=given_url)
        else:
            with servers.running(servers.start_postgres) as postgres:
                status = pytest(*PAIR, *extra, DATABASE_URL=postgres.url)
        if status:
            failures.append("PostgreSQL pair")
    except servers.Missing as reason:
        skipped = f"PostgreSQL pair: {reason}"
        if is_ci:
            failures.append(skipped)
    sys.stdout.write(f"\nSuite: {time.monotonic() - started_s:.0f} s. ")
    if skipped:
        sys.stdout.write(f"NOT RUN: {skipped}. ")
    sys.stdout.write(f"FAILED: {', '.join(failures)}.\n" if failures else "All that ran passed.\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
