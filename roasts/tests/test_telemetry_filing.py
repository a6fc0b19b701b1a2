"""Envelopes into roasts over the API: once each, in order or late, point by point."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kernel import clock
from kernel.models import Agent, Organization, Site
from roasts.models import Gap, Machine, Roast, RoastEvent, Sample
from roasts.telemetry import door
from roasts.tests.telemetry_senders import BEGUN, CHARGE_S, COOLED_S, DROP_S, envelope, span

pytestmark = pytest.mark.django_db


class SetClock(clock.SystemClock):
    """A wall clock that stands where it is put."""

    def __init__(self, at: dt.datetime) -> None:
        self.at = at

    def now(self) -> dt.datetime:
        return self.at


@pytest.fixture
def wall() -> Iterator[SetClock]:
    """The server's clock, at the time of the made-up roast."""
    standing = SetClock(BEGUN)
    previous = clock.install(standing)
    door.forget_senders()
    yield standing
    clock.install(previous)
    door.forget_senders()


@pytest.fixture
def machine(organization: Organization, site: Site) -> Machine:
    return Machine.objects.create(
        organization=organization, site=site, name="Far", driver_kind="bullet-r1", is_remote=True, created_at=BEGUN
    )


Send = Callable[..., Any]


@pytest.fixture
def send(machine: Machine, organization: Organization, api_by_key: Any, wall: SetClock) -> Send:
    """`send(sequence, points, **fields)`: the answer; the clock stands 1 s after the newest point."""
    bridge = Agent.objects.create(organization=organization, name="bridge", created_at=BEGUN)
    caller = api_by_key(agent=bridge, scopes=["telemetry"])

    def sent(sequence: int, points: list[dict[str, Any]], *, delay_s: float = 1.0, **fields: Any) -> Any:
        body = envelope(machine.pk, sequence, points, **fields)
        newest = dt.datetime.fromisoformat(body["at"])
        wall.at = max(wall.at, newest + dt.timedelta(seconds=delay_s))
        return caller.post("/v1/telemetry", body, format="json")

    return sent


def told(answer: Any, status: int = 201) -> dict[str, Any]:
    assert answer.status_code == status, answer.content
    return dict(json.loads(answer.content))


def whole_roast(send: Send, *, batch_s: int = 10, skip: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    """A whole roast in envelopes of ``batch_s`` seconds; those of ``skip`` are not sent but returned."""
    held = []
    for n, begin_s in enumerate(range(0, int(COOLED_S) + batch_s, batch_s), start=1):
        points = span(begin_s, begin_s + batch_s)
        if n in skip:
            held.append({"sequence": n, "points": points})
        else:
            told(send(n, points))
    return held


def test_a_whole_roast_opens_at_charge_and_closes_at_cool_end(send: Send, machine: Machine) -> None:
    whole_roast(send)
    roast = Roast.objects.get()
    assert (roast.status, roast.source, roast.close_reason) == ("finished", "telemetry", "cool_end")
    assert roast.started_at == BEGUN + dt.timedelta(seconds=CHARGE_S)
    assert roast.ended_at == BEGUN + dt.timedelta(seconds=COOLED_S)
    elapsed = list(Sample.objects.order_by("elapsed_ms").values_list("elapsed_ms", flat=True))
    assert elapsed == [1000 * n for n in range(int(COOLED_S - CHARGE_S) + 1)]
    marks = dict(RoastEvent.objects.values_list("kind", "elapsed_ms"))
    assert marks["charge"] == 0 and marks["drop"] == 1000 * (DROP_S - CHARGE_S) and "turning_point" in marks
    assert (roast.unsigned_points, roast.verified_points, roast.late_points) == (len(elapsed), 0, 0)
    assert not Gap.objects.exists()
