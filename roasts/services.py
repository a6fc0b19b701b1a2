"""The only writer of roasts, samples, events and of a machine's latest reading. One transaction each."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from drivers.port import MachineState, Quality, Reading
from kernel import audit, ids, live, prepared
from kernel.errors import Conflict, Unprocessable
from kernel.principals import Principal, system_principal
from roasts import inference
from roasts.events import crack_store
from roasts.inference import Expectation
from roasts.models import EventKind, EventSource, Gap, Machine, MachineReading, Roast, RoastEvent, RoastStatus, Sample
from roasts.recording import recorder, sample_extras
from roasts.recording.filing import Filing
from roasts.store import summaries

MAX_EVENTS_PER_ROAST = 500
#: A roast may be marked a little past its last sample (the person's page runs ahead of the store).
MARK_SLACK_MS = 10_000
#: A roast whose first sample lies within this of its charge was watched from the charge on.
CHARGE_SEEN_MS = 2_000
#: Samples in one statement: a few seconds at 10 Hz, and far fewer values than a statement may have.
SAMPLES_AT_ONCE = 40
#: Of an open roast, read back at most (an hour at 10 Hz).
RESUMED_SAMPLES = 36_000


@dataclass(frozen=True, slots=True)
class LinkState:
    """How a machine can be reached, in words a person can act on."""

    link: str  # MachineReading.Link
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class FiledUpTo:
    """Every reading of this keeper boot up to this number is recorded, or needed no record."""

    connection_id: str
    sequence: int


def file_decisions(machine: Machine, filings: Sequence[Filing], *, now: dt.datetime) -> int:
    """Write what the recorder decided, in order; returns how many samples were new.

    Idempotent: a decision filed before (crash between commit and journal) changes nothing.
    """
    new_samples = 0
    with transaction.atomic():
        pending: list[Sample] = []
        for filing in filings:
            if isinstance(filing.decision, recorder.RecordSample):
                pending.append(_sample(filing.roast_id, filing.decision))
                continue
            new_samples += _insert(pending)
            pending = []
            _file_one(machine, filing, now=now)
        new_samples += _insert(pending)
        if filings:
            last = filings[-1]
            note_filed(machine.pk, connection_id=last.connection_id, sequence=last.sequence)
    return new_samples


def note_filed(machine_id: str, *, connection_id: str, sequence: int) -> None:
    """Remember up to which reading of which keeper boot everything is filed: where a restart resumes."""
    prepared.update(MachineReading, machine_id, {"connection_id": connection_id, "filed_sequence": sequence})


def _insert(samples: list[Sample]) -> int:
    if not samples:
        return 0
    for begin in range(0, len(samples), SAMPLES_AT_ONCE):
        prepared.insert(*samples[begin : begin + SAMPLES_AT_ONCE], skips_known=True)
    return len(samples)


def _sample(roast_id: str, decision: recorder.RecordSample) -> Sample:
    reading = decision.reading
    return Sample(
        roast_id=roast_id,
        elapsed_ms=decision.elapsed_ms,
        sequence=reading.sequence,
        at=reading.at,
        state=reading.state.value,
        bean_temp_c=reading.bean_temp_c,
        infrared_temp_c=reading.infrared_temp_c,
        environment_temp_c=reading.environment_temp_c,
        exhaust_temp_c=reading.exhaust_temp_c,
        ambient_temp_c=reading.ambient_temp_c,
        rate_of_rise_c_per_min=decision.rate_of_rise_c_per_min,
        machine_rate_c_per_min=reading.rate_of_rise_c_per_min,
        heater_step=reading.heater_step,
        fan_step=reading.fan_step,
        drum_step=reading.drum_step,
        fan_rpm=reading.fan_rpm,
        voltage_v=reading.voltage_v,
        quality=_quality(reading),
        extras=sample_extras.kept(reading.extras),
    )


def _quality(reading: Reading) -> dict[str, str]:
    return {name: Quality(quality).value for name, quality in reading.quality.items()}


def _file_one(machine: Machine, filing: Filing, *, now: dt.datetime) -> None:
    decision = filing.decision
    if isinstance(decision, recorder.OpenRoast):
        open_roast(machine, decision, roast_id=filing.roast_id, connection_id=filing.connection_id, now=now)
    elif isinstance(decision, recorder.MarkEvent):
        _file_mark(machine, filing.roast_id, decision)
    elif isinstance(decision, recorder.WithdrawMark):
        _file_withdrawal(machine, filing.roast_id, decision)
    elif isinstance(decision, recorder.ConfirmMark):
        _inferred(filing.roast_id, decision).exclude(confidence=decision.confidence).update(
            confidence=decision.confidence
        )
    elif isinstance(decision, recorder.SetStatus):
        Roast.objects.open().filter(pk=filing.roast_id).update(status=decision.status)
    elif isinstance(decision, recorder.RecordGap):
        record_gap(filing.roast_id, from_ms=decision.from_ms, to_ms=decision.to_ms, reason=decision.reason)
    elif isinstance(decision, recorder.Rebase):
        Roast.objects.filter(pk=filing.roast_id).update(
            device_start_ms=decision.device_start_ms, connection_id=filing.connection_id
        )
    elif isinstance(decision, recorder.CloseRoast):
        close_roast(machine, filing.roast_id, status=decision.status, ended_at=decision.at, now=now)


def open_roast(
    machine: Machine, decision: recorder.OpenRoast, *, roast_id: str, connection_id: str, now: dt.datetime
) -> Roast:
    """Open the roast under the id the loop gave it; one left open by a lost loop is aborted first.

    The id of the planned batch makes that one the open roast, with what was said of it. Where the plan was withdrawn
    in that very moment, the roast begins with nothing said.
    """
    existing = Roast.objects.filter(pk=roast_id).first()
    if existing is not None:
        return _begun_by_both(existing, decision, connection_id)
    for left_open in Roast.objects.open().filter(machine=machine):
        close_roast(machine, left_open.pk, status=RoastStatus.ABORTED.value, ended_at=decision.at, now=now)
    begun: dict[str, Any] = {
        "status": RoastStatus.CHARGED.value,
        "started_at": decision.at,
        "device_start_ms": decision.device_start_ms,
        "connection_id": connection_id,
    }
    if Roast.with_planned.planned().filter(pk=roast_id, machine=machine).update(**begun):
        roast = Roast.objects.get(pk=roast_id)
        if roast.profile_version_id is None:
            roast.profile_version_id = followed_profile(machine.pk)
            roast.save(update_fields=["profile_version"])
    else:
        roast = Roast.objects.create(
            id=roast_id,
            organization_id=machine.organization_id,
            machine=machine,
            profile_version_id=followed_profile(machine.pk),
            **begun,
        )
    payload = {"status": roast.status, "is_late": decision.is_late, "is_spurious": decision.is_spurious}
    _tell(machine, "roast_opened", "roast", roast.pk, payload, now=now)
    return roast


def _begun_by_both(roast: Roast, decision: recorder.OpenRoast, connection_id: str) -> Roast:
    """A person and the loop opened the same planned batch: what the loop files is told from its own begin.

    Filed again (a crash between commit and journal), it changes nothing.
    """
    is_other = roast.status == RoastStatus.CHARGED.value and roast.device_start_ms != decision.device_start_ms
    if is_other and not roast.samples.exists():
        roast.started_at, roast.device_start_ms = decision.at, decision.device_start_ms
        roast.connection_id = connection_id
        roast.save(update_fields=["started_at", "device_start_ms", "connection_id"])
    return roast


def followed_profile(machine_id: str) -> str | None:
    """The profile version a machine's next roast follows; a profile that was archived is followed no more."""
    chosen = Machine.objects.filter(pk=machine_id, profile_version__profile__is_archived=False)
    return chosen.values_list("profile_version_id", flat=True).first()


def close_roast(machine: Machine, roast_id: str, *, status: str, ended_at: dt.datetime, now: dt.datetime) -> bool:
    """Close an open roast as finished or aborted, and count it; False when it was closed already."""
    closed = Roast.objects.open().filter(pk=roast_id).update(status=status, ended_at=ended_at)
    if closed:
        count_again(roast_id, now=now)
        _tell(machine, "roast_closed", "roast", roast_id, {"status": status}, now=now)
    return bool(closed)


def count_again(roast_id: str, *, now: dt.datetime) -> None:
    """Bring a closed roast's kept summary up to its samples and marks; an open one has none yet."""
    roast = Roast.objects.select_related("machine").filter(pk=roast_id, status__in=summaries.CLOSED).first()
    if roast is not None:
        summaries.summarise_roast(roast, now=now)


def record_gap(roast_id: str, *, from_ms: int, to_ms: int | None, reason: str) -> Gap:
    """Mark a stretch without readings; the same stretch again only learns its end."""
    gap, _ = Gap.objects.update_or_create(
        roast_id=roast_id, from_ms=from_ms, defaults={"to_ms": to_ms, "reason": reason}
    )
    return gap


def _file_mark(machine: Machine, roast_id: str, decision: recorder.MarkEvent) -> None:
    """A mark of the machine stands once; an inferred one may be withdrawn and made again, at its own moment."""
    values = {"elapsed_ms": decision.elapsed_ms, "at": decision.at}
    is_once = decision.source != EventSource.INFERRED.value or decision.kind == EventKind.CHARGE.value
    event, is_new = RoastEvent.objects.get_or_create(
        roast_id=roast_id,
        kind=decision.kind,
        source=decision.source,
        **({} if is_once else values),
        defaults={**values, "confidence": decision.confidence, "text": decision.text},
    )
    if is_new:
        _stream_event(machine.organization, machine.pk, event, now=decision.at)


def _inferred(roast_id: str, decision: recorder.WithdrawMark | recorder.ConfirmMark) -> QuerySet[RoastEvent]:
    """The inferred mark a later decision is about; those of a roast that a person closed meanwhile stay."""
    return RoastEvent.objects.filter(
        roast__in=Roast.objects.open().filter(pk=roast_id),
        kind=decision.kind,
        source=EventSource.INFERRED.value,
        elapsed_ms=decision.elapsed_ms,
        at__lte=decision.at,
        withdrawn_at__isnull=True,
    )


def _file_withdrawal(machine: Machine, roast_id: str, decision: recorder.WithdrawMark) -> None:
    """The inference is refuted: withdrawn at the moment it was, kept as history, and told."""
    for event in _inferred(roast_id, decision):
        event.withdrawn_at = decision.at
        event.save(update_fields=["withdrawn_at"])
        _stream_event(machine.organization, machine.pk, event, now=decision.at)


def _tell(
    machine: Machine, verb: str, kind: str, subject_id: str, payload: dict[str, Any], *, now: dt.datetime
) -> None:
    """Audit and stream one fact about a machine, as the machine loop."""
    organization = machine.organization
    actor = system_principal("machine_loop", organization)
    audit.record(organization, actor, verb, kind, subject_id, {"machine_id": machine.pk, **payload}, now=now)
    live.publish_decision(organization, kind, subject_id, machine.pk, {"verb": verb, **payload}, now=now)


def _stream_event(organization: Any, machine_id: str, event: RoastEvent, *, now: dt.datetime) -> None:
    live.publish_decision(
        organization,
        "roast_event",
        event.pk,
        machine_id,
        {
            "roast_id": event.roast_id,
            "kind": event.kind,
            "elapsed_ms": event.elapsed_ms,
            "source": event.source,
            "confidence": event.confidence,
            "is_withdrawn": event.withdrawn_at is not None,
        },
        now=now,
    )


def mark_event(
    principal: Principal, roast: Roast, *, kind: str, elapsed_ms: int, text: str = "", now: dt.datetime
) -> RoastEvent:
    """A person's mark. It wins over the machine's and over an inference; both are kept.

    A person's earlier mark of the same kind (notes apart) is withdrawn: the new one corrects it.
    """
    _check_mark(roast, elapsed_ms)
    with transaction.atomic():
        if kind != EventKind.NOTE.value:
            earlier = roast.events.filter(kind=kind, source=EventSource.PERSON.value, withdrawn_at__isnull=True)
            for event in earlier.select_for_update():
                _withdraw(principal, roast, event, now=now)
        event = RoastEvent.objects.create(
            roast=roast,
            kind=kind,
            elapsed_ms=elapsed_ms,
            source=EventSource.PERSON.value,
            marked_by=principal.user,  # type: ignore[misc]
            text=text,
            at=now,
        )
        count_again(roast.pk, now=now)
        _audit_mark(principal, roast, "roast_event_marked", event, now=now)
        _stream_event(roast.organization, roast.machine_id, event, now=now)
    return event


def correct_event(
    principal: Principal, roast: Roast, event: RoastEvent, *, elapsed_ms: int, now: dt.datetime
) -> RoastEvent:
    """Move a mark: a new mark of the person at the right time. What a person marked before is withdrawn;
    what the machine or an inference said stays beside it.
    """
    if event.withdrawn_at is not None:
        raise Conflict("mark_withdrawn", "This mark was withdrawn.", "Set a new one.")
    return mark_event(principal, roast, kind=event.kind, elapsed_ms=elapsed_ms, text=event.text, now=now)


def withdraw_event(principal: Principal, roast: Roast, event: RoastEvent, *, now: dt.datetime) -> RoastEvent:
    """Take a person's mark or an inference back; the machine's own marks are facts and stay."""
    if event.source == EventSource.DEVICE.value:
        raise Unprocessable(
            "device_mark", "The machine itself said this; it cannot be withdrawn.", "Set your own mark: it wins."
        )
    with transaction.atomic():
        _withdraw(principal, roast, event, now=now)
        count_again(roast.pk, now=now)
    return event


def _withdraw(principal: Principal, roast: Roast, event: RoastEvent, *, now: dt.datetime) -> None:
    moved = RoastEvent.objects.filter(pk=event.pk, withdrawn_at__isnull=True).update(withdrawn_at=now)
    if moved != 1:
        raise Conflict("mark_withdrawn", "This mark was withdrawn already.", "Look at the roast again.")
    event.withdrawn_at = now
    _audit_mark(principal, roast, "roast_event_withdrawn", event, now=now)
    _stream_event(roast.organization, roast.machine_id, event, now=now)


def _check_mark(roast: Roast, elapsed_ms: int) -> None:
    last = _last_ms(roast)
    if elapsed_ms < 0 or elapsed_ms > last + MARK_SLACK_MS:
        raise Unprocessable(
            "outside_roast",
            f"{elapsed_ms / 1000:.0f} s is outside this roast.",
            f"Mark between 0 and {last / 1000:.0f} s.",
        )
    if roast.events.count() >= MAX_EVENTS_PER_ROAST:
        raise Conflict("too_many_marks", f"A roast holds {MAX_EVENTS_PER_ROAST} marks at most.", "Use those there are.")


def _last_ms(roast: Roast) -> int:
    """Where the record ends: its last row, or, once the rows are packed away, its close."""
    last = roast.samples.order_by("-elapsed_ms").values_list("elapsed_ms", flat=True).first()
    if last is None and roast.ended_at is not None:
        return round((roast.ended_at - roast.started_at).total_seconds() * 1000)
    return last or 0


def _audit_mark(principal: Principal, roast: Roast, verb: str, event: RoastEvent, *, now: dt.datetime) -> None:
    payload = {"roast_id": roast.pk, "kind": event.kind, "elapsed_ms": event.elapsed_ms, "source": event.source}
    audit.record(roast.organization, principal, verb, "roast_event", event.pk, payload, now=now)


def write_latest(
    machine_id: str,
    link: LinkState,
    reading: Reading | None,
    *,
    rate_of_rise_c_per_min: float | None,
    are_beans_proved: bool,
    interval_s: float | None = None,
    filed: FiledUpTo | None = None,
    now: dt.datetime,
) -> None:
    """Rewrite the machine's one row of latest values (about 5 Hz). ``reading`` None: only the link. ``interval_s``:
    how far apart its readings come, None where nobody said. ``filed``: see :func:`note_filed`."""
    values: dict[str, Any] = {
        "link": link.link,
        "link_code": link.code[:40],
        "link_message": link.message,
        "are_beans_proved": are_beans_proved,
        "interval_s": interval_s,
        "written_at": now,
    }
    if reading is not None:
        values |= _latest_values(reading) | {"rate_of_rise_c_per_min": rate_of_rise_c_per_min}
    if filed is not None:
        values |= {"connection_id": filed.connection_id, "filed_sequence": filed.sequence}
    if prepared.update(MachineReading, machine_id, values) == 0:
        MachineReading.objects.update_or_create(machine_id=machine_id, defaults=values)


def _latest_values(reading: Reading) -> dict[str, Any]:
    return {
        "at": reading.at,
        "sequence": reading.sequence,
        "device_ms": reading.device_ms,
        "state": reading.state.value,
        "bean_temp_c": reading.bean_temp_c,
        "infrared_temp_c": reading.infrared_temp_c,
        "environment_temp_c": reading.environment_temp_c,
        "exhaust_temp_c": reading.exhaust_temp_c,
        "ambient_temp_c": reading.ambient_temp_c,
        "heater_step": reading.heater_step,
        "fan_step": reading.fan_step,
        "drum_step": reading.drum_step,
        "fan_rpm": reading.fan_rpm,
        "voltage_v": reading.voltage_v,
        "quality": _quality(reading),
    }


def note_identity(machine_id: str, identity: dict[str, Any]) -> None:
    """Keep who the machine said it is (serial, firmware, hours)."""
    prepared.update(MachineReading, machine_id, {"identity": identity})


def new_roast_id() -> str:
    """The loop names a roast before the store hears of it, so that an outage loses nothing."""
    return ids.new("rst")


def resume_state(machine_id: str) -> tuple[str, recorder.RecorderState]:
    """The open roast's id (or "") and the recorder's state, read back from what is filed."""
    roast = Roast.objects.open().filter(machine_id=machine_id).order_by("-started_at").first()
    latest = MachineReading.objects.filter(pk=machine_id).first()
    expectation = crack_store.expectation_of(machine_id, roast.bean if roast else "")
    if roast is None:
        idle = recorder.RecorderState(connection_id=latest.connection_id if latest else "")
        return "", recorder.expect(idle, expectation)
    return roast.pk, _rebuilt(roast, expectation)


def _rebuilt(roast: Roast, expectation: Expectation) -> recorder.RecorderState:
    """From its samples, all of them once: inference must see what it saw (10 minutes at 10 Hz: about 0.1 s)."""
    standing = roast.events.exclude(source=EventSource.PERSON.value).filter(withdrawn_at__isnull=True)
    marks = dict(standing.order_by("at").values_list("kind", "elapsed_ms"))
    rows = list(
        roast.samples.order_by("elapsed_ms").only(
            "elapsed_ms", "sequence", "at", "state", "bean_temp_c", "infrared_temp_c", "heater_step", "quality"
        )[:RESUMED_SAMPLES]
    )
    last = rows[-1] if rows else None
    believed = [
        (row.elapsed_ms, row.bean_temp_c)
        for row in rows
        if row.bean_temp_c is not None and "bean_temp_c" not in row.quality
    ]
    early_c = [temp_c for elapsed_ms, temp_c in believed if elapsed_ms <= recorder.BEANS_WITHIN_MS]
    is_inferred = _tells_no_state(roast, rows)
    is_charge_seen = bool(rows) and rows[0].elapsed_ms < CHARGE_SEEN_MS
    offset_ms = -roast.device_start_ms
    begun_ms = roast.device_start_ms if is_inferred else None  # a person opened it, and nothing was read since
    open_state = recorder.OpenState(
        offset_ms=offset_ms,
        status=roast.status,
        last_elapsed_ms=last.elapsed_ms if last else -1,
        charge_bean_temp_c=max(early_c) if early_c else None,
        turned_ms=marks.get("turning_point"),
        are_beans_proved=(is_inferred and "charge" in marks) or (bool(early_c) and _has_fallen(early_c)),
        is_charge_seen=is_charge_seen,
        dropped_ms=marks.get("drop"),
        is_jump_settled="drop" in marks,
        is_inferred=is_inferred,
    )
    state = recorder.RecorderState(
        connection_id=roast.connection_id,
        last_device_ms=last.elapsed_ms - offset_ms if last else begun_ms,
        last_at=last.at if last else roast.started_at if begun_ms is not None else None,
        roast=open_state,
        is_resumed=True,
        expectation=expectation,
        watch=_rewatched(rows, expectation, marks, is_late=not is_charge_seen, is_stated=not is_inferred),
    )
    return recorder.prime_rate(state, [(elapsed_ms - offset_ms, temp_c) for elapsed_ms, temp_c in believed])


def _tells_no_state(roast: Roast, rows: Sequence[Sample]) -> bool:
    """Whether its machine tells no states; before the first sample the newest reading says."""
    if rows:
        return all(row.state == MachineState.UNKNOWN.value for row in rows)
    silent = MachineReading.objects.filter(pk=roast.machine_id, state=MachineState.UNKNOWN.value, at__isnull=False)
    return silent.exists()


def _rewatched(
    rows: Sequence[Sample], expectation: Expectation, marks: dict[str, int], *, is_late: bool, is_stated: bool
) -> inference.InferenceState:
    """Inference after the samples that are filed; what is on record of its marks counts."""
    is_far = is_late and bool(rows) and rows[0].elapsed_ms > inference.LATE_MS
    watch = inference.begin(expectation, charge_ms=0, is_late=is_far, is_stated=is_stated)
    for row in rows:
        watch, _ = inference.step(watch, _reading(row), row.elapsed_ms)
    for kind, elapsed_ms in marks.items():
        watch = inference.adopt(watch, kind, elapsed_ms)
    return watch


def _reading(row: Sample) -> Reading:
    """A sample as far as inference reads it."""
    return Reading(
        sequence=row.sequence,
        at=row.at,
        monotonic_s=0.0,
        device_ms=row.elapsed_ms,
        state=MachineState(row.state),
        bean_temp_c=row.bean_temp_c,
        infrared_temp_c=row.infrared_temp_c,
        heater_step=row.heater_step,
        quality={name: Quality(word) for name, word in row.quality.items()} if row.quality else {},
    )


def _has_fallen(temps_c: Iterable[float]) -> bool:
    highest_c = float("-inf")
    for temp_c in temps_c:
        highest_c = max(highest_c, temp_c)
        if highest_c - temp_c >= recorder.BEANS_FALL_C:
            return True
    return False
