"""OpenAPI: our operation ids and tags, and the one shape of every error beside each endpoint."""

from __future__ import annotations

import re
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiResponse
from rest_framework import serializers

from kernel.serializers import StrictSerializer

ERROR_COMPONENT = "Error"
ERROR_SCHEMA = {
    "type": "object",
    "description": "Every refusal: what was refused and why, and what to do next. More fields may stand beside these.",
    "properties": {
        "error": {"type": "string", "description": "stable code", "examples": ["not_found"]},
        "message": {"type": "string"},
        "how_to_fix": {"type": "string"},
        "fields": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}},
    },
    "required": ["error", "message", "how_to_fix"],
    "additionalProperties": True,
}
MEANINGS = {
    400: "Malformed: correct the request",
    401: "Who are you?",
    403: "Not you",
    404: "Not there, for you",
    405: "No such method here",
    406: "We answer JSON",
    409: "The world has moved: look again",
    412: "Decided on something older than what stands now",
    413: "Body too large",
    415: "Send JSON",
    422: "Understood, but impossible",
    429: "Slow down",
    503: "Not now: try again shortly",
}
OWN_ADDRESS = re.compile(r"^`[A-Z/]+ /v1[^`]*`[.:;]?\s*")
# Any endpoint may answer these; those with a body, also 413 and 415.
COMMON = (400, 401, 403, 404, 405, 406, 429, 503)
COMMON_WITH_BODY = (413, 415)


class ErrorSerializer(serializers.Serializer):
    """The contract's error, for `extend_schema(responses=…)`."""

    error = serializers.CharField(help_text="stable code")
    message = serializers.CharField()
    how_to_fix = serializers.CharField()


def errors(*statuses: int) -> dict[int, OpenApiResponse]:
    """Refusals of one endpoint for `extend_schema(responses={200: …, **errors(409, 412)})`."""
    return {status: OpenApiResponse(ErrorSerializer, description=MEANINGS[status]) for status in statuses}


class HouseSchema(AutoSchema):
    """Tags by the first word after /v1; operation ids by path, so that they stay stable."""

    def get_tags(self) -> list[str]:
        parts = [part for part in self.path.split("/") if part]
        return [parts[1] if len(parts) > 1 else parts[0]]

    def _map_basic_serializer(self, serializer: Any, direction: Any) -> dict[str, Any]:
        """What a StrictSerializer refuses is said: no other fields."""
        schema: dict[str, Any] = super()._map_basic_serializer(serializer, direction)
        if isinstance(serializer, StrictSerializer):
            schema["additionalProperties"] = False
        return schema


class KeyScheme(OpenApiAuthenticationExtension):
    """`Authorization: Bearer ro_…`."""

    target_class = "kernel.authentication.KeyAuthentication"
    name = "key"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "an API key (`manage.py createkey`)"}


class SessionScheme(OpenApiAuthenticationExtension):
    """The console's session; unsafe methods need `X-CSRFToken` beside it."""

    target_class = "kernel.authentication.SessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": "sessionid",
            "description": "with `X-CSRFToken` where it writes",
        }


def document_common_errors(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Post-processing hook: one Error component, and the refusals any endpoint may give."""
    schemas = result.setdefault("components", {}).setdefault("schemas", {})
    schemas[ERROR_COMPONENT] = ERROR_SCHEMA
    for path_item in result.get("paths", {}).values():
        for method, operation in path_item.items():
            if method in ("get", "post", "put", "patch", "delete"):
                _add_errors(operation, has_body=method in ("post", "put", "patch"))
                _say_in_words(operation)
    return result


def _say_in_words(operation: dict[str, Any]) -> None:
    """A summary for the page's list; and a docstring that begins with its own address says nothing new beside it."""
    name = re.sub("_(create|retrieve)$", "", str(operation["operationId"]))
    words = name.replace("_", " ").capitalize()
    operation.setdefault("summary", words)
    said = OWN_ADDRESS.sub("", operation.get("description", ""))
    operation["description"] = said[:1].upper() + said[1:] if said else f"{words}."


def _add_errors(operation: dict[str, Any], *, has_body: bool) -> None:
    responses = operation.setdefault("responses", {})
    for status in COMMON + (COMMON_WITH_BODY if has_body else ()):
        responses.setdefault(
            str(status),
            {
                "description": MEANINGS[status],
                "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{ERROR_COMPONENT}"}}},
            },
        )
