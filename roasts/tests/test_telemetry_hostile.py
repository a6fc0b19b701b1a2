"""Envelopes that mean harm, or come from a broken sender: each is answered in words, none stops the stream."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from roasts.models import Machine, Roast, Sample
from roasts.telemetry import envelope as reading
from roasts.tests.telemetry_senders import BEGUN, envelope, point, span, text
from roasts.tests.test_telemetry_filing import Send, machine, send, told, wall  # noqa: F401

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("word", [[], {}, ["stale"], {"stale": 1}, 7, None, True])
def test_a_quality_that_is_no_word_refuses_its_point_alone(word: Any) -> None:
    body = envelope("mac", 1, [point(1.0, quality={"bean_temp_c": word}), point(2.0)])
    seen = reading.read(body, received_at=BEGUN + dt.timedelta(minutes=1))
    assert ([each.code for each in seen.refused_points], len(seen.points)) == (["bad_quality"], 1)


@pytest.mark.parametrize("jump_ms", [2**31, 2**40, 2**52])
def test_device_time_that_jumps_past_all_rows_does_not_stop_the_stream(send: Send, jump_ms: int) -> None:  # noqa: F811
    told(send(1, span(0, 20)))
    told(send(2, [point(20.0, device_ms=20_000 + jump_ms), point(21.0, device_ms=21_000 + jump_ms)]))
    told(send(3, span(22, 30)))
    assert Sample.objects.exists()


def test_a_roast_left_open_for_a_month_does_not_stop_the_stream(send: Send) -> None:  # noqa: F811
    def timeless(from_s: float, to_s: float) -> list[dict[str, Any]]:
        return span(from_s, to_s, device_ms=None)

    told(send(1, timeless(0, 20)))
    month_s = 30 * 86_400
    later = [{**each, "at": text(BEGUN + dt.timedelta(seconds=month_s + n))} for n, each in enumerate(timeless(20, 25))]
    told(send(2, later))


def test_text_that_no_database_takes_is_refused_in_words(send: Send) -> None:  # noqa: F811
    nasty = [
        point(1.0, **{"\0x": 1}), point(2.0, extras={"a": "\0"}), point(3.0, state="\0"),
        {"at": "\0" * 20, "bean_temp_c": 1.0}, point(4.0),
    ]  # fmt: skip
    answer = told(send(1, nasty))
    assert (answer["points_refused"], len(answer["refused"])) == (4, 4)


def test_elapsed_time_far_before_the_roast_is_no_error(send: Send, machine: Machine) -> None:  # noqa: F811
    told(send(1, span(0, 60)))
    told(send(3, [{**point(70.0), "device_ms": 0}], at=text(BEGUN + dt.timedelta(seconds=70))))
    told(send(4, span(71, 75)))
    told(send(2, [{**point(30.5), "device_ms": 2**50}]))


@pytest.mark.parametrize("device_ms", [0, 2**45])
@pytest.mark.parametrize("kind", ["charge", "first_crack_start", "drop", "cool_end"])
def test_an_event_with_a_device_time_from_nowhere_does_not_stop_the_stream(
    send: Send,  # noqa: F811
    kind: str,
    device_ms: int,
) -> None:
    def silent(from_s: float, to_s: float) -> list[dict[str, Any]]:
        return [point(s, state=None, device_ms=2**40 + s * 1000) for s in range(int(from_s), int(to_s))]

    begun = [{"kind": "charge", "at": text(BEGUN + dt.timedelta(seconds=10)), "device_ms": 2**40 + 10_000}]
    told(send(1, silent(0, 20), events=begun))
    odd = [{"kind": kind, "at": text(BEGUN + dt.timedelta(seconds=150)), "device_ms": device_ms}]
    told(send(2, silent(140, 160), events=odd))
    told(send(3, silent(160, 170)))


@pytest.mark.parametrize("kind", ["charge", "drop"])
def test_an_event_of_another_year_does_not_stop_the_stream(send: Send, kind: str) -> None:  # noqa: F811
    old = [{"kind": kind, "at": "2001-01-01T00:00:00.000Z"}]
    told(send(1, span(0, 20, state=None), events=old))
    told(send(2, span(20, 40, state=None), events=old))
    told(send(3, span(40, 60, state=None)))


def test_a_late_point_with_a_device_time_from_nowhere_is_placed_by_its_own_time(send: Send) -> None:  # noqa: F811
    told(send(1, span(0, 350)))
    told(send(2, span(380, 390)))
    told(send(3, [{**point(385.5), "device_ms": 2**50}]))
    told(send(4, [{**point(355.0), "device_ms": 2**50}]))


def test_a_roast_left_open_is_closed_as_of_its_last_point_and_the_next_is_recorded(send: Send) -> None:  # noqa: F811
    told(send(1, span(0, 60)))
    days_s = 4 * 86_400
    told(send(2, [{**point(61.0 + n), "at": text(BEGUN + dt.timedelta(seconds=days_s + n)),
                   "device_ms": days_s * 1000 + n * 1000} for n in range(5)]))  # fmt: skip
    first, second = Roast.objects.order_by("started_at")
    assert (first.status, first.ended_at) == ("aborted", BEGUN + dt.timedelta(seconds=59))
    assert second.status != "aborted" and Sample.objects.filter(roast=second).count() == 5
