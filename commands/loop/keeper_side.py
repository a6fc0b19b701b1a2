"""The machine loop's side towards the keeper: readings, live stream, recorder, interlocks, heartbeat.

It never touches the store: while the store is unreachable it goes on, keeps what is to be filed in the
backlog, and makes safe through the keeper where an interlock says so.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from commands.loop import interlocks
from commands.loop.interlocks import Act, InterlockState, Observation, Trip
from commands.loop.notes import (
    ByPerson,
    ClearAlarm,
    MachineFacts,
    MovedAtMachine,
    Note,
    OpenedByPerson,
    PauseOrders,
    RaiseAlarm,
    View,
    live_payload,
)
from commands.stop import journal
from commands.stop.journal import HaltNote
from commands.stop.wire import outcome_of, stop_through_keeper
from drivers import keeper_process, wire_json
from drivers.keeper_client import KeeperClient, KeeperRefused
from drivers.keeper_config import KeeperConfig
from drivers.port import DriverError, MachineState, ProtocolError, Quality, Reading
from kernel import clock, ids, live, metrics
from roasts.inference import Expectation
from roasts.recording import recorder, recorder_acts
from roasts.recording.backlog import Backlog
from roasts.recording.filing import Filing
from roasts.recording.planned import PlannedBatch
from roasts.recording.recorder import RecorderState

logger = logging.getLogger(__name__)
BEAT_EVERY_S = 0.4
INTERLOCKS_EVERY_S = 0.05
#: The interlocks look after every reading; where none comes, this often.
EVENT_WAIT_S = 0.1
CLIENT_TIMEOUT_S = 1.0
RETRY_S = 0.25
SILENCE_EVERY_S = 1.0
KNOWN_ROASTS = 50
MAX_EVENTS = 20_000
EVENTS_PER_TICK = 500
MAX_NOTES = 1000
LIVE_MAX_AGE_S = 2.0
CATCH_UP_MAX_S = 10.0  # reading what was missed may take this long; after that old is old
KNOWN_LINKS = frozenset({"up", "stale", "down"})


class Fenced(Exception):
    """Another loop with a higher token holds this keeper: let go at once."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Where the store left off: the open roast, the recorder's state, and the last reading filed."""

    roast_id: str = ""
    recording: RecorderState | None = None
    boot_id: str = ""
    sequence: int = 0
    planned: PlannedBatch | None = None


class KeeperSide:
    """One thread calls :meth:`tick`, one :meth:`follow`; ``view`` may be read by anybody."""

    def __init__(
        self,
        facts: MachineFacts,
        config: KeeperConfig,
        *,
        token: int,
        data_dir: Path,
        backlog: Backlog,
        resume: Resume,
        make_client: Callable[[KeeperConfig], KeeperClient] | None = None,
    ) -> None:
        self.facts = facts
        self.config = config
        self.view = View(boot_id=resume.boot_id, processed_sequence=resume.sequence, roast_id=resume.roast_id)
        self.notes: deque[Note] = deque()
        self.is_fenced = False
        self._token = token
        self._data_dir = data_dir
        self._backlog = backlog
        self._make_client = make_client or (lambda config: KeeperClient(config.socket, CLIENT_TIMEOUT_S))
        self._events: queue.Queue[dict[str, Any]] = queue.Queue(MAX_EVENTS)
        self._recording = resume.recording or RecorderState()
        self._expected: deque[Expectation] = deque(maxlen=1)  # from the store's side: the newest counts
        self._by_people: deque[ByPerson] = deque()  # from the store's side, in order
        self._vouched: dict[str, Any] | None = None  # from the store's side
        self._planned = resume.planned  # from the store's side: the next batch
        self._known_roasts: deque[str] = deque([resume.roast_id], maxlen=KNOWN_ROASTS)
        self._silence_at_s = 0.0
        self._interlocks = InterlockState()
        self._beat_client: KeeperClient | None = None
        self._beat_at_s = 0.0
        self._interlocks_at_s = 0.0
        self._was_link_up = False
        self._newest_sequence = 0  # the keeper's newest reading when we came: before it, all we take is old
        self._came_s = float("-inf")
        self._safety: threading.Thread | None = None
        self._are_limits_due = True  # a keeper that lives on may have been started under an older envelope

    # --- following (its own thread) ---

    def follow(self, stop: threading.Event) -> None:
        """Keep a connection to the keeper and hand its events on, until ``stop``; revives a dead keeper."""
        while not stop.is_set() and not self.is_fenced:
            try:
                self._follow_once(stop)
            except (DriverError, OSError) as error:
                self._events.put({"event": "keeper_gone", "message": str(error)})
                clock.wait(stop, RETRY_S)

    def _follow_once(self, stop: threading.Event) -> None:
        keeper_process.ensure_keeper(self.config)
        client = self._make_client(self.config)
        try:
            events = client.follow(self.view.processed_sequence, self.view.boot_id or None)
            with contextlib.closing(events):  # type: ignore[type-var]
                for event in events:
                    self._events.put(event)
                    if event["event"] == "hello" or (event["event"] == "link" and event.get("state") == "up"):
                        self._events.put(_identity_event(client.status()))
                    if stop.is_set() or self.is_fenced:
                        return
        finally:
            client.close()

    # --- ticking (its own thread) ---

    def tick(self) -> bool:
        """Take what has come, beat, look at the interlocks. True when there was something."""
        worked = self._take_events()
        self._hear_people()
        now_s = clock.monotonic()
        if now_s - self._beat_at_s >= BEAT_EVERY_S:
            self._beat_at_s = now_s
            self._beat()
        if self._events.empty() and now_s - self._interlocks_at_s >= INTERLOCKS_EVERY_S:
            self._interlocks_at_s = now_s
            self._look(now_s)
        if self._events.empty() and now_s - self._silence_at_s >= SILENCE_EVERY_S:
            self._silence_at_s = now_s
            self._note_silence(now_s)
        return worked

    def _tell(self, note: Note) -> None:
        """Queue a note for the store. A full queue forgets what can be seen again, never that orders are paused."""
        if len(self.notes) >= MAX_NOTES:
            # The store's thread may be writing the first one; what it reads anew from readings goes first.
            for place in range(1, len(self.notes)):
                if isinstance(self.notes[place], MovedAtMachine):
                    del self.notes[place]
                    break
            else:
                logger.error("%d notes wait for the store", len(self.notes))
        self.notes.append(note)

    def _take_events(self) -> bool:
        """Up to EVENTS_PER_TICK events; waits a moment for the first."""
        for number in range(EVENTS_PER_TICK):
            try:
                event = self._events.get(timeout=EVENT_WAIT_S) if number == 0 else self._events.get_nowait()
            except queue.Empty:
                return number > 0
            self.handle(event)
        return True

    def handle(self, event: dict[str, Any]) -> None:
        """One event of the keeper (or of our following it). An unknown kind changes nothing."""
        kind = event.get("event")
        if kind == "reading":
            self._on_reading(event)
        elif kind == "hello":
            self._on_hello(event)
        elif kind == "identity":
            self.view = replace(
                self.view, identity=event.get("identity") or {}, is_identified=True, interval_s=event.get("interval_s")
            )
        elif kind == "keeper_gone":
            self._on_keeper_gone(str(event.get("message", "")))
        elif kind == "link":
            self._set_link(event)
        elif kind == "latch":
            self.view = replace(self.view, latch=event.get("latched"))
        elif kind == "moved":
            steps, state = (event.get("from"), event.get("to")), str(event.get("state") or "")
            self._tell(MovedAtMachine(str(event["control"]), *steps, clock.now(), state))
        elif kind == "fenced":
            self.is_fenced = True

    def _on_hello(self, status: dict[str, Any]) -> None:
        boot_id = str(status["boot_id"])
        if self.view.boot_id and boot_id != self.view.boot_id:
            self._recording = recorder.note_loss(self._recording, "keeper_lost")
        self.view = replace(
            self.view,
            boot_id=boot_id,
            is_keeper_up=True,
            latch=status.get("latched"),
            processed_sequence=self.view.processed_sequence if boot_id == self.view.boot_id else 0,
            is_heat_up_allowed=False,
            is_identified=False,
        )
        self._newest_sequence, self._came_s = int(status.get("newest_sequence") or 0), clock.monotonic()
        self._set_link(status.get("link") or {})

    def expect(self, expectation: Expectation) -> None:
        """What earlier roasts lead us to expect; called from the store's side, used with the next reading."""
        self._expected.append(expectation)

    def plan(self, planned: PlannedBatch | None) -> None:
        """What is planned to go in next; called from the store's side, used when a roast opens."""
        self._planned = planned

    def vouch(self, identity: dict[str, Any]) -> None:
        """This identity was compared with the machine that was commissioned; called from the store's side."""
        self._vouched = identity

    @property
    def is_machine_known(self) -> bool:
        """The machine that answers now said who it is, and the store's side has looked at it. Until then, no agent."""
        return self.view.is_identified and self._vouched == self.view.identity

    def by_person(self, said: ByPerson) -> None:
        """What a person did to the roast in the store; called from the store's side."""
        self._by_people.append(said)

    def _hear_people(self) -> None:
        while self._by_people:
            said = self._by_people.popleft()
            if isinstance(said, OpenedByPerson):
                self._take_over(said)
            elif said.roast_id == self.view.roast_id:
                self._recording = recorder_acts.let_go(self._recording)
                self._forget_roast()

    def _take_over(self, said: OpenedByPerson) -> None:
        """Go on with a roast that a person opened; one of ours that is not filed yet wins."""
        reading = self.view.reading
        if said.roast_id in self._known_roasts or self._recording.roast is not None or reading is None:
            return
        start_ms: int | None = said.device_start_ms
        if said.connection_id != self.view.boot_id:
            start_ms = recorder_acts.device_ms_at(self._recording, said.at)
        if start_ms is None:
            return
        self._known_roasts.append(said.roast_id)
        self.view = replace(self.view, roast_id=said.roast_id)
        taken = recorder_acts.take_over(self._recording, device_start_ms=start_ms)
        self._recording = taken.state
        for decision in taken.decisions:
            self._keep(decision, reading)
        self.view = replace(self.view, elapsed_ms=self._recording.elapsed_ms)
        self._publish()

    def _forget_roast(self) -> None:
        """No roast is open any more, and no reading said so: show it."""
        self.view = replace(self.view, roast_id="", elapsed_ms=None, turned_ms=None, are_beans_proved=False)
        self._publish()

    def _note_silence(self, now_s: float) -> None:
        """A dropped roast whose machine says nothing any more is over; not while we read what came before us."""
        if self.view.is_keeper_up is not None and not self._is_catching_up(now_s):
            self._close_if_silent(clock.now())

    def _close_if_silent(self, at: dt.datetime) -> None:
        reading = self.view.reading
        self._recording, close = recorder_acts.close_if_silent(self._recording, at)
        if close is None:
            return
        if reading is not None:
            self._keep(close, reading)
        self._forget_roast()

    def _on_keeper_gone(self, message: str) -> None:
        self.view = replace(
            self.view,
            is_keeper_up=False,
            is_heard=False,
            link="keeper_lost",
            link_code="keeper_lost",
            link_message=message,
        )
        self._publish()

    def _set_link(self, link: dict[str, Any]) -> None:
        state = str(link.get("state")) if link.get("state") in KNOWN_LINKS else "down"
        if state == "down" and self._was_link_up:
            self._recording = recorder.note_loss(self._recording, "unplugged")
        is_back = state == "up" and self.view.link != "up"  # perhaps with another machine: it is asked who it is
        self.view = replace(
            self.view, link=state, link_code=str(link.get("code") or ""), link_message=str(link.get("message") or ""),
            is_identified=self.view.is_identified and not is_back,
        )  # fmt: skip
        self._publish()

    def _on_reading(self, event: dict[str, Any]) -> None:
        try:
            reading = wire_json.reading_from_json(event["reading"])
        except (ProtocolError, KeyError) as error:
            logger.error("the keeper sent no reading: %s", error)
            return
        metrics.READINGS.inc()
        if self._expected:
            self._recording = recorder.expect(self._recording, self._expected.pop())
        self._close_if_silent(reading.at)
        taken = recorder.step(self._recording, reading, self.view.boot_id)
        self._recording = taken.state
        for decision in taken.decisions:
            self._keep(decision, reading)
        is_fresh = reading.quality.get("state") is not Quality.STALE
        roast = self._recording.roast
        self.view = replace(
            self.view,
            is_keeper_up=True,
            reading=reading,
            fresh_monotonic_s=reading.monotonic_s if is_fresh else self.view.fresh_monotonic_s,
            processed_sequence=reading.sequence,
            rate_of_rise_c_per_min=taken.rate_of_rise_c_per_min,
            elapsed_ms=self._recording.elapsed_ms,
            turned_ms=roast.turned_by_ms if roast else None,
            are_beans_proved=bool(roast and roast.are_beans_proved and roast.dropped_ms is None),
        )
        if reading.age_s(clock.monotonic()) <= LIVE_MAX_AGE_S:
            self._was_link_up = True
            self._publish(is_one_of_many=True)

    def _publish(self, *, is_one_of_many: bool = False) -> None:
        """Show viewers the newest reading, and how the machine can be reached."""
        facts = self.facts
        payload = live_payload(facts.machine_id, self.view, clock.now())
        live.publish_reading(facts.organization_id, facts.machine_id, payload, is_one_of_many=is_one_of_many)

    def _keep(self, decision: recorder.Decision, reading: Reading) -> None:
        """Queue one decision for the store, under the roast it belongs to."""
        if isinstance(decision, recorder.OpenRoast):
            self.view = replace(self.view, roast_id=self._name_roast(decision))
            self._known_roasts.append(self.view.roast_id)
            self._tell(ClearAlarm(interlocks.ROAST_BROKEN_OFF.code, clock.now()))
        self._backlog.put(Filing(self.view.roast_id, self.view.boot_id, reading.sequence, decision))
        if isinstance(decision, recorder.BeansStillInDrum):
            self._tell(RaiseAlarm(interlocks.BEANS_STILL_IN_DRUM, clock.now()))
        if isinstance(decision, recorder.CloseRoast):
            self._tell(ClearAlarm(interlocks.BEANS_STILL_IN_DRUM.code, clock.now()))
            if decision.status == "aborted" and reading.state is not MachineState.UNKNOWN:
                self._tell(RaiseAlarm(interlocks.ROAST_BROKEN_OFF, clock.now()))
            self.view = replace(self.view, roast_id="")

    def _name_roast(self, opening: recorder.OpenRoast) -> str:
        """The planned batch's id, where we know of one that was planned before this charge; else a new one."""
        planned = self._planned
        if planned is None or planned.roast_id in self._known_roasts or not planned.is_for(opening.at):
            return ids.new("rst")
        return planned.roast_id

    def _beat(self) -> None:
        """Tell the keeper that somebody decides; learn at once when another loop took over."""
        if self.view.is_keeper_up is None:
            return
        try:
            if self._beat_client is None:
                self._beat_client = self._make_client(self.config)
                self._beat_client.hello(self._token)
            answer = self._beat_client.beat(self._token)
            self._push_limits()
            self.view = replace(self.view, latch=answer.get("latched"), is_heard=True)
        except (DriverError, OSError) as error:
            if getattr(error, "code", "") == "fenced":
                self.is_fenced = True
            self.close()
            if self.view.is_keeper_up:
                self._on_keeper_gone(str(error))

    def set_limits(self, facts: MachineFacts, config: KeeperConfig) -> None:
        """The envelope was changed: our interlocks use it from the next look, the keeper's with the next beat."""
        self.facts, self.config = facts, config
        self._are_limits_due = True

    def _push_limits(self) -> None:
        """A keeper that does not know the request (an older one) keeps its limits until it is started again."""
        client = self._beat_client
        if client is None or not self._are_limits_due:
            return
        self._are_limits_due = False
        try:
            client.set_limits(self._token, self.config.limits)
        except KeeperRefused as error:
            logger.error("the keeper of %s keeps its old limits: %s", self.facts.machine_id, error)

    def close(self) -> None:
        """Let the heartbeat's connection go."""
        client, self._beat_client = self._beat_client, None
        if client is not None:
            client.close()

    # --- interlocks ---

    def observe(self, now_s: float) -> Observation:
        """What the interlocks see."""
        view = self.view
        return Observation(
            monotonic_s=now_s,
            is_keeper_up=view.is_keeper_up is not False,
            is_link_up=view.link in ("up", "stale", "keeper_lost", "never"),
            link_message=view.link_message,
            link_code=view.link_code,
            reading=view.reading,
            reading_age_s=view.age_s(now_s),
            rate_of_rise_c_per_min=view.rate_of_rise_c_per_min,
            since_charge_ms=view.elapsed_ms if view.roast_id else None,
            turned_ms=view.turned_ms,
            are_beans_missing=self._recording.roast is not None and self._recording.roast.are_beans_missing,
            is_latched=view.latch is not None,
            interval_s=view.interval_s,
        )

    def _is_catching_up(self, now_s: float) -> bool:
        """Whether we still read what came before us. (The keeper's own interlocks watch meanwhile.)"""
        is_behind = self.view.is_keeper_up is True and self.view.processed_sequence < self._newest_sequence
        return is_behind and now_s - self._came_s < CATCH_UP_MAX_S

    def _look(self, now_s: float) -> None:
        if self.view.is_keeper_up is None or self._is_catching_up(now_s):
            return
        step = interlocks.step(self._interlocks, self.observe(now_s), self.facts.limits)
        self._interlocks = step.state
        for trip in step.trips:
            self._on_trip(trip)
        for code in step.cleared:
            self._tell(ClearAlarm(code, clock.now()))
        self.view = replace(
            self.view, is_heat_up_allowed=step.is_heat_up_allowed, standing=interlocks.standing(step.state)
        )

    def _on_trip(self, trip: Trip) -> None:
        logger.warning("interlock %s on %s: %s", trip.alarm.code, self.facts.machine_id, trip.alarm.cause)
        if trip.act is Act.HEAT_DOWN and self.view.latch is None:
            self._make_safe(trip.alarm.code, ids.new("hlt"), is_new=True)
        elif trip.act is Act.SAFE_AGAIN or trip.act is Act.HEAT_DOWN:
            latch = self.view.latch or {}
            self._make_safe(trip.alarm.code, str(latch.get("stop_id") or ids.new("hlt")), is_new=False)
        elif trip.act is Act.HALT_AGENTS:
            self._halt_agents(trip)
        self._tell(RaiseAlarm(trip.alarm, clock.now()))

    def _halt_agents(self, trip: Trip) -> None:
        """No wire to act on, or nothing to act on: a halt that the operator who looked clears."""
        if trip.alarm.code == "lost_device":
            if not self._was_link_up:
                return  # it was away when we came: an alarm is enough
            self._tell(PauseOrders(trip.alarm.code, clock.now()))
            if not interlocks.is_heat_possible(self.view.reading):
                return
        self._write_note(
            self._note(ids.new("hlt"), "link_lost", trip.alarm.code).ended(
                result="unproved", by_hand=["Use the machine's panel or the mains if heat must go.", trip.alarm.action]
            )
        )

    def latch_again(self, stop_id: str) -> None:
        """A halt stands in the store that the keeper does not know of."""
        self._make_safe("halt_stands", stop_id, is_new=False)

    def _make_safe(self, code: str, stop_id: str, *, is_new: bool) -> None:
        """Heat down through the keeper, in a thread of its own: the heartbeat must go on meanwhile."""
        if self._safety is not None and self._safety.is_alive():
            return
        self._safety = threading.Thread(
            target=self._stop_at_keeper, args=(code, stop_id, is_new), name=f"safe-{self.facts.machine_id}", daemon=True
        )
        self._safety.start()

    def _stop_at_keeper(self, code: str, stop_id: str, is_new: bool) -> None:
        begun_s = clock.monotonic()
        note = self._note(stop_id, "interlock", code)
        try:
            answer = stop_through_keeper(self.config, by="machine_loop", reason=code, stop_id=stop_id)
            ended = note.ended(**outcome_of(answer, begun_s))
        except (DriverError, OSError) as error:
            logger.error("interlock %s could not reach the keeper: %s", code, error)
            ended = note.ended(
                result="unproved",
                by_hand=["Use the machine's panel or the mains: its keeper does not answer."],
                proof={"error": str(error)},
            )
        if is_new:
            self._write_note(ended)

    def _note(self, stop_id: str, kind: str, code: str) -> HaltNote:
        return HaltNote(
            stop_id=stop_id,
            machine_id=self.facts.machine_id,
            kind=kind,
            code=code,
            by_kind="system",
            by_id="machine_loop",
            by_name="machine loop",
            opened_at=clock.now().isoformat(),
        )

    def _write_note(self, note: HaltNote) -> None:
        try:
            journal.write(self._data_dir, note)
        except OSError as error:
            logger.error("halt %s could not be journalled: %s", note.stop_id, error)


def _identity_event(status: dict[str, Any]) -> dict[str, Any]:
    """Who the machine is and how far apart its readings come, as its keeper says."""
    interval_s = (status.get("capabilities") or {}).get("poll_interval_s")
    return {"event": "identity", "identity": status.get("identity"), "interval_s": interval_s}
