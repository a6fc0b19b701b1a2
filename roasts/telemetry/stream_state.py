"""A stream's state as JSON and back: frozen dataclasses by their fields, whatever the recorder grows. Pure.

Kept with every envelope is what cannot be had from the rows. What inference watches, and the rate's window, are large
and change with every second: they are written now and then as a *watch*, and the samples since are gone over again.
Only a machine that tells no state and does not roast keeps its watch here, for its readings have no rows. Fields that
hold their default are left out.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import functools
import types
import typing
from collections import deque
from typing import Any

from roasts.inference import Expectation, InferenceState
from roasts.rate_of_rise import RateOfRise
from roasts.recording.recorder import RecorderState
from roasts.telemetry.following import StreamState

VERSION = 1
_NOTHING = RecorderState()
_NO_DEFAULT = object()


class UnreadableState(ValueError):
    """No state of ours, or of a version that is gone: read the roast's rows instead."""


def encode(state: StreamState) -> dict[str, Any]:
    """JSON values."""
    recording = state.recording
    if recording.roast is not None or state.is_stated:
        recording = dataclasses.replace(recording, watch=_NOTHING.watch, recent=())
    recording = dataclasses.replace(recording, expectation=_NOTHING.expectation)
    return {"version": VERSION, "stream": _plain(dataclasses.replace(state, recording=recording))}


def encode_watch(recording: RecorderState) -> dict[str, Any]:
    """JSON values of what :func:`encode` leaves out of a recorder with an open roast. KeyError: none is open."""
    if recording.roast is None:
        raise KeyError("no roast is open")
    data = {"version": VERSION, "offset_ms": recording.roast.offset_ms, "watch": _plain(recording.watch)}
    if recording.expectation != recording.watch.known.expectation:
        data["expectation"] = _plain(recording.expectation)
    return {**data, "rate": recording.rate.kept()}


def decode_watch(data: Any, recording: RecorderState) -> RecorderState:
    """``recording`` (of :func:`decode`) with what it had left out. UnreadableState, also where elapsed time counts from
    another moment by now.
    """
    try:
        if data["version"] != VERSION or recording.roast is None or data["offset_ms"] != recording.roast.offset_ms:
            raise UnreadableState(f"version {data['version']!r}, elapsed 0 at {data['offset_ms']!r}")
        watch = _read(InferenceState, data["watch"])
        expectation = _read(Expectation, data["expectation"]) if "expectation" in data else watch.known.expectation
        rate = RateOfRise.resumed(data["rate"])
        return dataclasses.replace(recording, watch=watch, expectation=expectation, rate=rate)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableState(str(error)) from error


def _plain(value: Any) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(value)  # a named tuple holds plain values: Point, Candidate
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            name: _plain(kept)
            for name, default in _defaults(type(value))
            if (kept := getattr(value, name)) is not default and (default is _NO_DEFAULT or kept != default)
        }
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, list | tuple | deque | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    return value


@functools.cache
def _defaults(kind: type) -> tuple[tuple[str, Any], ...]:
    """Names of the fields that are kept, each with the value that need not be written."""
    found = []
    for each in dataclasses.fields(kind):
        default = each.default
        if default is dataclasses.MISSING:
            made = each.default_factory
            default = _NO_DEFAULT if made is dataclasses.MISSING else made()
        if each.compare:
            found.append((each.name, default))
    return tuple(found)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def decode(data: Any) -> StreamState:
    """The state; UnreadableState where it cannot be had from this."""
    try:
        if data["version"] != VERSION:
            raise UnreadableState(f"version {data['version']!r}")
        return typing.cast(StreamState, _read(StreamState, data["stream"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableState(str(error)) from error


def _read(kind: Any, value: Any) -> Any:
    if value is None:
        return None
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        inner = [part for part in typing.get_args(kind) if part is not type(None)]
        return _read(inner[0], value)
    if origin in (tuple, list, deque, frozenset):
        parts = typing.get_args(kind)
        if origin is tuple and len(parts) > 1 and parts[1] is not Ellipsis:
            return tuple(_read(part, item) for part, item in zip(parts, value, strict=True))
        return origin(_read(parts[0], item) for item in value)
    if origin is dict:
        key, item = typing.get_args(kind)
        return {_read(key, name): _read(item, inner) for name, inner in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = _hints(kind)
        known = {f.name for f in dataclasses.fields(kind)}
        return kind(**{name: _read(hints[name], item) for name, item in value.items() if name in known})
    if isinstance(kind, type) and issubclass(kind, tuple):  # a named tuple: its fields in order, plain values
        return kind(*value)
    if kind is dt.datetime:
        return dt.datetime.fromisoformat(value)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(value)
    return value
