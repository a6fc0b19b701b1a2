"""What the benches read their figures from: the machine's own log, the viewers' frames, orders that do not collide."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from kernel import clock
from roastops.benches import crowd, propose_rate
from roastops.benches.wire_tail import WireTail


def entry(second: int, direction: str, data_hex: str) -> str:
    return json.dumps({"wall": f"2026-11-21T10:00:{second:02d}.250+00:00", "dir": direction, "hex": data_hex}) + "\n"


def test_bytes_are_counted_from_the_machines_log_since_it_was_skipped(tmp_path: Path) -> None:
    log = tmp_path / "wire.jsonl"
    log.write_text(entry(1, "out", "3402aaaa"))
    tail = WireTail(log)
    tail.skip()
    assert tail.moments("3402aaaa") == []
    with log.open("a") as stream:
        stream.write(entry(2, "in", "3402aaaa") + entry(3, "out", "3101aaaa") + entry(4, "out", "3402aaaa"))
        stream.write(entry(5, "out", "3402aaaa").rstrip("\n"))  # not whole yet
    assert tail.moments("3402aaaa") == [dt.datetime(2026, 11, 21, 10, 0, 4, 250_000, dt.UTC)]
    assert len(tail.moments("3402aaaa", "3101aaaa")) == 2


def test_a_reading_is_as_late_as_its_own_time_says() -> None:
    seen, at = crowd.Crowd(is_counting=True), clock.now() - dt.timedelta(seconds=2)
    text = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    crowd._note(seen, b"reading", f'data: {{"machine_id":"m","at":"{text}","state":"roasting"}}\n'.encode())
    crowd._note(seen, b"reading", b'data: {"machine_id":"m","link":"down"}\n')
    crowd._note(seen, b"decision", b'data: {"number":1}\n')
    assert seen.late_ms == [pytest.approx(2000, abs=1900)] and seen.late_ms[0] >= 1999
    assert seen.decisions == 1


def test_no_two_proposals_of_the_rate_are_for_the_same_control() -> None:
    machines = [f"mch_{number}" for number in range(101)]
    orders = [json.loads(propose_rate._order(machines, number)) for number in range(300)]
    assert len({(order["machine_id"], order["order_type"]) for order in orders}) == 300
    too_long = [order for order in orders if order["target_value"] < 4]
    assert len(too_long) == 75
