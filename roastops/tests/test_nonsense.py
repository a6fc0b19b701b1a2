"""A real server, met by nonsense: 4xx in the contract's one shape, never a 5xx, and it goes on serving."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import re
import socket

import httpx
import pytest

from roastops.tests.one_server import PUBLIC, addresses, ask, is_refusal, signed_in
from roastops.tests.stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
NUL, LONE_SURROGATE = "\0", "\ud800"


def raw_headers(*pairs: tuple[str, str]) -> httpx.Headers:
    """Headers as latin-1 bytes, as a careless client sends them."""
    return httpx.Headers([(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs])


BODIES: dict[str, bytes] = {
    "nothing": b"",
    "not json": b"{",
    "a list": b"[]",
    "null": b"null",
    "a number": b"7",
    "NUL in text": json.dumps({"machine_id": NUL, "reasoning": "a\0b", "order_type": "SET_POWER"}).encode(),
    "a raw NUL": b'{"reasoning": "a\0b"}',
    "a NUL in a name": b'{"a\\u0000": 1}',
    "not UTF-8": b'{"reasoning": "\xff\xfe"}',
    "UTF-16": json.dumps({"reasoning": "x"}).encode("utf-16"),
    "half a character": json.dumps({"reasoning": LONE_SURROGATE}).encode(),
    "half a character in a name": json.dumps({LONE_SURROGATE: 1}).encode(),
    "1e400": b'{"target_value": 1e400, "expires_in_s": 1e400}',
    "NaN": b'{"target_value": NaN}',
    "-Infinity": b'{"target_value": -Infinity}',
    "a giant integer": b'{"target_value": ' + b"9" * 4000 + b"}",
    "a giant integer beyond Python's limit": b'{"target_value": ' + b"9" * 5000 + b"}",
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "deep and whole": b'{"evidence": ' + b"[" * 500 + b"]" * 500 + b"}",
    "many names": json.dumps({f"n{number}": number for number in range(3000)}).encode(),
    "a name twice": b'{"reasoning": "a", "reasoning": {"b": []}}',
    "a name with a brace": b'{"%s {0} %(x)s": 1}',
}


def posts(ids: dict[str, str]) -> list[str]:
    """Every POST of the API but STOP, which reads no body unless it must."""
    proposal, machine = f"/v1/proposals/{ids['proposal_id']}", f"/v1/machines/{ids['machine_id']}"
    return [
        "/v1/proposals",
        "/v1/grants",
        f"/v1/grants/{ids['grant_id']}/revoke",
        f"{machine}/reset",
        f"{machine}/suspend",
        f"{machine}/resume",
        f"{machine}/resume-orders",
        f"{machine}/alarms/acknowledge",
        "/v1/roasts",
        f"/v1/roasts/{ids['roast_id']}/events",
        f"/v1/roasts/{ids['roast_id']}/withdraw",
        *(f"{proposal}/{act}" for act in ("approve", "reject", "adopt", "abort")),
        f"/v1/alarms/{ids['alarm_id']}/acknowledge",
    ]


@pytest.mark.parametrize("name", BODIES)
def test_a_senseless_body_is_refused(name: str, house: Stack, wire: httpx.Client) -> None:
    """By every POST, by a lead who may do all of it. An empty body, or {}, may be all an act needs."""
    headers = {**house.headers("lead"), "Content-Type": "application/json"}
    for path in posts(house.demo["ids"]):
        answer = wire.post(path, content=BODIES[name], headers=headers)
        if name == "nothing":
            assert answer.status_code < 500, (path, answer.text[:300])
        else:
            assert is_refusal(answer.status_code, answer.text), (path, answer.status_code, answer.text[:300])
            assert answer.status_code in (400, 413), (path, answer.status_code)


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/xml",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/x-www-form-urlencoded",
        "é",
        "application/json; charset=nonsense",
        "a/" + "b" * 5000,
    ],
)
def test_another_content_type_is_refused(kind: str, house: Stack, wire: httpx.Client) -> None:
    headers = {**house.headers("lead"), "Content-Type": kind}
    raw = raw_headers(*headers.items())
    for path in posts(house.demo["ids"]):
        answer = wire.post(path, content=b"--x\r\nreason=1", headers=raw)
        assert is_refusal(answer.status_code, answer.text), (path, answer.status_code, answer.text[:300])


def test_ten_megabytes_are_refused_and_the_server_lives(house: Stack, wire: httpx.Client) -> None:
    big = b'{"reasoning": "' + b"x" * 10_000_000 + b'"}'
    for path in (
        "/v1/proposals",
        f"/v1/machines/{house.demo['machine_id']}/reset",
        "/sign-in/",
        "/admin/login/",
        "/v1/me",
    ):
        headers = {**house.headers("lead"), "Content-Type": "application/json"}
        with contextlib.suppress(httpx.WriteError, httpx.ReadError):  # told no and hung up while we still sent
            answer = wire.post(path, content=big, headers=headers)
            assert is_refusal(answer.status_code, answer.text), (path, answer.status_code, answer.text[:200])
    two = wire.post(
        "/v1/proposals", content=big[:1_500_000], headers={**house.headers("lead"), "Content-Type": "application/json"}
    )
    assert is_refusal(two.status_code, two.text), (two.status_code, two.text[:200])
    assert two.status_code == 413
    assert wire.get("/readyz").status_code == 200


def test_an_idempotency_key_means_one_request(house: Stack, wire: httpx.Client) -> None:
    headers = {**house.headers("operator"), "Idempotency-Key": "strangers-1"}
    body = {
        "machine_id": house.demo["machine_id"],
        "order_type": "SET_FAN",
        "target_value": 3,
        "target_unit": "step",
        "reasoning": "once",
    }
    first, twin = (wire.post("/v1/proposals", json=body, headers=headers) for _turn in range(2))
    other = wire.post("/v1/proposals", json={**body, "target_value": 4}, headers=headers)
    assert (first.status_code, twin.status_code) == (201, 201)
    assert first.json()["proposal_id"] == twin.json()["proposal_id"]
    assert twin.headers["Idempotent-Replay"] == "true"
    assert (other.status_code, other.json()["error"]) == (422, "idempotency_key_reused")
    for key in ("", "x" * 201, "x" * 5000, "a\tb", "é" * 201):
        raw = raw_headers(("Authorization", headers["Authorization"]), ("Idempotency-Key", key))
        answer = wire.post("/v1/proposals", json=body, headers=raw)
        assert is_refusal(answer.status_code, answer.text), (key, answer.status_code, answer.text[:200])


LISTS = ("/v1/machines", "/v1/proposals", "/v1/proposals/pending", "/v1/roasts", "/v1/grants", "/v1/envelopes")
QUERIES = (
    "limit=0",
    "limit=-1",
    "limit=9999",
    "limit=201",
    "limit=1e3",
    "limit=%00",
    "limit=",
    "limit=%D9%A3x",
    "limit=1&limit=2",
    "limit=" + "9" * 5000,
    "cursor=x",
    "cursor=%FF",
    "cursor=bnVsbA",
    "cursor=W10",
    "cursor=WzFd",
    "cursor=WyJhIiwiYiJd",
    "cursor=WzFlOTk5LCJhIl0",
    "cursor=WyIyMDI2LTAxLTAxIiwiXHUwMDAwIl0",
    "cursor=" + "W" * 401,
    "cursor=%C3%A9",
    "nonsense=1",
    "machne=x",
    "%FF=%FE",
    "limit=5;cursor=x",
    "&".join(f"n{number}=1" for number in range(300)),
    "%00=1",
    "machine=%00",
    "machine=a%00b",
    "from=yesterday",
    "cursor=W05hTiwiYSJd",
    "cursor=W3RydWUsdHJ1ZV0",
    "q=" + "x" * 20_000,
    "cursor=Wy0xZTQwMCwgImEiXQ",
    "cursor=WyI5OTk5OS0wMS0wMSIsICJhIl0",
    "cursor=WyIwMDAxLTAxLTAxVDAwOjAwOjAwKzIzOjU5IiwgImEiXQ",
)


#: [1], ["a","b"] and ["0001-01-01T00:00:00+23:59","a"]: a list sorted by a text, or by a time, can read them.
SHAPED_LIKE_CURSORS = {
    "cursor=WyI5OTk5OS0wMS0wMSIsICJhIl0",  # ["99999-01-01", "a"]
    "cursor=WzFd",
    "cursor=WyJhIiwiYiJd",
    "cursor=WyIwMDAxLTAxLTAxVDAwOjAwOjAwKzIzOjU5IiwgImEiXQ",
}


@pytest.mark.parametrize("path", LISTS)
def test_a_senseless_query_is_refused(path: str, house: Stack, wire: httpx.Client) -> None:
    for query in QUERIES:
        answer = wire.get(f"{path}?{query}", headers=house.headers("operator"))
        is_cursor_somewhere = query in SHAPED_LIKE_CURSORS and answer.status_code == 200
        assert is_cursor_somewhere or is_refusal(answer.status_code, answer.text), (
            query[:80],
            answer.status_code,
            answer.text[:300],
        )
    page = wire.get(f"{path}?limit=1", headers=house.headers("operator")).json()
    assert len(page["results"]) <= 1


def test_the_cursor_of_another_list_is_refused_or_harmless(house: Stack, wire: httpx.Client) -> None:
    cursors = {}
    for path in LISTS:
        cursors[path] = wire.get(f"{path}?limit=1", headers=house.headers("operator")).json()["next_cursor"]
    given = [cursor for cursor in cursors.values() if cursor]
    assert given, "some list has a second page"
    for path, cursor in itertools.product(LISTS, given):
        answer = wire.get(path, params={"cursor": cursor}, headers=house.headers("operator"))
        assert answer.status_code in (200, 400), (path, cursor, answer.text[:300])


SAMPLE_QUERIES = (
    "fields=nonsense",
    "fields=%00",
    "from_ms=-1",
    "to_ms=99999999999999999999",
    "step=0",
    "step=1.5",
    "fields=id",
    "from_ms=x",
)


def test_senseless_samples_are_refused(house: Stack, wire: httpx.Client) -> None:
    path = f"/v1/roasts/{house.demo['ids']['roast_id']}/samples"
    for query in SAMPLE_QUERIES:
        answer = wire.get(f"{path}?{query}", headers=house.headers("operator"))
        assert is_refusal(answer.status_code, answer.text), (query, answer.status_code, answer.text[:200])


IDS = (
    "%00",
    "a%00b",
    "%FF%FE",
    "%ED%A0%80",
    "..%2f..%2fetc%2fpasswd",
    "x" * 3000,
    "%C3%A9",
    "' OR 1=1 --",
    "{}",
    "%25",
    "mch_",
    "%0d%0aX-Evil:%201",
    "1e400",
    "-1",
    "nul",
    "%E2%80%AE",
)


@pytest.mark.parametrize("name", ["machines", "proposals", "roasts", "grants", "alarms"])
def test_a_senseless_id_is_refused(name: str, house: Stack, wire: httpx.Client) -> None:
    tails = {
        "machines": ("", "/stop", "/reset"),
        "proposals": ("", "/approve", "/timeline"),
        "roasts": ("", "/samples", "/events"),
        "grants": ("/revoke",),
        "alarms": ("/acknowledge",),
    }[name]
    for identity, tail, method in itertools.product(IDS, tails, ("GET", "POST", "PUT", "DELETE")):
        url = httpx.URL(house.url("/")).copy_with(raw_path=f"/v1/{name}/{identity}{tail}".replace(" ", "%20").encode())
        answer = wire.request(method, url, headers=house.headers("lead"), json={} if method == "POST" else None)
        assert is_refusal(answer.status_code, answer.text), (method, url, answer.status_code, answer.text[:300])
        assert answer.status_code < 500
        assert "x-evil" not in answer.headers


def test_every_method_on_every_address(house: Stack, wire: httpx.Client) -> None:
    """As a lead who may all: no 5xx but STOP's honest answer, refusals in one shape, 405 where nothing is."""
    for path in addresses(house.demo["ids"]):
        if path.endswith("/stop") or path.startswith(("/admin/logout", "/sign-out")):
            continue
        for method in ("HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "gEt"):
            status, text, headers = ask(wire, method, path, headers=house.headers("lead"))
            assert status < 500, (method, path, text[:300])
            if path.startswith("/v1/") and path not in PUBLIC and status >= 400:
                assert is_refusal(status, text, method), (method, path, status, text[:300])
                assert status != 405 or method in ("HEAD", "OPTIONS") or "allow" in headers, (method, path)


def test_senseless_headers(house: Stack, wire: httpx.Client) -> None:
    """Keys, cookies and conditions of garbage: refused or ignored, never a 5xx."""
    machine = f"/v1/machines/{house.demo['machine_id']}"
    proposal = f"/v1/proposals/{house.demo['ids']['proposal_id']}"
    for key in (
        "Bearer",
        "Bearer x",
        "Bearer ro_a_b",
        "Bearer ro_é_é",
        "bearer " + "ro_x_" + "y" * 6000,
        "Basic eDp5",
        "Bearer a b c",
        "ro_x",
    ):
        for path in ("/v1/me", machine, "/v1/stream", "/healthz"):
            answer = wire.get(path, headers=raw_headers(("Authorization", key)))
            assert is_refusal(answer.status_code, answer.text), (key[:30], path, answer.status_code, answer.text[:200])
            assert answer.status_code == 401, (key[:30], path)
    for cookie in (
        "sessionid=",
        "sessionid=" + "x" * 6000,
        "sessionid=\xff",
        "sessionid=a; sessionid=b",
        "=;=;=",
        "sessionid=' OR 1=1",
        'sessionid="\\000"',
    ):
        for path in ("/v1/me", "/v1/stream", "/"):
            answer = wire.get(path, headers=raw_headers(("Cookie", cookie)))
            assert answer.status_code in (302, 400, 401), (cookie[:30], path, answer.status_code)
    for name, value in (
        ("If-None-Match", 'W/"' + "x" * 9000),
        ("X-Request-ID", "a\x80b" * 50),
        ("Accept", "text/xml"),
        ("Accept", "*/*;q=é"),
        ("Host", "é"),
        ("Host", "a b"),
        ("X-Forwarded-For", "x" * 9000),
        ("Range", "bytes=0-1"),
        ("Expect", "nonsense"),
        ("Accept-Language", "x" * 9000),
        ("X-HTTP-Method-Override", "DELETE"),
        ("Content-Length", "0"),
    ):
        raw = raw_headers(*house.headers("operator").items(), (name, value))
        answer = wire.get(proposal, headers=raw)
        assert answer.status_code == 200 or is_refusal(answer.status_code, answer.text), (
            name,
            value[:30],
            answer.status_code,
            answer.text[:200],
        )


def test_headers_larger_than_any_server_reads(house: Stack, wire: httpx.Client) -> None:
    with contextlib.suppress(httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):  # hanging up is an answer
        answer = wire.get("/v1/me", headers={"X-Large": "x" * 500_000, **house.headers("operator")})
        assert answer.status_code < 500
    assert wire.get("/readyz").status_code == 200


def raw_exchange(house: Stack, request: bytes) -> bytes:
    """Bytes out, whatever comes back within a moment."""
    with socket.create_connection(("127.0.0.1", house.port), 5) as line:
        line.settimeout(1.5)
        line.sendall(request)
        with contextlib.suppress(TimeoutError, ConnectionError):
            return line.recv(65_536)
    return b""


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /v1/machines\0 HTTP/1.1",
        b"GET /\xff\xfe HTTP/1.1",
        b"\x16\x03\x01\x02",
        b"GET http:// HTTP/1.1",
        b"GET * HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"GET //v1//machines HTTP/1.1",
        b"CONNECT a:1 HTTP/1.1",
        b"GET /v1/machines?\xff=\xfe HTTP/1.1",
        b"POST /v1/proposals HTTP/1.1\r\nContent-Length: -1",
        b"POST /v1/proposals HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3",
        b"GET /v1/me HTTP/9.9",
        b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1",
        b"GET /static/../../etc/passwd HTTP/1.1",
        b"GET /static/%00 HTTP/1.1",
        b"GET /static/%ff HTTP/1.1",
        b"GET /%ed%a0%80 HTTP/1.1",
    ],
)
def test_senseless_bytes_on_the_line(request_line: bytes, house: Stack, wire: httpx.Client) -> None:
    """What the HTTP server itself refuses is in its own words; nothing breaks and nothing hangs."""
    answer = raw_exchange(house, request_line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert not re.match(rb"HTTP/1.1 5", answer), answer[:300]
    assert b"root:" not in answer
    assert wire.get("/livez").status_code == 200


STREAM_QUERIES = (
    "last_event_id=x",
    "last_event_id=-1",
    "last_event_id=1e3",
    "last_event_id=" + "9" * 30,
    "kind=nonsense",
    "nonsense=1",
    "%FF=1",
    "last_event_id=%00",
    "machine=%00",
    "machine=a%00b",
    "last_event_id=%D9%A3",
    "&".join(f"kind{number}=x" for number in range(50)),
    "machine=" + "x" * 9000,
)


def test_a_senseless_stream_is_refused(house: Stack, wire: httpx.Client) -> None:
    for query in STREAM_QUERIES:
        status, text, _headers = ask(wire, "GET", f"/v1/stream?{query}", headers=house.headers("operator"))
        assert is_refusal(status, text), (query[:60], status, text[:200])
    for value in ("x", "-1", "1e3", "9" * 30, "é", "1 2", "' OR 1", "\xb2"):
        raw = raw_headers(*house.headers("operator").items(), ("Last-Event-ID", value))
        status, text, _headers = ask(wire, "GET", "/v1/stream", headers=raw)
        assert is_refusal(status, text), (value, status, text[:200])
    status, text, _headers = ask(
        wire, "GET", "/v1/stream?last_event_id=999999999999999999", headers=house.headers("operator")
    )
    assert status == 200
    assert "event: reset" in text
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        status, text, answered = ask(wire, method, "/v1/stream", headers=house.headers("operator"))
        assert status == 405 and is_refusal(status, text), (method, status)
        assert "GET" in answered["allow"]


# --- STOP

TOKENS = (
    "x",
    "v1.a.b.c.d",
    "v1..1.9999999999.00",
    "v2.x",
    "." * 5000,
    "x" * 9000,
    "é",
    "v1.{machine}.1.9999999999." + "0" * 64,
    "v1.{machine}.1.1e400." + "0" * 64,
    "v1.{machine}.-1.-1.",
)


def test_a_senseless_stop_is_refused(house: Stack, wire: httpx.Client) -> None:
    path = f"/v1/machines/{house.demo['machine_id']}/stop"
    halts_before = wire.get(path.removesuffix("/stop"), headers=house.headers("operator")).json()["halts"]
    for token in (token.format(machine=house.demo["machine_id"]) if "{" in token else token for token in TOKENS):
        for extra in ({"headers": raw_headers(("X-Stop-Token", token))}, {"json": {"stop_token": token}}):
            answer = wire.post(path, **extra)
            assert is_refusal(answer.status_code, answer.text), (token[:40], answer.status_code, answer.text[:200])
            assert answer.status_code == 401
    for body in (*BODIES.values(), b"x" * 10_000_000, b'{"stop_token": {}}', b'{"stop_token": 7}'):
        with contextlib.suppress(httpx.WriteError, httpx.ReadError):
            answer = wire.post(path, content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code == 401, (body[:40], answer.text[:200])
            assert is_refusal(answer.status_code, answer.text)
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        for who in ("operator", "lead"):
            answer = wire.request(method, path, headers=house.headers(who))
            assert answer.status_code == 405, (method, who, answer.text[:200])
            assert is_refusal(answer.status_code, answer.text)
    for who in ("stranger", "strange_agent"):
        answer = wire.post(path, headers=house.headers(who))
        assert answer.status_code == 404 and is_refusal(404, answer.text), (who, answer.text)
    for who in ("agent",):
        answer = wire.post(path, headers=house.headers(who))
        assert answer.status_code == 403 and is_refusal(403, answer.text), (who, answer.text)
    halts = wire.get(path.removesuffix("/stop"), headers=house.headers("operator")).json()["halts"]
    assert halts == halts_before, "nobody above was allowed to stop it"


def test_a_stop_needs_its_csrf_token(house: Stack) -> None:
    login = house.demo["users"]["operator"]
    path = f"/v1/machines/{house.demo['machine_id']}/stop"
    with contextlib.closing(signed_in(house, login["username"], login["password"])) as browser:
        for token in ("", "x", "x" * 5000, "\xff"):
            answer = browser.post(path, json={}, headers=raw_headers(("X-CSRFToken", token)))
            assert answer.status_code in (401, 403), (token[:10], answer.text)
            assert is_refusal(answer.status_code, answer.text)


def test_a_stop_with_garbage_in_its_body_still_stops(house: Stack, wire: httpx.Client) -> None:
    """Whoever may stop, stops: no body is a reason not to. Last of all here: the machine stays halted."""
    path = f"/v1/machines/{house.demo['machine_id']}/stop"
    for body in (b"", b"\xff\xfe", BODIES["deep lists"], b'{"stop_token": "x"}'):
        answer = wire.post(path, content=body, headers={**house.headers("operator"), "Content-Type": "text/plain"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["result"] == "heat_off", answer.text
    machine = wire.get(f"/v1/machines/{house.demo['machine_id']}", headers=house.headers("operator")).json()
    assert [halt["kind"] for halt in machine["halts"]] == ["stop"]


def test_many_at_once_on_the_same_nonsense(house: Stack) -> None:
    """Half-sent requests do not hold the server: others are answered meanwhile."""
    lines = []
    try:
        for _number in range(60):
            line = socket.create_connection(("127.0.0.1", house.port), 5)
            line.sendall(
                b"POST /v1/proposals HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: 1000\r\n\r\n{"
            )
            lines.append(line)
        connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=5)
        connection.request("GET", "/readyz")
        assert connection.getresponse().status == 200
        connection.close()
    finally:
        for line in lines:
            line.close()
