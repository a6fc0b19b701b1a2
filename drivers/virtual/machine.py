"""One virtual machine: firmware, its clock, its USB socket and its faults. Thread-safe.

All methods raise :class:`UsbFailure` where libusb would fail. Handles belong to whoever opened them; the
vendor interface is claimed by one handle at a time.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from drivers.virtual import faults as fault_catalogue
from drivers.virtual.clocks import Clock, HouseClock
from drivers.virtual.fault_effects import FaultEffects
from drivers.virtual.faults import Fault
from drivers.virtual.firmware import TICKS_PER_S, Firmware
from drivers.virtual.firmware_r1 import FirmwareR1
from drivers.virtual.firmware_r2 import FirmwareR2
from drivers.virtual.playback import Playback, Stage, lead_s
from drivers.virtual.replay import ReplayFirmware
from drivers.virtual.settings import R1Settings, R2Settings, settings_from
from drivers.virtual.wire_log import WireLog

EIO, ENOENT, EACCES, EBUSY, ENODEV, EPIPE, EOVERFLOW, ETIMEDOUT = 5, 2, 13, 16, 19, 32, 75, 110
INTERFACE = 1
OUT_ENDPOINT, IN_ENDPOINT = 0x03, 0x81  # of an R1; an R2's are settings
PUSHES_PER_S = 10  # of the clock, whatever the speed
MAX_CATCH_UP_TICKS = 3600 * TICKS_PER_S  # after a long sleep the machine forgets the rest
MAX_QUEUED_REPLIES = 256
MAX_TRANSFER_BYTES = 4096


class UsbFailure(Exception):
    """What libusb would report: an errno of Linux and its words."""

    def __init__(self, errno: int, message: str) -> None:
        super().__init__(message)
        self.errno, self.message = errno, message


@dataclass(slots=True)
class Handle:
    """One opening of the device."""

    number: int
    address: int  # bus address at the time: a re-enumerated device leaves old handles dead
    owner: str
    claimed: set[int]


@dataclass(slots=True)
class QueuedReply:
    """A reply on its way to the IN endpoint. ``ready_at_s`` on the machine's clock."""

    data: bytes
    ready_at_s: float


class Person(Protocol):
    """Somebody at the machine, asked once per device second; True when he did something."""

    def tick(self, machine: VirtualMachine) -> bool: ...


class VirtualMachine:
    """A Bullet with power on and a cable in. ``clock`` is wall time; device time runs ``speed`` times it."""

    def __init__(
        self,
        *,
        seed: int,
        kind: str = "bullet-r1",
        clock: Clock | None = None,
        speed: float = 1.0,
        faults: str | Iterable[Fault | str | dict[str, Any]] = (),
        settings: R1Settings | R2Settings | dict[str, Any] | str | None = None,
        initial_state: str = "off",
        replay: str | Path | None = None,
        wire_log: str | Path | None = None,
        person: Person | None = None,
    ) -> None:
        self.kind = kind
        self.settings = _settings_of(settings, kind)
        self.speed = self._own_speed = checked_speed(speed)
        self.wire = WireLog(wire_log)
        self._clock: Clock = clock or HouseClock()
        self._lock = threading.RLock()
        self._arrived = threading.Event()
        self.firmware = self._made_firmware(seed, initial_state, replay)
        self.firmware.note = self._note
        self.effects = FaultEffects(fault_catalogue.checked(faults), random.Random(int(seed) ^ 0x5EED))
        self._replies: deque[QueuedReply] = deque()
        self._handles: dict[int, Handle] = {}
        self._next_handle = 1
        self._address = 4
        self._kernel_driver = {0, INTERFACE} if self.settings.has_kernel_driver else set()
        self._configuration = 1
        self._ticks = 0
        self._person = person
        self._playback: Playback | None = None
        self._seed = int(seed)
        self._is_advancing = False
        self._started_s = self._clock.monotonic()

    def _made_firmware(self, seed: int, initial_state: str, replay: str | Path | None) -> Firmware:
        if self.kind == "bullet-r2":
            if replay is not None:
                raise ValueError("only a virtual bullet-r1 can play a log: the logs are of that machine")
            return FirmwareR2(self.settings, seed=seed, initial_state=initial_state)
        if replay is None:
            return FirmwareR1(self.settings, seed=seed, initial_state=initial_state)
        return ReplayFirmware(replay, self.settings, seed=seed)

    # -- time -------------------------------------------------------------------------------------

    @property
    def device_s(self) -> float:
        """Device seconds since the machine was made."""
        return self._ticks / TICKS_PER_S

    def advance(self) -> None:
        """Let the machine live up to now."""
        with self._lock:
            if self._is_advancing:
                return  # the person, or a fault, looks at the machine within a tick
            self._is_advancing = True
            try:
                self._advance()
            finally:
                self._is_advancing = False

    def _advance(self) -> None:
        due = int((self._clock.monotonic() - self._started_s) * self.speed * TICKS_PER_S + 1e-6)
        if due - self._ticks > MAX_CATCH_UP_TICKS:
            skipped = due - self._ticks - MAX_CATCH_UP_TICKS
            self._started_s += skipped / TICKS_PER_S / self.speed
            due -= skipped
        while self._ticks < due:
            self._ticks += 1
            self.effects.tick(self)
            self.firmware.tick()
            if self._playback:
                self.firmware = self._playback.tick()
                if self._is_pace_changed(self._playback):
                    break  # what is due is counted anew
            elif self._person and self._ticks % TICKS_PER_S == 0:
                self._person.tick(self)
            if self._ticks % self._push_every_ticks == 0 and self.effects.is_plugged:
                for frame in self.firmware.pushed_frames():
                    self._queue(frame)

    def _is_pace_changed(self, playback: Playback) -> bool:
        """Run at the log's speed while it plays, at our own before and after."""
        if playback.stage is Stage.OVER:
            self._playback = None
        speed = playback.speed if playback.stage is Stage.PLAYING else self._own_speed
        if speed == self.speed:
            return False
        self.speed = speed
        self._started_s = self._clock.monotonic() - self._ticks / TICKS_PER_S / speed
        return True

    @property
    def _push_every_ticks(self) -> int:
        return max(1, round(self.speed * TICKS_PER_S / PUSHES_PER_S))

    def _next_push_s(self) -> float:
        """When, on the clock, the machine speaks next by itself."""
        every = self._push_every_ticks
        tick = (self._ticks // every + 1) * every
        return self._started_s + tick / TICKS_PER_S / self.speed

    # -- USB: enumeration and handles -------------------------------------------------------------

    def describe(self) -> dict[str, Any] | None:
        """What enumeration sees; None when unplugged."""
        with self._lock:
            self.advance()
            if not self.effects.is_plugged:
                return None
            own = self.settings
            is_r2 = self.kind == "bullet-r2"
            model = "R2" if is_r2 else "R1"
            return {
                "address": self._address, "product_id": own.product_id, "serial": f"{model}-{own.serial_number}",
                "product": f"Bullet {model}", "out_endpoint": own.out_endpoint if is_r2 else OUT_ENDPOINT,
                "in_endpoint": own.in_endpoint if is_r2 else IN_ENDPOINT,
                "has_decoys": is_r2 and own.has_decoy_endpoints,
            }

    def open(self, owner: str = "local") -> int:
        with self._lock:
            self.advance()
            self._require_plugged()
            if not self.settings.may_open:
                raise UsbFailure(EACCES, "Access denied (insufficient permissions)")
            handle = Handle(self._next_handle, self._address, owner, set())
            self._next_handle += 1
            self._handles[handle.number] = handle
            self._log("usb", act="open", handle=handle.number)
            return handle.number

    def close(self, handle: int) -> None:
        with self._lock:
            self.advance()
            if self._handles.pop(handle, None):
                self._log("usb", act="close", handle=handle)
            self._arrived.set()

    def require_owner(self, handle: int, owner: str) -> None:
        """A handle number from another session, or another life of this process, is worth nothing."""
        with self._lock:
            found = self._handles.get(handle)
            if found is None or found.owner != owner:
                raise UsbFailure(ENODEV, "No such device (it may have been disconnected)")

    def close_owner(self, owner: str) -> None:
        """A client died: everything it held is free."""
        with self._lock:
            for number in [h.number for h in self._handles.values() if h.owner == owner]:
                self.close(number)

    def claim(self, handle: int, interface: int) -> None:
        with self._lock:
            self.advance()
            mine = self._live(handle)
            if interface not in (0, INTERFACE):
                raise UsbFailure(ENOENT, "Entity not found")
            if interface in self._kernel_driver:
                raise UsbFailure(EBUSY, "Resource busy")
            if any(interface in other.claimed for other in self._handles.values() if other is not mine):
                raise UsbFailure(EBUSY, "Resource busy")
            mine.claimed.add(interface)
            self._log("usb", act="claim", handle=handle, interface=interface)

    def release(self, handle: int, interface: int) -> None:
        with self._lock:
            self.advance()
            self._live(handle).claimed.discard(interface)
            self._log("usb", act="release", handle=handle, interface=interface)

    def kernel_driver_active(self, handle: int, interface: int) -> bool:
        with self._lock:
            self._live(handle)
            return interface in self._kernel_driver

    def detach_kernel_driver(self, handle: int, interface: int) -> None:
        with self._lock:
            self._live(handle)
            if interface not in self._kernel_driver:
                raise UsbFailure(ENOENT, "Entity not found")
            self._kernel_driver.discard(interface)

    def attach_kernel_driver(self, handle: int, interface: int) -> None:
        with self._lock:
            self._live(handle)
            if any(interface in other.claimed for other in self._handles.values()):
                raise UsbFailure(EBUSY, "Resource busy")
            self._kernel_driver.add(interface)

    def get_configuration(self, handle: int) -> int:
        with self._lock:
            self._live(handle)
            return self._configuration

    def set_configuration(self, handle: int, value: int) -> None:
        with self._lock:
            mine = self._live(handle)
            if any(other.claimed for other in self._handles.values() if other is not mine):
                raise UsbFailure(EBUSY, "Resource busy")
            if value not in (0, 1):
                raise UsbFailure(ENOENT, "Entity not found")
            self._configuration = value

    def reset(self, handle: int) -> None:
        """A port reset: queued replies are gone; the firmware roasts on."""
        with self._lock:
            self.advance()
            self._live(handle)
            self._replies.clear()
            self._log("usb", act="reset", handle=handle)
            if self.kind == "bullet-r2" and self.settings.reset_renumbers:
                self.unplugged()
                raise UsbFailure(ENOENT, "Entity not found")

    # -- USB: transfers ---------------------------------------------------------------------------

    def write(self, handle: int, data: bytes, timeout_ms: int) -> int:
        """One OUT transfer; returns the bytes taken."""
        deadline_s = self._clock.monotonic() + (timeout_ms / 1000.0 if timeout_ms else 3600.0)
        while True:
            with self._lock:
                self.advance()
                self._require_claimed(handle)
                if len(data) > MAX_TRANSFER_BYTES:
                    raise UsbFailure(EIO, "Input/Output Error")
                if not self.effects.refuses_out(self._ticks):
                    self._take(handle, bytes(data))
                    return len(data)
                if self._clock.monotonic() >= deadline_s:
                    self._log("out", hex=bytes(data).hex(), handle=handle, taken=False, meaning="nak")
                    raise UsbFailure(ETIMEDOUT, "Operation timed out")
            self._clock.sleep(0.01)

    def read(self, handle: int, size: int, timeout_ms: int) -> bytes:
        """One IN transfer of at most ``size`` bytes."""
        deadline_s = self._clock.monotonic() + (timeout_ms / 1000.0 if timeout_ms else 3600.0)
        while True:
            with self._lock:
                self.advance()
                self._require_claimed(handle)
                now_s = self._clock.monotonic()
                if self._replies and self._replies[0].ready_at_s <= now_s:
                    return self._given(handle, size)
                if now_s >= deadline_s:
                    raise UsbFailure(ETIMEDOUT, "Operation timed out")
                until_s = min(deadline_s, self._replies[0].ready_at_s if self._replies else deadline_s)
                if self.kind == "bullet-r2":
                    until_s = min(until_s, self._next_push_s() + 1e-6)
                self._arrived.clear()
            self._clock.wait(self._arrived, min(0.05, max(0.0005, until_s - now_s)))

    def _take(self, handle: int, data: bytes) -> None:
        before = self._controls()
        answer = self.firmware.receive(data)
        self._log("out", hex=data.hex(), handle=handle, meaning=answer.meaning, before=before, after=self._controls())
        if answer.alarm:
            self._log("alarm", hex=data.hex(), message=answer.alarm)
        if answer.clears_queue:
            self._replies.clear()
        for reply in answer.replies:
            self._queue(reply)
        if answer.reboots:
            self.effects.start(Fault("firmware_reboot", self.device_s), self)

    def _queue(self, reply: bytes) -> None:
        room = self.settings.pipe_frames if self.kind == "bullet-r2" else MAX_QUEUED_REPLIES
        for delay_s, data in self.effects.mangle(reply, self._ticks):
            if len(self._replies) >= room and self.kind == "bullet-r2" and self.settings.pipe_full == "drops_oldest":
                self._replies.popleft()
            if len(self._replies) < room:
                self._replies.append(QueuedReply(data, self._clock.monotonic() + delay_s))
        self._arrived.set()

    def _given(self, handle: int, size: int) -> bytes:
        reply = self._replies.popleft().data
        self._log("in", hex=reply.hex(), handle=handle)
        if len(reply) > size:
            raise UsbFailure(EOVERFLOW, "Overflow")
        return reply

    def _controls(self) -> list[int]:
        own = self.firmware
        return [own.heater_step, own.fan_step, own.drum_step, own.state]

    # -- the cable, as faults pull it -------------------------------------------------------------

    def unplugged(self) -> None:
        """The cable is out (called by the fault effects under the lock)."""
        self._replies.clear()
        self._address += 1
        self._kernel_driver = {0, INTERFACE} if self.settings.has_kernel_driver else set()
        self._configuration = 1
        for handle in self._handles.values():
            handle.claimed.clear()
        self._arrived.set()

    def slip(self) -> None:
        """A reply nobody asked for stands first in the queue."""
        self._replies.appendleft(QueuedReply(self.firmware.slipped_frame(), self._clock.monotonic()))
        self._arrived.set()

    # -- the person and the tests -----------------------------------------------------------------

    def act(self, name: str, **details: Any) -> dict[str, Any]:
        """A person's act at the machine, or a fault on request; returns the status after it."""
        acts: dict[str, Callable[..., Any]] = {
            "press_prs": self.firmware.press_prs,
            "charge_beans": self._charge_beans,
            "drop_beans": self.firmware.drop_beans,
            "pour_out": self.firmware.pour_out,
            "turn_knob": self._turn_knob,
            "fault": self._start_faults,
        }
        if name not in acts:
            raise ValueError(f"no panel act {name!r}; there are {sorted(acts)}")
        with self._lock:
            self.advance()
            before = self._controls()
            acts[name](**details)
            self._log("panel", act=name, details=details, before=before, after=self._controls())
            return self.status()

    def play_log(self, path: str | Path, speed: float | None = None) -> dict[str, Any]:
        """Show a recorded roast to whoever watches, then be ourselves again; returns the status.

        ``speed``: device seconds per second while it plays, else our own. A log that plays already is cut off.
        UnreadableLog, ValueError.
        """
        speed = self._own_speed if speed is None else checked_speed(speed)
        if not isinstance(self.firmware, FirmwareR1):
            raise ValueError("only a virtual bullet-r1 can play a log: the logs are of that machine")
        replay = ReplayFirmware(path, self.settings, seed=self._seed, lead_s=lead_s(speed))
        replay.note = self._note
        with self._lock:
            self.advance()
            before = self._controls()
            own = self.firmware
            if self._playback:
                own = self.firmware = self._playback.end()
                self._is_pace_changed(self._playback)
            name = Path(path).name
            self._playback = Playback(own, replay, name=name, own_speed=self._own_speed, speed=speed)
            self._log("panel", act="replay", details={"name": name, "speed": speed}, before=before,
                      after=self._controls())  # fmt: skip
            return self.status()

    def _charge_beans(self, mass_kg: float | None = None, bean_temp_c: float | None = None) -> None:
        self.firmware.charge_beans(float(mass_kg or self.settings.batch_kg), bean_temp_c)

    def _turn_knob(self, control: str, step: int) -> None:
        self.firmware.turn_knob(str(control), int(step))

    def _start_faults(self, fault: str) -> None:
        for each in fault_catalogue.parse(fault):
            self.effects.start(each, self)

    def status(self) -> dict[str, Any]:
        """Where the machine truly is (not what it tells): for panels, tests and the demo."""
        with self._lock:
            self.advance()
            own, warmth = self.firmware, self.firmware.warmth
            return {
                "device_s": self.device_s,
                "speed": self.speed,
                "state": own.state,
                "heater_step": own.heater_step,
                "fan_step": own.fan_step,
                "drum_step": own.drum_step,
                "roast_clock_s": own.roast_ticks // TICKS_PER_S,
                "probe_temp_c": round(warmth.probe_temp_c, 2),
                "infrared_temp_c": round(warmth.infrared_temp_c, 2),
                "drum_temp_c": round(warmth.drum_temp_c, 2),
                "bean_temp_c": round(warmth.bean_temp_c, 2),
                "bean_mass_kg": round(warmth.bean_mass_kg, 4),
                "is_plugged": self.effects.is_plugged,
                "claimed_by": [h.number for h in self._handles.values() if INTERFACE in h.claimed],
                "queued_replies": len(self._replies),
                "replay": self._replay_status(),
            }

    def _replay_status(self) -> dict[str, Any] | None:
        """Of the log that is played on request."""
        playing = self._playback
        return {"name": playing.name, "stage": playing.stage, "left_s": playing.left_s} if playing else None

    def shut_down(self) -> None:
        """Close the wire log."""
        self.wire.close()

    # -- inside -----------------------------------------------------------------------------------

    def _log(self, direction: str, **what: Any) -> None:
        wall = self._clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        mono_s = round(self._clock.monotonic(), 6)  # comparable between processes of one host
        self.wire.append(direction, wall, mono_s, self.device_s, **what)

    def note_fault(self, fault: Fault, what: str) -> None:
        """For the wire log: a fault begins or ends."""
        self._log("fault", fault=fault.name, what=what, parameters=fault.parameters)

    def _note(self, what: str, detail: str) -> None:
        self._log("self", what=what, detail=detail)

    def _require_plugged(self) -> None:
        if not self.effects.is_plugged:
            raise UsbFailure(ENODEV, "No such device (it may have been disconnected)")

    def _live(self, handle: int) -> Handle:
        self._require_plugged()
        found = self._handles.get(handle)
        if found is None or found.address != self._address:
            raise UsbFailure(ENODEV, "No such device (it may have been disconnected)")
        return found

    def _require_claimed(self, handle: int) -> None:
        if INTERFACE not in self._live(handle).claimed:
            raise UsbFailure(ENOENT, "Entity not found")


def _settings_of(settings: R1Settings | R2Settings | dict[str, Any] | str | None, kind: str) -> Any:
    """Settings as they are, or of their text; which of the two classes it is, the kind says."""
    return settings if isinstance(settings, (R1Settings, R2Settings)) else settings_from(settings, kind)


def checked_speed(speed: float) -> float:
    """Device seconds per second; ValueError where no machine can run like that."""
    if not 0.01 <= speed <= 1000:
        raise ValueError(f"speed must be between 0.01 and 1000, not {speed}")
    return speed
