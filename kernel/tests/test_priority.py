"""Who is on STOP's way asks to go first, and lives on where it may not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from kernel import priority

NOBODY = 65_534
ASK = (
    "asked = priority.go_first(); path = pathlib.Path('/proc/self/autogroup');"
    "group = path.read_text().split() if path.exists() else [];"
    "print(asked, os.getpriority(os.PRIO_PROCESS, 0), (group or ['-'])[-1])"
)


def asked(first: str = "", *, is_own_session: bool = True) -> list[str]:
    """[was it granted, niceness of the process, niceness of its session] of a process that asks.

    '-' for the session: no autogroups here, or a process of none (the file is there then, and empty).
    """
    program = f"import os, pathlib; from kernel import priority; {first}{ASK}"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True,
        start_new_session=is_own_session,
    )  # fmt: skip
    return ran.stdout.split()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may")
def test_a_session_of_its_own_goes_first_as_a_whole() -> None:
    granted, niceness, group = asked()
    assert (granted, niceness) == ("True", str(priority.AHEAD))
    assert group in (str(priority.AHEAD), "-")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may")
def test_a_shared_session_is_not_lifted() -> None:
    before = (priority.AUTOGROUP.read_text().split() if priority.AUTOGROUP.exists() else []) or ["-"]
    assert asked(is_own_session=False) == ["True", str(priority.AHEAD), before[-1]]


def test_who_may_not_stays_where_it_is() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    granted, niceness, _ = asked(f"os.setgid({NOBODY}); os.setuid({NOBODY}); " if os.geteuid() == 0 else "")
    assert (granted, niceness) == ("False", str(own))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may")
def test_another_process_is_lifted_with_its_session_and_we_are_not() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    try:
        assert priority.lift(sleeper.pid, -7)
        assert os.getpriority(os.PRIO_PROCESS, sleeper.pid) == -7
        assert os.getpriority(os.PRIO_PROCESS, 0) == own
    finally:
        sleeper.kill()
        sleeper.wait()


def test_who_is_gone_is_not_lifted() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert not priority.lift(gone.pid, -7)
