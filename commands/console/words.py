"""The console's words: rows that were gathered, put so that an operator understands them at once.

In the language that is active (English where none is): tables are translated when they are shown.

Reads what it is given (with its prefetches) and asks the database nothing. `console.py` gathers; what is said of one
order stands in `order_words.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from commands.console.known_codes import SAID
from commands.console.order_words import percent_of
from commands.models import Halt, OrderType
from roasts.library.page_words import KIND_WORDS
from roasts.models import ControlLimit, EventKind, Machine, MachineReading, Roast, RoastEvent, RoastStatus

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

CONTROL_WORDS = {"heater": _("Heater"), "fan": _("Fan"), "drum": _("Drum")}
ORDER_TYPE_OF = {
    "heater": OrderType.SET_POWER.value,
    "fan": OrderType.SET_FAN.value,
    "drum": OrderType.SET_DRUM.value,
}


@dataclass(frozen=True, slots=True)
class StateAct:
    """A press of the machine's own button that a person may ask for from here."""

    order_type: str
    word: StrOrPromise
    hint: StrOrPromise
    done: StrOrPromise


#: Machine state → what may be asked for in it. Charging stays a hand's work: the machine starts when beans fall in.
STATE_ACTS = {
    "off": (
        StateAct(
            OrderType.PREHEAT.value, _("Preheat"), _("Presses the button once: the machine heats by itself."),
            _("Preheat asked for."),
        ),
    ),
    "roasting": (
        StateAct(
            OrderType.DROP.value, _("Drop: end the roast"), _("Presses the button once; open the flap by hand."),
            _("Drop asked for. Open the flap."),
        ),
    ),
}  # fmt: skip
STATE_WORDS = {
    "off": _("Off"),
    "preheating": _("Preheating"),
    "stabilising": _("Stabilising"),
    "charge": _("Ready for beans"),
    "roasting": _("Roasting"),
    "cooling": _("Cooling"),
    "shutdown": _("Shutting down"),
    "unknown": _("State unknown"),
}
ROAST_STATUS_WORDS = {
    RoastStatus.PLANNED.value: _("planned"),
    RoastStatus.PREHEATING.value: _("preheating"),
    RoastStatus.CHARGED.value: _("charged"),
    RoastStatus.ROASTING.value: _("roasting"),
    RoastStatus.COOLING.value: _("cooling"),
    RoastStatus.FINISHED.value: _("finished"),
    RoastStatus.ABORTED.value: _("aborted"),
}
#: Marks a person may press, with the key that does it. The turning point is seen by the machine alone.
PRESSABLE_MARKS = (
    (EventKind.DRY_END.value, "D"),
    (EventKind.FIRST_CRACK_START.value, "F"),
    (EventKind.FIRST_CRACK_END.value, "G"),
    (EventKind.SECOND_CRACK_START.value, "2"),
    (EventKind.DROP.value, "O"),
)
LEVEL_WORDS = (
    ("L1", _("L1 assist: may not order")),
    ("L2", _("L2 recommend: advice only")),
    ("L3", _("L3 act with approval")),
    ("L4", _("L4 act unless vetoed")),
    ("L5", _("L5 act, reviewed after")),
)
LINK_WORDS = {
    MachineReading.Link.UP.value: _("Link up"),
    MachineReading.Link.STALE.value: _("Readings stopped"),
    MachineReading.Link.DOWN.value: _("Link down"),
    MachineReading.Link.KEEPER_LOST.value: _("Keeper lost"),
    MachineReading.Link.NEVER.value: _("Not connected yet"),
    "untended": _("Nobody tends this machine"),
}
KEEPER_LOST_ADVICE = _("STOP cannot be proved from here: use the panel or the mains.")


@dataclass(frozen=True, slots=True)
class LinkWords:
    """The link in a few words; `advice` is what a person should do about it."""

    word: str
    is_normal: bool
    advice: str = ""
    is_down: bool = False  # no cable, or nothing at its other end


@dataclass(frozen=True, slots=True)
class HaltView:
    """A latched stop, and whether beans may still lie in the hot drum now."""

    halt: Halt
    may_hold_hot_beans: bool

    @property
    def by_hand(self) -> list[str]:
        """What hands must still do; the beans have a sentence of their own, which knows when they are out."""
        return [line for line in self.halt.by_hand if "beans" not in line.lower()]


@dataclass(frozen=True, slots=True)
class ControlView:
    """One control as shown: native step and percent of full scale."""

    name: str
    word: str
    step: int | None
    percent: int | None
    min_step: int
    max_step: int
    full_scale_step: int
    order_type: str


@dataclass(frozen=True, slots=True)
class Mark:
    """The standing mark of a kind: a person's before an inferred one."""

    id: str
    kind: str
    word: str
    elapsed_ms: int
    source: str
    by: str
    is_by_person: bool
    may_withdraw: bool
    sure_percent: int | None = None  # of an inferred mark: how sure


@dataclass(frozen=True, slots=True)
class RoastView:
    """A roast's head: which, since when, and its marks."""

    roast: Roast
    is_open: bool
    phase: str
    marks: tuple[Mark, ...]

    @property
    def status_word(self) -> str:
        return str(ROAST_STATUS_WORDS.get(self.roast.status, self.roast.status))

    def for_script(self) -> dict[str, Any]:
        """What the page's script needs to draw it (times in device milliseconds since charge)."""
        return {
            "roast_id": self.roast.pk,
            "is_open": self.is_open,
            "status": self.roast.status,
            "device_start_ms": self.roast.device_start_ms,
            "started_at": self.roast.started_at.isoformat(),
            "marks": [
                {"id": m.id, "kind": m.kind, "word": m.word, "elapsed_ms": m.elapsed_ms, "source": m.source}
                for m in self.marks
            ],
        }


# --- words ---------------------------------------------------------------------------------------


def latest_of(machine: Machine) -> MachineReading | None:
    """The machine's latest row, or None when no loop ever wrote one."""
    return getattr(machine, "latest", None)


def link_words(link: str, code: str, message: str) -> LinkWords:
    """The link's state and what to do about it, as `machine_state.link_of` found it."""
    if link == MachineReading.Link.NEVER.value:
        return LinkWords(
            str(LINK_WORDS[link]), False, gettext("Switch the machine on and plug it in; it is found by itself.")
        )
    word = str(LINK_WORDS.get(link, link))
    message = gettext(message)  # those of known_sentences; any other stays as it was written
    if link == MachineReading.Link.UP.value:
        return LinkWords(word, True)
    if code and code not in (link, "stale_reading"):
        said = code.replace("_", " ")
        word = f"{word}: {gettext(said) if said in SAID else said}"
    if link == MachineReading.Link.KEEPER_LOST.value:
        message = f"{message} {KEEPER_LOST_ADVICE}".strip()
    return LinkWords(word, False, message, is_down=link == MachineReading.Link.DOWN.value)


def state_word(state: str) -> str:
    """The machine's state; one we do not know as it calls it."""
    return str(STATE_WORDS.get(state, state))


def phase_word(state: str, mark_kinds: set[str]) -> str:
    """Where the roast stands, in a roaster's words, from the machine's state and the standing marks."""
    if state != "roasting":
        return state_word(state)
    if EventKind.FIRST_CRACK_START.value in mark_kinds:
        return gettext("Development")
    if EventKind.DRY_END.value in mark_kinds:
        return gettext("Maillard")
    return gettext("Drying")


def control_views(latest: MachineReading | None, limits: list[ControlLimit]) -> tuple[ControlView, ...]:
    """Heater, fan, drum in that order, as far as the envelope names them."""
    by_name = {limit.control: limit for limit in limits}
    views = []
    for name, word in CONTROL_WORDS.items():
        limit = by_name.get(name)
        if limit is None:
            continue
        step = getattr(latest, f"{name}_step") if latest else None
        views.append(
            ControlView(
                name=name,
                word=str(word),
                step=step,
                percent=percent_of(step, limit.full_scale_step),
                min_step=limit.min_step,
                max_step=limit.max_step,
                full_scale_step=limit.full_scale_step,
                order_type=ORDER_TYPE_OF[name],
            )
        )
    return tuple(views)


def standing_marks(events: list[RoastEvent]) -> tuple[Mark, ...]:
    """One mark of each kind, by time: a person's latest first, then the device's, then an inferred one."""
    rank = {"person": 2, "device": 1, "inferred": 0}
    chosen: dict[str, RoastEvent] = {}
    for event in events:
        if event.withdrawn_at is not None or event.kind == EventKind.NOTE.value:
            continue
        best = chosen.get(event.kind)
        if best is None or (rank[event.source], event.at) >= (rank[best.source], best.at):
            chosen[event.kind] = event
    return tuple(
        Mark(
            id=event.pk,
            kind=event.kind,
            word=str(KIND_WORDS.get(event.kind, event.kind)),
            elapsed_ms=event.elapsed_ms,
            source=event.source,
            by=event.marked_by.get_username() if event.marked_by else "",
            is_by_person=event.source == "person",
            may_withdraw=event.source != "device",
            sure_percent=round(100 * event.confidence) if event.source == "inferred" else None,
        )
        for event in sorted(chosen.values(), key=lambda e: e.elapsed_ms)
    )
