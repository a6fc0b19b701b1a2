"""Envelopes into roasts over the API: once each, in order or late, point by point."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kernel import clock, live
from kernel.models import Agent, ApiKey, Organization, Site
from roasts.models import Gap, Machine, MachineReading, Roast, RoastEvent, Sample, TelemetryBatch, TelemetryStream
from roasts.telemetry import door, services
from roasts.tests.telemetry_senders import BEGUN, CHARGE_S, COOLED_S, DROP_S, envelope, point, span, text

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

    def sent(
        sequence: int, points: list[dict[str, Any]], *, delay_s: float = 1.0, to: Machine = machine, **fields: Any
    ) -> Any:
        body = envelope(to.pk, sequence, points, **fields)
        newest = dt.datetime.fromisoformat(body["at"])
        wall.at = max(wall.at, newest + dt.timedelta(seconds=delay_s))
        return caller.post("/v1/telemetry", body, format="json")

    return sent


def told(answer: Any, status: int = 201) -> dict[str, Any]:
    assert answer.status_code == status, answer.content
    return dict(json.loads(answer.content))


def whole_roast(send: Send, *, batch_s: int = 10, skip: tuple[int, ...] = (), **fields: Any) -> list[dict[str, Any]]:
    """A whole roast in envelopes of ``batch_s`` seconds; those of ``skip`` are not sent but returned."""
    held = []
    for n, begin_s in enumerate(range(0, int(COOLED_S) + batch_s, batch_s), start=1):
        points = span(begin_s, begin_s + batch_s)
        if n in skip:
            held.append({"sequence": n, "points": points})
        else:
            told(send(n, points, **fields))
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


def rows(machine: Machine | None = None) -> list[tuple[Any, ...]]:
    """Everything the roasts (of a machine) are made of, without ids."""
    of = {} if machine is None else {"roast__machine": machine}
    samples = Sample.objects.filter(**of).values_list(
        "elapsed_ms", "sequence", "at", "state", "bean_temp_c", "infrared_temp_c", "heater_step", "quality", "extras"
    )
    marks = RoastEvent.objects.filter(**of).values_list("kind", "elapsed_ms", "source", "confidence")
    gaps = Gap.objects.filter(**of).values_list("from_ms", "to_ms", "reason")
    roasts = Roast.objects.filter(**({} if machine is None else {"machine": machine}))
    closed = roasts.order_by("started_at").values_list("status", "started_at", "ended_at", "close_reason")
    return [*samples.order_by("elapsed_ms"), *sorted(marks), *gaps.order_by("from_ms"), *closed]


@pytest.fixture
def other(machine: Machine) -> Machine:
    """A second remote machine of the same organisation."""
    return Machine.objects.create(
        organization=machine.organization,
        site=machine.site,
        name="Farther",
        driver_kind="bullet-r1",
        is_remote=True,
        created_at=BEGUN,
    )


def test_the_same_envelope_again_has_the_first_answer_and_no_second_effect(send: Send) -> None:
    first = send(1, span(0, 30))
    before = rows()
    again = send(1, span(0, 30))
    assert (again.status_code, again.content, again["Idempotent-Replay"]) == (201, first.content, "true")
    assert "Idempotent-Replay" not in first
    assert rows() == before and TelemetryBatch.objects.count() == 1
    assert Roast.objects.get().unsigned_points == 20


def test_an_old_envelope_again_has_its_answer_too(send: Send) -> None:
    first = send(1, span(0, 30))
    told(send(2, span(30, 40)))
    assert send(1, span(0, 30)).content == first.content


@pytest.mark.parametrize("change", [{"points": span(0, 29)}, {"events": [{"kind": "drop", "at": text(BEGUN)}]}])
def test_other_content_under_the_same_sequence_is_refused(send: Send, change: dict[str, Any]) -> None:
    told(send(1, span(0, 30)))
    points = change.pop("points", span(0, 30))
    at = text(BEGUN + dt.timedelta(seconds=29))
    answer = send(1, points, **({"at": at} | change))
    assert told(answer, 409)["error"] == "sequence_reused" and Sample.objects.count() == 20


def test_bad_points_are_refused_one_by_one_and_counted(send: Send) -> None:
    points = span(0, 30)
    points[15]["bean_temp_c"] = 2000
    points[17] = "nonsense"  # type: ignore[call-overload]
    answer = told(send(1, points, at=text(BEGUN + dt.timedelta(seconds=30))))
    assert (answer["points_received"], answer["points_filed"], answer["points_refused"]) == (30, 18, 2)
    assert [(each["index"], each["code"]) for each in answer["refused"]] == [
        (15, "out_of_range"),
        (17, "not_an_object"),
    ]
    assert answer["points_outside"] == 10 and Sample.objects.count() == 18
    batch = TelemetryBatch.objects.get()
    assert (batch.points_filed, batch.points_refused) == (18, 2)


def test_of_many_refused_points_the_first_are_told_and_all_are_counted(send: Send) -> None:
    answer = told(send(1, [point(n, state="x") for n in range(50)], at=text(BEGUN)))
    assert (len(answer["refused"]), answer["points_refused"]) == (20, 50)


def test_lines_are_taken_too(machine: Machine, organization: Organization, api_by_key: Any, wall: SetClock) -> None:
    bridge = Agent.objects.create(organization=organization, name="bridge", created_at=BEGUN)
    body = envelope(machine.pk, 1, span(0, 30))
    points = body.pop("points")
    raw = "\n".join(json.dumps(line) for line in [body, *points])
    wall.at = BEGUN + dt.timedelta(seconds=30)
    caller = api_by_key(agent=bridge, scopes=[f"telemetry:{machine.pk}"])
    answer = caller.post("/v1/telemetry", raw, content_type="application/x-ndjson")
    assert told(answer)["points_filed"] == 20
    assert told(caller.post("/v1/telemetry", raw, content_type="text/csv"), 415)["error"] == "unsupported_media_type"


# --- what is missing, and what comes late


def test_missing_envelopes_leave_a_gap_and_fill_it_when_they_come(send: Send, wall: SetClock) -> None:
    held = whole_roast(send, skip=(20, 21))
    gap = Gap.objects.get()
    assert (gap.from_ms, gap.to_ms, gap.reason) == (179_000, 200_000, "missing_batches")
    stream = TelemetryStream.objects.get()
    assert stream.state["stream"]["missing"] == [[20, 21]]
    for each in held:
        answer = told(send(each["sequence"], each["points"]))
        assert (answer["points_filed"], answer["points_late"]) == (10, 10)
    assert not Gap.objects.exists() and TelemetryStream.objects.get().state["stream"].get("missing", []) == []
    roast = Roast.objects.get()
    assert (roast.late_points, roast.status) == (20, "finished")
    elapsed = list(Sample.objects.order_by("elapsed_ms").values_list("elapsed_ms", flat=True))
    assert elapsed == [1000 * n for n in range(int(COOLED_S - CHARGE_S) + 1)]


def test_half_a_hole_filled_is_a_smaller_hole(send: Send) -> None:
    held = whole_roast(send, skip=(20, 21))
    told(send(held[0]["sequence"], held[0]["points"]))
    gap = Gap.objects.get()
    assert (gap.from_ms, gap.to_ms) == (189_000, 200_000)


def test_late_points_give_the_same_roast_as_points_in_time(send: Send, machine: Machine, other: Machine) -> None:
    """Only rates differ: they are causal, and a late point had none."""
    held = whole_roast(send, skip=(5, 33, 34, 25))
    for each in reversed(held):
        told(send(each["sequence"], each["points"]))
    whole_roast(send, to=other)
    late, in_time = ([row[3:] for row in rows(each) if len(row) == 9] for each in (machine, other))
    assert late == in_time and len(late) == 351


def test_a_closed_roast_takes_late_points_and_is_not_reopened(send: Send) -> None:
    held = whole_roast(send, skip=(30,))
    before = Roast.objects.get()
    told(send(100, span(900, 910)))
    answer = told(send(held[0]["sequence"], held[0]["points"]))
    after = Roast.objects.get()
    assert answer["points_filed"] == 10 and answer["stretches"][0]["is_late"]
    assert (after.status, after.ended_at, after.close_reason) == (before.status, before.ended_at, before.close_reason)
    assert after.late_points == 10


def test_late_points_of_no_roast_are_told_to_lie_outside(send: Send) -> None:
    whole_roast(send)
    told(send(100, span(900, 910)))
    answer = told(send(101, [point(5.5), point(850, state="off")]))
    assert (answer["points_outside"], answer["points_filed"]) == (2, 0)


def test_points_that_reach_us_long_after_their_time_are_late_though_in_order(send: Send) -> None:
    told(send(1, span(0, 20)))
    in_time = told(send(2, span(20, 30), delay_s=5.0))
    delayed = told(send(3, span(30, 40), delay_s=120.0))
    assert (in_time["points_late"], delayed["points_late"], delayed["points_filed"]) == (0, 10, 10)
    assert delayed["stretches"] == [
        {**delayed["stretches"][0], "from_ms": 20_000, "to_ms": 29_000, "is_late": True, "is_placed": False}
    ]
    assert Roast.objects.get().late_points == 10


def test_a_state_lost_between_envelopes_is_read_back_from_the_rows(
    send: Send, machine: Machine, other: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process, or this one after kill -9: the same rows and marks, envelope by envelope."""
    whole_roast(send)
    monkeypatch.setattr(services._Streams, "put", lambda *_arguments: None)
    whole_roast(send, to=other)
    assert rows(other) == rows(machine)


def test_two_processes_that_take_turns_file_the_same_roast(
    send: Send, machine: Machine, other: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_roast(send)
    processes = [services._Streams(), services._Streams()]
    for n, begin_s in enumerate(range(0, int(COOLED_S) + 10, 10), start=1):
        monkeypatch.setattr(services, "_streams", processes[n * n % 3 % 2])
        told(send(n, span(begin_s, begin_s + 10), to=other))
    assert rows(other) == rows(machine)


# --- the machine's page


def test_the_machine_shows_the_newest_reading(send: Send, machine: Machine) -> None:
    told(send(1, span(0, 40)))
    latest = MachineReading.objects.get(machine=machine)
    assert (latest.link, latest.state, latest.bean_temp_c) == ("up", "roasting", point(39)["bean_temp_c"])
    assert latest.rate_of_rise_c_per_min is not None and latest.are_beans_proved
    shown = live.latest_reading(machine.organization_id, machine.pk)
    assert shown is None or shown["bean_temp_c"] == point(39)["bean_temp_c"]


def test_the_machine_shows_every_temperature_that_a_bridge_sends(send: Send, machine: Machine) -> None:
    told(send(1, span(0, 60)))
    told(send(2, span(60, 70, environment_temp_c=211.5, exhaust_temp_c=180.5, ambient_temp_c=23.5)))
    latest = MachineReading.objects.get(machine=machine)
    assert (latest.environment_temp_c, latest.exhaust_temp_c, latest.ambient_temp_c) == (211.5, 180.5, 23.5)


def test_what_a_bridge_says_of_a_mark_is_kept_with_it(send: Send) -> None:
    said = [
        {"kind": "charge", "at": text(BEGUN + dt.timedelta(seconds=CHARGE_S)), "text": "door open for long"},
        {"kind": "dry_end", "at": text(BEGUN + dt.timedelta(seconds=100)), "text": "all yellow"},
    ]
    told(send(1, span(0, 120, state=None), events=said))
    late = {"kind": "first_crack_start", "at": text(BEGUN + dt.timedelta(seconds=110)), "text": "one loud one"}
    told(send(2, span(120, 130, state=None)))
    told(send(3, [], events=[late]))
    device = RoastEvent.objects.filter(source="device")
    assert dict(device.values_list("kind", "text")) == {
        "charge": "door open for long",
        "dry_end": "all yellow",
        "first_crack_start": "one loud one",
    }


def test_a_late_envelope_does_not_turn_the_page_back(send: Send, machine: Machine) -> None:
    told(send(1, span(0, 20)))
    told(send(3, span(30, 40)))
    told(send(2, span(20, 30)))
    assert MachineReading.objects.get(machine=machine).at == BEGUN + dt.timedelta(seconds=39)


# --- who may


@pytest.mark.parametrize(
    ("scopes", "status"),
    [(["telemetry"], 201), (["read"], 403), ([], 403), (["propose"], 403), (["telemetry:mch_" + "0" * 26], 403)],
    ids=str,
)
def test_a_key_needs_the_scope(
    machine: Machine, organization: Organization, api_by_key: Any, wall: SetClock, scopes: list[str], status: int
) -> None:
    bridge = Agent.objects.create(organization=organization, name="bridge", created_at=BEGUN)
    answer = api_by_key(agent=bridge, scopes=scopes).post("/v1/telemetry", envelope(machine.pk, 1, []), format="json")
    assert answer.status_code == status, answer.content


def test_a_stranger_and_a_session_are_asked_for_a_key(
    machine: Machine, api: Any, signed_in: Any, people: Any, wall: SetClock
) -> None:
    for caller in (api, signed_in(people.operator)):
        answer = caller.post("/v1/telemetry", envelope(machine.pk, 1, []), format="json")
        assert told(answer, 401)["error"] == "not_signed_in" and answer["WWW-Authenticate"] == "Bearer"


def test_another_organisations_machine_is_not_there(machine: Machine, people: Any, api_by_key: Any, wall: Any) -> None:
    caller = api_by_key(user=people.stranger, organization=people.stranger_organization, scopes=["telemetry"])
    assert told(caller.post("/v1/telemetry", envelope(machine.pk, 1, []), format="json"), 404)["how_to_fix"]
    assert not TelemetryStream.objects.exists()


def test_a_machine_with_a_loop_of_its_own_takes_no_telemetry(send: Send, machine: Machine) -> None:
    Machine.objects.filter(pk=machine.pk).update(is_remote=False)
    assert told(send(1, []), 409)["error"] == "machine_not_remote"


def test_a_machine_that_is_archived_meanwhile_is_not_there(send: Send, machine: Machine) -> None:
    told(send(1, span(0, 30)))
    Machine.objects.filter(pk=machine.pk).update(is_archived=True)
    assert told(send(2, span(30, 40)), 404)["error"] == "machine_not_found"


def test_a_revoked_key_is_refused_within_two_seconds(
    machine: Machine, organization: Organization, api_by_key: Any, wall: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = Agent.objects.create(organization=organization, name="bridge", created_at=BEGUN)
    caller = api_by_key(agent=bridge, scopes=["telemetry"])
    now_s = [1000.0]
    monkeypatch.setattr(wall, "monotonic", lambda: now_s[0])
    assert caller.post("/v1/telemetry", envelope(machine.pk, 1, []), format="json").status_code == 201
    ApiKey.objects.update(revoked_at=BEGUN)
    now_s[0] += 2.0
    answer = caller.post("/v1/telemetry", envelope(machine.pk, 2, []), format="json")
    assert told(answer, 401)["error"] == "key_revoked"


@pytest.mark.parametrize("raw", ["", "{", "[]", '{"schema": 1}', "null", "[" * 5000])
def test_nonsense_is_refused_in_words(
    send: Send, machine: Machine, organization: Any, api_by_key: Any, raw: str
) -> None:
    bridge = Agent.objects.create(organization=organization, name="other bridge", created_at=BEGUN)
    caller = api_by_key(agent=bridge, scopes=["telemetry"])
    answer = caller.post("/v1/telemetry", raw, content_type="application/json")
    assert {"error", "message", "how_to_fix"} <= set(told(answer, 400))


def test_a_body_past_a_megabyte_is_too_large(send: Send, organization: Any, api_by_key: Any) -> None:
    bridge = Agent.objects.create(organization=organization, name="other bridge", created_at=BEGUN)
    caller = api_by_key(agent=bridge, scopes=["telemetry"])
    answer = caller.post("/v1/telemetry", b" " * 1_000_001, content_type="application/json")
    assert told(answer, 413)["error"] == "body_too_large"


def test_the_stream_says_where_it_is(send: Send, machine: Machine, signed_in: Any, people: Any) -> None:
    first = told(send(1, span(0, 20)))
    told(send(4, span(30, 40)))
    seen = signed_in(people.viewer).get(f"/v1/telemetry/{machine.pk}").json()
    assert (seen["last_sequence"], seen["missing"]) == (4, [[2, 3]])
    assert seen["last_digest"] != first["digest"]
    assert signed_in(people.stranger).get(f"/v1/telemetry/{machine.pk}").status_code == 404


# --- by a person


def test_a_person_opens_and_closes_the_roast_of_a_machine_that_says_nothing(
    send: Send, machine: Machine, signed_in: Any, people: Any
) -> None:
    plain = [{k: v for k, v in each.items() if k != "state"} for each in span(0, 60, bean_temp_c=180.0)]
    told(send(1, plain[:20]))
    operator, path = signed_in(people.operator), f"/v1/telemetry/{machine.pk}"
    opened = told(operator.post(f"{path}/open-roast", {}))
    assert told(operator.post(f"{path}/open-roast", {}), 409)["error"] == "roast_open"
    assert told(send(2, plain[20:50]))["points_filed"] == 30
    closed = told(operator.post(f"{path}/close-roast", {"reason": "beans are out"}), 200)
    assert (closed["roast_id"], closed["status"]) == (opened["roast_id"], "finished")
    roast = Roast.objects.get()
    assert (roast.close_reason, roast.ended_at) == ("person", BEGUN + dt.timedelta(seconds=49))
    assert told(send(3, plain[50:]))["points_outside"] == 10
    assert told(operator.post(f"{path}/close-roast", {"reason": "again"}), 409)["error"] == "no_roast"
    assert RoastEvent.objects.filter(kind="charge", source="person", elapsed_ms=0).count() == 1


def test_a_machine_that_says_itself_when_it_roasts_is_not_opened_by_hand(
    send: Send, machine: Machine, signed_in: Any, people: Any
) -> None:
    told(send(1, span(0, 5)))
    answer = signed_in(people.operator).post(f"/v1/telemetry/{machine.pk}/open-roast", {})
    assert told(answer, 409)["error"] == "machine_says_itself"
    assert signed_in(people.viewer).post(f"/v1/telemetry/{machine.pk}/open-roast", {}).status_code == 403


def test_a_roast_that_comes_in_one_envelope_is_whole(send: Send) -> None:
    answer = told(send(1, span(0, COOLED_S + 5)))
    roast = Roast.objects.get()
    assert (roast.status, roast.source, roast.close_reason) == ("finished", "telemetry", "cool_end")
    assert answer["points_filed"] == 351 and roast.late_points > 300
