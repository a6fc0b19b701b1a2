"""A process that takes a stream over at any moment knows, to the bit, what the one before it knew."""

from __future__ import annotations

import datetime as dt
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel import keys
from kernel.models import Agent
from roasts import services as roast_services
from roasts.models import Machine, Roast, Sample, StreamWatch
from roasts.recording.recorder import OpenState, RecorderState
from roasts.telemetry import door, resuming, services, stream_state
from roasts.telemetry.following import StreamState
from roasts.tests.telemetry_senders import BEGUN, COOLED_S, envelope, point, span
from roasts.tests.test_telemetry_filing import Send, SetClock, machine, other, rows, send, told, wall
from roasts.tests.test_telemetry_following import Stream

__all__ = ["machine", "other", "send", "wall"]  # fixtures
pytestmark = pytest.mark.django_db


def noisy(seed: int, *, every_s: float = 1.0, is_stated: bool = True) -> list[dict[str, Any]]:
    """Points of a made-up roast with what life adds: noise, stale values, missing ones, steps of the heater, holes."""
    chance = random.Random(seed)
    points, seconds, heater = [], 0.0, 9
    while seconds < COOLED_S + 10:
        heater = max(1, heater - 1) if chance.random() < 0.03 else heater
        more: dict[str, Any] = {
            "heater_step": heater,
            "roast_clock_s": round(seconds) if chance.random() < 0.3 else None,
        }
        if not is_stated:
            more |= {"state": None}
        if chance.random() < 0.1:
            more |= {"quality": {chance.choice(("bean_temp_c", "heater_step", "infrared_temp_c")): "stale"}}
        if chance.random() < 0.03:
            more |= {"bean_temp_c": None}
        one = point(round(seconds, 1), **more)
        if "bean_temp_c" in one:
            one["bean_temp_c"] = round(one["bean_temp_c"] + chance.uniform(-0.3, 0.3), 2)
        points.append(one)
        seconds += every_s * (1 if chance.random() < 0.99 else chance.choice((4, 9)))
    return points


def batches(seed: int, points: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Cut into envelopes of some seconds."""
    chance, cut, begin = random.Random(seed + 1), [], 0
    while begin < len(points):
        cut.append(points[begin : begin + chance.randint(3, 12)])
        begin += len(cut[-1])
    return cut


def read_whole(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The machines whose whole roast is read again, from now on."""
    asked: list[str] = []
    real = roast_services.resume_state

    def noted(machine_id: str) -> tuple[str, RecorderState]:
        asked.append(machine_id)
        return real(machine_id)

    monkeypatch.setattr(roast_services, "resume_state", noted)
    return asked


def known(streams: services._Streams, machine: Machine) -> tuple[Any, ...]:
    """All that a process knows of a machine's stream that matters, but the roast's name."""
    state = streams._kept[machine.pk].state
    recording = state.recording
    without = (state.word, state.is_stated, state.is_counted, state.interval_ms, state.missing, bool(state.roast_id))
    rate = None if recording.roast is None else recording.rate.kept()  # it begins anew at charge
    return recording, rate, without


@pytest.mark.parametrize(("seed", "is_stated"), [(1, True), (3, False)])
def test_another_process_at_every_envelope_knows_the_same(
    send: Send, machine: Machine, other: Machine, monkeypatch: pytest.MonkeyPatch, seed: int, is_stated: bool
) -> None:
    stays, order = services._Streams(), list(enumerate(batches(seed, noisy(seed, is_stated=is_stated)), start=1))
    late = order.pop(len(order) // 2)  # comes after those that follow it
    order.insert(len(order) // 2 + 4, late)
    for n, points in order:
        monkeypatch.setattr(services, "_streams", stays)
        told(send(n, points))
        changes = services._Streams()
        monkeypatch.setattr(services, "_streams", changes)
        told(send(n, points, to=other))
        assert known(changes, other) == known(stays, machine)
    assert rows(other) == rows(machine)
    rates = [
        list(Sample.objects.filter(roast__machine=each).order_by("elapsed_ms").values_list("rate_of_rise_c_per_min"))
        for each in (machine, other)
    ]
    assert rates[0] == rates[1], "to the bit"
    assert not is_stated or Roast.objects.get(machine=other).ended_at is not None


def test_a_roast_is_not_read_again_from_its_beginning(
    send: Send, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = read_whole(monkeypatch)
    for n, points in enumerate(batches(5, noisy(5)), start=1):
        monkeypatch.setattr(services, "_streams", services._Streams())
        told(send(n, points))
        if points[-1]["device_ms"] > 120_000:
            break
    assert asked == [] and StreamWatch.objects.get(machine=machine).elapsed_ms > 80_000


@pytest.mark.parametrize("spoil", ["gone", "unreadable", "of another beginning", "of another roast"])
def test_without_a_watch_that_fits_all_of_the_roast_is_read(
    send: Send, machine: Machine, other: Machine, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    order = batches(6, noisy(6))[:24]
    stays = services._Streams()
    for n, points in enumerate(order[:18], start=1):
        monkeypatch.setattr(services, "_streams", stays)
        told(send(n, points))
        told(send(n, points, to=other))
    watch = StreamWatch.objects.get(machine=other)
    if spoil == "gone":
        watch.delete()
    elif spoil == "unreadable":
        StreamWatch.objects.filter(pk=other.pk).update(content="{")
    elif spoil == "of another beginning":
        content = json.loads(watch.content)
        StreamWatch.objects.filter(pk=other.pk).update(content=json.dumps({**content, "offset_ms": 5}))
    else:
        StreamWatch.objects.filter(pk=other.pk).update(roast_id="rst_another")
    asked = read_whole(monkeypatch)
    monkeypatch.setattr(services, "_streams", services._Streams())
    for n, points in enumerate(order[18:], start=19):
        told(send(n, points, to=other))
    assert asked == [other.pk]
    monkeypatch.setattr(services, "_streams", stays)
    for n, points in enumerate(order[18:], start=19):
        told(send(n, points))
    assert rows(other) == rows(machine)


def test_a_watch_is_written_now_and_then_and_goes_with_its_roast(send: Send, machine: Machine) -> None:
    seen = []
    for n, points in enumerate(batches(7, noisy(7))[:30], start=1):
        told(send(n, points))
        found = StreamWatch.objects.filter(machine=machine).values_list("elapsed_ms", flat=True).first()
        newest = services._streams._kept[machine.pk].state.recording.elapsed_ms
        if newest is not None:
            assert found is not None and newest - found < resuming.WATCH_EVERY_MS
            seen.append(found)
        else:
            assert found is None
    assert 5 <= len(set(seen)) < len(seen) * 0.8, "not with every envelope"


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), is_stated=st.booleans(), fast=st.booleans(), cut=st.integers(1, 60))
def test_a_watch_read_back_is_what_was_written(seed: int, is_stated: bool, fast: bool, cut: int) -> None:
    stream = Stream()
    for points in batches(seed, noisy(seed, every_s=0.5 if fast else 1.0, is_stated=is_stated))[:cut]:
        stream.send(points)
    recording = stream.state.recording
    if recording.roast is None:
        assert resuming.watch_of(stream.state) is None
        return
    text = resuming.watch_of(stream.state).content  # type: ignore[union-attr]
    row = stream_state.decode(json.loads(json.dumps(stream_state.encode(stream.state))))
    back = stream_state.decode_watch(json.loads(text), row.recording)
    assert back == recording and back.rate.kept() == recording.rate.kept()


@pytest.mark.parametrize(
    "data", [{}, [], None, {"version": 1}, {"version": 2, "offset_ms": 0}, {"version": 1, "offset_ms": 0}]
)
def test_what_is_no_watch_is_unreadable(data: Any) -> None:
    with pytest.raises(stream_state.UnreadableState):
        stream_state.decode_watch(data, RecorderState())


def test_what_this_process_does_not_know_is_left_for_later_and_nothing_else(
    machine: Machine, wall: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = Agent.objects.create(organization=machine.organization, name="bridge", created_at=BEGUN)
    _key, plain = keys.create_key(machine.organization, agent=bridge, scopes=["telemetry"], now=BEGUN)

    def begun(n: int, *, key: str = plain) -> door.Answer | door.Later:
        body = envelope(machine.pk, n, span(10 * n, 10 * n + 10))
        wall.at = max(wall.at, dt.datetime.fromisoformat(body["at"]))
        return door.begin(f"Bearer {key}", door.JSON, json.dumps(body).encode())

    def later(begun: door.Answer | door.Later) -> door.Answer:
        assert not isinstance(begun, door.Answer)
        return begun()

    assert later(begun(1)).status == 201, "the key is not known yet"
    at_once = begun(2)
    assert isinstance(at_once, door.Answer) and at_once.status == 201
    assert later(begun(2)).headers == (("Idempotent-Replay", "true"),)
    monkeypatch.setattr(services, "_streams", services._Streams())
    assert later(begun(3)).status == 201, "the stream is another process's"
    assert later(begun(4, key="ro_nobody_knows")).status == 401
    nobody = door.begin("", door.JSON, b"{}")
    assert isinstance(nobody, door.Answer) and nobody.status == 401


def test_roasts_charged_together_do_not_write_their_watches_together() -> None:
    def due_within_five_seconds(elapsed_ms: int) -> int:
        fine = RecorderState(roast=OpenState(offset_ms=0, last_elapsed_ms=elapsed_ms))
        states = [StreamState(recording=fine, roast_id=f"rst_{n}") for n in range(400)]
        return sum(resuming.is_due(each, elapsed_ms - 5_000) for each in states)

    for elapsed_ms in range(100_000, 120_000, 5_000):
        assert 60 <= due_within_five_seconds(elapsed_ms) <= 140, "a quarter of them, at any time"
