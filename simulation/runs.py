"""`manage.py simulate` in processes of its own: what each said, and what several said together."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: No run of ours is longer.
LONG_S = 1800


class Run:
    """One process under way, or what it said. Its data directory is its own."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="roastops-simulate-")
        self._out = tempfile.TemporaryFile()  # noqa: SIM115  (closed when its process has ended)
        self.said, self.returncode = "", -1
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            stdout=self._out,
            stderr=subprocess.STDOUT,
            env={
                **os.environ, "DJANGO_SETTINGS_MODULE": "roastops.test_settings", "DATABASE_URL": "",
                "PYTEST_DATA_DIR": self._folder.name, "ROASTOPS_DATA_DIR": self._folder.name, **environment,
            },
        )  # fmt: skip

    def wait_for(self) -> Run:
        """Its end; never longer than LONG_S (then it is killed, and subprocess.TimeoutExpired)."""
        try:
            self.returncode = self._process.wait(LONG_S)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
        self._out.seek(0)
        self.said = self._out.read().decode(errors="replace")
        self._out.close()
        self._folder.cleanup()
        return self

    @property
    def digests(self) -> list[str]:
        """The lines that hold a seed and its digest."""
        return [line for line in self.said.splitlines() if len(line.split()) == 2 and len(line.split()[1]) == 64]

    @property
    def summary(self) -> Summary | None:
        """What it said at its end, with ``--json``; None where it did not come to it."""
        return summary_of(self.said)


def simulate(url: str, *arguments: str, **environment: str) -> Run:
    """`manage.py simulate` on that server, with these arguments."""
    return Run(["manage.py", "simulate", "--server", url, *arguments], environment)


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """What came of many episodes. ``failing``: (seed, what was wrong); ``missing``: what was never met."""

    episodes: int
    per_minute: int
    decisions: float
    failing: list[list[Any]]
    missing: list[str]
    met: dict[str, int]
    took_s: float

    @classmethod
    def of(cls, episodes: int, decisions: int, met: Counter[str], failing: Any, took_s: float) -> Summary:
        """From what was counted; ``missing`` is for the caller to say."""
        per_minute = round(episodes / max(took_s, 0.001) * 60)
        mean = round(decisions / max(1, episodes), 1)
        return cls(episodes, per_minute, mean, failing, [], dict(sorted(met.items())), round(took_s, 1))


def summary_of(said: str) -> Summary | None:
    """The last summary in what a process said; None where there is none."""
    lines = [line for line in said.splitlines() if line.startswith('{"episodes"')]
    return Summary(**json.loads(lines[-1])) if lines else None


def together(parts: Iterable[Summary]) -> Summary:
    """Processes that played beside each other, as one run: it took as long as the longest of them."""
    found = list(parts)
    met: Counter[str] = Counter()
    for part in found:
        met.update(part.met)
    decisions = sum(round(part.decisions * part.episodes) for part in found)
    failing = sorted(each for part in found for each in part.failing)
    return Summary.of(
        sum(part.episodes for part in found), decisions, met, failing, max(part.took_s for part in found)
    )


def shares(first: int, last: int, count: int) -> list[str]:
    """``first:last`` in so many ranges of nearly equal length, none of them empty."""
    count = max(1, min(count, last - first))
    bounds = [first + (last - first) * place // count for place in range(count + 1)]
    return [f"{begin}:{end}" for begin, end in zip(bounds, bounds[1:], strict=False)]
