"""Nudges and readings between threads, and between processes through Redis."""

import threading
import time
import types

import pytest

from kernel import clock, fan_out, live, work
from roastops.testing import servers


def test_sleeper_is_woken_by_its_topic_alone():
    with live.waiter("machine:1") as sleeper:
        live.wake("machine:2")
        assert not sleeper.wait(0.01)
        live.wake("machine:1")
        assert sleeper.wait(0.01)
        assert not sleeper.wait(0.01)


def test_nudge_between_looking_and_sleeping_is_not_missed():
    with live.waiter("t") as sleeper:
        live.wake("t")
        started = time.monotonic()
        assert sleeper.wait(5)
        assert time.monotonic() - started < 0.1


def test_closed_sleepers_leave_nothing():
    live.waiter("gone").close()
    assert "gone" not in live._waiters


def test_latest_reading_is_the_last_published():
    assert live.latest_reading("org_1", "mch_1") is None
    live.publish_reading("org_1", "mch_1", {"n": 1})
    live.publish_reading("org_1", "mch_1", {"n": 2})
    assert live.latest_reading("org_1", "mch_1") == {"n": 2}
    assert live.readings_of("org_2", None) == []


class Standing(clock.SystemClock):
    """A clock that moves when it is told to."""

    at_s = 1000.0

    def monotonic(self):
        return self.at_s


def test_other_processes_hear_one_nudge_of_the_sealer_for_many_commits(settings, monkeypatch):
    settings.IS_FLEET = True
    sent, standing = [], Standing()
    monkeypatch.setattr(live, "_nudged_at_s", float("-inf"))
    monkeypatch.setattr(fan_out, "bridge", lambda: types.SimpleNamespace(send=sent.append, start_listening=id))
    previous = clock.install(standing)
    try:
        with live.waiter(live.SEALER_TOPIC) as sleeper:
            for _ in range(5):
                live.wake_sealer()
                assert sleeper._event.is_set()  # here each one wakes
        assert sent == [{"wake": live.SEALER_TOPIC}]
        standing.at_s += live.NUDGE_EVERY_S * 1.01
        live.wake_sealer()
        assert len(sent) == 2
    finally:
        clock.install(previous)


def collect(bridge):
    heard = []
    news = threading.Event()

    def hear(message):
        heard.append(message)
        news.set()

    bridge.start_listening(hear)
    return heard, news


def until(condition, timeout_s=8.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def bridges(redis_server):
    pair = fan_out.Bridge(redis_server.url), fan_out.Bridge(redis_server.url)
    yield pair
    for bridge in pair:
        bridge.close()


def test_message_reaches_other_processes_and_not_its_own(bridges):
    here, there = bridges
    own, _ = collect(here)
    others, _ = collect(there)
    until(lambda: here.is_connected and there.is_connected)
    here.send({"wake": "machine:1"})
    until(lambda: others)
    assert others[0]["wake"] == "machine:1"
    time.sleep(0.1)
    assert own == []


def test_of_a_machines_readings_other_processes_hear_the_newest_four_times_a_second():
    waiting, left = fan_out.Readings(), []
    for tick in range(400):  # 20 ms apart, a reading every 100 ms
        now_s = 1000 + tick * 0.02
        if tick % 5 == 0:
            waiting.put("a", ["org", "a", {"at_s": now_s}], now_s)
        left += [(now_s, reading[2]["at_s"]) for reading in waiting.take(now_s)]
    gaps_s = [after[0] - before[0] for before, after in zip(left, left[1:], strict=False)]
    assert 28 <= len(left) <= 33  # of 80, in 8 s
    assert min(gaps_s) > 0.2
    assert max(now_s - at_s for now_s, at_s in left) < 0.12 + fan_out.LEAVE_EVERY_S


def test_last_reading_before_silence_leaves_too():
    waiting = fan_out.Readings()
    for number in range(5):
        waiting.put("a", ["org", "a", {"n": number}], 1000 + number / 100)
    assert [reading[2] for reading in waiting.take(1000.1)] == [{"n": 4}]
    waiting.put("a", ["org", "a", {"n": 5}], 1000.11)
    assert waiting.take(1000.2) == []
    assert [reading[2] for reading in waiting.take(1000.5)] == [{"n": 5}]
    assert waiting.next_s == float("inf")


def test_machines_readings_leave_together():
    waiting = fan_out.Readings()
    asked = [waiting.put(f"m{number}", ["org", f"m{number}", {}], 1000.001 + number / 1000) for number in range(20)]
    assert asked.count(True) == 1  # the sender is told once
    assert len(waiting.take(1000.06)) == 20


def test_forgotten_reading_does_not_come_after_what_went_past_it():
    waiting = fan_out.Readings()
    waiting.put("a", ["org", "a", {"n": 1}], 1000.0)
    waiting.forget("a")
    assert waiting.take(1001.0) == []
    assert waiting.put("a", ["org", "a", {"n": 2}], 1001.0)  # and the next one is looked for again


def hears(bridge, organization_id="org"):
    """Until what others say of this organisation's machines reaches this bridge."""
    until(lambda: bridge.want_readings(organization_id))


def test_urgent_reading_is_the_last_word_of_its_machine(bridges):
    here, there = bridges
    others, _ = collect(there)
    hears(there)
    for number in range(30):
        here.send_reading("a", ["org", "a", {"n": number}], is_urgent=False)
        if number % 7 == 0:
            time.sleep(0.03)
    here.send_reading("a", ["org", "a", {"link": "down"}], is_urgent=True)
    until(lambda: any({"link": "down"} in reading for message in others for reading in message["readings"]))
    time.sleep(0.4)  # what was left behind would have come by now
    assert others[-1]["readings"][-1][2] == {"link": "down"}


def readings_in(messages):
    return [reading for message in messages for reading in message.get("readings", [])]


def test_who_does_not_look_hears_no_readings_and_no_other_organisations(bridges):
    here, there = bridges
    others, _ = collect(there)
    until(lambda: there.is_connected)
    for number, is_urgent in enumerate((True, False)):
        here.send_reading("m1", ["org", "m1", {"n": number}], is_urgent=is_urgent)
        time.sleep(2 * fan_out.LEAVE_EVERY_S)
    here.send({"wake": "after"})
    until(lambda: {"wake": "after"}.items() <= others[-1].items() if others else False)
    assert readings_in(others) == []
    hears(there, "org")
    here.send_reading("m2", ["org_2", "m2", {"n": 1}], is_urgent=True)
    here.send_reading("m1", ["org", "m1", {"n": 2}], is_urgent=True)
    until(lambda: readings_in(others))
    assert readings_in(others) == [["org", "m1", {"n": 2}]]


def test_who_looked_away_hears_no_more_after_a_while(bridges, monkeypatch):
    monkeypatch.setattr(fan_out, "WANTED_S", 0.3)
    monkeypatch.setattr(fan_out, "LOOK_EVERY_S", 0.05)
    here, there = bridges
    others, _ = collect(there)
    there.want_readings("org", until_s=float("inf"))
    hears(there)
    there.unwant_readings("org")
    until(lambda: any(message.get("lost") == "org" for message in others))
    here.send_reading("m", ["org", "m", {"n": 1}], is_urgent=True)
    here.send({"wake": "after"})
    until(lambda: any(message.get("wake") == "after" for message in others))
    assert readings_in(others) == []


@pytest.fixture
def fleet(bridges, settings, monkeypatch):
    """This process in a fleet, and a bridge that stands for another process."""
    settings.IS_FLEET = True
    monkeypatch.setattr(fan_out, "bridge", lambda: bridges[0])
    return bridges[1]


def test_who_begins_to_look_is_told_the_newest_at_once(fleet):
    def tells(message):
        if message.get("tell") == "org":
            fleet.send_readings("org", [["org", "m", {"n": 7}]])

    fleet.start_listening(tells)
    until(lambda: fleet.is_connected)
    assert live.latest_reading("org", "m") is None
    until(lambda: live.latest_reading("org", "m") == {"n": 7})
    assert live.latest_reading("org_2", "m") is None


def test_who_has_readings_tells_those_who_begin_to_look(fleet):
    with live.waiter("any") as sleeper:  # as every process of ours has one
        others, _ = collect(fleet)

        def is_reached():
            fleet.send({"wake": "any"})
            return sleeper.wait(0.2)

        until(is_reached)  # connected is not yet subscribed: who asks sooner is not heard
        live.publish_reading("org", "m", {"n": 1, "said_at": "1"})
        live.publish_reading("org_2", "m2", {"n": 2})
        live.wake("after")
        until(lambda: any(message.get("wake") == "after" for message in others))  # what was said has left, unheard
        assert readings_in(others) == []
        hears(fleet)
        until(lambda: readings_in(others))
    assert readings_in(others) == [["org", "m", {"n": 1, "said_at": "1"}]]


def test_what_was_said_here_is_not_the_newest_for_long_where_nothing_is_heard(settings, monkeypatch):
    settings.IS_FLEET = True
    deaf = types.SimpleNamespace(
        start_listening=id, send_reading=lambda *_a, **_k: None, want_readings=lambda *_a, **_k: False
    )
    monkeypatch.setattr(fan_out, "bridge", lambda: deaf)
    standing = Standing()
    previous = clock.install(standing)
    try:
        live.publish_reading("org", "m", {"n": 1})
        assert live.latest_reading("org", "m") == {"n": 1}
        standing.at_s += live.OWN_S
        assert live.latest_reading("org", "m") is None
    finally:
        clock.install(previous)


def test_an_answer_that_was_long_on_its_way_is_not_the_newest():
    live.hear({"readings": [["org", "m", {"n": 2, "said_at": "2026-11-22T00:00:02.000000Z"}]]})
    live.hear({"readings": [["org", "m", {"n": 1, "said_at": "2026-11-22T00:00:01.000000Z"}]]})
    assert live.latest_reading("org", "m") == {"n": 2, "said_at": "2026-11-22T00:00:02.000000Z"}
    live.hear({"lost": "org_2"})
    assert live.readings_of("org", None)
    live.hear({"lost": "org"})
    assert live.readings_of("org", None) == []


def test_readings_of_other_processes_are_heard_and_nonsense_changes_nothing():
    live.hear({"readings": [["org", "m", {"n": 1}], ["org", "m"], "x", ["org", "m", 3]]})
    live.hear({"readings": "x"})
    assert live.latest_reading("org", "m") == {"n": 1}


def test_frozen_redis_blocks_nobody_and_comes_back(redis_server, bridges, monkeypatch):
    monkeypatch.setattr(fan_out, "PING_S", 0.5)
    here, there = bridges
    others, _ = collect(there)
    until(lambda: there.is_connected)
    redis_server.freeze()
    try:
        started = time.monotonic()
        for number in range(5000):
            here.send_reading("mch_1", ["org_1", "mch_1", {"n": number}], is_urgent=number % 2 == 0)
        assert time.monotonic() - started < 0.5
        until(lambda: not there.is_connected)
    finally:
        redis_server.thaw()
    until(lambda: there.is_connected)

    def heard_again():
        here.send({"wake": "again"})
        return any(message.get("wake") == "again" for message in others)

    until(heard_again)


def test_redis_that_dies_and_returns_is_found_again(tmp_path):
    server = servers.start_redis()
    port = server.url.rsplit(":", 1)[1].split("/")[0]
    here, there = fan_out.Bridge(server.url), fan_out.Bridge(server.url)
    others, _ = collect(there)
    try:
        until(lambda: there.is_connected)
        server.stop()
        until(lambda: not there.is_connected)
        server = servers.start_redis(int(port))

        def heard():
            here.send({"wake": "again"})
            return bool(others)

        until(heard)
    finally:
        here.close()
        there.close()
        server.stop()


def test_broker_that_is_away_costs_the_caller_nothing(db, settings, redis_server, django_capture_on_commit_callbacks):
    """In the fleet one thread owns the broker's connection; publishing only queues."""
    settings.IS_FLEET = True
    with django_capture_on_commit_callbacks() as callbacks:
        work.publish("kernel.tasks.prune")
    sent = []
    work._ensure_sender()
    started = time.monotonic()
    for callback in callbacks:
        callback()
    sent.append(time.monotonic() - started)
    assert max(sent) < 0.2
