"""A bridge at work: one thread reads the machine and queues, one sends what is queued. No database.

The reader never waits for the network, the sender never for the machine; between them stands the queue on disk.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from drivers.bridge import BadQueue, Queue, QueueFull, Sealed, wait_s
from drivers.port import Driver, DriverError, Reading
from kernel import canonical, clock
from roasts.recording import sample_extras
from roasts.telemetry import signing
from roasts.telemetry.envelope import COUNTS, MAX_POINTS, NUMBERS, POINT_FIELDS, SCHEMA, BadEnvelope, read

SEND_TIMEOUT_S = 10.0
IDLE_S = 0.2


@dataclass(frozen=True, slots=True)
class DeviceKeyFile:
    """What `manage.py devicekey new` wrote for the bridge."""

    kid: str
    machine_id: str
    organization_id: str
    private_key: bytes


class BadKeyFile(ValueError):
    """A file that no `devicekey` wrote."""


def read_key_file(path: Path) -> DeviceKeyFile:
    """BadKeyFile, OSError."""
    try:
        said = json.loads(path.read_text())
        key = bytes.fromhex(said["private_key"])
        if len(key) != 32:
            raise BadKeyFile(f"{path}: the private key has {len(key)} bytes, not 32")
        return DeviceKeyFile(str(said["kid"]), str(said["machine_id"]), str(said["organization_id"]), key)
    except (ValueError, KeyError, TypeError) as error:
        raise BadKeyFile(f"{path} was not written by `manage.py devicekey`: {error}") from error


def point_of(reading: Reading) -> dict[str, Any]:
    """A reading as a point. A value no roaster can have is left out, and said to be absent."""
    point: dict[str, Any] = {"at": canonical.utc_text(reading.at), "state": reading.state.value}
    quality = {name: word.value for name, word in reading.quality.items() if name in NUMBERS or name in COUNTS}
    for name, (low, high) in (NUMBERS | COUNTS).items():  # type: ignore[operator]
        value = getattr(reading, name, None)
        if value is None:
            continue
        if low <= value <= high:
            point[name] = value
        else:
            quality[name] = "absent"
    extras = {
        name: value
        for name, value in (sample_extras.kept(reading.extras) or {}).items()
        if name not in POINT_FIELDS and f"{name}{value}".isprintable()
    }
    return point | ({"quality": quality} if quality else {}) | ({"extras": extras} if extras else {})


class Sealer:
    """Puts points into envelopes, signed where there is a key."""

    def __init__(self, machine_id: str, key: DeviceKeyFile | None) -> None:
        self._machine_id = machine_id
        self._key = key

    def seal(self, points: list[dict[str, Any]], sequence: int, previous_digest: str) -> Sealed:
        """A finished envelope of now. Its digest is the server's own of it."""
        now = clock.now()
        body: dict[str, Any] = {
            "schema": SCHEMA,
            "machine_id": self._machine_id,
            "sequence": sequence,
            "at": canonical.utc_text(now),
            "points": points,
            "previous_digest": previous_digest,
        }
        seen = read(body, received_at=now)
        organization_id = self._key.organization_id if self._key is not None else ""
        statement = signing.Statement(
            organization_id, seen.machine_id, sequence, seen.at, seen.points_digest, seen.events_digest, previous_digest
        )
        if self._key is None:
            return Sealed(sequence, "", len(points), json.dumps({**body, "previous_digest": ""}))
        signed = {**body, "kid": self._key.kid, "signature": signing.sign(self._key.private_key, statement)}
        return Sealed(sequence, statement.digest(), len(points), json.dumps(signed))

    def seal_again(self, body: str, sequence: int, previous_digest: str) -> Sealed:
        """The points of an old envelope at another place in the row."""
        return self.seal(json.loads(body)["points"], sequence, previous_digest)


class Bridge:
    """One machine's bridge. ``say`` gets a line for a person whenever something changes."""

    def __init__(
        self,
        queue: Queue,
        sealer: Sealer,
        *,
        open_driver: Callable[[], Driver],
        client: httpx.Client,
        machine_id: str,
        batch_s: float,
        say: Callable[[str], None],
    ) -> None:
        self._queue = queue
        self._sealer = sealer
        self._open_driver = open_driver
        self._client = client
        self._machine_id = machine_id
        self._batch_s = batch_s
        self._say = say
        self._stop = threading.Event()
        self._lock = threading.Lock()  # the queue's
        self._has_more = threading.Event()
        self._trouble = ""
        self._points: list[dict[str, Any]] = []
        self._batch_due_s = 0.0
        self._is_full = False

    def stop(self) -> None:
        """Let both threads end; what is read so far is queued."""
        self._stop.set()
        self._has_more.set()

    # --- the machine's side ---

    def read_for_ever(self) -> None:
        """Read the machine, and queue. A machine that goes away is waited for."""
        failures = 0
        while not self._stop.is_set():
            try:
                driver = self._open_driver()
            except DriverError as error:
                failures += 1
                self._say(f"machine: {error.code}: {error.message} {error.how_to_fix}".strip())
                clock.wait(self._stop, wait_s(failures + 2))
                continue
            failures = 0
            self._say(f"reading {driver.identity.model}")
            with contextlib.closing(driver):
                self._read_while_it_answers(driver)
        self._flush()

    def _read_while_it_answers(self, driver: Driver) -> None:
        while not self._stop.is_set():
            try:
                self._take(point_of(driver.read()))
            except DriverError as error:
                if error.code in ("unplugged", "not_found", "busy", "no_permission"):
                    self._say(f"machine: {error.code}: {error.message}")
                    return
                self._say(f"machine: {error.code}: {error.message}")
            clock.wait(self._stop, driver.capabilities.poll_interval_s)

    def _take(self, point: dict[str, Any]) -> None:
        now_s = clock.monotonic()
        if not self._points:
            self._batch_due_s = now_s + self._batch_s
        self._points.append(point)
        if now_s >= self._batch_due_s or len(self._points) >= MAX_POINTS:
            self._flush()

    def _flush(self) -> None:
        """Queue what was read. A full queue or disk keeps it in memory for as long as an envelope has room."""
        if not self._points:
            return
        try:
            with self._lock:
                sealed = self._sealer.seal(self._points, self._queue.last_sequence + 1, self._queue.last_digest)
                self._queue.append(sealed)
        except (QueueFull, OSError, BadEnvelope) as error:
            if not self._is_full:
                why = "is this computer's clock set? " if isinstance(error, BadEnvelope) else ""
                self._say(f"queue: takes nothing more: {why}{error}; readings are lost until it does")
            self._is_full = True
            self._points = self._points[-MAX_POINTS + 1 :]
            self._batch_due_s = clock.monotonic() + self._batch_s
            return
        if self._is_full:
            self._say("queue: takes readings again")
        self._is_full, self._points = False, []
        self._has_more.set()

    # --- the network's side ---

    def send_for_ever(self) -> None:
        """Send the oldest, again and again until it is taken; then the next."""
        failures = 0
        while not self._stop.is_set():
            with self._lock:
                sealed = self._queue.oldest()
            if sealed is None:
                clock.wait(self._has_more, IDLE_S)
                self._has_more.clear()
                continue
            trouble = self._deliver(sealed)
            failures = failures + 1 if trouble else 0
            self._tell(trouble)
            if trouble:
                clock.wait(self._stop, wait_s(failures))

    def _deliver(self, sealed: Sealed) -> str:
        """Send one; "" when it was taken, else what is in the way."""
        try:
            answer = self._client.post(
                "/v1/telemetry", content=sealed.body, headers={"Content-Type": "application/json"}
            )
        except httpx.HTTPError as error:
            return f"the server does not answer ({type(error).__name__})"
        if answer.status_code == 201:
            with self._lock:
                self._queue.acknowledge(sealed.sequence)
            return ""
        refusal = _refusal(answer)
        if answer.status_code == 409 and refusal.get("error") == "sequence_reused":
            return self._go_behind()
        return f"the server refuses: {answer.status_code} {refusal.get('error')}: {refusal.get('message')}"

    def _go_behind(self) -> str:
        """The stream is further than we knew: what waits goes behind it."""
        try:
            stands = self._client.get(f"/v1/telemetry/{self._machine_id}")
            said = stands.raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            return f"the server does not say where the stream is ({type(error).__name__})"
        with self._lock:
            count = self._queue.renumber(int(said["last_sequence"]), str(said["last_digest"]), self._sealer.seal_again)
        return f"the stream is at {said['last_sequence']} already: {count} envelopes are sealed anew behind it"

    def _tell(self, trouble: str) -> None:
        """A line when trouble begins, changes or ends."""
        if trouble == self._trouble:
            return
        waiting = f"{self._queue.waiting} envelopes ({self._queue.waiting_points} points) wait"
        self._say(f"network: {trouble}; {waiting}" if trouble else f"network: taken again; {waiting}")
        self._trouble = trouble


def _refusal(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def run(bridge: Bridge, until: Callable[[], bool]) -> None:
    """Both threads, until told to end."""
    threads = [
        threading.Thread(target=bridge.read_for_ever, name="bridge-read", daemon=True),
        threading.Thread(target=bridge.send_for_ever, name="bridge-send", daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        while not until() and all(thread.is_alive() for thread in threads):
            clock.sleep(IDLE_S)
    finally:
        bridge.stop()
        for thread in threads:
            thread.join(SEND_TIMEOUT_S + 1)


__all__ = ["BadKeyFile", "BadQueue", "Bridge", "DeviceKeyFile", "Sealer", "point_of", "read_key_file", "run"]
