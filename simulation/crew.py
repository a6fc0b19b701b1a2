"""Lane A's seeds in several processes: one seed after the other to whoever is free.

A member is `python -m simulation.lane_a --member`: a seed a line comes in, what came of it goes out, and the end of
its input is its end. So nobody stays behind: not at Ctrl-C, and not where the one who asked was killed.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from simulation.tally import Played

ROOT = Path(__file__).resolve().parent.parent
#: A member that was told to go finishes its seed first; one that does not is killed.
GOING_S = 30.0


def cores() -> int:
    """How many processes can work at the same time here."""
    return len(os.sched_getaffinity(0))


class Member:
    """One of the processes, and the seed it plays (None: it is free)."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.seed: int | None = None
        self._unread = b""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "simulation.lane_a", "--member"],
            cwd=ROOT, env={**os.environ, **environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.out = _pipe(self._process.stdout)

    def give(self, seed: int) -> None:
        """The next one to play."""
        self.seed = seed
        with contextlib.suppress(BrokenPipeError):  # it is dead: its end is read from the other pipe
            pipe = _pipe(self._process.stdin)
            pipe.write(f"{seed}\n".encode())
            pipe.flush()

    def heard(self) -> tuple[list[Played], bool]:
        """What it said since, and whether it is still there."""
        data = os.read(self.out.fileno(), 1 << 16)
        *lines, self._unread = (self._unread + data).split(b"\n")
        return [Played.from_json(line.decode()) for line in lines], bool(data)

    def lost(self) -> Played:
        """The seed it died over."""
        return Played(self.seed or 0, "", f"its process ended with {self._process.wait(GOING_S)}")

    def dismiss(self) -> None:
        """Tell it to go."""
        with contextlib.suppress(BrokenPipeError):
            _pipe(self._process.stdin).close()

    def reap(self) -> None:
        """Wait until it is gone."""
        try:
            self._process.wait(GOING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.out.close()


def play(seeds: Iterable[int], *, processes: int, environment: dict[str, str] | None = None) -> Iterator[Played]:
    """What came of each seed, in the order in which they end. A seed over which its process died has failed."""
    waiting = iter(seeds)
    members = [Member(environment or {}) for _ in range(processes)]
    try:
        with selectors.DefaultSelector() as selector:
            for member in members:
                selector.register(member.out, selectors.EVENT_READ, member)
                _occupy(member, waiting)
            while any(member.seed is not None for member in members):
                for key, _ in selector.select():
                    found, is_there = key.data.heard()
                    for played in found:
                        _occupy(key.data, waiting)
                        yield played
                    if not is_there:
                        selector.unregister(key.fileobj)
                        if key.data.seed is not None:
                            yield key.data.lost()
                        key.data.seed = None
        for seed in waiting:  # not silently left out
            yield Played(seed, "", "all processes had ended before it was played")
    finally:
        for member in members:
            member.dismiss()
        for member in members:
            member.reap()


def _occupy(member: Member, waiting: Iterator[int]) -> None:
    member.seed = None
    seed = next(waiting, None)
    if seed is not None:
        member.give(seed)


def serve(play_one: Callable[[int], Played]) -> None:
    """A member's whole life. (Ctrl-C is told to the one who asked; nothing else may write where answers go.)"""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            answers.write(play_one(int(line)).to_json() + "\n")
            try:
                answers.flush()
            except BrokenPipeError:  # whoever asked is gone
                return


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    """(Both of a member's are pipes.)"""
    if stream is None:
        raise ValueError("a member without pipes")
    return stream
