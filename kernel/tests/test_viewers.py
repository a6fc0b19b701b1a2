"""Frames straight into connections: order, numbers, and the slow, without a server or a store."""

import asyncio
import json
import random
from unittest import mock

import pytest

from kernel import hub, stream


class Client:
    """The far end of an ASGI `send`: reads while its door is open; keeps what it read, write by write."""

    def __init__(self):
        self.door = asyncio.Event()
        self.door.set()
        self.news = asyncio.Event()
        self.bodies = []
        self.waited = 0

    async def send(self, message):
        if not self.door.is_set():
            self.waited += 1
            await self.door.wait()
        self.bodies.append(message["body"])
        self.news.set()

    async def until(self, count):
        """``count`` frames were read."""
        while len(self.frames) < count:
            self.news.clear()
            await self.news.wait()

    @property
    def frames(self):
        return b"".join(self.bodies).split(b";")[:-1]


def viewer_of(client, sent=0, machine=None):
    viewer, pipe = hub.Viewer("org", machine, frozenset({"decisions", "readings"})), stream.Pipe(client.send)
    viewer.fit(pipe, sent)
    pipe.wrote_at_s = asyncio.get_running_loop().time()
    return viewer, pipe


def frames(*numbers):
    return [(number, b"%d;" % number) for number in numbers]


def test_frame_is_with_a_client_that_reads_before_give_returns():
    async def scenario():
        client = Client()
        viewer, pipe = viewer_of(client)
        viewer.give(frames(1, 2))
        assert client.bodies == [b"1;2;"]  # one write, no task woken
        assert not pipe.is_full

    asyncio.run(scenario())


def test_number_that_was_sent_is_not_sent_again_and_readings_always_are():
    async def scenario():
        client = Client()
        viewer, _pipe = viewer_of(client, sent=5)
        viewer.give(frames(4, 5, 6))
        viewer.give(frames(6, 7))
        viewer.give([(None, b"r;"), (None, b"r;")])
        viewer.give(frames(7))
        assert client.frames == [b"6", b"7", b"r", b"r"]

    asyncio.run(scenario())


def test_viewer_without_a_pipe_keeps_its_frames_for_the_pump():
    async def scenario():
        viewer = hub.Viewer("org", None, frozenset({"decisions"}))
        viewer.give(frames(1, 2))
        assert await viewer.take(0.0) == frames(1, 2)

    asyncio.run(scenario())


def test_nothing_is_written_to_a_viewer_that_must_end():
    async def scenario():
        client = Client()
        viewer, _pipe = viewer_of(client)
        viewer.end("shutdown")
        viewer.give(frames(1))
        assert client.bodies == []

    asyncio.run(scenario())


def test_connection_that_breaks_ends_its_viewer():
    async def broken(_message):
        raise ConnectionResetError

    async def scenario():
        viewer = hub.Viewer("org", None, frozenset({"decisions"}))
        viewer.fit(stream.Pipe(broken), 0)
        viewer.give(frames(1))
        assert viewer.reason == "left"

    asyncio.run(scenario())


@pytest.mark.parametrize("seed", range(40))
def test_client_that_reads_by_fits_and_starts_gets_every_frame_once_and_in_order(seed):
    """The door opens and shuts at random moments between frames; the pump runs all the while."""
    chance = random.Random(seed)

    async def scenario():
        client, count = Client(), 200
        viewer, pipe = viewer_of(client)
        pump = asyncio.create_task(stream._pump({}, viewer, pipe))
        number = 0
        while number < count:
            many = chance.randint(1, 3)
            viewer.give(frames(*range(number + 1, number + many + 1)))
            number += many
            if chance.random() < 0.3:
                (client.door.clear if client.door.is_set() else client.door.set)()
            for _ in range(chance.randint(0, 3)):
                await asyncio.sleep(0)
        client.door.set()
        await client.until(number)
        viewer.end("left")
        await pump
        assert client.frames == [b"%d" % each for each in range(1, number + 1)]
        assert client.waited > 0

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_client_whose_socket_stays_full_is_given_up_and_holds_up_nobody(monkeypatch):
    monkeypatch.setattr(stream, "SEND_TIMEOUT_S", 0.05)

    async def scenario():
        slow, quick = Client(), Client()
        slow.door.clear()
        (viewer, pipe), (other, _pipe) = viewer_of(slow), viewer_of(quick)
        pump = asyncio.create_task(stream._pump({}, viewer, pipe))
        for each in (viewer, other):
            each.give(frames(1))
        assert quick.frames == [b"1"]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pump, 5)
        assert slow.bodies == []

    asyncio.run(scenario())


def test_client_that_reads_again_in_time_is_kept(monkeypatch):
    monkeypatch.setattr(stream, "SEND_TIMEOUT_S", 5.0)

    async def scenario():
        client = Client()
        client.door.clear()
        viewer, pipe = viewer_of(client)
        pump = asyncio.create_task(stream._pump({}, viewer, pipe))
        viewer.give(frames(1))
        viewer.give(frames(2))
        await asyncio.sleep(0.02)
        client.door.set()
        await client.until(2)
        viewer.give(frames(3))
        assert client.frames == [b"1", b"2", b"3"]
        viewer.end("left")
        await pump

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_pump_that_is_cancelled_leaves_nothing_begun():
    async def scenario():
        client = Client()
        client.door.clear()
        viewer, pipe = viewer_of(client)
        pump = asyncio.create_task(stream._pump({}, viewer, pipe))
        viewer.give(frames(1))
        await asyncio.sleep(0)
        pump.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pump
        client.door.set()
        await asyncio.sleep(0)
        assert client.bodies == []

    asyncio.run(scenario())


def test_only_those_who_want_it_are_given_a_frame():
    async def scenario():
        house, clients = hub.Hub(asyncio.get_running_loop()), {}
        for machine in ("a", "b", None):
            clients[machine] = Client()
            house.join(viewer_of(clients[machine], machine=machine)[0])
        stranger = Client()
        other = hub.Viewer("other", None, frozenset({"decisions"}))
        other.fit(stream.Pipe(stranger.send), 0)
        house.join(other)
        house._show_frames("org", [("a", 1, b"1;"), ("b", 2, b"2;"), ("", 3, b"3;"), ("a", 4, b"4;")])
        assert {machine: client.frames for machine, client in clients.items()} == {
            "a": [b"1", b"4"], "b": [b"2"], None: [b"1", b"2", b"3", b"4"],
        }  # fmt: skip
        house._show_reading("org", "a", {"n": 1})
        assert [len(clients[machine].bodies) for machine in ("a", "b", None)] == [2, 1, 2]
        assert stranger.bodies == []

    asyncio.run(scenario())


def test_viewer_that_left_is_given_nothing_and_leaves_nothing_behind():
    async def scenario():
        house, client = hub.Hub(asyncio.get_running_loop()), Client()
        viewer, _pipe = viewer_of(client)
        house.join(viewer)
        house.leave(viewer)
        house.leave(viewer)
        house._show_frames("org", [("a", 1, b"1;")])
        assert client.bodies == []
        assert not house.viewers
        assert not house._watching

    asyncio.run(scenario())


class Turns:
    """An event loop's clock and timers, moved by hand."""

    def __init__(self):
        self.at_s = 100.0
        self.timers = []

    def time(self):
        return self.at_s

    def call_later(self, after_s, function, *arguments):
        self.timers.append((self.at_s + after_s, function, arguments))

    def move_to(self, at_s):
        for timer in sorted(timer for timer in self.timers if timer[0] <= at_s):
            self.timers.remove(timer)
            self.at_s = timer[0]
            timer[1](*timer[2])
        self.at_s = at_s


def shown(readings):
    """[when a frame came, when its reading was taken] for readings (when it was taken, when it was heard)."""
    turns, found = Turns(), []

    async def scenario():
        with mock.patch.object(hub.live, "listen_to_readings"), mock.patch.object(hub.draining, "on_begin"):
            house = hub.Hub(turns)  # nobody else's tests are to speak to it
        viewer = hub.Viewer("org", "m", frozenset({"readings"}))
        viewer.give = lambda frames: found.append((turns.at_s, json.loads(frames[0][1].split(b"data: ")[1])["at_s"]))
        house.join(viewer)
        for taken_s, heard_s in readings:
            turns.move_to(heard_s)
            house._show_reading("org", "m", {"at_s": taken_s})
        turns.move_to(turns.at_s + 5)

    asyncio.run(scenario())
    return found


def test_source_of_four_readings_a_second_that_was_late_once_is_not_late_for_ever():
    taken = [100 + number / 4 for number in range(120)]
    late_s = [0.2 if number == 10 else 0.001 for number in range(120)]
    found = shown([(at_s, at_s + wait_s) for at_s, wait_s in zip(taken, late_s, strict=True)])
    assert len(found) == 120
    assert max(came_s - at_s for came_s, at_s in found[12:]) < 0.01


def test_source_that_stood_still_for_a_second_catches_up():
    found = shown([(100 + number / 4, max(100 + number / 4, 104.0)) for number in range(200)])
    assert max(came_s - at_s for came_s, at_s in found[-50:]) < 0.01


def test_ten_readings_a_second_become_about_four_and_none_is_older_than_a_tenth():
    found = shown([(100 + number / 10, 100 + number / 10) for number in range(600)])
    assert 4 * 60 <= len(found) <= 4.2 * 60 + 2
    assert max(came_s - at_s for came_s, at_s in found) < 0.1001
    assert found[-1][1] == 100 + 599 / 10
