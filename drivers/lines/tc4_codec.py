"""TC4 (the thermocouple shield for Arduino, and what imitates it): commands and the answer to READ. Pure.

Text, one command per line: ``CHAN;1200`` (which inputs; answered with ``#…``), ``UNITS;C``, ``FILT;70,70,70,70``, and
``READ``, answered with ``ambient,ch1,ch2[,ch3,ch4[,heater,fan,SV]]``; an empty field is a sensor that is not there.
Outputs: ``OT1;n``, ``OT2;n``, ``IO3;n``. Source: reference/bullet-and-alog.md §7. ``PID`` and ``DCFAN`` are never sent.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from drivers.port import Control, ProtocolError

OUTPUTS = ("OT1", "OT2", "IO3")
READ = b"READ\n"
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_CHAN = re.compile(r"[0-4]{4}", re.ASCII)
_LINE_BYTES_MAX = 200


@dataclass(frozen=True, slots=True)
class Row:
    """One answer to READ. Temperatures °C by input (``ambient``, ``ch1`` …); outputs as the firmware counts them.

    ``has_outputs``: the answer carries the heater and fan columns at all; ``faults``: what was refused in it.
    """

    temps_c: dict[str, float]
    heater: float | None = None
    fan: float | None = None
    set_value_c: float | None = None
    has_outputs: bool = False
    faults: tuple[str, ...] = ()


def is_chan(text: str) -> bool:
    """Four digits 0–4: which input is shown where; at least one."""
    return _CHAN.fullmatch(text) is not None and text != "0000"


def inputs_of(chan: str) -> int:
    """How many inputs ``CHAN;…`` turns on."""
    return sum(digit != "0" for digit in chan)


def chan_line(chan: str) -> bytes:
    """Choose the inputs."""
    return f"CHAN;{chan}\n".encode("ascii")


def settings_lines(filter_percent: int) -> tuple[bytes, ...]:
    """Celsius, and the same digital filter on every input."""
    return b"UNITS;C\n", f"FILT;{','.join([str(filter_percent)] * 4)}\n".encode("ascii")


def output_line(output: str, step: int, full_scale: int) -> bytes:
    """Set an output to ``step`` percent of ``full_scale``; heat must never round up, so all round down."""
    if output not in OUTPUTS:
        raise ProtocolError(f"{output} is no output of a TC4 that is steered from here")
    return f"{output};{step * full_scale // 100}\n".encode("ascii")


def percent_of(value: float, full_scale: int) -> float:
    """An output's value as the firmware counts it → percent. The step that :func:`output_line` rounded down to this
    value comes back as itself.
    """
    if full_scale == 100 or value <= 0.0:
        return value * 100.0 / full_scale
    return float(math.ceil(value * 100.0 / full_scale - 1e-9))


def parse_row(line: bytes, inputs: int) -> Row:
    """One line that answers READ, with ``inputs`` turned on. ProtocolError where it is none."""
    if len(line) > _LINE_BYTES_MAX:
        raise ProtocolError("the answer is longer than any TC4's")
    try:
        cells = [cell.strip() for cell in line.decode("ascii").strip().split(",")]
    except UnicodeDecodeError:
        raise ProtocolError("the answer is not plain text: is the speed right?") from None
    shown = _shown_inputs(len(cells), inputs)
    faults: list[str] = []
    numbers = [_number(cell, faults) for cell in cells]
    names = ["ambient", *(f"ch{number}" for number in range(1, shown + 1))]
    temps_c: dict[str, float] = {}
    for name, value in zip(names, numbers, strict=False):
        if value is None:
            continue
        if -60.0 <= value <= 900.0:
            temps_c[name] = value
        else:
            faults.append("out_of_range")
    if len(cells) == 1 + shown:
        return Row(temps_c, faults=tuple(faults))
    heater, fan, set_value_c = numbers[1 + shown :]
    return Row(temps_c, _output(heater, faults), _output(fan, faults), set_value_c, True, tuple(faults))


def set_meaning(control: Control, before: int | None, step: int, output: str) -> str:
    """For the wire log: ``heater -40 to 30 (OT1)``; heat down always begins with ``heater -``."""
    change = f"{step - before:+d} " if before is not None else ("-? " if step == 0 else "")
    return f"{control.value} {change}to {step} ({output})"


def _shown_inputs(cells: int, inputs: int) -> int:
    """How many inputs an answer of so many cells shows: those turned on, or all four; with or without the three
    columns of the outputs.
    """
    for shown in (inputs, 4):
        if cells in (1 + shown, 1 + shown + 3):
            return shown
    raise ProtocolError(f"READ was answered with {cells} values; {inputs} inputs are on")


def _number(cell: str, faults: list[str]) -> float | None:
    if not cell:
        return None
    if not _NUMBER.fullmatch(cell):
        if cell.lower().lstrip("+-") in ("nan", "inf", "infinity", "ovf"):
            faults.append("not_finite")
            return None
        raise ProtocolError(f"READ was answered with {cell[:20]!r}, which is no number")
    value = float(cell)
    if math.isfinite(value):
        return value
    faults.append("not_finite")
    return None


def _output(value: float | None, faults: list[str]) -> float | None:
    if value is None or value >= 0.0:
        return value
    faults.append("out_of_range")
    return None
