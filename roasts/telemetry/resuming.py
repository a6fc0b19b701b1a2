"""Where a stream stands, for a process that did not file its last envelope: read from the store.

What changes with every second (inference, the rate's window) is in the stream's *watch*, as of one of the last samples;
the samples since are gone over again. So a worker that takes a thousand machines over reads some ten seconds of each,
not their roasts. A watch is written when one is due, and with every envelope that did more than add samples: what came
since is samples alone, and the state is to the bit what it would be without the change of process.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from django.db import connection

from drivers.port import MachineState, Quality, Reading
from roasts import inference
from roasts import services as roast_services
from roasts.events import crack_store
from roasts.models import Roast, Sample, StreamWatch
from roasts.recording import recorder
from roasts.recording.recorder import RecorderState
from roasts.telemetry import admission, steady, stream_state
from roasts.telemetry.admission import Admission
from roasts.telemetry.following import StreamState

logger = logging.getLogger(__name__)
#: No watch is this much older than the newest sample, ms.
WATCH_EVERY_MS = 20_000
NO_WATCH_MS = -1
_COLUMNS = ("elapsed_ms", "state", "bean_temp_c", "infrared_temp_c", "heater_step", "quality")


@dataclass(frozen=True, slots=True)
class Watch:
    """What is written of a stream now and then. ``content``: JSON text."""

    roast_id: str
    elapsed_ms: int
    content: str


def watch_of(state: StreamState) -> Watch | None:
    """The watch of the open roast; None where none is open."""
    roast = state.recording.roast
    if roast is None:
        return None
    content = json.dumps(stream_state.encode_watch(state.recording), separators=(",", ":"))
    return Watch(state.roast_id, roast.last_elapsed_ms, content)


def is_due(state: StreamState, watched_ms: int) -> bool:
    """Whether the watch is old. ``watched_ms``: elapsed time of the roast that is in the last one, or NO_WATCH_MS.

    Each roast has its own moments: many that were charged together do not write theirs in the same seconds.
    """
    roast = state.recording.roast
    if roast is None:
        return False
    own_ms = zlib.crc32(state.roast_id.encode()) % WATCH_EVERY_MS
    is_passed = (roast.last_elapsed_ms + own_ms) // WATCH_EVERY_MS > (watched_ms + own_ms) // WATCH_EVERY_MS
    return watched_ms == NO_WATCH_MS or is_passed


def keep_watch(machine_id: str, state: StreamState) -> int:
    """Write the watch as it stands now, or take it away; in the caller's transaction. The elapsed time in it."""
    watch = watch_of(state)
    if watch is None:
        StreamWatch.objects.filter(pk=machine_id).delete()
        return NO_WATCH_MS
    values = {"roast_id": watch.roast_id, "elapsed_ms": watch.elapsed_ms, "content": watch.content}
    if not StreamWatch.objects.filter(pk=machine_id).update(**values):
        StreamWatch.objects.create(machine_id=machine_id, **values)
    return watch.elapsed_ms


def open_roast(machine_id: str) -> str:
    """The machine's open roast, or ""."""
    return Roast.objects.open().filter(machine_id=machine_id).values_list("pk", flat=True).first() or ""


def expecting(machine_id: str, state: StreamState) -> StreamState:
    """With what earlier roasts of this machine lead us to expect."""
    bean = Roast.objects.filter(pk=state.roast_id).values_list("bean", flat=True).first() or ""
    expectation = crack_store.expectation_of(machine_id, bean)
    return replace(state, recording=recorder.expect(state.recording, expectation))


def look(organization_id: str, machine_id: str, kid: str) -> tuple[Admission, StreamState, int] | None:
    """What :func:`resume` would come to in a transaction, where a roast is open and its watch fits: in one statement
    without a lock, for all of it is of one moment, and who writes asks whether it still stands. None: go the long way.
    PostgreSQL.
    """
    more, joined = _watch_sql()
    found = admission.look(organization_id, machine_id, kid, more=more, joined=joined)
    if found is None:
        return None
    admitted, (roast_id, elapsed_ms, content, since) = found
    try:
        state = stream_state.decode(admission.stored_state(admitted.state))
        if state.roast_id != roast_id:
            return None
        return admitted, _watched(state, elapsed_ms, content, json.loads(since) if since else ()), elapsed_ms
    except stream_state.UnreadableState:
        return None


@cache
def _watch_sql() -> tuple[str, str]:
    """(columns, tables): the open roast's id, what is in its watch, and the samples since as JSON."""
    roast, watch, sample = (connection.ops.quote_name(model._meta.db_table) for model in (Roast, StreamWatch, Sample))
    columns = ", ".join(f"x.{name}" for name in _COLUMNS)
    since = (
        f"(SELECT json_agg(json_build_array({columns}) ORDER BY x.elapsed_ms) FROM {sample} x "
        "WHERE x.roast_id = r.id AND x.elapsed_ms > w.elapsed_ms)::text"
    )
    joined = (
        f"JOIN {roast} r ON r.machine_id = m.id AND r.status IN ('charged', 'roasting', 'cooling') "
        f"JOIN {watch} w ON w.machine_id = m.id AND w.roast_id = r.id"
    )
    return f"r.id, w.elapsed_ms, w.content, {since}", joined


def resume(admitted: Admission, roast_id: str) -> tuple[StreamState, int]:
    """The state, and the elapsed time of its watch. ``roast_id``: the open roast ("" for none)."""
    if admitted.last_sequence == 0 and not roast_id:
        return expecting(admitted.machine_id, StreamState()), NO_WATCH_MS
    try:
        state = stream_state.decode(admission.stored_state(admitted.state))
        if state.roast_id != roast_id:
            raise stream_state.UnreadableState(f"it speaks of {state.roast_id!r}, open is {roast_id!r}")
    except stream_state.UnreadableState as error:
        logger.warning("stream of %s is read from its roast: %s", admitted.machine_id, error)
        return _from_roast(admitted.machine_id, None), NO_WATCH_MS
    if not roast_id:
        return expecting(admitted.machine_id, state), NO_WATCH_MS
    try:
        return _from_watch(admitted.machine_id, state)
    except stream_state.UnreadableState as error:
        logger.info("inference of %s goes over the whole roast again: %s", admitted.machine_id, error)
        return _from_roast(admitted.machine_id, state), NO_WATCH_MS


def _from_roast(machine_id: str, state: StreamState | None) -> StreamState:
    """From all of the open roast's samples; ``state`` is the stream's, where it can be read."""
    roast_id, resumed = roast_services.resume_state(machine_id)
    if state is None:
        return expecting(machine_id, StreamState(recording=resumed, roast_id=roast_id))
    recording = replace(state.recording, watch=resumed.watch, rate=resumed.rate)
    return expecting(machine_id, replace(state, recording=recording))


def _from_watch(machine_id: str, state: StreamState) -> tuple[StreamState, int]:
    """From the watch and the samples since. UnreadableState: there is none, or it does not fit."""
    row = StreamWatch.objects.filter(pk=machine_id, roast_id=state.roast_id).first()
    if row is None:
        raise stream_state.UnreadableState("no watch of this roast")
    since = Sample.objects.filter(roast_id=state.roast_id, elapsed_ms__gt=row.elapsed_ms).order_by("elapsed_ms")
    return _watched(state, row.elapsed_ms, row.content, list(since.values_list(*_COLUMNS))), row.elapsed_ms


def _watched(state: StreamState, elapsed_ms: int, content: str, since: Sequence[Sequence[Any]]) -> StreamState:
    """The state after a watch of ``elapsed_ms`` and the samples since (_COLUMNS). UnreadableState: they do not fit."""
    roast = state.recording.roast
    newest_ms = since[-1][0] if since else elapsed_ms
    if roast is None or newest_ms != roast.last_elapsed_ms:
        raise stream_state.UnreadableState(f"samples end at {newest_ms} ms, and the stream says {roast}")
    try:
        kept = json.loads(content)
    except ValueError as error:
        raise stream_state.UnreadableState(str(error)) from error
    recording = stream_state.decode_watch(kept, state.recording)
    return replace(state, recording=_gone_over(recording, roast, since))


def _gone_over(recording: RecorderState, roast: recorder.OpenState, rows: Sequence[Sequence[Any]]) -> RecorderState:
    """Inference and rate after samples that did nothing else: all else of the recorder is in the stream's own row."""
    run = inference.Running(recording.watch)
    for row in rows:
        elapsed_ms, state, bean_c, eye_c, heater_step, quality = row
        if quality:
            bean_c, eye_c, heater_step = steady.believed(quality, bean_c, eye_c, heater_step)
        recording.rate.step(elapsed_ms - roast.offset_ms, bean_c)
        at_ms = elapsed_ms + roast.axis_ms
        if not run.add(at_ms, state, bean_c, eye_c, heater_step):
            run = inference.Running(inference.step(run.state, _reading(row, roast.offset_ms), at_ms).state)
    return replace(recording, watch=run.state)


def _reading(row: Sequence[Any], offset_ms: int) -> Reading:
    """A sample as far as inference reads it: never its number or its wall time."""
    elapsed_ms, state, bean_temp_c, infrared_temp_c, heater_step, quality = row
    return Reading(
        sequence=0,
        at=inference.NO_TIME,
        monotonic_s=0.0,
        device_ms=elapsed_ms - offset_ms,
        state=MachineState(state),
        bean_temp_c=bean_temp_c,
        infrared_temp_c=infrared_temp_c,
        heater_step=heater_step,
        quality={name: Quality(word) for name, word in quality.items()} if quality else {},
    )
