"""The live stream, spoken to as an ASGI server does."""

import asyncio
import json
import threading
import time

import pytest
from django.conf import settings
from django.db import connection, transaction

from kernel import clock, draining, hub, keys, live, sealer, stream
from kernel.models import ApiKey, StreamEvent

pytestmark = pytest.mark.django_db(transaction=True)


class Listener:
    """One open stream: reads frames as they come."""

    def __init__(self, path_query="", headers=()):
        self.scope = {
            "type": "http",
            "method": "GET",
            "path": "/v1/stream",
            "query_string": path_query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
        }
        self.status = None
        self.text = ""
        self.is_closed = False
        self._left = asyncio.Event()
        self._news = asyncio.Event()
        self.pause = None  # an Event: the client does not read until it is set

    async def receive(self):
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        if self.pause is not None:
            await self.pause.wait()
        self.text += message.get("body", b"").decode()
        self.is_closed = not message.get("more_body", False)
        self._news.set()

    def frames(self, event=None):
        found = []
        for block in self.text.split("\n\n"):
            lines = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":"))
            if "event" in lines and event in (None, lines["event"]):
                found.append((lines["event"], lines.get("id"), json.loads(lines["data"])))
        return found

    async def until(self, condition, timeout_s=5.0):
        deadline = time.monotonic() + timeout_s
        while not condition():
            self._news.clear()
            assert time.monotonic() < deadline, self.text
            try:
                await asyncio.wait_for(self._news.wait(), 0.1)
            except TimeoutError:
                pass

    async def __aenter__(self):
        self.task = asyncio.create_task(stream.stream_asgi(self.scope, self.receive, self.send))
        return self

    async def __aexit__(self, *_):
        self._left.set()
        await asyncio.wait_for(self.task, 5)


@pytest.fixture
def key(organization, people):
    return bearer(keys.create_key(organization, user=people.operator, scopes=["read"], now=clock.now())[1])


def bearer(plain):
    return [("Authorization", f"Bearer {plain}")]


def decide(organization, subject, machine="mch_1"):
    with transaction.atomic():
        live.publish_decision(organization, "proposal", subject, machine, {"ü": 1}, now=clock.now())


@pytest.fixture
def sealing():
    thread = sealer.SealerThread()
    thread.start()
    yield
    thread.stop()


def run(scenario):
    """The scenario on an event loop of its own; worker threads give their connections back."""

    async def whole():
        stream._hub = None
        await scenario()
        house = stream._hub
        if house is not None:
            house.viewers.clear()
            draining.begin()
            live.wake(live.DECISIONS_TOPIC)
            if house.tail._thread is not None:
                await asyncio.to_thread(house.tail._thread.join, 5)
        for _ in range(4):
            await asyncio.get_running_loop().run_in_executor(
                stream._threads, lambda: (connection.close(), time.sleep(0.02))
            )

    asyncio.run(whole())


async def in_thread(function, *arguments):
    def whole():
        try:
            return function(*arguments)
        finally:
            connection.close()

    return await asyncio.to_thread(whole)


def test_decision_reaches_a_viewer_within_a_second_of_its_commit(organization, key, sealing):
    async def scenario():
        async with Listener("kind=decisions", key) as viewer:
            await viewer.until(lambda: viewer.frames("hello"))
            started = time.monotonic()
            await in_thread(decide, organization, "p1")
            await viewer.until(lambda: viewer.frames("decision"))
            assert time.monotonic() - started < 1.0
            _event, number, data = viewer.frames("decision")[0]
            assert number == "1"
            assert data["subject_id"] == "p1"
            assert data["payload"] == {"ü": 1}

    run(scenario)


def test_resuming_viewer_gets_exactly_what_it_missed(organization, key, sealing):
    for number in range(1, 6):
        decide(organization, f"p{number}")

    async def scenario():
        await in_thread(lambda: _await_numbered(5))
        async with Listener("kind=decisions", [*key, ("Last-Event-ID", "2")]) as viewer:
            await viewer.until(lambda: len(viewer.frames("decision")) >= 3)
            await in_thread(decide, organization, "p6")
            await viewer.until(lambda: len(viewer.frames("decision")) >= 4)
            assert [frame[1] for frame in viewer.frames("decision")] == ["3", "4", "5", "6"]

    run(scenario)


def _await_numbered(count):
    deadline = time.monotonic() + 5
    while StreamEvent.objects.filter(number__isnull=False).count() < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_no_decision_is_lost_or_doubled_while_viewers_come_and_go(organization, key, sealing):
    """A writer never stops; a viewer reconnects again and again by the last id it saw."""
    total = 60

    def write():
        for number in range(total):
            decide(organization, f"p{number}")
            time.sleep(0.005)
        connection.close()

    async def scenario():
        writer = threading.Thread(target=write)
        writer.start()
        seen = []
        last = "0"
        deadline = time.monotonic() + 20
        while len(seen) < total and time.monotonic() < deadline:
            async with Listener("kind=decisions", [*key, ("Last-Event-ID", last)]) as viewer:
                await asyncio.sleep(0.07)
                got = viewer.frames("decision")
            got = viewer.frames("decision")
            seen += [frame[1] for frame in got]
            last = seen[-1] if seen else "0"
        writer.join()
        assert seen == [str(number) for number in range(1, total + 1)]

    run(scenario)


def test_viewer_too_far_behind_is_told_to_load_afresh(organization, key):
    decide(organization, "p1")
    decide(organization, "p2")
    sealer.Sealer().tick(clock.now())
    StreamEvent.objects.filter(number=1).delete()

    async def scenario():
        async with Listener("kind=decisions&last_event_id=0", key) as viewer:
            await viewer.until(lambda: viewer.frames("reset"))
            assert not viewer.frames("decision")
        async with Listener("kind=decisions&last_event_id=9", key) as viewer:
            await viewer.until(lambda: viewer.frames("reset"))

    run(scenario)


def test_other_organisation_sees_nothing(organization, people, sealing):
    plain = keys.create_key(people.stranger_organization, user=people.stranger, scopes=["read"], now=clock.now())[1]

    async def scenario():
        async with Listener("machine=mch_1&last_event_id=0", bearer(plain)) as viewer:
            await viewer.until(lambda: viewer.frames("hello"))
            await in_thread(decide, organization, "p1")
            live.publish_reading(organization.pk, "mch_1", {"machine_id": "mch_1"})
            await asyncio.sleep(0.5)
            assert [frame[0] for frame in viewer.frames()] == ["hello"]

    run(scenario)


def test_filters_by_machine_and_kind(organization, key, sealing):
    async def scenario():
        async with Listener("machine=mch_1&kind=decisions", key) as viewer:
            await viewer.until(lambda: viewer.frames("hello"))
            live.publish_reading(organization.pk, "mch_1", {"a": 1})
            await in_thread(decide, organization, "p1", "mch_2")
            await in_thread(decide, organization, "p2", "mch_1")
            await viewer.until(lambda: viewer.frames("decision"))
            await asyncio.sleep(0.2)
            assert [frame[2].get("subject_id") for frame in viewer.frames()[1:]] == ["p2"]

    run(scenario)


def test_readings_come_about_four_a_second_and_end_with_the_latest(organization, key):
    async def scenario():
        live.publish_reading(organization.pk, "mch_1", {"n": -1})
        async with Listener("kind=readings", key) as viewer:
            await viewer.until(lambda: viewer.frames("reading"))
            assert viewer.frames("reading")[0][2] == {"n": -1}  # the latest value at once
            began_s = time.monotonic()
            for number in range(20):
                live.publish_reading(organization.pk, "mch_1", {"n": number})
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.3)
            shown = [frame[2]["n"] for frame in viewer.frames("reading")[1:]]
            assert 3 <= len(shown) <= 2 + (time.monotonic() - began_s) / hub.READING_EVERY_S
            assert shown[-1] == 19

    run(scenario)


def test_slow_viewer_is_let_go_with_a_reason_and_slows_nobody(organization, key, monkeypatch):
    monkeypatch.setattr(hub, "MAX_QUEUED", 20)

    async def scenario():
        async with Listener("kind=decisions", key) as slow, Listener("kind=decisions", key) as quick:
            await slow.until(lambda: slow.frames("hello"))
            await quick.until(lambda: quick.frames("hello"))
            slow.pause = asyncio.Event()
            house = stream.hub()
            for number in range(1, 101):
                house.show_decisions(organization.pk, [_numbered(organization, number)])
                await asyncio.sleep(0.001)
            await quick.until(lambda: len(quick.frames("decision")) == 100)
            slow.pause.set()
            await slow.until(lambda: slow.is_closed)
            assert slow.frames("bye")[0][2] == {"reason": "too_slow"}

    run(scenario)


def _numbered(organization, number):
    return StreamEvent(
        organization=organization, machine_id="m", kind="proposal", subject_id="p", at=clock.now(), number=number
    )


def test_shutdown_ends_streams_at_once_and_says_when_to_come_back(key):
    async def scenario():
        async with Listener("", key) as viewer:
            await viewer.until(lambda: viewer.frames("hello"))
            started = time.monotonic()
            draining.begin()
            await viewer.until(lambda: viewer.is_closed)
            assert time.monotonic() - started < 0.5
            assert viewer.frames("bye")[0][2] == {"reason": "shutdown"}
            assert "retry: 1000\nevent: bye" in viewer.text
        async with Listener("", key) as late:
            await late.task
            assert late.status == 503

    run(scenario)


def test_heartbeat_in_silence_and_a_revoked_key_ends_the_stream(key, monkeypatch):
    monkeypatch.setattr(stream, "HEARTBEAT_S", 0.1)

    async def scenario():
        async with Listener("", key) as viewer:
            await viewer.until(lambda: ": heartbeat" in viewer.text)
            await in_thread(lambda: ApiKey.objects.update(revoked_at=clock.now()))
            await viewer.until(lambda: viewer.is_closed)
            assert viewer.frames("bye")[0][2] == {"reason": "key_revoked"}

    run(scenario)


def test_session_of_the_console_may_look(people, signed_in):
    cookie = signed_in(people.viewer).cookies[settings.SESSION_COOKIE_NAME].value

    async def scenario():
        async with Listener("", [("Cookie", f"{settings.SESSION_COOKIE_NAME}={cookie}")]) as viewer:
            await viewer.until(lambda: viewer.frames("hello"))

    run(scenario)


@pytest.mark.parametrize(
    ("query", "headers", "status", "code"),
    [
        ("", [], 401, "not_signed_in"),
        ("", bearer("ro_a_b"), 401, "key_unknown"),
        ("", [("Cookie", f"{settings.SESSION_COOKIE_NAME}=zzz")], 401, "not_signed_in"),
        ("kinds=x", None, 400, "unknown_filter"),
        ("kind=reading", None, 400, "unknown_kind"),
        ("last_event_id=-1", None, 400, "bad_last_event_id"),
        ("last_event_id=" + "9" * 30, None, 400, "bad_last_event_id"),
        ("machine=%ff", None, 400, "malformed_query"),
    ],
)
def test_refusals_are_json(key, query, headers, status, code):
    async def scenario():
        async with Listener(query, key if headers is None else headers) as viewer:
            await viewer.task
            assert viewer.status == status
            assert json.loads(viewer.text)["error"] == code

    run(scenario)
