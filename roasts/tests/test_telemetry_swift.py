"""The one statement writes what the long way writes, and nothing where anything moved. PostgreSQL."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from kernel import clock
from kernel.models import Agent, ApiKey
from roasts.models import DeviceKey, Machine, MachineReading, Roast, Sample, TelemetryBatch, TelemetryPolicy
from roasts.telemetry import door, services, swift
from roasts.tests.telemetry_senders import COOLED_S, span
from roasts.tests.test_telemetry_filing import Send, machine, other, rows, send, told, wall, whole_roast
from roasts.tests.test_telemetry_keys import Signer, key, signer

__all__ = ["key", "machine", "other", "send", "signer", "wall"]  # fixtures
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="NOT RUN: the embedded database has no such way"),
]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """What each one-statement try came to."""
    outcomes: list[bool] = []
    real = swift.write
    monkeypatch.setattr(swift, "write", lambda *arguments: outcomes.append(real(*arguments)) or outcomes[-1])
    yield outcomes


#: All that is shown of a machine's newest reading, but whose it is and when it was written.
SHOWN = sorted({field.attname for field in MachineReading._meta.concrete_fields} - {"machine_id", "written_at"})


def counted(machine: Machine) -> list[Any]:
    batches = TelemetryBatch.objects.filter(machine=machine).order_by("sequence")
    names = ("verified_points", "unsigned_points", "failed_points", "late_points")
    return [
        *batches.values_list("sequence", "at", "verdict", "verdict_reason", "points_filed", "points_refused"),
        *Roast.objects.filter(machine=machine).values_list(*names),
        *MachineReading.objects.filter(machine=machine).values_list(*SHOWN),
    ]


def test_the_same_rows_either_way(
    send: Send, machine: Machine, other: Machine, written: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = {"quality": {"fan_step": "stale"}, "extras": {'a "quoted\\ word': "é,{}", "n": 1.5}, "roast_clock_s": 5}
    real = services._is_next
    monkeypatch.setattr(
        services, "_is_next", lambda known, house, new: new.machine_id == machine.pk and real(known, house, new)
    )
    for begin_s in range(0, int(COOLED_S) + 10, 10):
        air = {"environment_temp_c": 200.0 + begin_s, "ambient_temp_c": 20.0 + begin_s / 100}
        for each in (machine, other):
            told(send(begin_s // 10 + 1, span(begin_s, begin_s + 10, **odd, **air), to=each))
    assert written.count(True) > 20 and False not in written
    assert rows(machine) == rows(other) and counted(machine) == counted(other)
    rates = [
        list(Sample.objects.filter(roast__machine=each).order_by("elapsed_ms").values_list("rate_of_rise_c_per_min"))
        for each in (machine, other)
    ]
    assert rates[0] == rates[1]


def test_two_processes_that_take_turns_never_write_over_each_other(
    send: Send, machine: Machine, other: Machine, written: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_roast(send)
    del written[:]
    processes = [services._Streams(), services._Streams()]
    for n, begin_s in enumerate(range(0, int(COOLED_S) + 10, 10), start=1):
        monkeypatch.setattr(services, "_streams", processes[n // 2 % 2])
        told(send(n, span(begin_s, begin_s + 10), to=other))
    assert True in written
    assert rows(other) == rows(machine)


def test_a_replay_and_a_reused_sequence_are_seen_though_the_stream_is_kept(send: Send, written: list[bool]) -> None:
    for begin_s in range(0, 60, 10):
        last = send(begin_s // 10 + 1, span(begin_s, begin_s + 10))
    assert True in written
    again = send(6, span(50, 60))
    assert (again.content, again["Idempotent-Replay"]) == (last.content, "true")
    assert told(send(6, span(50, 59)), 409)["error"] == "sequence_reused"
    assert told(send(7, span(60, 70)))["points_filed"] == 10


def archive(machine: Machine) -> None:
    Machine.objects.filter(pk=machine.pk).update(is_archived=True)


def take_back(machine: Machine) -> None:
    Machine.objects.filter(pk=machine.pk).update(is_remote=False)


def tighten(machine: Machine) -> None:
    TelemetryPolicy.objects.update_or_create(organization=machine.organization, defaults={"signing": "require"})


@pytest.mark.parametrize(
    ("move", "status"), [(archive, 404), (take_back, 409), (tighten, 422)], ids=lambda value: str(value)[:20]
)
def test_what_moved_meanwhile_is_seen(
    send: Send, machine: Machine, written: list[bool], move: Any, status: int
) -> None:
    for begin_s in range(0, 40, 10):
        told(send(begin_s // 10 + 1, span(begin_s, begin_s + 10)))
    before = Sample.objects.count()
    move(machine)
    assert send(5, span(40, 50)).status_code == status
    assert written[-1] is False and Sample.objects.count() == before


def remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key was looked up too long ago to be believed without asking."""
    monkeypatch.setattr(door, "KEY_KEPT_S", -1.0)


def test_an_old_acquaintances_key_is_asked_about_in_the_one_statement(
    send: Send, written: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    for begin_s in range(0, 40, 10):
        told(send(begin_s // 10 + 1, span(begin_s, begin_s + 10)))
    remembered(monkeypatch)
    looked_up: list[str] = []
    real = door._senders.look_up
    monkeypatch.setattr(door._senders, "look_up", lambda header: looked_up.append(header) or real(header))
    assert told(send(5, span(40, 50)))["points_filed"] == 10
    assert (written[-1], looked_up) == (True, []), "nobody was looked up"
    told(send(7, span(60, 70)))
    assert len(looked_up) == 1, "the long way looks again"


def revoke() -> None:
    ApiKey.objects.update(revoked_at=clock.now())


def expire() -> None:
    ApiKey.objects.update(expires_at=clock.now())


def narrow() -> None:
    ApiKey.objects.update(scopes=["read", "telemetry:mch_another"])


def disable() -> None:
    Agent.objects.update(is_active=False)


@pytest.mark.parametrize(("act", "status"), [(revoke, 401), (expire, 401), (narrow, 403), (disable, 401)])
def test_a_key_that_opens_nothing_any_more_is_refused_at_once(
    send: Send, written: list[bool], monkeypatch: pytest.MonkeyPatch, act: Any, status: int
) -> None:
    for begin_s in range(0, 40, 10):
        told(send(begin_s // 10 + 1, span(begin_s, begin_s + 10)))
    remembered(monkeypatch)
    before = Sample.objects.count()
    act()
    assert send(5, span(40, 50)).status_code == status
    assert written[-1] is False and Sample.objects.count() == before
    assert send(5, span(40, 50)).status_code == status


def test_a_key_bound_to_this_machine_goes_the_short_way_too(
    send: Send, machine: Machine, written: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    ApiKey.objects.update(scopes=[f"telemetry:{machine.pk}"])
    for begin_s in range(0, 40, 10):
        told(send(begin_s // 10 + 1, span(begin_s, begin_s + 10)))
    remembered(monkeypatch)
    told(send(5, span(40, 50)))
    assert written[-1] is True


def test_a_key_revoked_meanwhile_is_seen(signer: Signer, key: DeviceKey, written: list[bool], wall: Any) -> None:
    for begin_s in range(0, 40, 10):
        assert told(signer(span(begin_s, begin_s + 10)))["verdict"] == "verified"
    assert written[-1] is True
    DeviceKey.objects.filter(pk=key.pk).update(revoked_at=wall.now() - dt.timedelta(seconds=1))
    assert told(signer(span(40, 50)))["verdict_reason"] == "key_revoked"
    assert written[-1] is False


def test_a_roast_closed_by_hand_meanwhile_takes_nothing_more(
    send: Send, machine: Machine, written: list[bool], people: Any, wall: Any
) -> None:
    for begin_s in range(0, 40, 10):
        told(send(begin_s // 10 + 1, span(begin_s, begin_s + 10)))
    services.close_by_person(
        people.principal("operator"), machine, is_aborted=True, reason="dropped by hand", now=wall.now()
    )
    answer = told(send(5, span(40, 50)))
    assert (written[-1], answer["points_filed"], answer["points_outside"]) == (False, 0, 10)
