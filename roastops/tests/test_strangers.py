"""A real server, met by strangers: nothing of the demo is shown, nothing breaks, refusals have one shape.

`test_isolation` walks the same addresses in process, without streams and STOP; here they are asked over the wire, by
session and by key, by people and by agents.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from roastops.tests.one_server import PUBLIC, STRANGER_PASSWORD, addresses, ask, is_refusal, signed_in
from roastops.tests.stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")


# --- every address


def shown(text: str, house: Stack, asked: str) -> list[str]:
    """What of the demo stands in an answer, but for what the question itself named."""
    ids = house.demo["ids"]
    secrets = [value for name, value in ids.items() if name != "organization"]
    secrets += [ids["organization"], "demo-secret"]
    text = re.sub(r"with ID “[^”]*” doesn", "", text)  # the admin repeats what the page before asked for
    return [secret for secret in secrets if secret in text.replace(asked, "") and secret not in asked]


def walk(house: Stack, client: Any, headers: dict[str, str]) -> Iterator[tuple[str, str, int, str]]:
    """Every address by every method: method, path, status, text. Fails at once on a 5xx or on anything of the demo."""
    for path in addresses(house.demo["ids"]):
        for method in METHODS:
            status, text, answered = ask(client, method, path, headers=headers)
            assert status < 500, (method, path, text[:300])
            assert not shown(text + str(answered), house, path), (method, path)
            yield method, path, status, text


def holds_id(path: str, house: Stack) -> bool:
    return any(value in path for name, value in house.demo["ids"].items() if name.endswith("_id"))


def test_the_walk_meets_the_whole_house(house: Stack) -> None:
    paths = addresses(house.demo["ids"])
    ids = house.demo["ids"]
    assert len(paths) > 80
    for path in (
        "/v1/stream",
        f"/v1/machines/{ids['machine_id']}/stop",
        f"/v1/proposals/{ids['proposal_id']}/approve",
        f"/v1/roasts/{ids['planned_id']}/withdraw",
        f"/machines/{ids['machine_id']}/panels/next/",
        f"/machines/{ids['machine_id']}/",
        f"/admin/commands/proposal/{ids['proposal_id']}/change/",
    ):
        assert path in paths
    assert not [path for path in paths if "<" in path or "(" in path]


def test_our_own_operator_sees_them(house: Stack, wire: httpx.Client) -> None:
    """The walks below could pass because nobody is shown anything."""
    ids = house.demo["ids"]
    for path in (
        "/v1/machines",
        f"/v1/machines/{ids['machine_id']}",
        f"/v1/proposals/{ids['proposal_id']}",
        f"/v1/roasts/{ids['roast_id']}",
        f"/v1/roasts/{ids['planned_id']}",
        "/v1/roasts?status=planned",
        "/v1/grants",
        "/v1/envelopes",
    ):
        status, text, _headers = ask(wire, "GET", path, headers=house.headers("operator"))
        assert status == 200
        assert shown(text, house, path), path
    login = house.demo["users"]["operator"]
    with contextlib.closing(signed_in(house, login["username"], login["password"])) as browser:
        page = browser.get(f"/machines/{ids['machine_id']}/")
        assert page.status_code == 200
        assert shown(page.text, house, str(page.request.url.path))
        status, text, _headers = ask(browser, "GET", "/v1/stream")
        assert status == 200
        assert "event: hello" in text


def test_nobody_is_shown_nothing(house: Stack, wire: httpx.Client) -> None:
    for method, path, status, text in walk(house, wire, {}):
        if path in PUBLIC or path.startswith(("/admin/login", "/admin/jsi18n", "/admin/logout")):
            continue
        if status in (301, 302):
            assert not path.startswith("/v1/"), (method, path)
        elif path.startswith("/v1/"):
            assert status in (401, 405), (method, path, status)
            assert is_refusal(status, text, method), (method, path, text[:300])
        else:
            is_empty = method == "OPTIONS" and not text  # Django's plain views name their methods
            assert is_empty or status in (401, 403, 404, 405), (method, path, status)


@pytest.mark.parametrize("who", ["stranger", "strange_agent"])
def test_anothers_key_is_shown_nothing(who: str, house: Stack, wire: httpx.Client) -> None:
    for method, path, status, text in walk(house, wire, house.headers(who)):
        if path.startswith("/v1/") and holds_id(path, house) and method != "OPTIONS":
            assert status in (400, 403, 404, 405), (method, path, status)
            assert is_refusal(status, text, method), (method, path, text[:300])


@pytest.mark.parametrize("username", ["stranger", "staffstranger"])
def test_anothers_session_is_shown_nothing(username: str, house: Stack) -> None:
    """By the sign-in page, with a CSRF token: a lead of another organisation, and one who may use the admin."""
    with contextlib.closing(signed_in(house, username, STRANGER_PASSWORD)) as browser:
        assert browser.get("/v1/me").json()["organization"] == "other"
        for method, path, status, text in walk(house, StayingSignedIn(browser, house, username), {}):
            if path.startswith("/v1/") and holds_id(path, house) and method != "OPTIONS":
                assert status in (400, 403, 404, 405), (method, path, status)
                assert is_refusal(status, text, method), (method, path, text[:300])
            elif path.startswith("/machines/") and method == "GET":
                assert status == 404, path


class StayingSignedIn:
    """The session again where the walk itself signed out."""

    def __init__(self, browser: httpx.Client, house: Stack, username: str) -> None:
        self.browser, self.house, self.username = browser, house, username

    def stream(self, method: str, path: str, **extra: Any) -> Any:
        if "sessionid" not in self.browser.cookies:
            with contextlib.closing(signed_in(self.house, self.username, STRANGER_PASSWORD)) as fresh:
                self.browser.cookies, self.browser.headers = fresh.cookies, fresh.headers
        return self.browser.stream(method, path, **extra)


def test_the_demos_own_agent_moves_nothing_by_hand(house: Stack, wire: httpx.Client) -> None:
    """It may look and propose: no page, no admin, no approval, no STOP, no grant."""
    looked = proposed = 0
    for path in addresses(house.demo["ids"]):
        for method in METHODS:
            status, text, _headers = ask(wire, method, path, headers=house.headers("agent"))
            assert status < 500, (method, path, text[:300])
            looked += method == "GET" and status == 200 and path.startswith("/v1/")
            if method == "POST" and path.startswith("/v1/") and path not in PUBLIC:
                proposed += path == "/v1/proposals" and status == 400
                assert is_refusal(status, text), (path, status, text[:200])
            if path.startswith(("/machines/", "/admin/", "/cards/")) and method == "GET":
                assert status in (301, 302, 403, 404) or "login" in path or "jsi18n" in path, (path, status)
    assert looked > 8
    assert proposed == 1


def test_a_strangers_stream_stays_silent(house: Stack, wire: httpx.Client) -> None:
    """Decisions of ours are made while the stranger listens, also from the first number on."""
    with (
        wire.stream("GET", "/v1/stream?last_event_id=0", headers=house.headers("stranger")) as theirs,
        wire.stream("GET", "/v1/stream?last_event_id=0", headers=house.headers("operator")) as ours,
    ):
        house.order("SET_FAN", 4, reasoning="demo-secret-stream")
        own_text = ""
        for chunk in ours.iter_text():
            own_text += chunk
            if own_text.count("event: decision") >= 2:
                break
        # What was sent to them is already in the socket: read it without waiting for more.
        text = next(theirs.iter_text())
        assert shown(own_text, house, "")
        assert not shown(text, house, "")
        assert "event: decision" not in text
