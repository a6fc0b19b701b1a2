"""How often a key may ask: what is counted, what is left, and what is never turned away."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel import clock, request_gate, request_limits
from kernel.models import IdempotencyRecord
from kernel.request_counts import BLOCKS, LEFT_ALONE_S, MemoryCounts, RedisCounts
from kernel.request_gate import Door
from kernel.request_limits import WINDOW_S, Kind, is_exempt, is_for_its_view, kind_of, limit_of, rule

MANY = settings(max_examples=300, deadline=None)
NOON = dt.datetime(2026, 11, 21, 12, 0, tzinfo=dt.UTC).timestamp()  # where a window begins


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/v1/proposals", "read"), ("HEAD", "/v1/me", "read"), ("POST", "/v1/proposals", "propose"),
        ("POST", "/v1/proposals/", "propose"), ("POST", "/v1/plans", "propose"),
        ("POST", "/v1/proposals/prp_1/approve", "write"), ("DELETE", "/v1/order-views/vw_1", "write"),
    ],
)  # fmt: skip
def test_what_a_request_counts_as(method: str, path: str, kind: str) -> None:
    assert kind_of(method, path) == kind


@pytest.mark.parametrize("path", ["/v1/machines/mch_1/stop", "/v1/machines/mch_1/stop/"])
@pytest.mark.parametrize("is_person", [True, False])
def test_stop_is_nobodys_to_limit(path: str, is_person: bool) -> None:
    assert is_exempt(path, is_person=is_person)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/machines/mch_1/suspend", "/v1/proposals/prp_1/reject", "/v1/proposals/prp_1/veto",
        "/v1/plans/pln_1/abort", "/v1/alarms/alm_1/acknowledge",
    ],
)  # fmt: skip
def test_a_persons_no_is_not_limited_an_agents_is(path: str) -> None:
    assert is_exempt(path, is_person=True) and not is_exempt(path, is_person=False)


@pytest.mark.parametrize("path", ["/v1/proposals", "/v1/proposals/prp_1/approve", "/v1/machines/a/b/stop", "/v1/me"])
def test_the_rest_is_limited_for_people_too(path: str) -> None:
    assert not is_exempt(path, is_person=True)


def test_a_persons_order_over_the_limit_is_for_its_view_to_see() -> None:
    assert is_for_its_view("POST", "/v1/proposals", is_person=True)
    assert not is_for_its_view("POST", "/v1/proposals", is_person=False)
    assert not is_for_its_view("GET", "/v1/proposals", is_person=True)
    assert not is_for_its_view("POST", "/v1/plans", is_person=True)


counts = st.integers(0, 500)


@MANY
@given(st.integers(1, 300), counts, counts, st.floats(0, 59.999))
def test_the_wait_is_long_enough_and_no_longer_than_two_windows(limit: int, before: int, now: int, into: float) -> None:
    now, before = min(now, limit), min(before, limit)
    ruling = rule(limit, before=before, now=now, into_s=into)
    assert ruling.is_over == (ruling.left == 0) and 0 <= ruling.retry_after_s <= 2 * WINDOW_S
    if not ruling.is_over:
        assert ruling.retry_after_s == 0
        return
    later = into + ruling.retry_after_s + 1e-6
    again = rule(limit, before=before, now=now, into_s=later) if later < WINDOW_S else rule(
        limit, before=now, now=0, into_s=later - WINDOW_S
    )
    assert not again.is_over or later >= 2 * WINDOW_S


@MANY
@given(st.integers(1, 40), st.lists(st.floats(0, 20), min_size=1, max_size=150))
def test_no_minute_lets_more_than_twice_and_no_clock_minute_more_than_the_limit_through(
    limit: int, gaps_s: list[float]
) -> None:
    """A window that slides by weight may let a little more into some minute than the limit, never twice as much."""
    memory, at_s, passed = MemoryCounts(), NOON, []
    for gap_s in gaps_s:
        at_s += gap_s
        if not memory.take("one", limit, at_s).is_over:
            passed.append(at_s)
    for at_s in passed:
        assert sum(at_s - WINDOW_S < other <= at_s for other in passed) < 2 * limit + 1
        assert sum(other // WINDOW_S == at_s // WINDOW_S for other in passed) <= limit


def test_the_limit_on_both_sides_and_one_key_does_not_count_for_another() -> None:
    memory = MemoryCounts()
    answers = [memory.take("one", 3, NOON) for _ in range(4)]
    assert [answer.is_over for answer in answers] == [False, False, False, True]
    assert [answer.left for answer in answers] == [3, 2, 1, 0]
    assert not memory.take("two", 3, NOON).is_over
    assert answers[3].retry_after_s == pytest.approx(WINDOW_S + WINDOW_S / 3)
    assert memory.take("one", 3, NOON + answers[3].retry_after_s - 0.01).is_over
    assert not memory.take("one", 3, NOON + answers[3].retry_after_s + 0.01).is_over


def test_a_refused_request_does_not_count() -> None:
    memory = MemoryCounts()
    for second in range(200):
        memory.take("one", 2, NOON + second / 10)
    assert not memory.take("one", 2, NOON + 1.6 * WINDOW_S).is_over


def test_memory_does_not_grow_with_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernel.request_counts.MAX_NAMES", 10)
    memory = MemoryCounts()
    for number in range(100):
        memory.take(f"key {number}", 1, NOON)
    assert len(memory._seen) <= 10


# --- in Redis


@pytest.fixture
def in_redis(redis_server: Any) -> RedisCounts:
    return RedisCounts(redis_server.url)


def test_two_processes_share_one_limit_in_redis(redis_server: Any) -> None:
    name, limit = f"shared {time.monotonic_ns()}", 2 * BLOCKS
    one, other = RedisCounts(redis_server.url), RedisCounts(redis_server.url)
    passed = sum(not counts.take(name, limit, NOON).is_over for _ in range(limit) for counts in (one, other))
    assert passed == limit
    assert one.take(name, limit, NOON).is_over and other.take(name, limit, NOON).is_over
    assert not one.take(name, limit, NOON + 2 * WINDOW_S).is_over


def test_a_small_limit_is_kept_to_the_last_request_in_redis(in_redis: RedisCounts) -> None:
    name = f"small {time.monotonic_ns()}"
    assert [in_redis.take(name, 3, NOON).is_over for _ in range(5)] == [False] * 3 + [True] * 2


def test_without_redis_the_process_counts_for_itself_and_nobody_waits() -> None:
    nowhere = RedisCounts("redis://127.0.0.1:1/0")
    begun_s = time.process_time()
    assert [nowhere.take("one", 2, NOON).is_over for _ in range(3)] == [False, False, True]
    assert time.process_time() - begun_s < 5
    assert nowhere._alone_until_s > clock.monotonic() + LEFT_ALONE_S / 2


def test_a_redis_that_hangs_is_left_alone(redis_server: Any) -> None:
    hung = RedisCounts(redis_server.url)
    redis_server.freeze()
    try:
        assert [hung.take("one", 2, NOON).is_over for _ in range(3)] == [False, False, True]
    finally:
        redis_server.thaw()


# --- at the door


@pytest.fixture
def door() -> Iterator[Any]:
    """`door(3)`: three proposals a minute, six writes, fifteen reads."""

    def opened(proposals_per_minute: int) -> None:
        request_gate.open_door(Door(MemoryCounts(), proposals_per_minute))

    yield opened
    request_gate.take_door_away()


@pytest.fixture(autouse=True)
def _one_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test's requests fall into two windows: the door's own clock stands."""

    class Standing:
        @staticmethod
        def now() -> dt.datetime:
            return dt.datetime.fromtimestamp(NOON, dt.UTC)

        monotonic = staticmethod(clock.monotonic)

    monkeypatch.setattr(request_gate, "clock", Standing)


def test_nothing_is_limited_where_no_server_opened_its_door(people: Any, signed_in: Any) -> None:
    console = signed_in(people.operator)
    answers = [console.get("/v1/me") for _ in range(40)]
    assert {answer.status_code for answer in answers} == {200} and "RateLimit-Limit" not in answers[0]


def test_the_door_says_what_is_left_and_then_429_with_retry_after(door: Any, agent: Any, api_by_key: Any) -> None:
    door(1)
    caller = api_by_key(agent=agent, scopes=["read"])
    answers = [caller.get("/v1/me") for _ in range(limit_of(Kind.READ, 1) + 1)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert [answer["RateLimit-Remaining"] for answer in answers] == ["4", "3", "2", "1", "0", "0"]
    refused = answers[-1]
    body = refused.json()
    assert body["error"] == "too_many_requests" and body["retry_after_s"] == int(refused["Retry-After"]) == 72
    assert body["message"] == "roastrunner: 5 requests of this kind (read) within a minute are all there is."
    assert set(body) == {"error", "message", "how_to_fix", "retry_after_s", "limit", "window_s", "kind"}


def test_a_second_key_of_the_same_agent_does_not_double_its_limit(door: Any, agent: Any, api_by_key: Any) -> None:
    door(1)
    keys = [api_by_key(agent=agent, scopes=["read"]) for _ in range(2)]
    assert [keys[number % 2].get("/v1/me").status_code for number in range(6)] == [200] * 5 + [429]


def test_an_organisations_agents_share_a_limit_that_is_not_its_peoples(
    door: Any, organization: Any, people: Any, signed_in: Any, api_by_key: Any
) -> None:
    from kernel.models import Agent

    door(1)
    codes = []
    for number in range(5):
        agent = Agent.objects.create(organization=organization, name=f"a{number}", created_at=clock.now())
        caller = api_by_key(agent=agent, scopes=["read"])
        codes += [caller.get("/v1/me").status_code for _ in range(5)]
    assert codes == [200] * 20 + [429] * 5, "four agents at full speed are all there is"
    assert signed_in(people.operator).get("/v1/me").status_code == 200


def test_a_stranger_is_asked_who_they_are_and_not_counted(door: Any, api: Any, db: Any) -> None:
    door(1)
    assert {api.get("/v1/me").status_code for _ in range(20)} == {401}


def test_pages_are_not_limited(door: Any, people: Any, signed_in: Any) -> None:
    door(1)
    console = signed_in(people.operator)
    assert 429 not in {console.get("/livez").status_code for _ in range(20)}


def test_a_429_is_not_kept_under_an_idempotency_key(db: Any) -> None:
    """Else the same request, sent again when there is room, would be refused for a day."""
    from kernel.errors import TooMany
    from kernel.idempotency import _captured

    def act() -> Any:
        raise TooMany("too_many_requests", "no", "wait", retry_after_s=3)

    with pytest.raises(TooMany):
        _captured(act, None)  # type: ignore[arg-type]
    assert not IdempotencyRecord.objects.exists()


def test_the_first_refusals_are_told_one_by_one_and_a_flood_by_the_bunch(monkeypatch: pytest.MonkeyPatch) -> None:
    class Runner:
        id, name, is_agent = "agt_1", "runner", True

    told: list[int] = []
    at_s = [100.0]
    monkeypatch.setattr(request_gate, "_listeners", [lambda principal, kind, count: told.append(count)])
    monkeypatch.setattr(request_gate.clock, "monotonic", lambda: at_s[0], raising=False)
    for _ in range(7):
        request_gate._note(Runner, Kind.READ)  # type: ignore[arg-type]
    assert told == [1, 1, 1], "three in ten minutes are an alert"
    at_s[0] += request_gate.TELL_EVERY_S
    request_gate._note(Runner, Kind.READ)  # type: ignore[arg-type]
    assert told == [1, 1, 1, 5], "four that were not told, and this one"
    at_s[0] += request_gate.QUIET_S
    for _ in range(2):
        request_gate._note(Runner, Kind.READ)  # type: ignore[arg-type]
    assert told[4:] == [1, 1], "after a quiet while they are the first again"
    request_gate.take_door_away()


def test_a_limit_of_none_opens_no_door(settings: Any) -> None:
    settings.REQUESTS_PER_MINUTE = 0
    request_gate.open_door()
    assert request_gate._door is None
    assert request_limits.limit_of(Kind.WRITE, 600) == 1200
