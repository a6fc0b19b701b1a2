"""Redis pub/sub between the processes of a fleet: one thread that sends, one that listens, nobody who waits.

A Redis that is down or frozen costs its own threads a second at a time; callers only touch a bounded deque.
Nothing here is durable: everything that matters is a row, and every sleeper has a time-out of its own.

A message costs each process that hears it about 0.2 ms of CPU, readings come from a machine ten times a second, and a
page shows four. So readings wait here for each other: of one machine the newest goes, at most four a second, with
whatever other machines have at that moment. Nudges wait for nothing. And each organisation's readings have a channel of
their own, which a process hears while somebody there looks at that organisation, and for a while after.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
from collections import deque
from collections.abc import Callable
from itertools import groupby
from typing import Any

import redis
from django.conf import settings

from kernel import clock, ids

logger = logging.getLogger(__name__)
CHANNEL = "roastops:live"
READINGS = "roastops:readings:"  # and the organisation's id
LETTERS = "roastops:to:"  # and one process: whoever writes to itself wakes its own listener
MAX_WAITING = 2000
SOCKET_TIMEOUT_S = 1.0
RECONNECT_S = 0.5
PING_S = 5.0
#: Of one machine, at most so often; and readings leave together, at moments so far apart.
READING_EVERY_S = 0.25
LEAVE_EVERY_S = 0.05
MAX_MACHINES = 5000
#: An organisation's readings are heard so long after somebody asked.
WANTED_S = 60.0
LOOK_EVERY_S = 1.0
#: Those who have readings say them so soon after they are asked; till then what we have may be old.
TOLD_WITHIN_S = 0.25

Hearer = Callable[[dict[str, Any]], None]


class Readings:
    """The newest reading of each machine that waits to leave. Times are monotonic seconds; the caller takes turns."""

    def __init__(self) -> None:
        self._newest: dict[str, list[Any]] = {}
        self._due_s: dict[str, float] = {}
        self._left_s: dict[str, float] = {}
        self.next_s = float("inf")  # when the first of them is due

    def put(self, machine_id: str, reading: list[Any], now_s: float) -> bool:
        """Let it wait, in place of an older one; True where somebody must look earlier than was planned."""
        is_new = machine_id not in self._newest
        self._newest[machine_id] = reading
        if not is_new:
            return False
        due_s = max(now_s, self._left_s.get(machine_id, float("-inf")) + READING_EVERY_S)
        due_s = math.ceil(due_s / LEAVE_EVERY_S) * LEAVE_EVERY_S  # all processes' machines leave at the same moments
        self._due_s[machine_id] = due_s
        if due_s >= self.next_s:
            return False
        self.next_s = due_s
        return True

    def forget(self, machine_id: str) -> None:
        """What waits is older than what goes now, past us."""
        self._newest.pop(machine_id, None)
        self._due_s.pop(machine_id, None)

    def take(self, now_s: float) -> list[list[Any]]:
        """Those that are due."""
        if now_s < self.next_s:
            return []
        due = [machine_id for machine_id, due_s in self._due_s.items() if due_s <= now_s]
        if len(self._left_s) > MAX_MACHINES:
            self._left_s.clear()
        for machine_id in due:
            self._left_s[machine_id] = self._due_s.pop(machine_id)
        self.next_s = min(self._due_s.values(), default=float("inf"))
        return [self._newest.pop(machine_id) for machine_id in due]


class Bridge:
    """This process's two ends of the channel."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.process = f"{os.getpid()}-{ids.random_bytes(4).hex()}"
        self.is_connected = False
        self._outgoing: deque[tuple[str, dict[str, Any]]] = deque(maxlen=MAX_WAITING)  # the oldest fall out: ephemeral
        self._has_outgoing = threading.Event()
        self._readings = Readings()
        self._own = json.dumps({"from": self.process})[:-1].encode()  # how each of our own messages begins
        self._hearers: list[Hearer] = []
        self._wanted_s: dict[str, float] = {}  # organisation → until when (monotonic)
        self._heard_s: dict[str, float] = {}  # organisation whose readings reach us → since when they count
        self._look_at_s = 0.0
        self._lock = threading.Lock()
        self._threads: dict[str, threading.Thread] = {}
        self._is_closed = threading.Event()

    def send(self, message: dict[str, Any]) -> None:
        """Queue a message for the other processes; never blocks, never raises."""
        self._post(CHANNEL, message)

    def send_readings(self, organization_id: str, readings: list[list[Any]]) -> None:
        """Queue readings for whoever hears this organisation's; never blocks, never raises."""
        self._post(READINGS + organization_id, {"readings": readings})

    def _post(self, channel: str, message: dict[str, Any]) -> None:
        self._outgoing.append((channel, message))
        self._has_outgoing.set()
        self._ensure_thread("fan-out-send", self._send_for_ever)

    def want_readings(self, organization_id: str, *, until_s: float | None = None) -> bool:
        """Hear this organisation's readings for WANTED_S (or until that monotonic second). Whether they are heard
        already, and what was said before has had the time to come: whoever has some is asked. Needs `start_listening`.
        Never blocks, never raises.
        """
        until_s = clock.monotonic() + WANTED_S if until_s is None else until_s
        is_new = organization_id not in self._wanted_s
        self._wanted_s[organization_id] = max(until_s, self._wanted_s.get(organization_id, 0.0))
        if is_new:
            self._post(LETTERS + self.process, {})  # the listener looks at what is wanted
        return clock.monotonic() >= self._heard_s.get(organization_id, float("inf"))

    def unwant_readings(self, organization_id: str) -> None:
        """Nobody looks any more: let go of them in WANTED_S."""
        if organization_id in self._wanted_s:
            self._wanted_s[organization_id] = clock.monotonic() + WANTED_S

    def send_reading(self, machine_id: str, reading: list[Any], *, is_urgent: bool) -> None:
        """Queue a machine's newest reading (what hearers find in ``readings``); never blocks, never raises."""
        with self._lock:  # an older one that waits, or is just leaving, must not come after this one
            if is_urgent:
                self._readings.forget(machine_id)
                self._outgoing.append((READINGS + reading[0], {"readings": [reading]}))
            elif not self._readings.put(machine_id, reading, clock.monotonic()):
                return  # the sender looks in time as it is
        self._has_outgoing.set()
        self._ensure_thread("fan-out-send", self._send_for_ever)

    def start_listening(self, hearer: Hearer) -> None:
        """Give every message of another process to ``hearer``, from the listening thread."""
        if hearer not in self._hearers:
            self._hearers.append(hearer)
        self._ensure_thread("fan-out-listen", self._listen_for_ever)

    def close(self) -> None:
        """Let both threads end (they are daemons; this is for orderly shutdown and tests)."""
        self._is_closed.set()
        self._has_outgoing.set()

    def _ensure_thread(self, name: str, target: Callable[[], None]) -> None:
        thread = self._threads.get(name)
        if thread is not None and thread.is_alive():
            return
        with self._lock:
            thread = self._threads.get(name)
            if thread is None or not thread.is_alive():
                self._threads[name] = threading.Thread(target=target, name=name, daemon=True)
                self._threads[name].start()

    def _client(self) -> redis.Redis:
        return redis.Redis.from_url(
            self.url,
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_connect_timeout=SOCKET_TIMEOUT_S,
            socket_keepalive=True,
        )

    def _send_for_ever(self) -> None:
        client = self._client()
        while not self._is_closed.is_set():
            clock.wait(self._has_outgoing, self._quiet_s())
            self._has_outgoing.clear()
            with self._lock:
                due = sorted(self._readings.take(clock.monotonic()), key=_organization_of)
                for organization_id, readings in groupby(due, key=_organization_of):
                    self._outgoing.append((READINGS + organization_id, {"readings": list(readings)}))
            while self._outgoing and not self._is_closed.is_set():
                channel, message = self._outgoing.popleft()
                text = json.dumps({"from": self.process, **message})
                try:
                    client.publish(channel, text)
                except redis.RedisError as error:
                    self._outgoing.clear()  # old readings and nudges are worth nothing after an outage
                    logger.warning("fan-out: cannot send: %s", error)
                    clock.wait(self._is_closed, RECONNECT_S)
        client.close()

    def _quiet_s(self) -> float:
        """How long the sender may sleep, in seconds."""
        with self._lock:
            return min(1.0, max(0.0, self._readings.next_s - clock.monotonic()))

    def _listen_for_ever(self) -> None:
        while not self._is_closed.is_set():
            try:
                self._listen_once()
            except redis.RedisError as error:
                logger.warning("fan-out: cannot listen: %s", error)
            self.is_connected = False
            for organization_id in list(self._heard_s):
                self._turn(organization_id, is_heard=False)
            clock.wait(self._is_closed, RECONNECT_S)

    def _listen_once(self) -> None:
        """One connection's life; a server that does not answer pings within the time-out is left."""
        client = self._client()
        with client.pubsub() as subscription:
            subscription.subscribe(CHANNEL, LETTERS + self.process)
            last_heard_s, self._look_at_s = clock.monotonic(), 0.0
            is_pinged = False
            while not self._is_closed.is_set():
                self._follow_wants(subscription)
                message = subscription.get_message(timeout=0.5)
                now_s = clock.monotonic()
                if message is not None:
                    last_heard_s, is_pinged, self.is_connected = now_s, False, True
                    self._hear(message)
                elif now_s - last_heard_s > PING_S and not is_pinged:
                    subscription.ping()
                    is_pinged = True
                elif is_pinged and now_s - last_heard_s > PING_S + 2:
                    raise redis.TimeoutError("no answer to a ping")

    def _follow_wants(self, subscription: Any) -> None:
        """Subscribe to what is wanted now, let go of what is not. In the listening thread, which alone writes there."""
        now_s = clock.monotonic()
        if now_s < self._look_at_s:
            return
        self._look_at_s = now_s + LOOK_EVERY_S
        for organization_id in [each for each, until_s in list(self._wanted_s.items()) if until_s < now_s]:
            self._wanted_s.pop(organization_id, None)
        heard = {name.decode().removeprefix(READINGS) for name in subscription.channels if name.startswith(_READINGS)}
        wanted = set(self._wanted_s)
        for organization_id in wanted - heard:
            subscription.subscribe(READINGS + organization_id)
        for organization_id in heard - wanted:
            subscription.unsubscribe(READINGS + organization_id)

    def _hear(self, message: dict[str, Any]) -> None:
        kind, channel = message.get("type"), message.get("channel") or b""
        if channel.startswith(_READINGS) and kind in ("subscribe", "unsubscribe"):
            self._turn(channel.decode().removeprefix(READINGS), is_heard=kind == "subscribe")
        if kind != "message":
            return
        if channel.startswith(_LETTERS):
            self._look_at_s = 0.0
            return
        if message["data"].startswith(self._own):
            return
        try:
            body = json.loads(message["data"])
        except ValueError:
            return
        if not isinstance(body, dict):
            return
        self._tell(body)

    def _turn(self, organization_id: str, *, is_heard: bool) -> None:
        """Redis says that from here on an organisation's readings come, or come no more."""
        if is_heard:
            self._heard_s[organization_id] = clock.monotonic() + TOLD_WITHIN_S
            self.send({"tell": organization_id})  # what was said before we heard
        else:
            self._heard_s.pop(organization_id, None)
            self._tell({"lost": organization_id})

    def _tell(self, body: dict[str, Any]) -> None:
        for hearer in self._hearers:
            hearer(body)


_READINGS, _LETTERS = READINGS.encode(), LETTERS.encode()


def _organization_of(reading: list[Any]) -> str:
    return str(reading[0])


_bridge: Bridge | None = None
_bridge_pid = 0
_bridge_lock = threading.Lock()


def bridge() -> Bridge:
    """This process's bridge (a forked child gets one of its own)."""
    global _bridge, _bridge_pid
    if _bridge is None or _bridge_pid != os.getpid():
        with _bridge_lock:
            if _bridge is None or _bridge_pid != os.getpid():
                _bridge, _bridge_pid = Bridge(settings.REDIS_URL), os.getpid()
    return _bridge
