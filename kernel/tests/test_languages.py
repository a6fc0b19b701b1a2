"""Field errors in the language a person's browser asks for; codes and field names in none."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import translation

pytestmark = [pytest.mark.django_db, pytest.mark.urls("kernel.tests.echo_urls")]
GERMAN = "de-AT,de;q=0.9,en;q=0.5"


@pytest.fixture
def operator(people: Any, signed_in: Any) -> Any:
    return signed_in(people.operator)


def send(client: Any, body: dict[str, Any], accept_language: str | None) -> Any:
    headers = {} if accept_language is None else {"Accept-Language": accept_language}
    return client.post("/v1/sites", body, headers=headers)


@pytest.mark.parametrize(
    ("body", "field", "code", "english", "german"),
    [
        ({}, "name", "invalid", "This field is required.", "Dieses Feld ist zwingend erforderlich."),
        ({"name": ""}, "name", "invalid", "This field may not be blank.", "Dieses Feld darf nicht leer sein."),
        ({"name": "a", "count": "x"}, "count", "invalid", "A valid integer is required.",
         "Eine gültige Ganzzahl ist erforderlich."),
        ({"nmae": "a", "name": "b"}, "nmae", "unknown_field", "Unknown field. Did you mean `name`?",
         "Unbekanntes Feld. Meinten Sie `name`?"),
    ],
)  # fmt: skip
def test_a_browser_gets_the_words_it_asks_for_and_always_the_same_codes(
    body: dict[str, Any], field: str, code: str, english: str, german: str, operator: Any
) -> None:
    for asked, said in ((None, english), ("en-GB", english), ("fr", english), (GERMAN, german)):
        answer = send(operator, body, asked)
        told = answer.json()
        assert (answer.status_code, told["error"], set(told["fields"])) == (400, code, {field}), asked
        assert told["fields"][field] == [said], asked
        assert told["message"] == f"{field}: {said}"
        assert "Accept-Language" in answer["Vary"]
    assert told["how_to_fix"] == "Berichtigen Sie die genannten Felder; /v1/docs beschreibt sie."


def test_filters_are_worded_too(operator: Any) -> None:
    told = operator.get("/v1/sites?limit=x", headers={"Accept-Language": "de"}).json()
    assert told["fields"]["limit"] == ["Eine gültige Ganzzahl ist erforderlich."]


@pytest.mark.parametrize("asked", [None, "en", GERMAN, "xx", "de;q=nonsense", "\u00e4", "d" * 2000])
def test_a_key_gets_english_whatever_it_asks_for(asked: str | None, people: Any, api_by_key: Any) -> None:
    told = send(api_by_key(user=people.operator, scopes=["operate"]), {}, asked).json()
    assert told["fields"]["name"] == ["This field is required."]


def test_the_language_ends_with_the_answer(operator: Any) -> None:
    send(operator, {}, GERMAN)
    assert translation.get_language() == "en"


def test_other_refusals_keep_their_words(operator: Any) -> None:
    """Pages word them anew by what they know (`/words/`); a program may have them by heart."""
    told = send(operator, {"name": "refused"}, GERMAN).json()
    assert (told["error"], told["message"]) == ("refused", "Refused.")
