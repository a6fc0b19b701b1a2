"""STOP's way goes first when a machine is full: the keeper's process and the web's (no Django here).

Linux divides a full machine between sessions before it divides a session between processes (sched_autogroup), so both
levels are asked for. Both need root or CAP_SYS_NICE; without it a process stays where it is, and STOP as quick as the
machine lets it be.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

#: Three times the weight of a process that asked for nothing; far from starving it.
AHEAD = -5
AUTOGROUP = Path("/proc/self/autogroup")


def go_first() -> bool:
    """Ask for it, for this thread and those it will make; call it before there are others. False: not allowed."""
    try:
        if os.getpriority(os.PRIO_PROCESS, 0) > AHEAD:
            os.setpriority(os.PRIO_PROCESS, 0, AHEAD)
    except OSError:
        return False
    if os.getsid(0) == os.getpid():  # a session of our own: else a shell's other jobs would be lifted with us
        with contextlib.suppress(OSError):  # no autogroups here
            AUTOGROUP.write_text(str(AHEAD))
    return True


def lift(pid: int, niceness: int) -> bool:
    """Put a process just started, in a session of its own, at ``niceness``, and the session with it: how a bench keeps
    what stands for hardware and for other people's computers out of its own way. False: not allowed, or gone."""
    try:
        os.setpriority(os.PRIO_PROCESS, pid, niceness)
        Path(f"/proc/{pid}/autogroup").write_text(str(niceness))
    except OSError:
        return False
    return True
