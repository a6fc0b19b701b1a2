"""Whatever comes in, a refusal has one shape and a 4xx."""

import json

import pytest

pytestmark = pytest.mark.urls("kernel.tests.echo_urls")
SHAPE = {"error", "message", "how_to_fix"}


@pytest.fixture
def operator(people, signed_in):
    return signed_in(people.operator)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "malformed_body"),
        (b"[]", 400, "malformed_body"),
        (b'"x"', 400, "malformed_body"),
        (b"null", 400, "malformed_body"),
        (b"", 400, "invalid"),
        (b"\xff\xfe", 400, "malformed_body"),
        (b'{"name": "a\\u0000b"}', 400, "malformed_body"),
        (b'{"name": "\\ud800"}', 400, "malformed_body"),
        (b'{"extra": {"\\ud800": 1}, "name": "a"}', 400, "malformed_body"),
        (b'{"name": NaN}', 400, "malformed_body"),
        (b'{"name": "a", "count": ' + b"9" * 400 + b"}", 400, "malformed_body"),
        (b'{"name": "a", "count": ' + b"9" * 5000 + b"}", 400, "malformed_body"),
        (b'{"name": "a", "weight_g": 1e999}', 400, "malformed_body"),
        (b'{"name": "a", "extra": ' + b"[" * 500 + b"]" * 500 + b"}", 400, "malformed_body"),
        (b'{"name": "a", "extra": ' + b"[" * 100000 + b"]" * 100000 + b"}", 400, "malformed_body"),
        (b'{"nam": "a"}', 400, "unknown_field"),
        (b'{"name": {"a": 1}}', 400, "invalid"),
        (b'{"name": null}', 400, "invalid"),
        (b'{"name": ""}', 400, "invalid"),
        (b'{"name": "' + b"a" * 1_100_000 + b'"}', 413, "body_too_large"),
    ],
)
def test_bad_body_is_refused_in_shape(operator, body, status, code):
    answer = operator.generic("POST", "/v1/sites", body, content_type="application/json")
    assert (answer.status_code, answer.json()["error"]) == (status, code)
    assert set(answer.json()) >= SHAPE


def test_unknown_field_names_the_nearest(operator):
    answer = operator.post("/v1/sites", {"nmae": "a", "name": "b"})
    assert "Did you mean `name`?" in answer.json()["fields"]["nmae"][0]


def test_wrong_content_type_is_415(operator):
    answer = operator.generic("POST", "/v1/sites", b"name=a", content_type="application/x-www-form-urlencoded")
    assert (answer.status_code, answer.json()["error"]) == (415, "unsupported_media_type")


def test_unacceptable_answer_is_406(operator):
    answer = operator.get("/v1/sites", HTTP_ACCEPT="image/png")
    assert (answer.status_code, answer.json()["error"]) == (406, "not_acceptable")


def test_wrong_method_is_405(operator):
    answer = operator.delete("/v1/sites")
    assert (answer.status_code, answer.json()["error"]) == (405, "method_not_allowed")
    assert "GET" in answer["Allow"]


@pytest.mark.parametrize("path", ["/v1/sites?name=%00", "/v1/%00", "/v1/me/%00/x"])
def test_nul_in_address_is_400(operator, path):
    answer = operator.get(path)
    assert (answer.status_code, answer.json()["error"]) == (400, "nul_character")


def test_broken_utf8_in_address_is_400(operator):
    answer = operator.generic("GET", "/v1/%ff%fe")
    assert answer.status_code in (400, 404)
    assert set(answer.json()) >= SHAPE


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("limit=0", "invalid"),
        ("limit=201", "invalid"),
        ("limit=x", "invalid"),
        ("limits=3", "unknown_field"),
        ("limit=1&limit=2", "repeated_filter"),
        ("cursor=zzz", "bad_cursor"),
        ("cursor=" + "A" * 500, "invalid"),
        ("cursor=W10", "bad_cursor"),
        ("cursor=WzEsWzJdXQ", "bad_cursor"),
        ("cursor=%F0%9F%98%80", "bad_cursor"),
    ],
)
def test_bad_filter_is_400(operator, query, code):
    answer = operator.get(f"/v1/sites?{query}")
    assert (answer.status_code, answer.json()["error"]) == (400, code)


def test_person_without_the_role_is_told_so(people, signed_in):
    answer = signed_in(people.viewer).post("/v1/sites", {"name": "a"})
    assert (answer.status_code, answer.json()["error"], answer.json()["needed"]) == (403, "not_allowed", "operate")


def test_session_without_csrf_token_is_refused(people):
    from rest_framework.test import APIClient

    browser = APIClient(enforce_csrf_checks=True)
    browser.force_login(people.operator)
    answer = browser.post("/v1/sites", {"name": "a"})
    assert (answer.status_code, answer.json()["error"]) == (403, "csrf_failed")
    assert "X-CSRFToken" in answer.json()["how_to_fix"]


@pytest.mark.parametrize("body", ['{"name": "a", "name": "b"}', '{"name": "a", "x": [{"y": 1, "y": 1}]}'])
def test_a_name_that_stands_twice_is_400(operator, body):
    answer = operator.generic("POST", "/v1/sites", body, content_type="application/json")
    assert (answer.status_code, answer.json()["error"]) == (400, "malformed_body")
    assert "twice" in answer.json()["message"]


def test_key_needs_no_csrf_token(people, api_by_key):
    caller = api_by_key(user=people.operator, scopes=["operate"])
    caller.handler.enforce_csrf_checks = True
    assert caller.post("/v1/sites", {"name": "a"}).status_code == 201


def test_page_that_is_not_there_has_words_for_people(client, db):
    answer = client.get("/nowhere/")
    assert answer.status_code == 404
    assert b"There is no such thing here." in answer.content


def test_crash_is_told_in_shape(settings, rf):
    from kernel.error_pages import server_error

    answer = server_error(rf.get("/v1/x"))
    assert answer.status_code == 500
    assert set(json.loads(answer.content)) == SHAPE


def test_list_pages_through_everything_once(operator, organization):
    for number in range(7):
        operator.post("/v1/sites", {"name": f"site {number // 2}"})
    seen, cursor = [], None
    for _ in range(5):
        page = operator.get("/v1/sites", {"limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        seen += [row["name"] for row in page["results"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == sorted(f"site {number // 2}" for number in range(7))
