"""Who is looking, and what they are owed: the asyncio side of the live stream, one per process.

Publishers are threads; viewers live on the server's event loop. Every frame is encoded once for all viewers. A viewer
who does not keep up is let go with a reason and never slows another.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import deque
from typing import Any

from django.db import DatabaseError, close_old_connections, connection

from kernel import canonical, draining, live
from kernel.models import StreamEvent

logger = logging.getLogger(__name__)
READING_EVERY_S = 0.25
MAX_QUEUED = 500
TAIL_BATCH = 500
TAIL_POLL_S = 1.0


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


class Viewer:
    """One open stream. All of it is touched on the event loop alone."""

    def __init__(self, organization_id: str, machine_id: str | None, kinds: frozenset[str]) -> None:
        self.organization_id = organization_id
        self.machine_id = machine_id
        self.kinds = kinds
        self.reason = ""  # why it must end
        self._frames: deque[tuple[int | None, bytes]] = deque()
        self._has_frames = asyncio.Event()

    def wants(self, kind: str, organization_id: str, machine_id: str) -> bool:
        return (
            kind in self.kinds
            and organization_id == self.organization_id
            and (self.machine_id is None or self.machine_id == machine_id)
        )

    def put(self, number: int | None, frame: bytes) -> None:
        """Queue a frame; a full queue ends the viewer instead of growing."""
        if len(self._frames) >= MAX_QUEUED:
            self.end("too_slow")
            return
        self._frames.append((number, frame))
        self._has_frames.set()

    def end(self, reason: str) -> None:
        self.reason = self.reason or reason
        self._has_frames.set()

    async def take(self, timeout_s: float) -> list[tuple[int | None, bytes]]:
        """What has come since; empty after ``timeout_s`` seconds of silence or when the viewer must end."""
        if not self._has_frames.is_set():
            try:
                async with asyncio.timeout(timeout_s):  # wait_for would make a task of it, 300 viewers times over
                    await self._has_frames.wait()
            except TimeoutError:
                return []
        frames = list(self._frames)
        self._frames.clear()
        if not self.reason:
            self._has_frames.clear()
        return frames


class Hub:
    """Viewers of this process's event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.viewers: set[Viewer] = set()
        self._pending: dict[tuple[str, str], dict[str, Any]] = {}  # newest reading not shown yet
        self._timers: dict[tuple[str, str], asyncio.TimerHandle] = {}
        live.listen_to_readings(self.hear_reading)
        draining.on_begin(self._drain)
        self.tail = Tail(self)

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

    def _show_frames(self, organization_id: str, frames: list[tuple[str, int | None, bytes]]) -> None:
        for viewer in list(self.viewers):
            for machine_id, number, frame in frames:
                if viewer.wants("decisions", organization_id, machine_id):
                    viewer.put(number, frame)

    def _show_reading(self, organization_id: str, machine_id: str, payload: dict[str, Any]) -> None:
        """At most one frame per READING_EVERY_S and machine; the newest waiting one follows when its time comes."""
        key = (organization_id, machine_id)
        if key in self._timers:
            self._pending[key] = payload
            return
        self._send_reading(key, payload)

    def _send_reading(self, key: tuple[str, str], payload: dict[str, Any]) -> None:
        frame = encode_frame("reading", payload)
        for viewer in list(self.viewers):
            if viewer.wants("readings", *key):
                viewer.put(None, frame)
        self._timers[key] = self.loop.call_later(READING_EVERY_S, self._reading_due, key)

    def _reading_due(self, key: tuple[str, str]) -> None:
        del self._timers[key]
        payload = self._pending.pop(key, None)
        if payload is not None:
            self._send_reading(key, payload)

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
