"""Bodies and filters, strictly read: an unknown name is an error that names the nearest known one."""

from __future__ import annotations

import codecs
import difflib
import functools
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings
from django.utils import translation
from django.utils.translation import gettext as _
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ParseError, ValidationError
from rest_framework.parsers import JSONParser

from kernel.errors import Malformed
from kernel.languages import browsers_language

MAX_DEPTH = 12


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """`Did you mean …?`, or the list of what is known."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return _("Did you mean `{name}`?").format(name=close[0])
    return _("Known: {names}.").format(names=", ".join(names)) if names else _("Nothing is expected here.")


class StrictSerializer(serializers.Serializer):
    """A serializer that refuses fields it does not know, and fields of other shapes than an object."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            known = [name for name, field in self.fields.items() if not field.read_only]
            unknown = {
                str(name): [
                    ErrorDetail(f"{_('Unknown field.')} {nearest_hint(str(name), known)}", code="unknown_field")
                ]
                for name in data
                if name not in known
            }
            if unknown:
                raise ValidationError(unknown)
        return super().to_internal_value(data)


class TextField(serializers.CharField):
    """JSON text: a number is not silently made one."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            raise ValidationError(_("Send text."))
        return super().to_internal_value(data)


class FlagField(serializers.BooleanField):
    """JSON true or false: 0, 1 and "yes" are not silently made one."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            raise ValidationError(_("Send true or false."))
        return data


class StrictJSONParser(JSONParser):
    """JSON with bounds: no NaN, no nesting beyond MAX_DEPTH, no NUL and no half characters in any text, no name twice
    in one object (two readers of such a body may see two different orders)."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        encoding = (parser_context or {}).get("encoding", settings.DEFAULT_CHARSET)
        try:
            text = codecs.getreader(encoding)(stream).read()
            data = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_each_once)
            _refuse_nonsense(data, 0)
        except RecursionError:
            raise ParseError("The body is nested too deeply.") from None
        except ValueError as error:
            raise ParseError(f"JSON parse error - {error}") from None
        return data


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ParseError(f"The name {twice[:60]!r} stands twice in one object.")
    return found


def _refuse_nonsense(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ParseError(f"The body is nested deeper than {MAX_DEPTH} levels.")
    if isinstance(value, str):
        if "\0" in value:
            raise ParseError("Text may not hold a NUL character.")
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise ParseError("Text holds half a character (a lone surrogate).")
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ParseError("A number is too large.")
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise ParseError("A whole number does not fit into 64 bits.")
    elif isinstance(value, dict):
        for key, inner in value.items():
            _refuse_nonsense(key, depth)
            _refuse_nonsense(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _refuse_nonsense(inner, depth + 1)


class NumberField(serializers.FloatField):
    """A JSON number: no text, no truth value, no NaN, no infinity."""

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            raise serializers.ValidationError(_("Send a number."))
        if not math.isfinite(data):
            raise serializers.ValidationError(_("Send a finite number."))
        return super().to_internal_value(data)


class WholeField(serializers.IntegerField):
    """A JSON integer: no text, no truth value, no fraction."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            raise serializers.ValidationError(_("Send a whole number."))
        return super().to_internal_value(data)


def read_body(serializer_class: type[serializers.Serializer], request: Any) -> Any:
    """The validated body of a DRF request; anything but an object is 400."""
    if not isinstance(request.data, Mapping):
        raise Malformed("malformed_body", "The body must be one JSON object.", "Send {…} with the documented fields.")
    return _validated(serializer_class, request.data, request)


def _validated(serializer_class: type[serializers.Serializer], data: Any, request: Any) -> Any:
    """What the serializer makes of ``data``; its fields are copied and bound once per class, not once per body.

    DRF words an error when it is raised: the browser's language is active while it judges, and no longer.
    """
    serializer = serializer_class(data=data)
    serializer.__dict__["fields"] = _fields_of(serializer_class)
    with translation.override(browsers_language(request)):
        serializer.is_valid(raise_exception=True)
    return serializer.validated_data


@functools.cache
def _fields_of(serializer_class: type[serializers.Serializer]) -> Any:
    """Reading a body changes no field: they may be shared."""
    return serializer_class().fields


def read_filters(serializer_class: type[serializers.Serializer], request: Any) -> Any:
    """The validated query parameters; an unknown filter, or one given twice, is 400."""
    for name, values in request.query_params.lists():
        if len(values) > 1:
            raise Malformed("repeated_filter", f"`{name}` is given twice.", "Give every filter once.")
    return _validated(serializer_class, request.query_params.dict(), request)
