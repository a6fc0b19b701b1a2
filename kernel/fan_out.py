"""Redis pub/sub between the processes of a fleet: one thread that sends, one that listens, nobody who waits.

A Redis that is down or frozen costs its own threads a second at a time; callers only touch a bounded deque.
Nothing here is durable: everything that matters is a row, and every sleeper has a time-out of its own.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import redis
from django.conf import settings

from kernel import clock, ids

logger = logging.getLogger(__name__)
CHANNEL = "roastops:live"
MAX_WAITING = 2000
SOCKET_TIMEOUT_S = 1.0
RECONNECT_S = 0.5
PING_S = 5.0

Hearer = Callable[[dict[str, Any]], None]


class Bridge:
    """This process's two ends of the channel."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.process = f"{os.getpid()}-{ids.random_bytes(4).hex()}"
        self.is_connected = False
        self._outgoing: deque[dict[str, Any]] = deque(maxlen=MAX_WAITING)  # the oldest fall out: ephemeral
        self._has_outgoing = threading.Event()
        self._hearers: list[Hearer] = []
        self._lock = threading.Lock()
        self._threads: dict[str, threading.Thread] = {}
        self._is_closed = threading.Event()

    def send(self, message: dict[str, Any]) -> None:
        """Queue a message for the other processes; never blocks, never raises."""
        self._outgoing.append(message)
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
            clock.wait(self._has_outgoing, 1.0)
            self._has_outgoing.clear()
            while self._outgoing and not self._is_closed.is_set():
                text = json.dumps({"from": self.process, **self._outgoing.popleft()})
                try:
                    client.publish(CHANNEL, text)
                except redis.RedisError as error:
                    self._outgoing.clear()  # old readings and nudges are worth nothing after an outage
                    logger.warning("fan-out: cannot send: %s", error)
                    clock.wait(self._is_closed, RECONNECT_S)
        client.close()

    def _listen_for_ever(self) -> None:
        while not self._is_closed.is_set():
            try:
                self._listen_once()
            except redis.RedisError as error:
                logger.warning("fan-out: cannot listen: %s", error)
            self.is_connected = False
            clock.wait(self._is_closed, RECONNECT_S)

    def _listen_once(self) -> None:
        """One connection's life; a server that does not answer pings within the time-out is left."""
        client = self._client()
        with client.pubsub() as subscription:
            subscription.subscribe(CHANNEL)
            last_heard_s = clock.monotonic()
            is_pinged = False
            while not self._is_closed.is_set():
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

    def _hear(self, message: dict[str, Any]) -> None:
        if message.get("type") != "message":
            return
        try:
            body = json.loads(message["data"])
        except ValueError:
            return
        if not isinstance(body, dict) or body.get("from") == self.process:
            return
        for hearer in self._hearers:
            hearer(body)


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
