"""Marks as inference holds them: made, withdrawn while they are not confirmed, confirmed. Pure values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from roasts.events.crack_history import CrackPrior, prior_of
from roasts.events.crack_shape import Point
from roasts.events.crack_track import CrackTrack

DRY_END_C = 150.0


class Kind:
    """Kinds of marks; the values of ``roasts.models.EventKind``."""

    CHARGE = "charge"
    TURNING_POINT = "turning_point"
    DRY_END = "dry_end"
    FIRST_CRACK = "first_crack_start"
    DROP = "drop"
    COOL_END = "cool_end"


class Phase:
    """Where in a roast we are."""

    WAITING = "waiting"
    FALLING = "falling"  # charged, the probe has not turned
    RISING = "rising"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Standing:
    """A mark as it stands: ``at_ms`` on the readings' axis; source ``device`` or ``inferred``."""

    kind: str
    at_ms: int
    source: str
    confidence: float
    is_confirmed: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """A mark is set. One that is not confirmed may be withdrawn."""

    mark: Standing


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A mark that was not confirmed is refuted."""

    mark: Standing


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A mark stays; its confidence is the last word."""

    mark: Standing


@dataclass(frozen=True, slots=True)
class Over:
    """The roast is over, or never was one; what comes next is of another."""

    at_ms: int
    is_refuted: bool


Decision = Made | Withdrawn | Confirmed | Over


@dataclass(frozen=True, slots=True)
class Expectation:
    """What earlier roasts lead us to expect of this one."""

    crack: CrackPrior = field(default_factory=lambda: prior_of(()))
    dry_end_c: float = DRY_END_C


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the roast under way; it changes once a second, or when the machine's state does.

    ``plateau_c``: the probe before it fell. ``lowest``: since charge, or since the drop. ``left_ms``: since when
    a machine that was roasting is neither roasting nor cooling.
    """

    expectation: Expectation = field(default_factory=Expectation)
    phase: str = Phase.WAITING
    marks: tuple[Standing, ...] = ()  # that stand; a withdrawn one is gone
    points: tuple[Point, ...] = ()
    machine_state: str = ""  # the last that was known
    left_ms: int | None = None
    plateau_c: float = 0.0
    lowest: Point | None = None
    highest_c: float = 0.0
    crack: CrackTrack = field(default_factory=CrackTrack)
    last_cut_s: float | None = None
    crack_moved_s: float | None = None
    is_heater_known: bool = False

    def mark(self, kind: str) -> Standing | None:
        """The mark of a kind that stands now."""
        return next((mark for mark in self.marks if mark.kind == kind), None)

    @property
    def is_stated(self) -> bool:
        """Whether the machine tells its states: then charge and drop are its own facts."""
        return self.machine_state != ""

    def since_charge_s(self, at_s: float) -> float:
        """Seconds since the charge; 0 where none stands."""
        charge = self.mark(Kind.CHARGE)
        return at_s - charge.at_ms / 1000 if charge is not None else 0.0


def make(
    known: Known, kind: str, at_s: float, confidence: float, decisions: list[Decision], *, is_device: bool = False
) -> Known:
    """Set a mark; the machine's own are confirmed at once."""
    source = "device" if is_device else "inferred"
    mark = Standing(kind, round(1000 * at_s), source, round(confidence, 3), is_confirmed=is_device)
    decisions.append(Made(mark))
    return replace(known, marks=(*known.marks, mark))


def withdraw(known: Known, kind: str, decisions: list[Decision]) -> Known:
    """Take a mark back, if it is there and not confirmed."""
    gone = known.mark(kind)
    if gone is None or gone.is_confirmed:
        return known
    decisions.append(Withdrawn(gone))
    return replace(known, marks=tuple(mark for mark in known.marks if mark.kind != kind))


def confirm(known: Known, kind: str, confidence: float, decisions: list[Decision]) -> Known:
    """The mark of this kind stays, if there is one."""
    found = known.mark(kind)
    if found is None or found.is_confirmed:
        return known
    sure = replace(found, is_confirmed=True, confidence=round(confidence, 3))
    decisions.append(Confirmed(sure))
    return replace(known, marks=tuple(sure if mark.kind == kind else mark for mark in known.marks))


def confirm_all(known: Known, decisions: list[Decision], *, but: str = "") -> Known:
    """Whatever still stands open stays as it is."""
    for mark in known.marks:
        if mark.kind != but:
            known = confirm(known, mark.kind, mark.confidence, decisions)
    return known


def emptied(known: Known) -> Known:
    """Ready for the next roast: only what to expect and what the machine last said is kept."""
    return Known(known.expectation, machine_state=known.machine_state)
