"""A Bullet behind the driver port: what both models share, and the R1, which is asked. The R2: `driver_r2.py`.

How an order becomes steps is in `applying.py`; how heat goes down is in `safing.py`; what tells the models apart, in
`tables.py`.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

from drivers.bullet import applying, safing
from drivers.bullet import codec_r1 as codec
from drivers.bullet.codec_r1 import SensorMap
from drivers.bullet.readings import FIELDS, DeviceClock, MachineTime, SensorCheck, make_reading
from drivers.bullet.tables import R1, BulletModel
from drivers.bullet.usb import NoAnswer, UsbOptions, UsbPort
from drivers.port import (
    Capabilities,
    Hooks,
    Identity,
    NoHooks,
    ProtocolError,
    Reading,
    Receipt,
    SettingOrder,
    StateOrder,
    WireWrite,
    WriteNote,
)
from drivers.steering import Steered
from kernel import clock

MODEL = "Aillio Bullet R1"
POLL_INTERVAL_S = 0.1
STEP_INTERVAL_S = 0.102  # the machine takes at most ten commands a second
_INFO_TRIES = 3
_POLL_TRIES = 3  # one for an idle message, one for a slip, one for good
_POLL_RETRIES_MAX_S = 0.5


class Bullet(Steered):
    """What the drivers of both models share. See :class:`drivers.port.Driver`."""

    def __init__(
        self, model: BulletModel, *, usb_options: UsbOptions | None, hooks: Hooks | None, fields: frozenset[str],
        poll_interval_s: float,
    ) -> None:
        super().__init__()
        self.model = model
        self.port = UsbPort(usb_options, model)
        self.hooks: Hooks = hooks or NoHooks()
        self.identity = Identity(model=f"Aillio {model.name}")
        self.capabilities = Capabilities(
            controls=dict(model.ranges), states=model.askable_states, poll_interval_s=poll_interval_s, fields=fields,
        )
        self.latest: Reading | None = None
        self.last_heat_up_s = float("-inf")
        self.last_step_s = 0.0
        self._poll_lock = threading.Lock()
        self._sequence = 0

    # -- what each model does its own way --

    def open(self) -> None:
        """Claim the machine and learn who it is. NotFound, NoPermission, Busy, Unplugged, ProtocolError."""
        raise NotImplementedError

    def read(self) -> Reading:
        """The next reading. Unplugged; NoAnswer, ProtocolError or InDoubt where none could be had this time."""
        raise NotImplementedError

    def read_now(self) -> Reading:
        """The reading an order may be begun or gone on with, without waiting for a machine that is not asked."""
        raise NotImplementedError

    def read_within(self, wait_s: float) -> Reading:
        """A reading for STOP, which must go on stepping: never later than about twice ``wait_s``."""
        raise NotImplementedError

    # -- the port; `apply`, `make_safe` and `abort` are `Steered`'s --

    def _carry_out(self, order: SettingOrder | StateOrder, deadline_s: float) -> Receipt:
        if isinstance(order, SettingOrder):
            return applying.apply_setting(self, order, deadline_s)
        return applying.apply_state(self, order, deadline_s)

    def _bring_down(self, deadline_s: float, order_id: str) -> Receipt:
        return safing.make_safe(self, deadline_s, order_id)

    def close(self) -> None:
        """Let the machine go. It keeps its last settings: nothing is sent."""
        self.port.close()

    # -- for applying and safing --

    def send(self, data: bytes, *, order_id: str, step: int, steps: int) -> WireWrite:
        """Write one command, told to the hooks before and after. Unplugged, InDoubt, ProtocolError."""
        meaning = self.model.check_command(data)
        note = WriteNote(data_hex=data.hex(), meaning=meaning, order_id=order_id, step=step, steps=steps)
        self.hooks.before_write(note)
        self.last_step_s = clock.monotonic()  # also where the write fails: it may have left
        at_s = self.port.write(data)
        self.last_step_s = at_s
        self.hooks.after_write(note, at_s)
        return WireWrite(monotonic_s=at_s, data_hex=note.data_hex, meaning=meaning)

    def send_order(self, data: bytes, *, order_id: str, step: int, steps: int) -> WireWrite:
        """Like :meth:`send`, for an order: while it runs, make_safe proves nothing."""
        self.is_order_leaving = True
        if data == self.model.heater_up:
            self.last_heat_up_s = clock.monotonic()
        try:
            return self.send(data, order_id=order_id, step=step, steps=steps)
        finally:
            self.is_order_leaving = False

    def wait_for_slot(self) -> None:
        """Sleep until the next command may go (at most ten a second)."""
        clock.sleep(self.last_step_s + STEP_INTERVAL_S - clock.monotonic())

    def took(self, reading: Reading) -> Reading:
        """Keep a reading just made, and tell whoever listens."""
        self.latest = reading
        self.hooks.on_reading(reading)
        return reading

    def next_sequence(self) -> int:
        """The number of the reading that is being made."""
        self._sequence += 1
        return self._sequence


class BulletR1(Bullet):
    """Driver for the Aillio Bullet R1 (V1, V1.5, V2)."""

    def __init__(
        self, *, usb_options: UsbOptions | None = None, hooks: Hooks | None = None,
        sensor_map: SensorMap = SensorMap.PROBE_B, device_clock: DeviceClock = DeviceClock.WALL,
        counter_hz: float = 10.0,
    ) -> None:
        super().__init__(R1, usb_options=usb_options, hooks=hooks, fields=FIELDS, poll_interval_s=POLL_INTERVAL_S)
        self.counts = {"polls": 0, "other_messages": 0, "slips": 0, "no_answers": 0, "protocol_errors": 0}
        self._sends_trailer = False  # only a third-party note knows it: required once seen
        self._sensor_map = sensor_map
        self._time = MachineTime(device_clock, counter_hz)
        self._check = SensorCheck(sensor_map)

    def open(self) -> None:
        """Claim the machine and ask who it is. NotFound, NoPermission, Busy, Unplugged, ProtocolError."""
        with self._poll_lock:
            self.port.open()
            self.identity = self._ask_identity()

    def read(self) -> Reading:
        """One poll: frame A and frame B. Resynchronises by itself after a slip or an idle message.

        Raises Unplugged; NoAnswer, ProtocolError or InDoubt where no telemetry could be had this time.
        """
        with self._poll_lock:
            return self.took(self._poll_until_good())

    def read_now(self) -> Reading:
        """One poll: an R1 answers in a millisecond."""
        return self.read()

    def read_within(self, wait_s: float) -> Reading:
        """Like :meth:`read`, but never longer than about twice ``wait_s``; for STOP, which must go on stepping.

        Where another thread is in the middle of a poll, its reading counts, if it comes in time.
        """
        asked_at_s = clock.monotonic()
        if not self._poll_lock.acquire(timeout=wait_s):
            latest = self.latest
            if latest is not None and latest.monotonic_s > asked_at_s:
                return latest
            raise NoAnswer(f"no answer within {wait_s * 1000:.0f} ms")
        try:
            return self.took(self._poll_until_good(round(wait_s * 1000)))
        finally:
            self._poll_lock.release()

    # -- inside --

    def _poll_until_good(self, timeout_ms: int | None = None) -> Reading:
        until_s = clock.monotonic() + _POLL_RETRIES_MAX_S
        for attempt in range(1, _POLL_TRIES + 1):
            try:
                return self._poll_once(timeout_ms)
            except codec.OtherMessage:
                self.counts["other_messages"] += 1
                if attempt == _POLL_TRIES or clock.monotonic() > until_s:
                    raise
            except NoAnswer:
                self.counts["no_answers"] += 1
                raise  # waiting again would only make the caller later; the next poll drains first
            except ProtocolError as error:
                self.counts["slips" if isinstance(error, codec.SlippedFrames) else "protocol_errors"] += 1
                self.port.drain()
                if attempt == _POLL_TRIES or clock.monotonic() > until_s:
                    raise
        raise ProtocolError("no telemetry")  # unreachable: the last attempt returns or raises

    def _poll_once(self, timeout_ms: int | None) -> Reading:
        frame_a = self.port.ask(codec.STATUS1, timeout_ms)
        frame_b = self.port.ask(codec.STATUS2, timeout_ms)
        try:
            status = codec.decode_status(frame_a, frame_b)
            if self._sends_trailer and not status.has_trailer:
                raise ProtocolError("frame A does not end in FF AA, as this machine's frames do")
        except ProtocolError:
            self.port.is_suspect = True
            raise
        self._sends_trailer = status.has_trailer
        self.counts["polls"] += 1
        monotonic_s = clock.monotonic()
        return make_reading(
            status, sequence=self.next_sequence(), at=clock.now(), monotonic_s=monotonic_s,
            device_ms=self._time.device_ms(status.sample_counter, monotonic_s),
            sensor_map=self._sensor_map, sensor_check=self._check.see(status, monotonic_s),
            is_frozen=self._time.is_frozen(monotonic_s),
        )

    def _ask_identity(self) -> Identity:
        """INFO1 and INFO2; a machine that garbles them is still a machine, with unknown fields."""
        identity = Identity(model=MODEL, extras={"usb_product_id": f"{self.port.product_id or 0:04x}"})
        try:
            first = codec.decode_info1(self._ask_patiently(codec.INFO1))
            identity = replace(
                identity, serial=str(first.serial), firmware=str(first.firmware),
                extras=identity.extras | {"hardware": first.hardware, "made_on": list(first.made_on),
                                          "has_ibts": first.infrared_sensor_type == 2},
            )
            second = codec.decode_info2(self._ask_patiently(codec.INFO2))
        except ProtocolError as error:
            self.port.is_suspect = True
            return replace(identity, extras=identity.extras | {"identity_error": error.message})
        extras: dict[str, Any] = identity.extras | {
            "drum_motor_h": round(second.drum_motor_s / 3600, 2), "power_on_count": second.power_on_count,
            "eeprom_failures": second.eeprom_failures, "roast_count_as_artisan": second.roast_count_as_artisan,
        }
        hours_on = round(second.seconds_on / 3600, 2)
        return replace(identity, hours_on=hours_on, roast_count=second.roast_count, extras=extras)

    def _ask_patiently(self, request: bytes) -> bytes:
        """An info question, again after a garbled answer."""
        for attempt in range(1, _INFO_TRIES + 1):
            try:
                answer = self.port.ask(request)
                if request == codec.INFO1:
                    codec.decode_info1(answer)
                return answer
            except ProtocolError:
                self.port.drain()
                if attempt == _INFO_TRIES:
                    raise
        raise ProtocolError("no identity")  # unreachable
