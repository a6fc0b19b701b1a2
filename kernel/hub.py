"""Who is looking, and what they are owed: the asyncio side of the live stream, one per process.

Publishers are threads; viewers live on the server's event loop. Every frame is encoded once for all viewers. A viewer
who does not keep up is let go with a reason and never slows another.

A frame goes straight into the connections of those who want it, in one turn of the event loop: waking a task for each
of 300 viewers, with a timer apiece, cost ten times as much (docs/benchmarks.md).
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from django.db import DatabaseError, close_old_connections, connection

from kernel import canonical, draining, live
from kernel.models import StreamEvent

logger = logging.getLogger(__name__)
#: Four a second, and a little more: a source of just four that was late catches up.
READING_EVERY_S = 0.24
MAX_MACHINES = 5000
MAX_QUEUED = 500
TAIL_BATCH = 500
TAIL_POLL_S = 1.0

Watched = tuple[str, str, str | None]  # kind, organisation, machine (None: all of them)


def encode_frame(event: str, data: Any, number: int | None = None) -> bytes:
    """One server-sent event."""
    head = f"event: {event}\n" + (f"id: {number}\n" if number is not None else "")
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, default=str)
    return f"{head}data: {text}\n\n".encode("utf-8", "replace")


def decision_body(event: StreamEvent) -> dict[str, Any]:
    """A numbered event as consoles and agents see it."""
    return {
        "number": event.number,
        "kind": event.kind,
        "machine_id": event.machine_id,
        "subject_id": event.subject_id,
        "at": canonical.utc_text(event.at),
        "payload": event.payload,
    }


class Pipe(Protocol):
    """A viewer's connection, as far as the hub knows it (`kernel.stream` has the real one)."""

    @property
    def is_full(self) -> bool:
        """Whether it owes its client bytes that it has been given: nothing more may be written until they are gone."""
        ...

    def write(self, body: bytes) -> bool:
        """Hand bytes over now; False where the client does not take them at once (then it is full). OSError."""
        ...


class Viewer:
    """One open stream. All of it is touched on the event loop alone.

    Until a pipe is fitted, and whenever the pipe is full, frames are queued for whoever calls `take`.
    """

    def __init__(self, organization_id: str, machine_id: str | None, kinds: frozenset[str]) -> None:
        self.organization_id = organization_id
        self.machine_id = machine_id
        self.kinds = kinds
        self.reason = ""  # why it must end
        self._sent = 0  # numbered frames up to here are its client's already
        self._pipe: Pipe | None = None
        self._frames: deque[tuple[int | None, bytes]] = deque()
        self._has_news = asyncio.Event()

    def fit(self, pipe: Pipe, sent: int) -> None:
        """From now on frames go straight into ``pipe``; those numbered up to ``sent`` are its client's already."""
        self._pipe, self._sent = pipe, sent

    def give(self, frames: Sequence[tuple[int | None, bytes]]) -> None:
        """Frames in their order: written at once where nothing waits before them, else queued."""
        if self.reason:
            return
        if self._pipe is None or self._pipe.is_full or self._frames:
            for number, frame in frames:
                self.put(number, frame)
        elif body := self.unsent(frames):
            try:
                if not self._pipe.write(body):
                    self._has_news.set()  # whoever takes must see it through
            except OSError:
                self.end("left")

    def put(self, number: int | None, frame: bytes) -> None:
        """Queue a frame; a full queue ends the viewer instead of growing."""
        if len(self._frames) >= MAX_QUEUED:
            self.end("too_slow")
            return
        self._frames.append((number, frame))
        self._has_news.set()

    def unsent(self, frames: Sequence[tuple[int | None, bytes]]) -> bytes:
        """The frames its client has not had, as one; from now on they count as sent."""
        fresh = [frame for number, frame in frames if number is None or number > self._sent]
        self._sent = max([self._sent, *(number for number, _frame in frames if number is not None)])
        return b"".join(fresh)

    def end(self, reason: str) -> None:
        self.reason = self.reason or reason
        self._has_news.set()

    async def take(self, timeout_s: float) -> list[tuple[int | None, bytes]]:
        """What was queued since; empty after ``timeout_s`` seconds of silence, when the pipe became full, or when the
        viewer must end."""
        if not self._has_news.is_set():
            try:
                async with asyncio.timeout(timeout_s):  # wait_for would make a task of it, 300 viewers times over
                    await self._has_news.wait()
            except TimeoutError:
                return []
        frames = list(self._frames)
        self._frames.clear()
        if not self.reason:
            self._has_news.clear()
        return frames


class Hub:
    """Viewers of this process's event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.viewers: set[Viewer] = set()
        self._watching: dict[Watched, set[Viewer]] = {}  # the same viewers by what they want: nobody else is asked
        self._pending: dict[tuple[str, str], dict[str, Any]] = {}  # newest reading not shown yet
        self._timers: dict[tuple[str, str], asyncio.TimerHandle] = {}
        self._turn_s: dict[tuple[str, str], float] = {}  # when a machine's next frame is due, by the loop's time
        live.listen_to_readings(self.hear_reading)
        draining.on_begin(self._drain)
        self.tail = Tail(self)

    def join(self, viewer: Viewer) -> None:
        """From now on it is given what it wants."""
        self.viewers.add(viewer)
        if "readings" in viewer.kinds:
            live.look_at_readings(viewer.organization_id)
        for kind in viewer.kinds:
            self._watching.setdefault((kind, viewer.organization_id, viewer.machine_id), set()).add(viewer)

    def leave(self, viewer: Viewer) -> None:
        """It is given nothing more; leaving twice is no fault."""
        self.viewers.discard(viewer)
        for kind in viewer.kinds:
            key = (kind, viewer.organization_id, viewer.machine_id)
            watching = self._watching.get(key, set())
            watching.discard(viewer)
            if not watching:
                self._watching.pop(key, None)
        if not any(kind == "readings" and owner == viewer.organization_id for kind, owner, _machine in self._watching):
            live.look_away(viewer.organization_id)

    def watching(self, kind: str, organization_id: str, machine_id: str | None) -> list[Viewer]:
        """Who wants this kind of this machine alone (None: of every machine of the organisation)."""
        return list(self._watching.get((kind, organization_id, machine_id), ()))

    def hear_reading(self, organization_id: str, machine_id: str, payload: dict[str, Any]) -> None:
        """From any thread."""
        if self.viewers:
            self._on_loop(self._show_reading, organization_id, machine_id, payload)

    def show_decisions(self, organization_id: str, events: list[StreamEvent]) -> None:
        """From the tail's thread: numbered events of one organisation, in order."""
        frames = [(e.machine_id, e.number, encode_frame("decision", decision_body(e), e.number)) for e in events]
        self._on_loop(self._show_frames, organization_id, frames)

    def _on_loop(self, function: Any, *arguments: Any) -> None:
        try:
            self.loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop is closed: nobody looks any more
            self.viewers.clear()
            self._watching.clear()

    def _show_frames(self, organization_id: str, frames: list[tuple[str, int | None, bytes]]) -> None:
        of_machine: dict[str, list[tuple[int | None, bytes]]] = {}
        for machine_id, number, frame in frames:
            of_machine.setdefault(machine_id, []).append((number, frame))
        for viewer in self.watching("decisions", organization_id, None):
            viewer.give([(number, frame) for _machine_id, number, frame in frames])
        for machine_id, wanted in of_machine.items():
            for viewer in self.watching("decisions", organization_id, machine_id):
                viewer.give(wanted)

    def _show_reading(self, organization_id: str, machine_id: str, payload: dict[str, Any]) -> None:
        """About one frame per READING_EVERY_S and machine; the newest waiting one follows when its time comes.

        A frame may come up to one turn early. Counted from the frame before it alone, a source of just four readings a
        second that was late once had every later reading wait as long, for ever.
        """
        key = (organization_id, machine_id)
        self._pending[key] = payload
        if key in self._timers:
            return
        wait_s = self._turn_s.get(key, 0.0) - READING_EVERY_S - self.loop.time()
        if wait_s > 0:
            self._timers[key] = self.loop.call_later(wait_s, self._reading_due, key)
        else:
            self._send_reading(key)

    def _reading_due(self, key: tuple[str, str]) -> None:
        del self._timers[key]
        self._send_reading(key)

    def _send_reading(self, key: tuple[str, str]) -> None:
        if len(self._turn_s) > MAX_MACHINES:
            self._turn_s.clear()
        self._turn_s[key] = max(self.loop.time(), self._turn_s.get(key, 0.0)) + READING_EVERY_S
        payload = self._pending.pop(key)
        viewers = self.watching("readings", key[0], None) + self.watching("readings", *key)
        if viewers:
            frame = [(None, encode_frame("reading", payload))]
            for viewer in viewers:
                viewer.give(frame)

    def _drain(self) -> None:
        self._on_loop(self._end_all)

    def _end_all(self) -> None:
        for viewer in list(self.viewers):
            viewer.end("shutdown")


class Tail:
    """A thread that follows the numbered events of the organisations somebody looks at."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._lock = threading.Lock()
        self._last: dict[str, int] = {}
        self._thread: threading.Thread | None = None

    def follow(self, organization_id: str) -> int:
        """Start following (blocking, with database): the newest number; later ones will reach the viewers."""
        newest = newest_number(organization_id)
        with self._lock:
            self._last.setdefault(organization_id, newest)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="stream-tail", daemon=True)
                self._thread.start()
        return newest

    def _run(self) -> None:
        with live.waiter(live.DECISIONS_TOPIC) as sleeper:
            while not self.hub.loop.is_closed() and not draining.is_draining():
                sleeper.wait(TAIL_POLL_S)
                try:
                    self.tick()
                except DatabaseError as error:
                    logger.warning("stream: the database does not answer: %s", error)
                    close_old_connections()
        connection.close()

    def tick(self) -> bool:
        """Hand on what was numbered since; forget organisations nobody looks at."""
        looked_at = {viewer.organization_id for viewer in set(self.hub.viewers)}
        with self._lock:
            for organization_id in set(self._last) - looked_at:
                del self._last[organization_id]
            positions = dict(self._last)
        has_worked = False
        for organization_id, last in positions.items():
            events = list(
                StreamEvent.objects.filter(organization_id=organization_id, number__gt=last).order_by("number")[
                    :TAIL_BATCH
                ]
            )
            if events:
                has_worked = True
                with self._lock:
                    self._last[organization_id] = events[-1].number or last
                self.hub.show_decisions(organization_id, events)
        return has_worked


def newest_number(organization_id: str) -> int:
    """The highest number given in this organisation; 0 when none was."""
    newest = (
        StreamEvent.objects.filter(organization_id=organization_id, number__isnull=False)
        .order_by("-number")
        .values_list("number", flat=True)
        .first()
    )
    return newest or 0
