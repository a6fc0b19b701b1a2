"""The common case in one statement: the next envelope of a stream whose state this process has, nothing but samples.

It writes what `services` would write in its transaction, on the condition that everything it was decided from still
stands in the store: the stream, the machine, the open roast, the policy, the device key. If anything moved, nothing
is written (False), and the envelope goes the long way. PostgreSQL alone; prepared once per connection.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import psycopg
from django.db import IntegrityError, connection

from kernel.models import Agent, ApiKey
from roasts.models import (
    DeviceKey,
    Machine,
    MachineReading,
    Roast,
    StreamWatch,
    TelemetryBatch,
    TelemetryPolicy,
    TelemetryStream,
)
from roasts.telemetry import rows, turns
from roasts.telemetry.envelope import Envelope
from roasts.telemetry.following import Taken
from roasts.telemetry.resuming import Watch
from roasts.telemetry.signing import PublicHalf, Verdict

#: Column of MachineReading → PostgreSQL's type; the values in the order of :func:`_latest_values`.
_LATEST = (
    ("written_at", "timestamptz"), ("rate_of_rise_c_per_min", "float8"), ("are_beans_proved", "boolean"),
    ("quality", "jsonb"), ("state", "varchar"), ("at", "timestamptz"), ("sequence", "bigint"), ("device_ms", "bigint"),
    ("bean_temp_c", "float8"), ("infrared_temp_c", "float8"), ("exhaust_temp_c", "float8"),
    ("environment_temp_c", "float8"), ("ambient_temp_c", "float8"), ("heater_step", "int"), ("fan_step", "int"),
    ("drum_step", "int"), ("fan_rpm", "int"), ("voltage_v", "int"),
)  # fmt: skip
_BATCH = (
    ("machine_id", "varchar"), ("sequence", "bigint"), ("at", "timestamptz"), ("received_at", "timestamptz"),
    ("digest", "varchar"), ("previous_digest", "varchar"), ("signature", "varchar"), ("device_key_id", "varchar"),
    ("verdict", "varchar"), ("verdict_reason", "varchar"), ("points_filed", "int"), ("points_refused", "int"),
    ("points_late", "int"), ("response", "jsonb"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class KeyGround:
    """An agent's API key that was looked up before: the statement asks again whether it still opens this machine."""

    prefix: str
    digest: str


@dataclass(frozen=True, slots=True)
class Grounds:
    """What an envelope was judged by, and must still stand when it is written."""

    organization_id: str
    signing: str
    last_sequence: int
    last_digest: str
    roast_id: str  # the open roast; "" where there is none
    key: PublicHalf | None
    api_key: KeyGround | None = None  # None: who sends was looked up just now


@dataclass(frozen=True, slots=True)
class Writing:
    """What an envelope changes. ``state`` is the stream's, as JSON; ``answer`` what the sender is told."""

    envelope: Envelope
    taken: Taken
    verdict: Verdict
    digest: str
    own_kid: str | None
    state: dict[str, Any]
    answer: dict[str, Any]
    late_points: int
    received_at: dt.datetime
    watch: Watch | None = None  # where one is due


def is_plain(taken: Taken, envelope: Envelope) -> bool:
    """Whether this envelope only adds samples to the open roast (or shows a machine that does not roast)."""
    is_still = not (taken.acts or taken.late or taken.late_events or taken.closed_by or envelope.events)
    return is_still and taken.newest is not None and len({each.roast_id for each in taken.samples}) <= 1


def write(grounds: Grounds, writing: Writing) -> bool:
    """One statement; False where the grounds have moved. DatabaseError."""
    samples = writing.taken.samples
    values = {
        **_ground_values(grounds),
        **_stream_values(writing),
        **_batch_values(writing),
        **_latest_values(writing),
        **_roast_values(writing),
        **(rows.arrays(samples) if samples else {}),
        **_watch_values(writing.watch),
    }
    connection.ensure_connection()
    try:
        with connection.wrap_database_errors:
            raw = connection.connection
            if raw.prepare_threshold is None:
                raw.prepare_threshold = 5
            sql, names = _numbered(bool(samples), writing.watch is not None)
            given = [_text(values[name]) for name in names]
            with turns.waiting(), psycopg.RawCursor(raw) as cursor:
                found = cursor.execute(sql, given, prepare=True).fetchone()
    except IntegrityError:
        return False  # a sample of this moment is there already: the long way counts it
    return bool(found and found[0])


def _text(value: Any) -> str | None:
    """Every parameter travels as text with its type in the statement, so that there is one prepared form."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, dict | list):
        return json.dumps(value, separators=(",", ":"))
    return repr(value)


def _ground_values(grounds: Grounds) -> dict[str, Any]:
    key, api_key = grounds.key, grounds.api_key
    return {
        "api_prefix": None if api_key is None else api_key.prefix,
        "api_digest": None if api_key is None else api_key.digest,
        "old_sequence": grounds.last_sequence,
        "old_digest": grounds.last_digest,
        "organization": grounds.organization_id,
        "signing": grounds.signing,
        "open_roast": grounds.roast_id,
        "kid": None if key is None else key.kid,
        "public_key": None if key is None else key.public_key,
        "valid_from": None if key is None else key.valid_from,
        "valid_until": None if key is None else key.valid_until,
        "revoked_at": None if key is None else key.revoked_at,
    }


def _stream_values(writing: Writing) -> dict[str, Any]:
    newest = writing.taken.newest
    return {"new_state": writing.state, "newest_at": newest.at if newest is not None else None}


def _batch_values(writing: Writing) -> dict[str, Any]:
    envelope, verdict = writing.envelope, writing.verdict
    values = (
        envelope.machine_id,
        envelope.sequence,
        envelope.at,
        writing.received_at,
        writing.digest,
        envelope.previous_digest,
        envelope.signature,
        writing.own_kid,
        verdict.verdict,
        verdict.reason,
        len(writing.taken.samples),
        len(envelope.refused_points),
        writing.late_points,
        writing.answer,
    )
    return {f"b_{name}": value for (name, _), value in zip(_BATCH, values, strict=True)}


def _latest_values(writing: Writing) -> dict[str, Any]:
    taken = writing.taken
    reading, roast = taken.newest, taken.state.recording.roast
    if reading is None:
        raise ValueError("an envelope without points does not go this way")
    values = (
        writing.received_at,
        taken.rate_of_rise_c_per_min,
        bool(roast and roast.are_beans_proved and roast.dropped_ms is None),
        {name: quality.value for name, quality in reading.quality.items()},
        reading.state.value,
        *(getattr(reading, name) for name, _ in _LATEST[5:]),
    )
    return {f"l_{name}": value for (name, _), value in zip(_LATEST, values, strict=True)}


def _roast_values(writing: Writing) -> dict[str, Any]:
    counts = dict.fromkeys(("verified", "unsigned", "failed"), 0)
    counts[writing.verdict.verdict] = len(writing.taken.samples)
    return counts


def _watch_values(watch: Watch | None) -> dict[str, Any]:
    if watch is None:
        return {}
    return {"w_roast": watch.roast_id, "w_elapsed_ms": watch.elapsed_ms, "w_content": watch.content}


@cache
def _numbered(has_samples: bool, has_watch: bool) -> tuple[str, tuple[str, ...]]:
    """The statement with `$1`, `$2`, … as the server wants them, and which value each of them is."""
    sql = _sql(has_samples, has_watch)
    names = tuple(dict.fromkeys(re.findall(r"%\((\w+)\)s", sql)))
    places = {name: f"${place}" for place, name in enumerate(names, start=1)}
    return re.sub(r"%\((\w+)\)s", lambda match: places[match.group(1)], sql), names


def _sql(has_samples: bool, has_watch: bool) -> str:
    quote = connection.ops.quote_name
    models = (TelemetryStream, Machine, TelemetryPolicy, DeviceKey, Roast, TelemetryBatch, MachineReading)
    stream, machine, policy, key, roast, batch, latest = (quote(model._meta.db_table) for model in models)
    api_key, agent = quote(ApiKey._meta.db_table), quote(Agent._meta.db_table)
    grounds = (
        f"UPDATE {stream} s SET last_sequence = %(b_sequence)s::bigint, last_digest = %(b_digest)s::varchar, "
        f"last_event_at = %(newest_at)s::timestamptz, state = %(new_state)s::jsonb FROM {machine} m "
        "WHERE s.machine_id = %(b_machine_id)s::varchar AND s.last_sequence = %(old_sequence)s::bigint "
        "AND s.last_digest = %(old_digest)s::varchar AND m.id = s.machine_id AND m.is_remote AND NOT m.is_archived "
        "AND m.organization_id = %(organization)s::varchar "
        f"AND coalesce((SELECT p.signing FROM {policy} p WHERE p.organization_id = m.organization_id), 'record') "
        "= %(signing)s::varchar "
        f"AND coalesce((SELECT r.id FROM {roast} r WHERE r.machine_id = m.id "
        "AND r.status IN ('charged', 'roasting', 'cooling')), '') = %(open_roast)s::varchar "
        f"AND (%(kid)s::varchar IS NULL OR EXISTS (SELECT 1 FROM {key} k WHERE k.id = %(kid)s::varchar "
        "AND k.machine_id = m.id AND k.public_key = %(public_key)s::varchar "
        "AND k.valid_from = %(valid_from)s::timestamptz "
        "AND k.valid_until IS NOT DISTINCT FROM %(valid_until)s::timestamptz "
        "AND k.revoked_at IS NOT DISTINCT FROM %(revoked_at)s::timestamptz)) "
        f"AND (%(api_prefix)s::varchar IS NULL OR EXISTS (SELECT 1 FROM {api_key} a JOIN {agent} g "
        "ON g.id = a.agent_id WHERE a.prefix = %(api_prefix)s::varchar AND a.digest = %(api_digest)s::varchar "
        "AND g.is_active AND a.organization_id = m.organization_id AND a.revoked_at IS NULL "
        "AND (a.expires_at IS NULL OR a.expires_at > %(b_received_at)s::timestamptz) "
        "AND a.scopes ?| ARRAY['telemetry', 'telemetry:' || m.id])) RETURNING 1"
    )
    latest_sets = ", ".join(f'"{name}" = %(l_{name})s::{kind}' for name, kind in _LATEST)
    batch_names = ", ".join(f'"{name}"' for name, _ in _BATCH)
    batch_values = ", ".join(f"%(b_{name})s::{kind}" for name, kind in _BATCH)
    parts = [
        f"moved AS ({grounds})",
        f"b AS (INSERT INTO {batch} ({batch_names}) SELECT {batch_values} FROM moved)",
        f"l AS (UPDATE {latest} SET link = 'up', link_code = '', link_message = '', {latest_sets} FROM moved "
        "WHERE machine_id = %(b_machine_id)s::varchar)",
    ]
    if has_samples:
        counts = ", ".join(f"{n}_points = {n}_points + %({n})s::int" for n in ("verified", "unsigned", "failed"))
        parts += [
            f"s AS ({rows.insert_sql(source='moved, ')})",
            f"r AS (UPDATE {roast} SET {counts}, late_points = late_points + %(b_points_late)s::int FROM moved "
            "WHERE id = %(open_roast)s::varchar)",
        ]
    if has_watch:
        table = quote(StreamWatch._meta.db_table)
        parts.append(
            f"w AS (INSERT INTO {table} (machine_id, roast_id, elapsed_ms, content) SELECT %(b_machine_id)s::varchar, "
            "%(w_roast)s::varchar, %(w_elapsed_ms)s::int, %(w_content)s::text FROM moved "
            "ON CONFLICT (machine_id) DO UPDATE SET roast_id = EXCLUDED.roast_id, "
            "elapsed_ms = EXCLUDED.elapsed_ms, content = EXCLUDED.content)"
        )
    return f"WITH {', '.join(parts)} SELECT count(*) FROM moved"
