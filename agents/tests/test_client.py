"""The client against real sockets: bounded repeats, resumption, and errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import client as client_module
from agents.client import Event, Refused, RoastOpsClient, Unauthorized, Unreachable, parse_events
from agents.tests.http_double import Heard, HttpDouble, decision_frame, reading_frame, serving


@pytest.fixture
def double() -> Iterator[HttpDouble]:
    with serving(HttpDouble()) as server:
        yield server


def speak(double: HttpDouble, naps: list[float] | None = None) -> RoastOpsClient:
    slept = naps if naps is not None else []
    return RoastOpsClient(double.url, "ro_abc_secret", sleep=slept.append, timeout_s=2.0)


def test_every_request_carries_the_key(double: HttpDouble) -> None:
    double.answers["GET", "/v1/machines"] = lambda _heard: (200, {"results": [{"machine_id": "mch_1"}]})
    assert speak(double).machines() == [{"machine_id": "mch_1"}]
    assert double.heard[0].headers["Authorization"] == "Bearer ro_abc_secret"


def test_a_post_repeats_after_503_with_the_same_idempotency_key(double: HttpDouble) -> None:
    answers = iter([(503, {"error": "draining"}), (503, {"error": "draining"}), (201, {"proposal_id": "prp_1"})])
    double.answers["POST", "/v1/proposals"] = lambda _heard: next(answers)
    naps: list[float] = []
    assert speak(double, naps).propose({"machine_id": "mch_1"}, idempotency_key="k1") == {"proposal_id": "prp_1"}
    assert [heard.headers["Idempotency-Key"] for heard in double.heard] == ["k1", "k1", "k1"]
    assert naps == [0.2, 0.5]


def test_repeats_are_bounded(double: HttpDouble) -> None:
    double.answers["GET", "/v1/machines/mch_1"] = lambda _heard: (
        503,
        {"error": "database_unavailable", "message": "no"},
    )
    with pytest.raises(Unreachable) as caught:
        speak(double).machine("mch_1")
    assert caught.value.code == "database_unavailable"
    assert len(double.heard) == client_module.ATTEMPTS


def test_401_is_not_repeated_and_says_so(double: HttpDouble) -> None:
    body = {"error": "key_revoked", "message": "This API key was revoked.", "how_to_fix": "Ask an admin."}
    double.answers["GET", "/v1/machines"] = lambda _heard: (401, body)
    with pytest.raises(Unauthorized) as caught:
        speak(double).machines()
    assert str(caught.value) == "This API key was revoked. [key_revoked] Ask an admin."
    assert len(double.heard) == 1


@pytest.mark.parametrize("status", [400, 403, 404, 409, 412, 422])
def test_a_refusal_is_not_repeated(double: HttpDouble, status: int) -> None:
    double.answers["POST", "/v1/proposals"] = lambda _heard: (status, {"error": "no", "message": "No."})
    with pytest.raises(Refused) as caught:
        speak(double).propose({}, idempotency_key="k")
    assert (caught.value.status, len(double.heard)) == (status, 1)


def test_a_twin_in_progress_is_waited_for(double: HttpDouble) -> None:
    answers = iter([(409, {"error": "in_progress"}), (201, {"proposal_id": "prp_1"})])
    double.answers["POST", "/v1/proposals"] = lambda _heard: next(answers)
    assert speak(double).propose({}, idempotency_key="k")["proposal_id"] == "prp_1"


def test_a_server_that_is_not_there_is_unreachable() -> None:
    with serving(HttpDouble()) as double:
        url = double.url
    naps: list[float] = []
    with pytest.raises(Unreachable):
        RoastOpsClient(url, "k", sleep=naps.append).machines()
    assert len(naps) == client_module.ATTEMPTS - 1


def test_the_stream_resumes_after_the_last_decision_seen(double: HttpDouble) -> None:
    def frames(heard: Heard) -> Iterator[str]:
        yield "retry: 1000\n\n"
        after = int(heard.headers.get("Last-Event-ID", "0"))
        yield decision_frame(after + 1, "halt", "hlt_1", {})
        yield reading_frame(device_ms=1)

    double.frames = frames
    naps: list[float] = []
    events = list(islice(speak(double, naps).follow("mch_1"), 8))
    assert [event.kind for event in events] == ["connected", "decision", "reading", "lost"] * 2
    assert [event.number for event in events if event.kind == "decision"] == [1, 2]
    assert "Last-Event-ID" not in double.heard[0].headers
    assert naps == [1.0], "the server's own retry time is kept"


def test_the_stream_waits_longer_while_the_server_is_away_and_comes_back(double: HttpDouble) -> None:
    answers = iter([503, 503, 200])

    def frames(_heard: Heard) -> Iterator[str]:
        yield reading_frame(device_ms=7)

    def refuse(_heard: Heard) -> tuple[int, dict[str, str]]:
        if next(answers) == 200:
            double.frames = frames
        return 503, {"error": "draining", "message": "shutting down"}

    double.answers["GET", "/v1/stream"] = refuse
    naps: list[float] = []
    kinds = [event.kind for event in islice(speak(double, naps).follow("mch_1"), 5)]
    assert kinds == ["lost", "lost", "lost", "connected", "reading"]
    assert naps == [0.2, 0.5, 1.0]


def test_the_stream_stops_for_good_at_401(double: HttpDouble) -> None:
    double.answers["GET", "/v1/stream"] = lambda _heard: (401, {"error": "key_unknown", "message": "unknown"})
    with pytest.raises(Unauthorized):
        list(speak(double).follow("mch_1"))


def test_a_frame_without_end_is_not_kept_for_ever() -> None:
    with pytest.raises(Unreachable, match="1000000"):
        list(parse_events(b"data: " + b"x" * 65_536 for _ in range(100)))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_however_the_bytes_are_cut_the_events_are_the_same(cuts: list[int]) -> None:
    text = (
        'retry: 1500\r\n\r\n: heartbeat\n\nevent: decision\nid: 7\ndata: {"a":\ndata: 1}\n\n'
        'event: reading\ndata: {"b": "é"}\n\nevent: reading\ndata: not json\n\n'
    )
    raw, pieces = text.encode(), []
    for cut in cuts:
        pieces.append(raw[:cut])
        raw = raw[cut:]
    pieces.append(raw)
    assert list(parse_events(iter(pieces))) == [
        Event("retry", {"retry_s": 1.5}),
        Event("silence"),
        Event("decision", {"a": 1}, 7),
        Event("reading", {"b": "é"}),
    ]
