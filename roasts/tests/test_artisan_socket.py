"""Artisan's desktop at our door: it is answered, told what happened, and can move nothing."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import People
from kernel import clock, keys, live
from kernel.models import ApiKey, Organization, Site
from roasts.files import artisan_socket, artisan_words
from roasts.files.artisan_socket import Door, NotAdmitted, Watcher, artisan_asgi
from roasts.models import Machine

NOW = dt.datetime(2026, 11, 21, 12, 0, tzinfo=dt.UTC)
READING = {
    "link": "up", "at": "2026-11-21T11:59:59.000Z", "bean_temp_c": 150.5, "infrared_temp_c": 160.25, "heater_step": 0,
    "rate_of_rise_c_per_min": None, "voltage_v": 201, "quality": {},
}  # fmt: skip


def ask(text: str, reading: dict[str, Any] | None = READING) -> list[dict[str, Any]]:
    return [json.loads(line) for line in artisan_words.answers(text, reading, now=NOW)]


# --- words


def test_a_question_is_answered_with_its_id_and_the_channels_in_celsius() -> None:
    answer = ask('{"command": "getData", "id": 93077, "roasterID": 3}')[0]
    assert answer["id"] == 93077 and answer["roasterID"] == 3
    assert answer["data"]["BT"] == 150.5 and answer["data"]["ET"] == 160.25
    assert answer["data"]["heater"] == 0  # zero is a value
    assert answer["data"]["RoR"] == -1 and answer["data"]["exhaust"] == -1  # Artisan's word for missing
    assert len(answer["data"]) == 10  # as many channels as Artisan has


@pytest.mark.parametrize(
    "change",
    [
        {"at": "2026-11-21T11:59:56.900Z"}, {"at": "2026-11-21T12:00:04.000Z"}, {"at": None}, {"at": "soon"},
        {"at": "2026-11-21T11:59:59"}, {"link": "stale"}, {"link": "down"}, {"link": "keeper_lost"},
    ],
)  # fmt: skip
def test_an_old_reading_is_never_told_as_a_fresh_one(change: dict[str, Any]) -> None:
    answer = ask('{"command": "getData", "id": 1}', READING | change)[0]
    assert set(answer["data"].values()) == {-1.0}


def test_a_reading_of_three_seconds_is_still_one_and_no_reading_is_none() -> None:
    assert (
        ask('{"command": "getData", "id": 1}', READING | {"at": "2026-11-21T11:59:57.000Z"})[0]["data"]["BT"] == 150.5
    )
    assert set(ask('{"command": "getData", "id": 1}', None)[0]["data"].values()) == {-1.0}


def test_a_channel_that_the_reading_calls_stale_or_absent_is_missing_alone() -> None:
    reading = READING | {"quality": {"bean_temp_c": "stale", "voltage_v": "absent"}}
    data = ask('{"command": "getData", "id": 1}', reading)[0]["data"]
    assert (data["BT"], data["voltage"], data["ET"]) == (-1, -1, 160.25)


def test_several_lines_in_a_frame_are_answered_in_order() -> None:
    found = ask('{"command": "getData", "id": 1}\n\n{"command": "getData", "id": 2}\nrubbish')
    assert [answer["id"] for answer in found] == [1, 2, None]
    assert found[2]["error"] == "malformed"


@pytest.mark.parametrize("command", ["setControl", "startRoasting", "send", "", None, 7, "getdata"])
def test_nothing_but_questions_is_understood(command: Any) -> None:
    answer = ask(json.dumps({"command": command, "id": 5, "heater": 9}))[0]
    assert answer["error"] == "unknown_command" and "data" not in answer


@given(st.text(max_size=300) | st.binary(max_size=200).map(lambda data: data.decode("utf-8", "replace")))
def test_any_frame_is_answered_in_json_lines(frame: str) -> None:
    for line in artisan_words.answers(frame, READING, now=NOW):
        assert isinstance(json.loads(line), dict) and "\n" not in line


def test_frames_and_lines_are_bounded() -> None:
    assert ask("x" * 10_000)[0]["error"] == "frame_too_long"
    assert ask('{"id":1}\n' * 30)[0]["error"] == "too_many_lines"
    assert ask("[" * 8_000)[0]["error"] == "malformed"


def decision(kind: str, payload: dict[str, Any]) -> dict[str, Any]:
    return {"kind": kind, "subject_id": "rst_1", "payload": payload}


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (decision("roast", {"verb": "roast_opened"}), {"pushMessage": "startRoasting"}),
        (decision("roast", {"verb": "roast_closed"}), {"pushMessage": "endRoasting"}),
        (
            decision("roast_event", {"roast_id": "r", "kind": "drop", "source": "device"}),
            {"pushMessage": "endRoasting"},
        ),
        (
            decision("roast_event", {"roast_id": "r", "kind": "first_crack_start", "source": "person"}),
            {"pushMessage": "addEvent", "data": {"event": "firstCrackBeginningEvent"}},
        ),
        (
            decision("roast_event", {"roast_id": "r", "kind": "dry_end", "source": "device"}),
            {"pushMessage": "addEvent", "data": {"event": "colorChangeEvent"}},
        ),
        (decision("roast_event", {"roast_id": "r", "kind": "dry_end", "source": "inferred"}), None),
        (decision("roast_event", {"roast_id": "r", "kind": "drop", "source": "device", "is_withdrawn": True}), None),
        (decision("roast_event", {"roast_id": "r", "kind": "charge", "source": "device"}), None),
        (decision("proposal", {}), None),
        ({}, None),
    ],
)
def test_what_artisan_is_told_of_what_happened(told: dict[str, Any], line: dict[str, Any] | None) -> None:
    push = artisan_words.push_of(told)
    assert (None if push is None else json.loads(push.line)) == line


# --- the door


def test_the_door_counts_watchers_by_key_and_in_all() -> None:
    door = Door()
    for _ in range(artisan_socket.MAX_CLIENTS_PER_KEY):
        door.enter(Watcher("k", "o", "m"))
    with pytest.raises(NotAdmitted):
        door.enter(Watcher("k", "o", "m"))
    door.leave(Watcher("k", "o", "m"))
    door.enter(Watcher("k", "o", "m"))
    others = artisan_socket.MAX_CLIENTS - artisan_socket.MAX_CLIENTS_PER_KEY
    for number in range(others):
        door.enter(Watcher(f"k{number}", "o", "m"))
    with pytest.raises(NotAdmitted):
        door.enter(Watcher("new", "o", "m"))


def test_who_was_refused_a_moment_ago_is_not_looked_up_again() -> None:
    door = Door()
    door.remember("a", NotAdmitted(4401, "key_unknown"), 100.0)
    with pytest.raises(NotAdmitted):
        door.recall("a", 101.9)
    door.recall("a", 102.1)
    door.recall("b", 100.0)


@pytest.fixture
def machine(organization: Organization, site: Site) -> Machine:
    return Machine.objects.create(
        organization=organization, site=site, name="Bench", driver_kind="bullet-r1", created_at=NOW
    )


def key_of(people: People, organization: Organization, scopes: list[str], who: str = "operator") -> tuple[ApiKey, str]:
    return keys.create_key(organization, scopes=scopes, user=getattr(people, who), now=clock.now())


@pytest.mark.django_db
@pytest.mark.parametrize("scopes", [["read"], []])
def test_a_read_only_key_watches_by_id_and_by_name(
    people: People, organization: Organization, machine: Machine, scopes: list[str]
) -> None:
    _, plain = key_of(people, organization, scopes)
    assert artisan_socket.find_watcher(machine.pk, plain).machine_id == machine.pk
    assert artisan_socket.find_watcher("Bench", plain).machine_id == machine.pk


@pytest.mark.django_db
@pytest.mark.parametrize("scopes", [["propose"], ["read", "operate"], ["stop"], ["admin"], ["telemetry"]])
def test_a_key_that_may_do_more_is_refused(
    people: People, organization: Organization, machine: Machine, scopes: list[str]
) -> None:
    _, plain = key_of(people, organization, scopes)
    with pytest.raises(NotAdmitted) as caught:
        artisan_socket.find_watcher(machine.pk, plain)
    assert caught.value.reason == "key_may_do_more_than_read"


@pytest.mark.django_db
def test_strangers_revoked_and_archived_are_not_there(
    people: People, organization: Organization, machine: Machine
) -> None:
    key, plain = key_of(people, organization, ["read"])
    _, theirs = key_of(people, people.stranger_organization, ["read"], "stranger")
    for word, secret in (
        (machine.pk, theirs),
        ("mch_none", plain),
        ("", plain),
        (machine.pk, ""),
        (machine.pk, plain + "x"),
    ):
        with pytest.raises(NotAdmitted):
            artisan_socket.find_watcher(word, secret)
    ApiKey.objects.filter(pk=key.pk).update(revoked_at=clock.now())
    with pytest.raises(NotAdmitted) as caught:
        artisan_socket.find_watcher(machine.pk, plain)
    assert caught.value.reason == "key_revoked"


# --- a connection


class Client:
    """Artisan's side of one ASGI connection."""

    def __init__(self, path: str) -> None:
        self.scope = {"type": "websocket", "path": path, "raw_path": path.encode()}
        self.to_us: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.from_us: asyncio.Queue[Any] = asyncio.Queue()

    async def run(self, play: Callable[[], Awaitable[None]]) -> None:
        await self.to_us.put({"type": "websocket.connect"})
        served = asyncio.create_task(artisan_asgi(self.scope, self.to_us.get, self.from_us.put))
        try:
            await play()
        finally:
            await self.to_us.put({"type": "websocket.disconnect", "code": 1000})
            await asyncio.wait_for(served, 10)

    async def hear(self, within_s: float = 5.0) -> dict[str, Any]:
        heard: dict[str, Any] = await asyncio.wait_for(self.from_us.get(), within_s)
        return heard


@pytest.mark.django_db(transaction=True)
def test_a_connection_answers_pushes_and_ends_when_its_key_is_taken_back(
    people: People, organization: Organization, machine: Machine
) -> None:
    key, plain = key_of(people, organization, ["read"])
    live.publish_reading(organization.pk, machine.pk, READING | {"at": clock.now().isoformat()})
    client = Client(f"/artisan/{machine.pk}/{plain}")

    async def play() -> None:
        assert (await client.hear())["type"] == "websocket.accept"
        assert plain not in repr(client.scope)  # the server's log shows the scope's path
        await client.to_us.put({"type": "websocket.receive", "text": '{"command":"getData","id":42,"roasterID":0}'})
        assert json.loads((await client.hear())["text"])["data"]["BT"] == 150.5
        await client.to_us.put({"type": "websocket.receive", "bytes": b"\xff\xfe"})
        assert json.loads((await client.hear())["text"])["error"] == "malformed"
        await asyncio.to_thread(lambda: ApiKey.objects.filter(pk=key.pk).update(revoked_at=clock.now()))
        closed = await client.hear(artisan_socket.CHECK_EVERY_S + 5)
        assert (closed["type"], closed["code"]) == ("websocket.close", artisan_socket.UNKNOWN_KEY)

    asyncio.run(client.run(play))


@pytest.mark.django_db(transaction=True)
def test_a_wrong_key_is_closed_before_it_is_let_in(machine: Machine) -> None:
    client = Client(f"/artisan/{machine.pk}/ro_wrong_key")

    async def play() -> None:
        assert (await client.hear())["type"] == "websocket.close"

    asyncio.run(client.run(play))
