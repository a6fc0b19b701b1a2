"""Filing telemetry: one envelope, one transaction, once. The only writer of streams and batches.

Same machine, sequence and content again: the first answer again. Other content: refused. What comes late goes by its
own time to the roast it belongs to, open or closed; a closed roast is not reopened by it, and one that is packed takes
nothing more (its digest is what a dispute cites): such points are refused with their reason.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from django.db import connection, transaction
from django.db.models import F

from kernel import audit, canonical, live
from kernel.errors import ApiError, Conflict, Forbidden, Unprocessable
from kernel.principals import Principal
from roasts import services as roast_services
from roasts.models import (
    EventKind,
    Machine,
    MachineReading,
    Roast,
    RoastSource,
    RoastStatus,
    TelemetryBatch,
    TelemetryPolicy,
    TelemetryStream,
)
from roasts.recording import services_planned
from roasts.recording.filing import Filing
from roasts.recording.planned import HEATING_UP
from roasts.recording.recorder import MarkEvent, OpenRoast
from roasts.services import LinkState
from roasts.telemetry import admission, late, resuming, rows, signing, stream_state, swift, turns
from roasts.telemetry.admission import Admission
from roasts.telemetry.envelope import MAX_REFUSALS_TOLD, Envelope, Refusal
from roasts.telemetry.following import StreamState, Taken, close_by_hand, open_by_hand, take
from roasts.telemetry.signing import Statement, Verdict

#: Points that reach us this much after their time count as late: batches hold up to 5 s, and a retry takes its time.
LATE_AFTER = dt.timedelta(seconds=15)
#: … and all of an envelope that was so long on its way since it was made: the network was away.
TRANSIT_MAX = dt.timedelta(seconds=5)
#: States of streams that this process filed last; a stream that another process moved on is read from its row.
KEPT_STATES = 4096


@dataclass(frozen=True, slots=True)
class Filed:
    """What the sender is told. ``is_replay``: this envelope had come before."""

    answer: dict[str, Any]
    is_replay: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """A stream as this process left it: what it was judged by, its state (which is used once), and the elapsed time of
    the roast that the written watch knows.
    """

    admitted: Admission
    state: StreamState
    watched_ms: int = resuming.NO_WATCH_MS


class _Streams:
    """machine → the stream as we left it: a hint, checked against the row by whoever uses it."""

    def __init__(self, most: int = KEPT_STATES) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def pop(self, machine_id: str) -> Kept | None:
        with self._lock:
            return self._kept.pop(machine_id, None)

    def look(self, machine_id: str) -> Kept | None:
        """The same, left where it is."""
        return self._kept.get(machine_id)

    def put(self, machine_id: str, kept: Kept) -> None:
        with self._lock:
            self._kept[machine_id] = kept
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)


_streams = _Streams()


def is_known(organization_id: str, envelope: Envelope) -> bool:
    """Whether this process knows how the stream stands, as far as it knows: then filing takes no longer than usual."""
    kept = _streams.look(envelope.machine_id)
    return kept is not None and _is_next(kept.admitted, organization_id, envelope)


def file_envelope(
    organization_id: str,
    envelope: Envelope,
    *,
    received_at: dt.datetime,
    api_key: swift.KeyGround | None = None,
    look_again: Callable[[], None] | None = None,
) -> Filed:
    """File one envelope. NotFound, Conflict (`machine_not_remote`, `sequence_reused`), Unprocessable
    (`signature_required`, `signature_failed`: the organisation requires what does not verify here).

    ``api_key``: who sends was looked up a while ago; the one statement asks whether it still stands. Before
    anything else is done, ``look_again`` raises where it does not.
    """
    statement = Statement(
        organization_id,
        envelope.machine_id,
        envelope.sequence,
        envelope.at,
        envelope.points_digest,
        envelope.events_digest,
        envelope.previous_digest,
    )
    incoming = _Incoming(organization_id, envelope, statement, statement.digest(), received_at, api_key)
    kept, taken = _streams.pop(envelope.machine_id), None
    if _is_swift_possible():
        if kept is None or not _is_next(kept.admitted, organization_id, envelope):
            with turns.waiting():
                kept = _read_anew(incoming) or kept
        if kept is not None and _is_next(kept.admitted, organization_id, envelope):
            verdict = _judged(kept.admitted, incoming)
            name_roast = services_planned.ids_for(envelope.machine_id, envelope.at)
            taken = take(kept.state, envelope, kept.admitted.last_sequence, name_roast)
            if swift.is_plain(taken, envelope) and not _heats_up(kept.state, taken):
                filed = _file_swiftly(incoming, kept, taken, verdict)
                if filed is not None:
                    return filed
                kept = taken = None  # what we knew does not stand any more
    with turns.waiting():  # many statements, and locks
        if look_again is not None:
            look_again()
        return _file_slowly(incoming, kept, taken)


@dataclass(frozen=True, slots=True)
class _Incoming:
    """An envelope on its way in, with what a signature of it is over."""

    organization_id: str
    envelope: Envelope
    statement: Statement
    digest: str
    received_at: dt.datetime
    api_key: swift.KeyGround | None


def _is_swift_possible() -> bool:
    """Whether this database has the one statement, and nobody has a transaction round us."""
    return connection.vendor == "postgresql" and not connection.in_atomic_block


def _is_next(admitted: Admission, organization_id: str, envelope: Envelope) -> bool:
    """The next envelope of a stream as far as it is known here, by a key that is known here."""
    return (
        organization_id == admitted.organization_id
        and envelope.sequence == admitted.last_sequence + 1
        and envelope.kid == (admitted.own_kid or "")
    )


def _read_anew(incoming: _Incoming) -> Kept | None:
    """A stream that another process moved on, as it stands now, if this envelope is its next."""
    organization_id, envelope = incoming.organization_id, incoming.envelope
    found = resuming.look(organization_id, envelope.machine_id, envelope.kid)
    if found is not None:
        return Kept(*found) if _is_next(found[0], organization_id, envelope) else None
    try:
        with transaction.atomic():  # the stream is locked, so its row, its watch and its samples are of one moment
            admitted = admission.admit(organization_id, envelope.machine_id, envelope.kid)
            return Kept(admitted, *_state(admitted, None)) if _is_next(admitted, organization_id, envelope) else None
    except ApiError:
        return None  # the long way says it, after it has looked who asks


def _file_swiftly(incoming: _Incoming, kept: Kept, taken: Taken, verdict: Verdict) -> Filed | None:
    """A plain envelope in one statement; None where what we knew does not stand any more."""
    admitted, envelope = kept.admitted, incoming.envelope
    late_points = _delayed(taken, envelope, incoming.received_at)
    placed = late.Placed()
    answer = _answer(incoming, taken, placed, verdict, len(taken.samples), late_points)
    grounds = swift.Grounds(
        admitted.organization_id,
        admitted.signing,
        admitted.last_sequence,
        admitted.last_digest,
        kept.state.roast_id,
        admitted.key,
        incoming.api_key,
    )
    watch = resuming.watch_of(taken.state) if resuming.is_due(taken.state, kept.watched_ms) else None
    writing = swift.Writing(
        envelope,
        taken,
        verdict,
        incoming.digest,
        admitted.own_kid,
        stream_state.encode(taken.state),
        answer,
        late_points,
        incoming.received_at,
        watch,
    )
    if not swift.write(grounds, writing):
        return None
    _keep(admitted, incoming, taken, kept.watched_ms if watch is None else watch.elapsed_ms)
    _publish(admitted, taken, incoming.received_at)
    return Filed(answer, is_replay=False)


def _file_slowly(incoming: _Incoming, kept: Kept | None, taken: Taken | None = None) -> Filed:
    """In a transaction that locks the stream: everything that can happen. ``taken``: what the envelope led to from
    ``kept`` (whose state is used up by that), if that still stands.
    """
    envelope = incoming.envelope
    with transaction.atomic():
        admitted = admission.admit(incoming.organization_id, envelope.machine_id, envelope.kid)
        if envelope.sequence <= admitted.last_sequence:
            before = TelemetryBatch.objects.filter(machine_id=envelope.machine_id, sequence=envelope.sequence).first()
            if before is not None:
                return _answered_before(before, incoming.digest)
        verdict = _judged(admitted, incoming)
        if taken is None or kept is None or not _stands(kept, admitted, resuming.open_roast(admitted.machine_id)):
            state, watched_ms = _state(admitted, kept if taken is None else None)
            name_roast = services_planned.ids_for(envelope.machine_id, envelope.at)
            taken = take(state, envelope, admitted.last_sequence, name_roast)
        else:
            state, watched_ms = kept.state, kept.watched_ms
        answer = _write(admitted, incoming, taken, verdict)
        if _heats_up(state, taken):
            services_planned.heat_up(admitted.machine_id, now=incoming.received_at)
        if not swift.is_plain(taken, envelope) or resuming.is_due(taken.state, watched_ms):
            watched_ms = resuming.keep_watch(admitted.machine_id, taken.state)
    if taken.closed_by or any(isinstance(filing.decision, OpenRoast) for filing in taken.acts):
        taken.state = resuming.expecting(admitted.machine_id, taken.state)
    _keep(admitted, incoming, taken, watched_ms)
    _publish(admitted, taken, incoming.received_at)
    return Filed(answer, is_replay=False)


def _heats_up(before: StreamState, taken: Taken) -> bool:
    """Whether the machine begins to heat up with this envelope, for its next batch."""
    newest = taken.newest
    return newest is not None and newest.state in HEATING_UP and before.recording.last_state not in HEATING_UP


def _keep(admitted: Admission, incoming: _Incoming, taken: Taken, watched_ms: int) -> None:
    """Remember where the stream stands now: a hint, and unused where a transaction around us fails."""
    if incoming.envelope.sequence > admitted.last_sequence:
        admitted = replace(admitted, last_sequence=incoming.envelope.sequence, last_digest=incoming.digest)
    _streams.put(admitted.machine_id, Kept(admitted, taken.state, watched_ms))


def _answered_before(batch: TelemetryBatch, digest: str) -> Filed:
    if batch.digest != digest:
        raise Conflict(
            "sequence_reused",
            f"Sequence {batch.sequence} of this machine came before with other content.",
            "Never send a sequence twice with other content; GET /v1/telemetry/{machine_id} says where the stream is.",
            sequence=batch.sequence,
            digest=batch.digest,
        )
    return Filed(batch.response, is_replay=True)


def _judged(admitted: Admission, incoming: _Incoming) -> Verdict:
    """What the signature is worth, by the organisation's policy. Unprocessable where the policy requires more."""
    envelope, statement, received_at = incoming.envelope, incoming.statement, incoming.received_at
    if admitted.signing == TelemetryPolicy.Signing.OFF.value:
        return Verdict(signing.UNSIGNED, "policy_off")
    verdict = signing.verify(statement, envelope.signature, envelope.kid, admitted.key, received_at=received_at)
    if envelope.sequence == admitted.last_sequence + 1 and admitted.last_sequence > 0:
        verdict = signing.check_chain(verdict, envelope.previous_digest, admitted.last_digest)
    if admitted.signing == TelemetryPolicy.Signing.REQUIRE.value and not verdict.is_verified:
        code = "signature_required" if verdict.verdict == signing.UNSIGNED else "signature_failed"
        raise Unprocessable(
            code,
            f"This organisation takes signed telemetry only: {verdict.reason}.",
            "Sign with a device key of this machine (`manage.py devicekey`).",
            reason=verdict.reason,
        )
    return verdict


def _state(admitted: Admission, kept: Kept | None) -> tuple[StreamState, int]:
    """Where the stream stands, from memory or from the store; and elapsed time of the watch that is written of it."""
    open_roast = resuming.open_roast(admitted.machine_id)
    if kept is not None and _stands(kept, admitted, open_roast):
        return kept.state, kept.watched_ms
    return resuming.resume(admitted, open_roast)


def _stands(kept: Kept, admitted: Admission, open_roast: str) -> bool:
    """Whether nothing was filed since by anybody else, and nobody opened or closed a roast."""
    before = kept.admitted
    is_same_moment = (before.last_sequence, before.last_digest) == (admitted.last_sequence, admitted.last_digest)
    return is_same_moment and kept.state.roast_id == open_roast


def _delayed(taken: Taken, envelope: Envelope, received_at: dt.datetime) -> int:
    """How many samples reached us long after their time."""
    if received_at - envelope.at > TRANSIT_MAX:
        return len(taken.samples)
    oldest = received_at - LATE_AFTER
    return sum(1 for each in taken.samples if each.point.at < oldest)


def _write(admitted: Admission, incoming: _Incoming, taken: Taken, verdict: Verdict) -> dict[str, Any]:
    """Everything an envelope changes; the answer."""
    envelope, received_at = incoming.envelope, incoming.received_at
    if taken.acts:
        _act(admitted.machine_id, taken, received_at)
    new_samples = rows.insert_samples(taken.samples)
    placed = late.place(admitted.machine_id, taken, now=received_at)
    delayed = _delayed(taken, envelope, received_at)
    _count(taken, placed, verdict, delayed)
    answer = _answer(incoming, taken, placed, verdict, new_samples, delayed + placed.filed)
    TelemetryBatch.objects.create(
        machine_id=envelope.machine_id,
        sequence=envelope.sequence,
        at=envelope.at,
        received_at=received_at,
        digest=incoming.digest,
        previous_digest=envelope.previous_digest,
        signature=envelope.signature,
        device_key_id=admitted.own_kid,
        verdict=verdict.verdict,
        verdict_reason=verdict.reason,
        points_filed=new_samples + placed.filed,
        points_refused=len(envelope.refused_points) + len(placed.refused),
        points_late=delayed + placed.filed,
        response=answer,
    )
    _move_stream(admitted, envelope, taken, incoming.digest)
    _show(admitted.machine_id, taken, received_at)
    return answer


def _answer(
    incoming: _Incoming, taken: Taken, placed: late.Placed, verdict: Verdict, new_samples: int, late_points: int
) -> dict[str, Any]:
    """What the sender is told, now and whenever it asks again."""
    envelope = incoming.envelope
    refused = (*envelope.refused_points, *placed.refused)
    return {
        "machine_id": envelope.machine_id,
        "sequence": envelope.sequence,
        "digest": incoming.digest,
        "points_digest": envelope.points_digest,
        "events_digest": envelope.events_digest,
        "verdict": verdict.verdict,
        "verdict_reason": verdict.reason,
        "points_received": len(envelope.points) + len(envelope.refused_points),
        "points_filed": new_samples + placed.filed,
        "points_refused": len(refused),
        "points_late": late_points,
        "points_repeated": taken.repeated + placed.repeated + len(taken.samples) - new_samples,
        "points_outside": taken.idle + placed.outside,
        "refused": [_told(refusal) for refusal in refused[:MAX_REFUSALS_TOLD]],
        "refused_events": [_told(refusal) for refusal in envelope.refused_events],
        "stretches": late.stretches(taken, placed, is_late=late_points > placed.filed),
        "missing": [list(each) for each in taken.state.missing],
    }


def _told(refusal: Refusal) -> dict[str, Any]:
    return {"index": refusal.index, "code": refusal.code, "message": refusal.message}


def _act(machine_id: str, taken: Taken, received_at: dt.datetime) -> None:
    """The recorder's decisions, in order, as the machine loop's are filed; a roast says from its birth where it came
    from, for once closed it says nothing new.
    """
    machine = Machine.objects.select_related("organization").get(pk=machine_id)
    waiting: list[Filing] = []
    for filing in taken.acts:
        waiting.append(filing)
        if isinstance(filing.decision, OpenRoast):
            roast_services.file_decisions(machine, waiting, now=received_at)
            Roast.objects.filter(pk=filing.roast_id).update(source=RoastSource.TELEMETRY.value)
            waiting = []
    roast_services.file_decisions(machine, waiting, now=received_at)
    for roast_id, why in taken.closed_by.items():
        Roast.objects.filter(pk=roast_id).update(close_reason=why)


def _count(taken: Taken, placed: late.Placed, verdict: Verdict, delayed: int) -> None:
    """Each roast learns how many of its points came verified, unsigned or failed, and how many late."""
    points: dict[str, int] = {}
    lates = dict(placed.by_roast)
    for sample in taken.samples:
        points[sample.roast_id] = points.get(sample.roast_id, 0) + 1
    for roast_id, count in placed.by_roast.items():
        points[roast_id] = points.get(roast_id, 0) + count
    if delayed and taken.samples:
        newest = taken.samples[-1].roast_id
        lates[newest] = lates.get(newest, 0) + delayed
    column = f"{verdict.verdict}_points"
    for roast_id, count in points.items():
        Roast.objects.filter(pk=roast_id).update(
            **{column: F(column) + count}, late_points=F("late_points") + lates.get(roast_id, 0)
        )


def _move_stream(admitted: Admission, envelope: Envelope, taken: Taken, digest: str) -> None:
    moved: dict[str, Any] = {"state": stream_state.encode(taken.state)}
    if envelope.sequence > admitted.last_sequence:
        moved |= {"last_sequence": envelope.sequence, "last_digest": digest}
    if taken.newest is not None:
        moved["last_event_at"] = taken.newest.at
    TelemetryStream.objects.filter(machine_id=admitted.machine_id).update(**moved)


def _show(machine_id: str, taken: Taken, received_at: dt.datetime) -> None:
    """The machine's page shows the newest reading; a late envelope changes nothing there."""
    if taken.newest is None:
        return
    roast = taken.state.recording.roast
    roast_services.write_latest(
        machine_id,
        LinkState(MachineReading.Link.UP.value),
        taken.newest,
        rate_of_rise_c_per_min=taken.rate_of_rise_c_per_min,
        are_beans_proved=bool(roast and roast.are_beans_proved and roast.dropped_ms is None),
        now=received_at,
    )


def _publish(admitted: Admission, taken: Taken, received_at: dt.datetime) -> None:
    """Show viewers the newest reading, after the commit."""
    reading, recording = taken.newest, taken.state.recording
    if reading is None:
        return
    roast = recording.roast
    rate = taken.rate_of_rise_c_per_min
    payload: dict[str, Any] = {
        "machine_id": admitted.machine_id,
        "link": MachineReading.Link.UP.value,
        "link_code": "",
        "link_message": "",
        "said_at": canonical.utc_text(received_at),
        "roast_id": taken.state.roast_id or None,
        "elapsed_ms": recording.elapsed_ms,
        "rate_of_rise_c_per_min": None if rate is None else round(rate, 2),
        "are_beans_proved": bool(roast and roast.are_beans_proved and roast.dropped_ms is None),
        "is_latched": False,
        "alarms": [],
        "at": canonical.utc_text(reading.at),
        "sequence": reading.sequence,
        "device_ms": reading.device_ms,
        "state": reading.state.value,
        "bean_temp_c": reading.bean_temp_c,
        "infrared_temp_c": reading.infrared_temp_c,
        "environment_temp_c": reading.environment_temp_c,
        "exhaust_temp_c": reading.exhaust_temp_c,
        "ambient_temp_c": reading.ambient_temp_c,
        "machine_rate_c_per_min": reading.rate_of_rise_c_per_min,
        "heater_step": reading.heater_step,
        "fan_step": reading.fan_step,
        "drum_step": reading.drum_step,
        "fan_rpm": reading.fan_rpm,
        "voltage_v": reading.voltage_v,
        "quality": {name: quality.value for name, quality in reading.quality.items()},
    }
    organization_id, machine_id = admitted.organization_id, admitted.machine_id
    transaction.on_commit(
        lambda: live.publish_reading(organization_id, machine_id, payload, is_one_of_many=True)  # a thousand machines
    )


def open_by_person(principal: Principal, machine: Machine, *, now: dt.datetime) -> Roast:
    """Open a roast as of the newest point's time. Conflict: one is open, or the machine says itself when it roasts."""
    with transaction.atomic():
        _admitted, state = _for_a_person(principal, machine)
        if state.roast_id:
            raise Conflict("roast_open", "A roast is open on this machine.", "Close it first.", roast_id=state.roast_id)
        if state.is_stated:
            raise Conflict(
                "machine_says_itself", "This machine says itself when it roasts.", "Charge it: the roast opens by that."
            )
        at = state.recording.last_at or now
        taken = open_by_hand(state, at, services_planned.ids_for(machine.pk, now))
        filings = [each for each in taken.acts if not isinstance(each.decision, MarkEvent)]
        roast_services.file_decisions(machine, filings, now=now)
        roast = Roast.objects.select_related("organization", "machine").get(pk=taken.state.roast_id)
        Roast.objects.filter(pk=roast.pk).update(source=RoastSource.TELEMETRY.value)
        roast_services.mark_event(principal, roast, kind=EventKind.CHARGE.value, elapsed_ms=0, now=now)
        _keep_state(machine.pk, taken.state)
    return roast


def close_by_person(
    principal: Principal, machine: Machine, *, is_aborted: bool, reason: str, now: dt.datetime
) -> Roast:
    """Close the open roast as of its newest point. Conflict `no_roast`."""
    with transaction.atomic():
        _admitted, state = _for_a_person(principal, machine)
        if not state.roast_id:
            raise Conflict("no_roast", "No roast is open on this machine.", "Nothing is left to do.")
        roast_id, ended_at = state.roast_id, state.recording.last_at or now
        status = RoastStatus.ABORTED if is_aborted else RoastStatus.FINISHED
        roast_services.close_roast(machine, roast_id, status=status.value, ended_at=ended_at, now=now)
        Roast.objects.filter(pk=roast_id).update(close_reason="person")
        payload = {"machine_id": machine.pk, "reason": reason, "is_aborted": is_aborted}
        audit.record(machine.organization, principal, "roast_closed_by_hand", "roast", roast_id, payload, now=now)
        _keep_state(machine.pk, close_by_hand(state))
    return Roast.objects.get(pk=roast_id)


def _for_a_person(principal: Principal, machine: Machine) -> tuple[Admission, StreamState]:
    """The locked stream, for somebody who may operate. Forbidden, NotFound, Conflict."""
    if not principal.may("operate"):
        raise Forbidden("not_allowed", f"{principal.name} may not operate here.", "Ask an operator.")
    admitted = admission.admit(machine.organization_id, machine.pk, "")
    return admitted, _state(admitted, None)[0]


def _keep_state(machine_id: str, state: StreamState) -> None:
    TelemetryStream.objects.filter(machine_id=machine_id).update(state=stream_state.encode(state))
    resuming.keep_watch(machine_id, state)
