"""A bridge's queue on disk: in order, nothing lost, whatever dies at whatever byte."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from drivers import bridge
from drivers.bridge import ACKNOWLEDGED_NAME, QUEUE_NAME, BadQueue, Queue, QueueFull, Sealed, wait_s


def sealed(sequence: int, points: int = 3, filler: int = 0) -> Sealed:
    return Sealed(sequence, f"digest {sequence}", points, json.dumps({"points": [sequence], "filler": "x" * filler}))


def filled(folder: Path, count: int, **more: object) -> Queue:
    queue = Queue(folder, "mch_a", **more)  # type: ignore[arg-type]
    for sequence in range(1, count + 1):
        queue.append(sealed(sequence))
    return queue


def drained(queue: Queue) -> list[int]:
    found = []
    while (oldest := queue.oldest()) is not None:
        found.append(oldest.sequence)
        queue.acknowledge(oldest.sequence)
    return found


def test_what_is_queued_comes_out_in_order_and_stays_until_it_is_acknowledged(tmp_path: Path) -> None:
    queue = filled(tmp_path, 5)
    assert (queue.waiting, queue.waiting_points, queue.last_sequence) == (5, 15, 5)
    assert queue.oldest() == queue.oldest() == sealed(1)
    assert drained(queue) == [1, 2, 3, 4, 5] and queue.oldest() is None and queue.waiting_points == 0


@pytest.mark.parametrize("acknowledged", [0, 1, 4, 5])
def test_a_new_start_goes_on_where_the_old_one_was(tmp_path: Path, acknowledged: int) -> None:
    queue = filled(tmp_path, 5)
    for sequence in range(1, acknowledged + 1):
        queue.acknowledge(sequence)
    again = Queue(tmp_path, "mch_a")
    assert (again.last_sequence, again.last_digest, again.waiting) == (5, "digest 5", 5 - acknowledged)
    assert drained(again) == list(range(acknowledged + 1, 6))


def test_a_line_torn_at_any_byte_is_cut_off_and_its_sequence_is_free_again(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    raw = (tmp_path / QUEUE_NAME).read_bytes()
    two = raw.rindex(b"\n", 0, len(raw) - 1) + 1
    for end in range(two, len(raw)):
        (tmp_path / QUEUE_NAME).write_bytes(raw[:end])
        again = Queue(tmp_path, "mch_a")
        assert (again.last_sequence, again.last_digest, again.waiting) == (2, "digest 2", 2), end
        again.append(sealed(3))
        assert drained(Queue(tmp_path, "mch_a")) == [1, 2, 3]
        (tmp_path / ACKNOWLEDGED_NAME).unlink()


def test_a_file_that_is_all_acknowledged_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "BEGIN_ANEW_BYTES", 200)
    queue = filled(tmp_path, 4)
    drained(queue)
    assert not (tmp_path / QUEUE_NAME).exists()
    assert Queue(tmp_path, "mch_a").last_sequence == 4
    queue.append(sealed(5))
    assert drained(Queue(tmp_path, "mch_a")) == [5]


def test_a_death_between_the_note_and_beginning_anew_sends_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "BEGIN_ANEW_BYTES", 200)
    queue = filled(tmp_path, 4)
    monkeypatch.setattr(Path, "unlink", lambda _path: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        drained(queue)
    monkeypatch.undo()
    again = Queue(tmp_path, "mch_a")
    assert (again.waiting, again.last_sequence) == (0, 4)
    again.append(sealed(5))
    assert drained(Queue(tmp_path, "mch_a")) == [5]


def test_a_full_queue_takes_nothing_new_and_keeps_what_it_has(tmp_path: Path) -> None:
    queue = filled(tmp_path, 1)
    size = (tmp_path / QUEUE_NAME).stat().st_size
    bounded = Queue(tmp_path, "mch_a", bytes_max=2 * size)
    bounded.append(sealed(2))
    with pytest.raises(QueueFull):
        bounded.append(sealed(3))
    bounded.acknowledge(1)
    bounded.append(sealed(3))
    assert drained(bounded) == [2, 3]
    assert queue.last_sequence == 1


def test_a_line_past_all_bounds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QueueFull):
        Queue(tmp_path, "mch_a").append(sealed(1, filler=bridge.LINE_BYTES_MAX))


def test_only_the_oldest_is_acknowledged(tmp_path: Path) -> None:
    queue = filled(tmp_path, 3)
    for sequence in (2, 3, 0, 4):
        with pytest.raises(ValueError, match="not the oldest"):
            queue.acknowledge(sequence)
    assert drained(queue) == [1, 2, 3]


def test_a_queue_of_another_machine_and_nonsense_are_refused(tmp_path: Path) -> None:
    drained(filled(tmp_path, 1))
    with pytest.raises(BadQueue, match="queue of mch_a"):
        Queue(tmp_path, "mch_b")
    (tmp_path / ACKNOWLEDGED_NAME).write_text("{")
    with pytest.raises(BadQueue, match="not readable"):
        Queue(tmp_path, "mch_a")


def test_what_waits_can_be_sealed_anew_behind_what_the_other_side_has(tmp_path: Path) -> None:
    queue = filled(tmp_path, 3)
    queue.acknowledge(1)

    def seal(body: str, sequence: int, previous: str) -> Sealed:
        return Sealed(sequence, f"{previous}>{sequence}", 3, body)

    assert queue.renumber(40, "there", seal) == 2
    assert (queue.last_sequence, queue.last_digest) == (42, "there>41>42")
    again = Queue(tmp_path, "mch_a")
    first = again.oldest()
    assert first is not None and (first.sequence, first.digest, first.body) == (41, "there>41", sealed(2).body)
    again.append(sealed(43))
    assert drained(again) == [41, 42, 43]


@pytest.mark.parametrize("does_sync", [True, False])
def test_a_line_reaches_the_disk_before_it_may_be_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does_sync: bool
) -> None:
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(handle), real(handle)))
    Queue(tmp_path, "mch_a", does_sync=does_sync).append(sealed(1))
    assert bool(synced) is does_sync


def test_the_queue_is_its_owners_alone(tmp_path: Path) -> None:
    queue = filled(tmp_path / "deep" / "queue", 2)
    queue.acknowledge(1)
    for name in (QUEUE_NAME, ACKNOWLEDGED_NAME):
        assert (tmp_path / "deep" / "queue" / name).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("seed", range(12))
def test_any_mixture_of_work_and_deaths_sends_every_sequence_once_and_in_order(tmp_path: Path, seed: int) -> None:
    """A death is a new Queue on the files, now and then with a torn line; what was sent is what was acknowledged."""
    chance = random.Random(seed)
    queue, made, sent = Queue(tmp_path, "mch_a"), 0, []
    for _ in range(300):
        act = chance.random()
        if act < 0.45:
            made = queue.last_sequence + 1
            queue.append(sealed(made, filler=chance.randrange(50)))
        elif act < 0.85:
            oldest = queue.oldest()
            if oldest is not None:
                queue.acknowledge(oldest.sequence)
                sent.append(oldest.sequence)
        else:
            if act > 0.95 and (tmp_path / QUEUE_NAME).exists():
                with (tmp_path / QUEUE_NAME).open("ab") as stream:
                    stream.write(b'{"sequence": 9')
            queue = Queue(tmp_path, "mch_a")
            assert queue.last_sequence == made
    sent += drained(queue)
    assert sent == list(range(1, made + 1))


def test_waiting_doubles_and_is_bounded() -> None:
    waits = [wait_s(failures) for failures in range(1, 12)]
    assert waits[:4] == [0.2, 0.4, 0.8, 1.6] and waits[-1] == bridge.LONGEST_WAIT_S and waits == sorted(waits)
    assert wait_s(10**9) == bridge.LONGEST_WAIT_S and wait_s(0) == bridge.FIRST_WAIT_S
