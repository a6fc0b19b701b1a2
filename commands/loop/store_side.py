"""The machine loop's side towards the store: lease, samples, latest row, halts, alarms, held orders.

Every step raises DatabaseError upward when the store does not answer; nothing is lost by that: filings stay in
the backlog, notes in their queue, halts in the journal.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from pathlib import Path

from django.db.models import Q

from commands import services
from commands.commissioning import services_commissioning
from commands.history import services_alerts
from commands.loop import lease, waiting
from commands.loop.interlocks import believed
from commands.loop.keeper_side import KeeperSide
from commands.loop.machine_facts import config_of, facts_of
from commands.loop.notes import (
    ClearAlarm,
    ClosedByPerson,
    MovedAtMachine,
    Note,
    OpenedByPerson,
    PauseOrders,
    RaiseAlarm,
    View,
)
from commands.loop.waiting import AtMachine
from commands.models import Halt
from commands.records import halts
from commands.stop import filing, journal
from commands.stop.filing import UnknownMachine
from commands.stop.journal import HaltNote
from commands.stop.wire import SYSTEM_LATCHERS
from drivers import keeper_config
from drivers.port import MachineState, Reading
from kernel import clock, ids
from roasts import services as roast_services
from roasts.events import crack_store
from roasts.models import OPEN, Machine, MachineReading, Roast
from roasts.recording import services_planned
from roasts.recording.backlog import Backlog
from roasts.recording.planned import HEATING_UP
from roasts.services import FiledUpTo, LinkState
from roasts.store import summaries

logger = logging.getLogger(__name__)
BATCH = 300
#: Whoever asks is told the newest streamed reading; this one is for when nothing is streamed (a broker that is away).
#: What an order or a hand has moved is written at once.
LATEST_EVERY_S = 0.4
QUIET_LATEST_EVERY_S = 2.0
HALTS_EVERY_S = 0.3
#: How often it is asked whether the bean was named or a crack was marked: what inference expects hangs on both.
EXPECT_EVERY_S = 10.0
#: STOP records its own halt; the loop steps in for a latch that nobody recorded for this long.
LATCH_GRACE_S = 1.5
#: A halt stands in the store but the keeper is not latched: after this long it is latched again.
RELATCH_AFTER_S = 3.0
COLD_BEANS_C = 60.0
#: Samples alone wait so long to be filed together; what a roast turns on (its begin, a mark, its end) does not.
FILE_EVERY_S = 0.5

IN_DRUM = Q(status__in=OPEN)


class LeaseLost(Exception):
    """Another token appeared: let go at once."""


class NotOurs(Exception):
    """The machine was archived, or is fed by a bridge now: nobody here tends it any more."""


class StoreSide:
    """One thread calls :meth:`tick`; the executor's asks :meth:`shows`."""

    def __init__(
        self, machine: Machine, *, owner: str, token: int, keeper_side: KeeperSide, backlog: Backlog, data_dir: Path
    ) -> None:
        self.machine = machine
        self._owner = owner
        self._token = token
        self._keeper_side = keeper_side
        self._backlog = backlog
        self._data_dir = data_dir
        self._renewed_at_s = float("-inf")
        self._latest_at_s = float("-inf")
        self._latest_view: View | None = None
        self.asked = threading.Event()  # the executor waits for what :meth:`tick` writes: do not sleep
        self._asked_s = float("-inf")  # the reading it waits for was taken then, by the monotonic clock
        self._shown_s = float("-inf")  # the one in the row was
        self._halts_at_s = float("-inf")
        self._expected_at_s = clock.monotonic()  # the loop began with what there was
        self._expected_for: crack_store.Basis | None = None
        self._identity: dict | None = None
        self._latch_id = ""
        self._latch_seen_s = 0.0
        self._recorded_s = float("-inf")  # when an open halt for a latch was last there
        self._unlatched_since_s: float | None = None
        self._filed_at_s = float("-inf")
        self._bounds = tuple(getattr(machine, name) for name in waiting.BOUNDS)
        self.last_ok_s = clock.monotonic()

    def tick(self, now: dt.datetime) -> bool:
        """Renew, then write what has come. True when there may be more at once. LeaseLost, NotOurs, DatabaseError."""
        now_s = clock.monotonic()
        self.asked.clear()
        if now_s - self._renewed_at_s >= lease.HEARTBEAT_S:
            if not lease.renew_lease(self.machine.pk, owner=self._owner, token=self._token, now=now):
                raise LeaseLost(self.machine.pk)
            self._renewed_at_s = now_s
        worked = self._apply_note(now)
        if self._backlog.is_urgent or now_s - self._filed_at_s >= FILE_EVERY_S:
            is_more = self._file(now) >= BATCH
            self._filed_at_s = float("-inf") if is_more else now_s
            worked = worked or is_more
        self._write_latest(now, now_s)
        if now_s - self._halts_at_s >= HALTS_EVERY_S:
            self._halts_at_s = now_s
            self._look_around(now, now_s)
        if now_s - self._expected_at_s >= EXPECT_EVERY_S:
            self._expected_at_s = now_s
            self._look_back()
        self.last_ok_s = clock.monotonic()
        return worked

    def shows(self, reading: Reading) -> bool:
        """Whether the row shows this reading, or a newer one. If not, it is asked for: the next tick writes it."""
        if self._shown_s >= reading.monotonic_s:
            return True
        self._asked_s = reading.monotonic_s
        self.asked.set()
        return False

    def file_rest(self, now: dt.datetime) -> None:
        """Before handing over: everything that is known."""
        while self._apply_note(now):
            continue
        while self._file(now):
            continue
        self._latest_at_s = float("-inf")
        self._write_latest(now, clock.monotonic())
        self._file_journalled(now)

    def _apply_note(self, now: dt.datetime) -> bool:
        """The oldest note of the keeper side; it stays until it is written."""
        notes = self._keeper_side.notes
        if not notes:
            return False
        note = notes[0]
        self._write_link(now)
        self._write_note(note, now)
        if notes and notes[0] is note:
            notes.popleft()
        return True

    def _write_note(self, note: Note, now: dt.datetime) -> None:
        machine = self.machine
        if isinstance(note, RaiseAlarm):
            alarm = note.alarm
            services.raise_alarm(
                machine,
                code=alarm.code,
                priority=alarm.priority,
                cause=alarm.cause,
                consequence=alarm.consequence,
                action=alarm.action,
                now=note.at,
            )
        elif isinstance(note, ClearAlarm):
            services.clear_alarm(machine, code=note.code, now=note.at)
        elif isinstance(note, PauseOrders):
            services.pause_orders(machine, code=note.reason, now=note.at)
        elif isinstance(note, MovedAtMachine):
            logger.info("%s moved at the machine: %s to %s", note.control, note.from_step, note.to_step)
            self._show_newest(now)  # first: who hears that an order is void proposes again from what stands now
            self._void_held(now)
            services_alerts.note_moved(
                machine, control=note.control, from_step=note.from_step, to_step=note.to_step, state=note.state,
                at=note.at,
            )  # fmt: skip

    def _file(self, now: dt.datetime) -> int:
        """One batch of the backlog; how many that were."""
        batch = self._backlog.take(BATCH)
        if batch:
            roast_services.file_decisions(self.machine, batch, now=now)
            self._backlog.done()
        return len(batch)

    def _write_link(self, now: dt.datetime) -> None:
        """The link first, then what follows from it: a page that hears of a halt must not find the old link."""
        if _link_of(self._keeper_side.view) != _link_of(self._latest_view):
            self._latest_at_s = float("-inf")
            self._write_latest(now, clock.monotonic())

    def _show_newest(self, now: dt.datetime) -> None:
        """The newest reading into the row, unless it is there."""
        reading = self._keeper_side.view.reading
        if reading is not None and not self.shows(reading):
            self._write_latest(now, clock.monotonic())

    def _look_back(self) -> None:
        """Tell the keeper's side what earlier roasts lead us to expect, when that has changed."""
        basis = crack_store.basis_of(self.machine.pk)
        if basis != self._expected_for:
            self._keeper_side.expect(crack_store.expectation_of(self.machine.pk, basis.bean))
            self._expected_for = basis

    def _write_latest(self, now: dt.datetime, now_s: float) -> None:
        view = self._keeper_side.view
        due_s = LATEST_EVERY_S if view is not self._latest_view else QUIET_LATEST_EVERY_S
        is_link_old = _link_of(view) == _link_of(self._latest_view)
        if is_link_old and now_s - self._latest_at_s < due_s and self._asked_s <= self._shown_s:
            return
        self._latest_at_s = now_s
        self._latest_view = view
        # The view was taken before the backlog is looked at: what it counts as processed is filed or queued.
        is_all_filed = bool(view.boot_id) and len(self._backlog) == 0
        roast_services.write_latest(
            self.machine.pk,
            LinkState(view.link, view.link_code, view.link_message),
            view.reading,
            filed=FiledUpTo(view.boot_id, view.processed_sequence) if is_all_filed else None,
            rate_of_rise_c_per_min=view.rate_of_rise_c_per_min,
            are_beans_proved=view.are_beans_proved,
            interval_s=view.interval_s,
            now=now,  # from before the view was taken: what the loop streams of a later view is newer
        )
        if view.reading is not None:
            self._shown_s = view.reading.monotonic_s
        if view.identity and view.identity != self._identity:
            roast_services.note_identity(self.machine.pk, view.identity)
            services_commissioning.meet_machine(self.machine, view.identity, now=now)
            self._identity = view.identity
            self._keeper_side.vouch(view.identity)

    def _watch_envelope(self, found: AtMachine | None) -> None:
        """A lead who lowers a maximum in mid-roast is heard at once, by our interlocks and the keeper's."""
        if found is None or not found.is_ours:
            raise NotOurs(self.machine.pk)
        if found.bounds == self._bounds:
            return
        for name, value in zip(waiting.BOUNDS, found.bounds, strict=True):
            setattr(self.machine, name, value)
        run_dir = Path(self._keeper_side.config.lock_file).parent
        config = config_of(self.machine, run_dir)
        keeper_config.write(run_dir, config)
        self._keeper_side.set_limits(facts_of(self.machine), config)
        self._bounds = found.bounds
        logger.info("%s has new limits: %s", self.machine.pk, dict(zip(waiting.BOUNDS, found.bounds, strict=True)))

    def _look_ahead(self, found: AtMachine | None, now: dt.datetime) -> None:
        """The keeper's side names the roast it opens after the planned batch; that preheats once the machine does."""
        planned, view = found.planned if found is not None else None, self._keeper_side.view
        self._keeper_side.plan(planned)
        is_cold = view.reading is None or view.reading.state not in HEATING_UP
        if planned is not None and not planned.is_preheating and not is_cold and view.link == MachineReading.Link.UP:
            services_planned.heat_up(self.machine.pk, now=now)

    # --- halts ---

    def _void_held(self, now: dt.datetime) -> None:
        """Held orders whose grounds have gone: a control moved, or the beans left the prediction."""
        reading = self._keeper_side.view.reading
        if reading is not None:
            services.void_held(self.machine, reading=reading, now=now)

    def _look_for_people(self) -> None:
        """Where a machine tells no state, a person may have opened or closed its roast in the store."""
        side, view = self._keeper_side, self._keeper_side.view
        if view.reading is None or view.reading.state is not MachineState.UNKNOWN:
            return
        mine = Q(pk=view.roast_id) if view.roast_id else Q(pk__in=())
        found = Roast.objects.filter(mine | IN_DRUM, machine=self.machine)
        rows = {roast.pk: roast for roast in found.only("status", "device_start_ms", "connection_id", "started_at")}
        ours = rows.pop(view.roast_id, None)
        if ours is not None and ours.status in summaries.CLOSED:
            side.by_person(ClosedByPerson(ours.pk))
        elif view.roast_id:
            return
        for roast in rows.values():
            side.by_person(OpenedByPerson(roast.pk, roast.device_start_ms, roast.connection_id, roast.started_at))

    def _look_around(self, now: dt.datetime, now_s: float) -> None:
        self._look_for_people()
        self._file_journalled(now)
        view = self._keeper_side.view  # before the store is asked: a latch that we see may have its halt there
        found = waiting.at_machine(self.machine.pk)
        self._watch_envelope(found)
        self._look_ahead(found, now)
        if found is not None and found.has_held_orders:
            self._void_held(now)
            services.release_due(machine_id=self.machine.pk, now=now)
        is_halted = found is not None and found.is_halted
        open_halts = waiting.open_halts(self.machine.pk) if is_halted else []
        self._file_latch(view, open_halts, now, now_s)
        self._latch_again(view, open_halts, now_s)
        self._note_cooling(view, open_halts, now, now_s)

    def _file_journalled(self, now: dt.datetime) -> None:
        """Halts that STOP, the interlocks or `manage.py stop` wrote down while nobody could file them."""
        for path, note in journal.waiting(self._data_dir, self.machine.pk):
            self._write_link(now)
            try:
                filing.file_note(note, now=now)
            except UnknownMachine:
                logger.error("halt note %s is of no machine here", path.name)
                continue
            journal.remove(path, note)

    def _file_latch(self, view: View, open_halts: list[Halt], now: dt.datetime, now_s: float) -> None:
        """A latch at the keeper without an open halt: somebody stopped and could not say so."""
        if view.latch is None:
            self._latch_id = ""
            return
        stop_id = str(view.latch["stop_id"])
        if stop_id != self._latch_id:
            self._latch_id, self._latch_seen_s = stop_id, now_s
        is_proved = bool(view.latch.get("is_proved"))
        standing = [halt for halt in open_halts if halt.kind != Halt.Kind.LINK_LOST.value]
        if standing:
            self._recorded_s = now_s
        if not standing and now_s - max(self._latch_seen_s, self._recorded_s) >= LATCH_GRACE_S:
            filing.file_note(_note_of_latch(self.machine.pk, view.latch), now=now)
        for halt in standing:
            if is_proved and halt.result == "unproved" and now_s - self._latch_seen_s >= LATCH_GRACE_S:
                services.update_halt_result(
                    halt,
                    result="heat_off",
                    first_byte_ms=halt.first_byte_ms,
                    proved_ms=halt.proved_ms,
                    by_hand=[],
                    proof={**halt.proof, "later": "the keeper read 0 in two fresh frames afterwards"},
                    now=now,
                )

    def _latch_again(self, view: View, open_halts: list[Halt], now_s: float) -> None:
        """The record says halted, the keeper does not: the safe side wins."""
        standing = [halt for halt in open_halts if halt.kind != Halt.Kind.LINK_LOST.value]
        if not standing or view.latch is not None or not view.is_keeper_up:
            self._unlatched_since_s = None
            return
        if self._unlatched_since_s is None:
            self._unlatched_since_s = now_s
        elif now_s - self._unlatched_since_s >= RELATCH_AFTER_S:
            self._unlatched_since_s = None
            self._keeper_side.latch_again(standing[0].pk)

    def _note_cooling(self, view: View, open_halts: list[Halt], now: dt.datetime, now_s: float) -> None:
        """Heat off is not cold: say when the machine was seen to cool."""
        age_s = view.age_s(now_s)
        if view.reading is None or age_s is None or age_s > 1.0:
            return
        bean_temp_c = believed(view.reading, "bean_temp_c")
        # Off is not cooling: a machine that restarted in mid-roast keeps its beans hot without air or turning.
        is_cooling = view.reading.state in (MachineState.COOLING, MachineState.SHUTDOWN)
        if not is_cooling and (bean_temp_c is None or bean_temp_c > COLD_BEANS_C):
            return
        for halt in open_halts:
            if halt.cooling_observed_at is None:
                halts.observe_cooling(halt, now=now)


def _link_of(view: View | None) -> tuple[str, str] | None:
    return None if view is None else (view.link, view.link_code)


def _note_of_latch(machine_id: str, latch: dict) -> HaltNote:
    by = str(latch.get("by", ""))
    is_system = by in SYSTEM_LATCHERS
    is_proved = bool(latch.get("is_proved"))
    stop_id = str(latch["stop_id"])
    return HaltNote(
        stop_id=stop_id if stop_id.startswith("hlt_") else ids.new("hlt"),
        machine_id=machine_id,
        kind="interlock" if is_system else "stop",
        code=str(latch.get("reason", "")) if is_system else "",
        by_kind="system",
        by_id=by[:64],
        by_name=by[:150],
        opened_at=str(latch.get("at", "")),
        result="heat_off" if is_proved else "unproved",
        by_hand=[] if is_proved else ["Look at the machine: heat off could not be proved."],
        proof={"reason": str(latch.get("reason", "")), "source": "the keeper's latch"},
    )
