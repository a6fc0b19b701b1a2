"""Noise against all that reads a Bullet's bytes: a short run here, ten million by `manage.py fuzzcodecs`."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from drivers import fuzzing
from drivers.fuzzing import Broken, FuzzFigures, Noise, fuzz
from drivers.virtual.firmware_r2 import FirmwareR2


def test_twenty_thousand_strings_raise_nothing_but_protocol_errors_and_move_nothing() -> None:
    figures = fuzz(20_000, seed=20_260)
    assert figures.inputs >= 20_000
    named = {name.partition(":")[0] for name in figures.outcomes}
    assert {"r1", "r1 info", "r2", "read", "machine"} <= named
    assert figures.outcomes["r2: decoded"] > 1000 and figures.outcomes["r1: decoded"] > 100
    assert figures.outcomes["r2: protocol_error"] > 1000 and figures.readings > 10


def test_the_same_seed_gives_the_same_digest_and_another_another() -> None:
    assert fuzz(2000, seed=3).digest == fuzz(2000, seed=3).digest != fuzz(2000, seed=4).digest


def test_another_exception_is_found() -> None:
    def broken(data: bytes) -> None:
        raise IndexError(data[0])

    with pytest.raises(Broken, match="IndexError"):
        fuzzing._caught(FuzzFigures(), "codec", broken, b"\x01\x02")


def test_a_machine_that_moves_for_nonsense_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A firmware that tests no checksum takes a command with a spoiled one: the fuzz must see it."""
    careless = drivers_r2_settings(checks_crc=False)
    targets = fuzzing._Targets(seed=1)
    machine = FirmwareR2(careless, seed=1, initial_state="roasting")
    targets._machines = [(machine, targets._machines[1][1])]
    targets._orders = [Noise(5, sorted(targets._machines[0][1]))]
    with pytest.raises(Broken, match="moved"):
        targets._feed_machines(20_000, FuzzFigures())


def test_the_command_prints_figure_rate_and_digest() -> None:
    out = io.StringIO()
    call_command("fuzzcodecs", "--frames", "2000", "--seed", "3", stdout=out)
    assert fuzz(2000, seed=3).digest in out.getvalue()
    assert "nothing raised but ProtocolError, no control moved" in out.getvalue() and "/s)" in out.getvalue()
    with pytest.raises(CommandError, match="--frames"):
        call_command("fuzzcodecs", "--frames", "0")


def drivers_r2_settings(**options: Any) -> Any:
    from drivers.virtual.settings import R2Settings

    return R2Settings(**options)
