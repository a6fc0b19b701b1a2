"""The recorder's decisions as JSON, for the journal that is kept while the store is unreachable. Pure."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

from drivers import wire_json
from drivers.port import ProtocolError, Reading
from roasts.recording import recorder
from roasts.recording.recorder import Decision

KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        recorder.OpenRoast,
        recorder.RecordSample,
        recorder.MarkEvent,
        recorder.WithdrawMark,
        recorder.ConfirmMark,
        recorder.SetStatus,
        recorder.RecordGap,
        recorder.Rebase,
        recorder.BeansStillInDrum,
        recorder.CloseRoast,
    )
}


class BadJournalLine(ValueError):
    """A line that no decision of ours wrote (a torn write at a crash)."""


def encode(decision: Decision) -> dict[str, Any]:
    """``{"decision": …, fields…}`` with times in ISO and readings in the wire's JSON form."""
    row: dict[str, Any] = {"decision": type(decision).__name__}
    for field in dataclasses.fields(decision):
        value = getattr(decision, field.name)
        if isinstance(value, Reading):
            value = wire_json.reading_to_json(value)
        elif isinstance(value, dt.datetime):
            value = value.isoformat()
        row[field.name] = value
    return row


def decode(row: dict[str, Any]) -> Decision:
    """The decision a row stands for; BadJournalLine where it is none."""
    fields = dict(row)
    try:
        kind = KINDS[fields.pop("decision")]
        if "reading" in fields:
            fields["reading"] = wire_json.reading_from_json(fields["reading"])
        if "at" in fields:
            fields["at"] = dt.datetime.fromisoformat(fields["at"])
        return kind(**fields)
    except (KeyError, TypeError, ValueError, AttributeError, ProtocolError) as error:
        raise BadJournalLine(str(error)) from error
