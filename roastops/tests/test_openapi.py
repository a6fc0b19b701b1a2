"""The API as it describes itself, and tried against its own description."""

from __future__ import annotations

import inspect
from typing import Any

import jsonschema
import pytest
from django.urls import get_resolver
from rest_framework.fields import empty
from rest_framework.views import APIView

from kernel.endpoints import RowAct
from roastops import api_words


@pytest.fixture
def schema(db: None, api: Any) -> dict[str, Any]:
    answer = api.get("/v1/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def api_views() -> list[tuple[str, type[APIView]]]:
    """Every DRF route under /v1 and its view."""
    found = []

    def walk(resolver: Any, prefix: str) -> None:
        for entry in resolver.url_patterns:
            route = prefix + str(entry.pattern)
            if hasattr(entry, "url_patterns"):
                walk(entry, route)
            else:
                view = getattr(entry.callback, "cls", None) or getattr(entry.callback, "view_class", None)
                if view and issubclass(view, APIView) and route.startswith("v1/"):
                    found.append((route, view))

    walk(get_resolver(), "")
    return found


def api_routes() -> list[tuple[str, set[str]]]:
    """Every DRF route under /v1 and its methods."""
    methods = ("get", "post", "put", "patch", "delete")
    return [(route, {method for method in methods if hasattr(view, method)}) for route, view in api_views()]


def test_the_body_of_an_act_is_what_its_service_takes() -> None:
    """Fields go to the service by their names: one too many, or one too few, would be a 500."""
    plain = [view for _, view in api_views() if issubclass(view, RowAct) and view.act is RowAct.act]
    assert len(plain) >= 15
    for view in plain:
        _who, _row, *named = inspect.signature(view.service).parameters.values()
        assert all(each.kind is each.KEYWORD_ONLY for each in named), view
        taken = {each.name: each.default is each.empty for each in named}
        fields = view.body().fields
        always = {name for name, field in fields.items() if field.required or field.default is not empty}
        assert set(fields) | {"now"} <= set(taken), view
        assert {name for name, is_needed in taken.items() if is_needed} <= always | {"now"}, view



def test_every_endpoint_is_described(schema: dict[str, Any]) -> None:
    described = {path: set(item) for path, item in schema["paths"].items()}
    for route, methods in api_routes():
        if route in ("v1/openapi.json", "v1/docs"):
            continue
        path = "/" + route.replace("<str:", "{").replace("<int:", "{").replace(">", "}")
        assert path in described, path
        assert methods <= described[path], path


def test_every_refusal_has_the_one_shape(schema: dict[str, Any]) -> None:
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            if method == "parameters":
                continue
            for status in ("400", "401", "403", "404", "405", "503"):
                assert status in operation["responses"], (path, method, status)
            for status, answer in operation["responses"].items():
                if status[0] in "45":
                    body = answer["content"]["application/json"]["schema"]["$ref"]
                    assert body == "#/components/schemas/Error", (path, method, status)


def test_every_operation_is_told_in_words(schema: dict[str, Any]) -> None:
    """The list of the API's page shows summaries; an address stands beside each anyway."""
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                assert operation["summary"] and "_" not in operation["summary"], (path, method)
                assert operation["description"] and not operation["description"].startswith(("`GET", "`POST")), path


def test_no_operation_is_told_by_its_name_alone(schema: dict[str, Any]) -> None:
    """`Get plan.` beside `get_plan` tells an integrator nothing."""
    for operation in api_words.operations(schema):
        name = operation["operationId"].removesuffix("_create").removesuffix("_retrieve").replace("_", " ")
        assert operation["description"].rstrip(".").lower() != name, operation["operationId"]
        assert "commands." not in operation["description"] and "kernel." not in operation["description"]


def test_what_is_said_of_an_operation_is_of_one_that_exists(schema: dict[str, Any]) -> None:
    known = {operation["operationId"] for operation in api_words.operations(schema)}
    assert known >= {*api_words.TITLES, *api_words.SAID, *api_words.EXAMPLES}


@pytest.mark.parametrize("name", sorted(api_words.EXAMPLES))
def test_an_example_is_a_body_that_its_endpoint_describes(name: str, schema: dict[str, Any]) -> None:
    operation = next(each for each in api_words.operations(schema) if each["operationId"] == name)
    body = operation["requestBody"]["content"]["application/json"]
    described = {**body["schema"], "components": _nulls_as_types(schema["components"])}
    jsonschema.Draft202012Validator(described).validate(body["example"])


def _nulls_as_types(part: Any) -> Any:
    """OpenAPI 3.0 says `nullable`; JSON Schema knows a type of its own."""
    if isinstance(part, list):
        return [_nulls_as_types(each) for each in part]
    if not isinstance(part, dict):
        return part
    made = {name: _nulls_as_types(each) for name, each in part.items()}
    if made.pop("nullable", False) is True:
        made = {"anyOf": [made, {"type": "null"}]}
    return made


def test_every_way_in_is_one_that_is_described(schema: dict[str, Any]) -> None:
    """A bare name where an object belongs lets the offline API page fall over."""
    known = set(schema["components"]["securitySchemes"])
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            for way in operation.get("security", []) if method != "parameters" else []:
                assert isinstance(way, dict) and set(way) <= known, (path, method, way)


def test_operation_ids_are_unique(schema: dict[str, Any]) -> None:
    ids = [op["operationId"] for item in schema["paths"].values() for op in item.values() if "operationId" in op]
    assert len(ids) == len(set(ids))


def test_docs_page_needs_nobody_elses_server_and_no_inline_script(db: None, client: Any) -> None:
    answer = client.get("/v1/docs")
    text = answer.content.decode()
    assert answer.status_code == 200
    assert "http://" not in text.replace("http://testserver", "") and "https://" not in text
    assert "<script>" not in text and "<style>" not in text and "style=" not in text
    assert "script-src 'self'" in answer["Content-Security-Policy"]
    assert "unsafe" not in answer["Content-Security-Policy"]
