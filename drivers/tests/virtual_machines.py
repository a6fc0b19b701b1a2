"""Served virtual machines for tests: real processes in their own groups, always reaped.

Use as ``from drivers.tests.virtual_machines import served`` (a pytest fixture) or :func:`start_machine`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers.virtual.server import wait_until_served

ROOT = Path(__file__).resolve().parents[2]
Server = subprocess.Popen[str]


def start_machine(socket_path: Path, *arguments: str) -> Server:
    """A machine process serving ``socket_path``; the caller ends it with :func:`end_process`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "drivers.virtual.server", "--socket", str(socket_path), *arguments],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        wait_until_served(socket_path)
    except TimeoutError:
        end_process(process)
        raise
    return process


def end_process(process: subprocess.Popen[str]) -> int:
    """End it kindly, then not; returns its exit code."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)
    for stream in (process.stdout, process.stderr):
        if stream:
            stream.close()
    return process.returncode


@pytest.fixture
def served() -> Iterator[Callable[..., Path]]:
    """``served(*arguments) -> socket path`` of a machine that lives until the test ends."""
    folder = Path(tempfile.mkdtemp(prefix="roastops-"))  # short: socket paths have no room
    running: list[Server] = []

    def serve(*arguments: str) -> Path:
        path = folder / f"machine{len(running)}.sock"
        running.append(start_machine(path, *arguments))
        return path

    try:
        yield serve
    finally:
        for process in running:
            end_process(process)
        shutil.rmtree(folder, ignore_errors=True)
