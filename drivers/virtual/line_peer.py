"""A virtual roaster that sends a line per sample and takes SET and STATE (driver kind ``tcp-line``), and what it
shares with the virtual TC4. No sockets here: :mod:`drivers.virtual.line_server` puts one on TCP or a terminal.

The same seed, clock and bytes received give the same bytes sent.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import threading
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import Any

from drivers.virtual.bench_drum import CONTROLS, TICKS_PER_S, BenchDrum
from drivers.virtual.clocks import Clock, HouseClock
from drivers.virtual.line_faults import LINE_FAULTS, LineFault, Troubles, parse

MAX_CATCH_UP_TICKS = 600 * TICKS_PER_S
MAX_LINE_BYTES = 4096
MAX_WAITING = 4096
MAX_TOLD = 4096
GREETS_EVERY_S = 5
STATES = ("off", "preheating", "charge", "roasting", "cooling")
#: which state may be asked for in which: as the panel of a careful builder would allow
ASKABLE = {"off": ("preheating",), "preheating": ("off",), "charge": ("off",), "roasting": ("cooling",),
           "cooling": ("off",)}


class NotTaken(ConnectionRefusedError):
    """No connection is taken now."""


@dataclass(slots=True)
class Waiting:
    """Bytes that leave at ``ready_at_s`` of the clock."""

    data: bytes
    ready_at_s: float


class Peer(ABC):
    """One virtual machine and at most one client. Thread-safe."""

    FAULTS: tuple[str, ...] = LINE_FAULTS

    def __init__(
        self, *, seed: int, clock: Clock | None = None, speed: float = 1.0, faults: str = "",
        initial_state: str = "roasting",
    ) -> None:
        if not 0.01 <= speed <= 50.0:
            raise ValueError("speed is between 0.01 and 50")
        self.drum = BenchDrum(seed=seed, initial_state=initial_state)
        self.speed = speed
        self.chance = random.Random(int(seed) ^ 0x11E5)
        self.troubles = Troubles(parse(faults, self.FAULTS))
        self.told: deque[str] = deque(maxlen=MAX_TOLD)  # command lines received, as they came
        self.is_connected = False
        self._clock: Clock = clock or HouseClock()
        self._lock = threading.RLock()
        self._ticks = 0
        self._started_s = self._clock.monotonic()
        self._waiting: deque[Waiting] = deque()
        self._late: list[tuple[float, str]] = []  # commands to be carried out later: clock second, line
        self._received = bytearray()

    # -- time --

    @property
    def device_s(self) -> float:
        """Device seconds since it was made."""
        return self._ticks / TICKS_PER_S

    def advance(self) -> None:
        """Live up to now."""
        with self._lock:
            due = int((self._clock.monotonic() - self._started_s) * self.speed * TICKS_PER_S + 1e-6)
            if due - self._ticks > MAX_CATCH_UP_TICKS:
                self._started_s += (due - self._ticks - MAX_CATCH_UP_TICKS) / TICKS_PER_S / self.speed
                due = self._ticks + MAX_CATCH_UP_TICKS
            while self._ticks < due:
                self._ticks += 1
                self._tick()

    def _tick(self) -> None:
        for name in self.troubles.begin(self.device_s):
            self._begin_fault(name)
        self.drum.extra_c = 0.0
        if self.is_troubled("over_temperature"):
            self.drum.extra_c = self.troubles.parameter("over_temperature", "temp_c") - self.drum.warmth.probe_temp_c
        self.drum.tick()
        due = [line for at_s, line in self._late if at_s <= self._clock.monotonic()]
        self._late = [(at_s, line) for at_s, line in self._late if at_s > self._clock.monotonic()]
        for line in due:
            self.carry_out(line)
        if self.is_connected:
            self.on_tick()

    def _begin_fault(self, name: str) -> None:
        if name in ("disconnect", "accept_then_close"):
            self.hang_up()
        elif name == "reboot":
            self.on_reboot()

    def is_troubled(self, name: str) -> bool:
        """Is a lasting fault at work now?"""
        return self.troubles.is_on(name, self.device_s)

    # -- the wire --

    def connect(self) -> None:
        """A client comes. NotTaken; where it is accepted and closed at once, ``is_connected`` is False afterwards."""
        with self._lock:
            self.advance()
            if self.is_troubled("disconnect"):
                raise NotTaken("nobody listens")
            self._waiting.clear()
            self._received.clear()
            self.is_connected = not self.is_troubled("accept_then_close")
            if self.is_connected:
                self.on_connect()

    def hang_up(self) -> None:
        """The connection ends."""
        with self._lock:
            self.is_connected = False
            self._waiting.clear()

    def feed(self, data: bytes) -> None:
        """Bytes from the client."""
        with self._lock:
            self.advance()
            self._received += data
            while (end := self._received.find(b"\n")) >= 0:
                line = bytes(self._received[:end]).strip().decode("ascii", "replace")
                del self._received[: end + 1]
                if line:
                    self._hear(line)
            if len(self._received) > MAX_LINE_BYTES:
                self._received.clear()

    def take(self) -> bytes:
        """What leaves for the client now."""
        with self._lock:
            self.advance()
            if self.is_troubled("silence") or self.is_troubled("reboot"):
                self._waiting.clear()
                return b""
            if self.is_troubled("burst"):
                return b""
            now_s, ready = self._clock.monotonic(), bytearray()
            for _ in range(len(self._waiting)):
                each = self._waiting.popleft()
                if each.ready_at_s <= now_s:
                    ready += each.data
                else:
                    self._waiting.append(each)
            return bytes(ready)

    def send_line(self, line: str, delay_s: float = 0.0) -> None:
        """Queue a line, as the faults let it be."""
        data = line.encode() + b"\n"
        if self.troubles.take("garbage"):
            data = bytes(self.chance.randrange(256) for _ in range(40)).replace(b"\n", b"?") + b"\n"
        elif self.troubles.take("half_line"):
            data = data[: len(data) // 2]
        elif self.troubles.take("huge_line"):
            data = b"9" * int(self.troubles.parameter("huge_line", "bytes")) + b"\n"
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(Waiting(data, self._clock.monotonic() + delay_s))

    def _hear(self, line: str) -> None:
        if self.is_troubled("reboot"):
            return
        is_command = self.is_command(line)
        if is_command:
            self.told.append(line)
            if self.is_troubled("deaf") or self.troubles.take("lost_command"):
                return
            if self.troubles.take("slow_act"):
                delay_s = float(self.troubles.parameter("slow_act", "delay_s"))
                self._late.append((self._clock.monotonic() + delay_s, line))
                return
        self.carry_out(line)

    # -- the person at the machine --

    def act(self, act: str, **details: Any) -> None:
        """A hand at the machine, or ``fault`` (``fault="name+DURATION:…"``, counted from now). ValueError."""
        with self._lock:
            self.advance()
            if act != "fault":
                self.drum.act(act, **details)
                return
            for fault in parse(str(details["fault"]), self.FAULTS):
                self.troubles.add(LineFault(fault.name, fault.at_s, fault.duration_s, fault.parameters), self.device_s)
            for name in self.troubles.begin(self.device_s):
                self._begin_fault(name)

    def status(self) -> dict[str, Any]:
        """The truth inside."""
        with self._lock:
            self.advance()
            return {**self.drum.status(), "device_s": self.device_s, "is_connected": self.is_connected}

    def set_step(self, control: str, step: int) -> None:
        """Move a control, unless it is stuck."""
        if not self.is_troubled("stuck_control"):
            self.drum.steps[control] = step

    # -- what a kind of machine says --

    @abstractmethod
    def on_connect(self) -> None: ...

    @abstractmethod
    def on_tick(self) -> None: ...

    @abstractmethod
    def carry_out(self, line: str) -> None: ...

    @abstractmethod
    def is_command(self, line: str) -> bool:
        """Does it move something?"""

    def on_reboot(self) -> None:
        """Settings go back to their start."""
        return


class LinePeer(Peer):
    """Telemetry by itself, every ``interval_ms``; commands where it ``declares`` controls."""

    FAULTS = LINE_FAULTS

    def __init__(
        self, *, seed: int, clock: Clock | None = None, speed: float = 1.0, faults: str = "",
        initial_state: str = "roasting", form: str = "jsonl", interval_ms: int = 100, declares: bool = True,
        sends_ts: bool = True, sends_state: bool = True,
    ) -> None:
        super().__init__(seed=seed, clock=clock, speed=speed, faults=faults, initial_state=initial_state)
        if form not in ("jsonl", "csv") or interval_ms < 100 or interval_ms % 100:
            raise ValueError("form is jsonl or csv; interval_ms a multiple of 100")
        self.form, self.interval_ms = form, interval_ms
        self._declares, self._sends_ts, self._sends_state = declares, sends_ts, sends_state
        self._began_at = self._clock.now()
        self._clock_shift_s = 0.0

    def on_connect(self) -> None:
        self._greet()

    def _greet(self) -> None:
        if not self._declares:
            return
        hello = {
            "version": 1, "model": "virtual line roaster", "serial": "L-7", "firmware": "1.0",
            "interval_ms": max(20, round(self.interval_ms / self.speed)),
            "controls": {"heater": {"min": 0, "max": 100, "safe": 0}, "fan": {"min": 0, "max": 100, "safe": 70},
                         "drum": {"min": 10, "max": 100}},
            "states": ["off", "preheating", "cooling"],
        }
        self.send_line("HELLO " + json.dumps(hello, separators=(",", ":")))

    def on_tick(self) -> None:
        if self._ticks % (GREETS_EVERY_S * TICKS_PER_S) == 0:
            self._greet()  # a greeting that was garbled leaves the machine read-only: say it again
        if (self._ticks * 1000 // TICKS_PER_S) % self.interval_ms == 0:
            self.send_line(self._csv_line() if self.form == "csv" else self._json_line())

    def is_command(self, line: str) -> bool:
        return line.startswith(("SET ", "STATE "))

    def _begin_fault(self, name: str) -> None:
        super()._begin_fault(name)
        if name == "clock_back":
            self._clock_shift_s -= 3600.0

    def _ts(self) -> str:
        at = self._began_at + dt.timedelta(seconds=self.device_s + self._clock_shift_s)
        return at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"

    def _json_line(self) -> str:
        bean_c: float = round(self.drum.bean_temp_c, 2)
        if self.troubles.take("nan"):
            bean_c = float("nan")
        said: dict[str, Any] = {"btC": bean_c, "etC": round(self.drum.environment_temp_c, 2),
                                "powerPct": self.drum.steps["heater"], "fanPct": self.drum.steps["fan"],
                                "drumPct": self.drum.steps["drum"], "drumRpm": round(0.6 * self.drum.steps["drum"], 1)}
        if self._sends_ts:
            said["ts"] = self._ts()
        if self._sends_state:
            said["state"] = self.drum.state
        return json.dumps(said, separators=(",", ":"))

    def _csv_line(self) -> str:
        bean = "nan" if self.troubles.take("nan") else f"{self.drum.bean_temp_c:.2f}"
        cells = [self._ts() if self._sends_ts else "", bean, f"{self.drum.environment_temp_c:.2f}",
                 str(self.drum.steps["heater"]), str(self.drum.steps["fan"]), str(self.drum.steps["drum"]),
                 self.drum.state if self._sends_state else ""]
        return ",".join(cells)

    def carry_out(self, line: str) -> None:
        words = line.split()
        if len(words) < 3 or not self._declares:
            return
        answer = self._done(words)
        if self.troubles.take("lost_ack"):
            return
        wire_id = f"{words[1]}-other" if self.troubles.take("wrong_id") else words[1]
        delay_s = float(self.troubles.parameter("slow_ack", "delay_s")) if self.troubles.take("slow_ack") else 0.0
        for _ in range(2 if self.troubles.take("doubled_ack") else 1):
            self.send_line(f"ACK {wire_id} {answer}", delay_s)

    def _done(self, words: list[str]) -> str:
        if self.troubles.take("decline"):
            return "declined not_now"
        if words[0] == "STATE":
            if words[2] == self.drum.state:
                return "ok"
            if words[2] not in ASKABLE.get(self.drum.state, ()):
                return "declined wrong_state"
            if not self.is_troubled("stuck_control"):
                self.drum.enter(words[2])
            return "ok"
        is_known = words[0] == "SET" and len(words) == 4 and words[2] in CONTROLS
        if not is_known or not (words[3].isdecimal() and int(words[3]) <= 100):
            return "declined not_understood"
        self.set_step(words[2], int(words[3]))
        return "ok"


#: columns of a virtual peer's CSV lines, for the driver's option of that name
CSV_COLUMNS = ("ts", "btC", "etC", "powerPct", "fanPct", "drumPct", "state")
