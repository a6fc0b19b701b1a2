"""The Bullet R2 behind the driver port. Nobody asks it: it pushes frames, and we read them as they come.

Who reads in a loop (the keeper's link thread) waits inside the USB read, so each frame is taken when it arrives; a
command goes out beside it. Others (an order, STOP) take the newest reading there is instead of waiting for another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from drivers.bullet import codec_r2 as codec
from drivers.bullet.codec_r1 import SensorMap
from drivers.bullet.driver import Bullet
from drivers.bullet.readings import DeviceClock, MachineTime, SensorCheck
from drivers.bullet.readings_r2 import FIELDS, SIDE_MAX_AGE_S, PushedSet, StandstillWatch, make_reading
from drivers.bullet.tables import R2
from drivers.bullet.usb import NoAnswer, UsbOptions
from drivers.port import Hooks, ProtocolError, Reading
from kernel import clock

POLL_INTERVAL_S = 0.05  # reading again at once only waits for the next frame; this bounds a machine that pours
NEW_S = 0.2  # the newest reading counts as now: frames come each 100 ms
QUEUED_MAX_S = 0.15  # what lay in the pipe no longer than this is news; older, and only the next arrival is
_WAITED_S = 0.002  # a read that took this long found the pipe empty
_WAITED_LONG_S = 0.02  # the same where old frames may lie in it: a busy computer alone must not look like waiting
_TURN_S = 0.01  # how soon a reading that another thread took is noticed
_LAST_LOOK_MS = 1  # is there a newer one behind it?
_TRANSFERS_MAX = 600  # a full pipe (about 167 frames were measured elsewhere) and what comes meanwhile


@dataclass(frozen=True, slots=True)
class _Arrived:
    """A good frame, its bytes, and when it was in our hands."""

    frame: codec.Frame
    data: bytes
    at_s: float


class BulletR2(Bullet):
    """Driver for the Aillio Bullet R2."""

    def __init__(
        self, *, usb_options: UsbOptions | None = None, hooks: Hooks | None = None,
        sensor_map: SensorMap = SensorMap.PROBE_B, device_clock: DeviceClock = DeviceClock.WALL,
        counter_hz: float = 10.0,
    ) -> None:
        super().__init__(R2, usb_options=usb_options, hooks=hooks, fields=FIELDS, poll_interval_s=POLL_INTERVAL_S)
        self.counts = {"frames": 0, "polls": 0, "no_answers": 0, "protocol_errors": 0, "stale_frames": 0}
        self._wait_s = (usb_options or UsbOptions()).read_timeout_ms / 1000
        self._sensor_map = sensor_map
        self._time = MachineTime(device_clock, counter_hz)
        self._check = SensorCheck(sensor_map)
        self._begin()

    def _begin(self) -> None:
        """As before the first frame of a connection."""
        self._seal = codec.SealWatch()
        self._still = StandstillWatch()
        self._newest: dict[int, _Arrived] = {}  # by type
        self._not_before_s = clock.monotonic()  # what is read next cannot have come earlier

    # -- the port --

    def open(self) -> None:
        """Claim the machine. It tells no serial, hours or counts, but for its USB strings. NotFound and the rest."""
        with self._poll_lock:
            self.port.open()
            self._begin()
            self.identity = replace(
                self.identity, serial=self.port.serial_text,
                extras={"usb_product_id": f"{self.port.product_id or 0:04x}"},
            )

    def read(self) -> Reading:
        """The next reading to come. NoAnswer after the read time-out; ProtocolError; Unplugged.

        Where another thread takes one meanwhile, that is it. (Who reads in a loop takes the lock again at once; whoever
        only waited for the lock could wait for ever.)
        """
        asked_s = clock.monotonic()
        give_up_s = asked_s + self._wait_s + _WAITED_LONG_S
        while not self._poll_lock.acquire(timeout=_TURN_S):
            taken = self._taken_since(asked_s)
            if taken is not None:
                return taken
            if clock.monotonic() >= give_up_s:
                raise NoAnswer(f"no frame within {self._wait_s * 1000:.0f} ms")
        try:
            return self._taken_since(asked_s) or self.took(self._next_reading(self._wait_s))
        finally:
            self._poll_lock.release()

    def read_now(self) -> Reading:
        """The newest reading, if it came within NEW_S; else the next one."""
        return self.read_within(self._wait_s)

    def read_within(self, wait_s: float) -> Reading:
        """What lies in the pipe, else the newest known within NEW_S, else what comes within ``wait_s``.

        Never behind a thread that waits for a frame.
        """
        if not self._poll_lock.acquire(blocking=False):
            known = self._known_now()
            if known is not None:
                return known
            if not self._poll_lock.acquire(timeout=wait_s):
                raise NoAnswer(f"no frame within {wait_s * 1000:.0f} ms")
        try:
            try:
                return self.took(self._next_reading(0.0))
            except ProtocolError:  # NoAnswer is one: nothing lay there, or nothing that could be read
                known = self._known_now()
                if known is not None:
                    return known
            return self.took(self._next_reading(wait_s))
        finally:
            self._poll_lock.release()

    # -- inside --

    def _taken_since(self, asked_s: float) -> Reading | None:
        latest = self.latest
        return latest if latest is not None and latest.monotonic_s > asked_s else None

    def _known_now(self) -> Reading | None:
        latest = self.latest
        return latest if latest is not None and latest.age_s(clock.monotonic()) <= NEW_S else None

    def _next_reading(self, wait_s: float) -> Reading:
        """Read on until the newest temperatures that cannot be old are in hand. Bounded in time and transfers."""
        until_s = clock.monotonic() + wait_s
        came_s: float | None = None
        problem: ProtocolError | None = None
        for _ in range(_TRANSFERS_MAX):
            left_s = _LAST_LOOK_MS / 1000 if came_s is not None else until_s - clock.monotonic()
            try:
                is_news, at_s, has_waited = self._take_one(max(_LAST_LOOK_MS, round(left_s * 1000)))
            except NoAnswer as silence:
                self._not_before_s = clock.monotonic()
                if came_s is not None:
                    return self._made(came_s)
                self.counts["no_answers"] += 1
                raise problem or silence from None
            except ProtocolError as error:
                self.counts["protocol_errors"] += 1
                problem = error
            else:
                if is_news:
                    came_s = at_s
                    if has_waited:
                        return self._made(came_s)
            if came_s is None and clock.monotonic() >= until_s + _WAITED_S:
                break
        if came_s is not None:
            return self._made(came_s)
        raise problem or NoAnswer("no temperatures came")

    def _take_one(self, timeout_ms: int) -> tuple[bool, float, bool]:
        """(temperatures that are news?, the earliest moment they can have come, did we wait for them?).

        NoAnswer where the pipe is empty; ProtocolError for what is no frame; Unplugged.
        """
        before_s = clock.monotonic()
        data = self.port.receive(timeout_ms)
        now_s = clock.monotonic()
        is_late = before_s - self._not_before_s > QUEUED_MAX_S  # the pipe may hold what is old
        has_waited = now_s - before_s >= (_WAITED_LONG_S if is_late else _WAITED_S)
        if has_waited:
            self._not_before_s = now_s
        frame = codec.require_plausible(codec.decode_frame(data))
        self._seal.check(data)
        self.counts["frames"] += 1
        self._newest[frame.frame_type] = _Arrived(frame, data, now_s)
        is_temperatures = isinstance(frame, codec.Temperatures)
        is_old = is_late and not has_waited
        if is_temperatures and is_old:
            self.counts["stale_frames"] += 1
        return is_temperatures and not is_old, self._not_before_s, has_waited

    def _made(self, came_s: float) -> Reading:
        """A reading of the newest frames; ``came_s``: the earliest moment its temperatures can have come."""
        temperatures = self._newest[codec.TEMPERATURES].frame
        if not isinstance(temperatures, codec.Temperatures):
            raise ProtocolError("no temperatures")  # unreachable: kept under their own type
        fans, power = self._side(codec.FANS, came_s), self._side(codec.POWER, came_s)
        seen = PushedSet(
            temperatures, fans if isinstance(fans, codec.Fans) else None,
            power if isinstance(power, codec.Power) else None,
        )
        now_s = clock.monotonic()
        device_ms = self._time.device_ms(temperatures.frame_counter, now_s)
        is_still = self._still.see(b"".join(each.data for each in self._newest.values()), now_s)
        self.counts["polls"] += 1
        return make_reading(
            seen, sequence=self.next_sequence(), at=clock.now(), monotonic_s=came_s, device_ms=device_ms,
            sensor_map=self._sensor_map, sensor_check=self._check.see(temperatures, now_s),
            is_frozen=is_still or self._time.is_frozen(now_s), seal_rule=self._seal.rule,
        )

    def _side(self, frame_type: int, now_s: float) -> codec.Frame | None:
        """The newest frame of a type, if it belongs to this moment."""
        found = self._newest.get(frame_type)
        return found.frame if found is not None and abs(now_s - found.at_s) <= SIDE_MAX_AGE_S else None
