# ruff: noqa: F811 - pytest fixtures are imported by name
"""Recorded roasts on the wire: five real logs arrive to the last bit the wire can hold."""

from __future__ import annotations

import ast
import json
import math
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import drivers.virtual
from drivers.tests.test_virtual_heat import LOGS, some_logs
from drivers.tests.test_virtual_usb import asked, opened
from drivers.tests.virtual_machines import ROOT, end_process, served  # noqa: F401 - a fixture
from drivers.virtual.clocks import ManualClock
from drivers.virtual.panel import Panel
from drivers.virtual.replay import MAX_FILE_BYTES, UnreadableLog, expected_rows, read_log
from drivers.virtual.server import wait_until_served

HEADER = "'mode': 'C', 'timeindex': [0], "


@pytest.mark.parametrize("place", range(5))
def test_every_row_of_a_real_log_is_on_the_wire(place: int) -> None:
    """Compared with the file itself, parsed here again, not through the replay's own rows."""
    path = some_logs(8)[place]
    log = ast.literal_eval(path.read_text(encoding="utf-8"))
    first, second = log["extratemp1"], log["extratemp2"]
    assert log["extradevices"] == [84, 85, 86, 87]
    clock = ManualClock()
    device = opened(drivers.virtual.backend(seed=1, clock=clock, replay=path))
    for i, at_s in enumerate(log["timex"]):
        clock.advance(at_s + 0.11 - clock.monotonic())
        frame = asked(device)
        infrared_c, rate, probe_c, _, exhaust_c = struct.unpack_from("<5f", frame, 0)
        for wire, logged in ((infrared_c, log["temp1"][i]), (probe_c, log["temp2"][i]), (exhaust_c, second[2][i])):
            assert round(wire, 1) == logged or (logged == -1 and math.isnan(wire))
        assert round(rate, 1) == first[1][i]
        assert (frame[27] * 10, frame[26] * 10, frame[28] * 10) == (first[0][i], second[0][i], second[1][i])
        assert frame[29] == first[3][i]
        assert struct.unpack_from("<h", frame, 48)[0] == first[2][i]
        assert struct.unpack_from("<h", frame, 44)[0] == second[3][i]
    clock.advance(11)
    assert asked(device)[29] == 0  # off after the end


def test_a_row_is_held_until_the_next_one_is_due(tmp_path) -> None:
    path = made(tmp_path, "'timex': [0.5, 1.5, 4.0], 'temp1': [200.0, 201.0, 202.0], 'temp2': [100.0, -1, 102.0]")
    clock = ManualClock()
    device = opened(drivers.virtual.backend(seed=1, clock=clock, replay=path))
    seen = []
    for at_s in (0.0, 1.4, 1.6, 3.8, 4.1, 9.0):
        clock.advance(at_s - clock.monotonic())
        seen.append(struct.unpack_from("<3f", asked(device), 0)[::2])
    assert [s[0] for s in seen] == [200, 200, 201, 201, 202, 202]
    assert seen[0][1] == 100 and math.isnan(seen[2][1]) and seen[5][1] == 102


def test_orders_are_heard_and_move_nothing(tmp_path) -> None:
    path = made(tmp_path, "'timex': [0, 1], 'temp1': [20, 20], 'temp2': [20, 20], 'extradevices': [84, 87], "
                "'extratemp1': [[70, 70], [6, 6]], 'extratemp2': [[20, 20], [900, 900]]")  # fmt: skip
    backend = drivers.virtual.backend(seed=1, clock=ManualClock(), replay=path)
    device = opened(backend)
    for command in (b"\x34\x02\xaa\xaa", b"\x31\x01\xaa\xaa", b"\x32\x01\x02\x00", b"\x30\x01\x00\x00"):
        device.write(3, command)
    frame = asked(device)
    assert (frame[27], frame[26], frame[29]) == (7, 2, 6)
    assert len(backend.machine.wire.entries(directions=frozenset({"out"}))) == 5
    device.write(3, b"\x89\x01")
    assert len(device.read(0x81, 36)) == 36


def test_fahrenheit_logs_become_celsius_and_the_other_map_swaps_the_sensors(tmp_path) -> None:
    path = tmp_path / "f.alog"
    path.write_text("{'mode': 'F', 'timex': [0, 1], 'temp1': [392.0, 392.0], 'temp2': [212.0, -1]}", encoding="utf-8")
    assert expected_rows(path)[0].infrared_temp_c == 200 and math.isnan(expected_rows(path)[1].probe_temp_c)
    device = opened(drivers.virtual.backend(seed=1, clock=ManualClock(), replay=path, settings="sensor_map=probe_a"))
    assert struct.unpack_from("<3f", asked(device), 0)[::2] == (100, 200)


def made(folder: Path, body: str) -> Path:
    path = folder / "made.alog"
    path.write_text("{" + HEADER + body + "}", encoding="utf-8")
    return path


def test_json_logs_are_read_too(tmp_path) -> None:
    path = tmp_path / "kaleido.alog"
    log = {"mode": "C", "timex": [0, 1], "temp1": [1.5, 2], "temp2": [3, 4], "flavors_total": False, "x": None}
    path.write_text(json.dumps(log), encoding="utf-8")
    assert expected_rows(path)[0].infrared_temp_c == 1.5


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "{'timex': __import__('os').system('true')}", "{" + "-" * 100_000 + "1}", "{'a': " + "(" * 5000,
     "{'timex': [1], 'temp1': [1]}", "{'timex': [2, 1], 'temp1': [1, 1], 'temp2': [1, 1]}", "{'timex': 3}",
     "{'timex': [nan], 'temp1': [1], 'temp2': [2]}", "{'timex': [None, 1], 'temp1': [1, 2], 'temp2': [2, 3]}",
     "{'timex': [], 'temp1': [], 'temp2': []}", "{1, 2}"],
    ids=range(13),
)  # fmt: skip
def test_hostile_or_broken_logs_are_refused_in_words(tmp_path, text: str) -> None:
    path = tmp_path / "bad.alog"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UnreadableLog):
        expected_rows(path)


def test_a_huge_log_is_refused_before_it_is_read(tmp_path) -> None:
    path = tmp_path / "huge.alog"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(UnreadableLog, match="more than"):
        read_log(path)


def test_a_log_is_served_by_the_process_at_its_own_pace(served) -> None:
    path = served("--replay", str(some_logs(40)[0]), "--speed", "50")
    rows = expected_rows(LOGS / some_logs(40)[0].name)
    device = opened(drivers.virtual.socket_backend(path))
    with Panel(path) as panel:
        frame, at_s = asked(device), panel.status()["device_s"]
    probe_c = struct.unpack_from("<f", frame, 8)[0]
    near = [row.probe_temp_c for row in rows if at_s - 5 < row.at_s <= at_s + 1] or [rows[0].probe_temp_c]
    assert any(abs(probe_c - each) < 1e-3 for each in near)


def test_the_management_command_replays_a_log_and_ends_with_zero(tmp_path) -> None:
    path = Path(tempfile.mkdtemp(prefix="roastops-")) / "replay.sock"
    log = made(tmp_path, "'timex': [0, 1], 'temp1': [200, 201], 'temp2': [100, 101]")
    process = subprocess.Popen(
        [sys.executable, "manage.py", "virtualroaster", "--serve", str(path), "--replay", str(log), "--speed", "2"],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        wait_until_served(path, 30)
        with Panel(path) as panel:
            assert panel.status()["infrared_temp_c"] in (200, 201)
        assert end_process(process) == 0
    finally:
        end_process(process)
        path.unlink(missing_ok=True)
        path.parent.rmdir()


def test_a_full_disk_ends_the_wire_log_but_not_the_machine(capsys) -> None:
    device = opened(drivers.virtual.backend(seed=1, wire_log="/dev/full"))
    assert len(asked(device)) == 64
    assert "wire log ends here" in capsys.readouterr().err
