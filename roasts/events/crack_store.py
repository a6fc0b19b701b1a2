"""What the store knows of earlier first cracks on a machine: the history that inference and the twin rest on.

Only roasts that are finished count, and only marks that a person made; earlier roasts only, oldest first.
"""

from __future__ import annotations

import datetime as dt
import statistics
import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from django.db.models import Avg, F, IntegerField, Max, QuerySet

from kernel.prepared import Prepared, PreparedObjects
from roasts.curve import Curve
from roasts.events.crack_history import MAX_HISTORY, EarlierCrack, earlier_crack
from roasts.events.marks import DRY_END_C
from roasts.inference import Expectation
from roasts.inference import expectation_of as expectation_from
from roasts.models import EventKind, EventSource, Roast, RoastEvent, RoastStatus, Sample
from roasts.store import stored_samples
from roasts.store.stored_curve import load_curve

#: Newest marked roasts that are looked at, and so many more of the same bean.
MOST_ROASTS, MOST_OF_BEAN = 30, 10
#: Among so many of a machine's newest roasts.
NEWEST_ROASTS = 300
#: Either side of a mark, ms: what its history needs of the curve.
AROUND_MS = 205_000
#: Person's dry-end marks that make a habit, and how many are looked at.
DRY_ENDS_NEEDED, DRY_ENDS = 3, 9
KEPT = 4096

#: event → what it says; a mark is never rewritten, so neither is this.
_kept: OrderedDict[str, EarlierCrack | None] = OrderedDict()
_kept_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Basis:
    """What an expectation hangs on: the bean in the drum ("": not named), the newest mark, the newest withdrawal."""

    bean: str
    newest_mark: str
    withdrawn_at: dt.datetime | None


def basis_of(machine_id: str) -> Basis:
    """Cheap to ask again and again: it looks at the newest roasts only."""
    (bean,) = _OPEN_BEAN.first(machine=machine_id) or ("",)
    (newest_mark,) = _NEWEST_MARK.first(machine=machine_id) or ("",)
    (withdrawn_at,) = _NEWEST_WITHDRAWAL.first(machine=machine_id) or (None,)
    return Basis(bean or "", newest_mark, withdrawn_at)


def expectation_of(machine_id: str, bean: str = "") -> Expectation:
    """What to expect of the machine's next roast of this bean ("": not known)."""
    return expectation_from(crack_history(machine_id, bean), bean, _dry_end_c(machine_id))


def crack_history(machine_id: str, bean: str = "") -> tuple[EarlierCrack, ...]:
    """First cracks people marked on this machine, oldest first: the newest, and older ones of the same bean."""
    events = _MARKED.rows(machine=machine_id)
    if bean and len(events) == MOST_ROASTS:
        before = events[-1].roast.started_at
        of_bean = _standing(machine_id).filter(roast__bean__iexact=bean, roast__started_at__lt=before)
        events += list(of_bean.order_by("-roast__started_at", "-roast_id", "-at")[:MOST_OF_BEAN])
    found = [crack for event in reversed(events) if (crack := _crack_of(event)) is not None]
    return tuple(found[-MAX_HISTORY:])


def _marks(machine_id: str, kind: EventKind) -> QuerySet[RoastEvent]:
    """What people marked in the machine's newest finished roasts, withdrawn or not."""
    finished = Roast.objects.filter(machine_id=machine_id, status=RoastStatus.FINISHED.value)
    newest = finished.order_by("-started_at").values("pk")[:NEWEST_ROASTS]
    return RoastEvent.objects.filter(kind=kind.value, source=EventSource.PERSON.value, roast_id__in=newest)


def _standing(machine_id: str) -> QuerySet[RoastEvent]:
    """First cracks that people marked and that stand."""
    marks = _marks(machine_id, EventKind.FIRST_CRACK_START).filter(withdrawn_at__isnull=True)
    return marks.select_related("roast", "marked_by")


_MARKED = PreparedObjects(
    lambda machine: _standing(machine).order_by("-roast__started_at", "-roast_id", "-at")[:MOST_ROASTS], "machine"
)
_DRIED = Prepared(
    lambda machine: (
        _marks(machine, EventKind.DRY_END)
        .filter(withdrawn_at__isnull=True)
        .order_by("-roast__started_at")
        .values_list("roast_id", "elapsed_ms")[:DRY_ENDS]
    ),
    "machine",
)
_OPEN_BEAN = Prepared(
    lambda machine: Roast.objects.open().filter(machine_id=machine).order_by("pk").values_list("bean")[:1], "machine"
)
_NEWEST_MARK = Prepared(
    lambda machine: (
        _marks(machine, EventKind.FIRST_CRACK_START).order_by("-at", "-pk").values_list("pk")[:1]
    ),
    "machine",
)  # fmt: skip
_NEWEST_WITHDRAWAL = Prepared(
    lambda machine: (
        _marks(machine, EventKind.FIRST_CRACK_START)
        .filter(withdrawn_at__isnull=False)
        .order_by("-withdrawn_at")
        .values_list("withdrawn_at")[:1]
    ),
    "machine",
)


def _crack_of(event: RoastEvent) -> EarlierCrack | None:
    """One mark as history, read once per process."""
    with _kept_lock:
        if event.pk in _kept:
            _kept.move_to_end(event.pk)
            return _kept[event.pk]
    crack = _read(event)
    with _kept_lock:
        _kept[event.pk] = crack
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    return crack


def _read(event: RoastEvent) -> EarlierCrack | None:
    roast = event.roast
    curve = _curve_around(roast, event.elapsed_ms)
    drop = (
        roast.events.filter(kind=EventKind.DROP.value, withdrawn_at__isnull=True)
        .order_by("elapsed_ms")
        .values_list("elapsed_ms", flat=True)
        .first()
    )
    return earlier_crack(
        curve,
        event.elapsed_ms / 1000,
        at=roast.started_at,
        bean=roast.bean,
        marked_by=event.marked_by.get_username() if event.marked_by else "",
        drop_s=None if drop is None or drop <= event.elapsed_ms else drop / 1000,
    )


def _curve_around(roast: Roast, mark_ms: int) -> Curve:
    """The stretch round a mark, a row a second (the database averages); from the packed roast where rows are gone."""
    near = Sample.objects.filter(roast=roast, elapsed_ms__gte=mark_ms - AROUND_MS, elapsed_ms__lte=mark_ms + AROUND_MS)
    seconds = (
        near.order_by()
        .annotate(second=F("elapsed_ms") / 1000)
        .values("second")
        .annotate(
            at_ms=Avg("elapsed_ms", output_field=IntegerField()),
            bean_c=Avg("bean_temp_c"),
            eye_c=Avg("infrared_temp_c"),
            heater=Max("heater_step"),
        )
        .order_by("second")
        .values_list("at_ms", "bean_c", "eye_c", "heater")
    )
    rows = np.array(list(seconds), dtype=float).reshape(-1, 4)
    if not len(rows):
        return load_curve(roast)
    return Curve(rows[:, 0] / 1000, rows[:, 1], infrared_temp_c=rows[:, 2], heater_step=rows[:, 3])


def _dry_end_c(machine_id: str) -> float:
    """Where people mark dry end on this machine: the median of their newest marks; too few of them: 150 °C."""
    temps_c = []
    for roast_id, elapsed_ms in _DRIED.rows(machine=machine_id):
        temp_c = stored_samples.newest_value(roast_id, "bean_temp_c", until_ms=elapsed_ms)
        if temp_c is not None:
            temps_c.append(temp_c)
    return statistics.median(temps_c) if len(temps_c) >= DRY_ENDS_NEEDED else DRY_END_C
