"""The only module that touches libusb (through pyusb): one Bullet's interface 1, claimed for us alone.

Reads and writes may run in different threads at once: STOP writes while a poll is blocked in a read.
Every failure becomes one of the port's errors, with its cure.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import usb.core
import usb.util

from drivers.bullet import codec_r1 as codec
from drivers.bullet.tables import MODELS, R1, BulletModel
from drivers.port import Busy, DriverError, InDoubt, NoPermission, NotFound, ProtocolError, Unplugged
from kernel import clock

UDEV_RULE_PATH = "/etc/udev/rules.d/70-roastops-bullet.rules"
UDEV_RULES = "".join(
    f'SUBSYSTEM=="usb", ATTR{{idVendor}}=="{codec.VENDOR_ID:04x}", ATTR{{idProduct}}=="{product:04x}", '
    'MODE="0660", GROUP="plugdev", TAG+="uaccess"\n'
    for model in MODELS
    for product in model.product_ids
)
HOW_TO_FIND = (
    "Is the roaster switched on and its USB cable in? `lsusb -d 0483:` must list {names}. "
    "In a container pass the bus through (docs/bullet-usb.md). On Windows the device needs the WinUSB driver."
)
HOW_TO_PERMIT = (
    f"Install the udev rule {UDEV_RULE_PATH} with `manage.py probe --udev install` (as root), put this user in "
    "the group plugdev, log in again, replug the cable. On Windows give interface 1 the WinUSB driver."
)
HOW_TO_FREE = (
    "Another program holds the roaster: close RoasTime or Artisan, or stop the keeper that owns it "
    "(`manage.py probe` names it). Only one program can speak to a Bullet."
)
HOW_TO_REPLUG = "Check the cable at both ends and plug it in again: the keeper opens it by itself within 2 s."

_GONE = frozenset({errno.ENODEV, errno.ENXIO, errno.ESHUTDOWN, errno.ENOENT})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})
_DRAIN_READS_MAX = 400  # the pipe was measured to hold about 167 frames
_DRAIN_READ_MS = 4
_DRAIN_MAX_S = 0.15
_CLOSE_WAIT_S = 2.0
_RESET_BACKOFF_S = (0.05, 0.1, 0.2, 0.4, 0.8)  # a reset device may leave the bus and come back as another one


class NoAnswer(ProtocolError):
    """The machine did not answer in time. The answer may still come: the next poll drains first."""

    code = "no_answer"


@dataclass(frozen=True, slots=True)
class UsbOptions:
    """Which device, and how long to wait. ``backend`` None means the system's libusb."""

    backend: Any = None
    product_id: int | None = None
    bus: int | None = None
    address: int | None = None
    read_timeout_ms: int = 300
    write_timeout_ms: int = 200


class UsbPort:
    """One claimed Bullet. ``open`` and ``close`` belong to one thread; the transfers to any, a write beside a read."""

    def __init__(self, options: UsbOptions | None = None, model: BulletModel = R1) -> None:
        self._options = options or UsbOptions()
        self._model = model
        self._out, self._in = model.endpoints or (0, 0)
        self._device: Any = None
        self._users = 0
        self._idle = threading.Condition()
        self.is_suspect = False  # an answer may be lying in the pipe: drain before the next question

    @property
    def is_open(self) -> bool:
        """Claimed, as far as we know."""
        return self._device is not None

    @property
    def product_id(self) -> int | None:
        """USB product id of the device that is open."""
        return self._device.idProduct if self._device is not None else None

    @property
    def serial_text(self) -> str | None:
        """The serial in the device's USB strings; None where it tells none."""
        try:
            text = self._device.serial_number if self._device is not None else None
        except (usb.core.USBError, ValueError, NotImplementedError):
            return None
        return str(text)[:64] if text else None

    def open(self) -> None:
        """Find, detach, configure (only if different), claim; an R2 is reset in between, but only once it was ours.
        NotFound, NoPermission, Busy, Unplugged, ProtocolError.
        """
        self.close()
        device = self._claimed(self._find())
        if self._model.resets_at_open:
            device = self._reset(device)
        self._device = device
        self.is_suspect = False
        try:
            self.drain()
        except DriverError:
            self.close()
            raise

    def close(self) -> None:
        """Let the device go. Waits, bounded, for a transfer of another thread to come back first."""
        device, self._device = self._device, None
        if device is None:
            return
        with self._idle:
            self._idle.wait_for(lambda: self._users == 0, timeout=_CLOSE_WAIT_S)
        _dispose(device)

    def write(self, data: bytes) -> float:
        """Send one command, exactly as it is; returns the monotonic second it was handed over at.

        ProtocolError for anything not in the codec's table (padding above all); Unplugged; InDoubt where the
        bytes may or may not have left.
        """
        self._model.check_command(data)
        with self._using() as device:
            at_s = clock.monotonic()
            try:
                written = device.write(self._out, data, self._options.write_timeout_ms)
            except (usb.core.USBError, ValueError) as error:
                raise self._why_not_written(device, error) from error
        if written != len(data):
            raise InDoubt(f"only {written} of {len(data)} bytes were taken")
        return at_s

    def ask(self, request: bytes, timeout_ms: int | None = None) -> bytes:
        """Send a request and read its answer. NoAnswer, ProtocolError (short read), Unplugged, InDoubt."""
        length = self._model.requests[request]
        wait_ms = timeout_ms or self._options.read_timeout_ms
        if self.is_suspect:
            self.drain()
        self.write(request)
        try:
            answer = self.receive(wait_ms)
        except DriverError:
            self.is_suspect = True
            raise
        if len(answer) != length:
            self.is_suspect = True
            raise ProtocolError(f"{codec.MEANINGS[request]} was answered with {len(answer)} bytes, not {length}")
        return answer

    def receive(self, timeout_ms: int | None = None) -> bytes:
        """The next transfer the machine sends, whole. NoAnswer, ProtocolError, Unplugged. A write passes it."""
        wait_ms = timeout_ms or self._options.read_timeout_ms
        with self._using() as device:
            try:
                return bytes(device.read(self._in, codec.FRAME_BYTES, wait_ms))
            except (usb.core.USBError, ValueError) as error:
                raise self._why_not_read(device, error) from error

    def drain(self) -> int:
        """Throw away what lies in the pipe, bounded in reads and time; returns how many transfers."""
        until_s = clock.monotonic() + _DRAIN_MAX_S
        self.is_suspect = False
        with self._using() as device:
            for count in range(_DRAIN_READS_MAX):
                try:
                    device.read(self._in, codec.FRAME_BYTES, _DRAIN_READ_MS)
                except (usb.core.USBError, ValueError) as error:
                    if _is_timeout(error):
                        return count
                    raise self._why_not_read(device, error) from error
                if clock.monotonic() > until_s:
                    break
        self.is_suspect = True  # it pours: go on at the next question
        return _DRAIN_READS_MAX

    # -- inside --

    @contextmanager
    def _using(self) -> Iterator[Any]:
        """Hold the device open for one transfer, so that `close` in another thread waits for it."""
        with self._idle:
            device = self._device
            if device is None:
                raise Unplugged("the roaster is not open", HOW_TO_REPLUG)
            self._users += 1
        try:
            yield device
        finally:
            with self._idle:
                self._users -= 1
                if self._users == 0:
                    self._idle.notify_all()

    def _find(self) -> Any:
        """The first matching device of a fresh enumeration."""
        wanted = (self._options.product_id,) if self._options.product_id else self._model.product_ids
        for product_id in wanted:
            try:
                found = usb.core.find(find_all=True, backend=self._options.backend,
                                      idVendor=codec.VENDOR_ID, idProduct=product_id)
                devices = [device for device in found if self._is_chosen(device)]
            except usb.core.NoBackendError as error:
                raise NotFound("libusb is not installed, so no USB device can be seen",
                               "Install libusb-1.0 (Debian: apt-get install libusb-1.0-0).") from error
            except usb.core.USBError as error:
                raise _why_not_open(error) from error
            if devices:
                return devices[0]
        names = " or ".join(f"0483:{product_id:04x}" for product_id in wanted)
        raise NotFound(f"no {self._model.name} ({names}) is plugged in", HOW_TO_FIND.format(names=names))

    def _claimed(self, device: Any) -> Any:
        """``device`` with its kernel driver away, configured, its endpoints known and its interface ours."""
        try:
            self._detach_kernel_driver(device)
            self._configure(device)
            self._find_endpoints(device)
            usb.util.claim_interface(device, codec.INTERFACE)
        except (usb.core.USBError, ValueError) as error:
            _dispose(device)
            raise _why_not_open(error) from error
        except DriverError:
            _dispose(device)
            raise
        return device

    def _find_endpoints(self, device: Any) -> None:
        """The last OUT and the last IN of the interface, where the model does not name them."""
        if self._model.endpoints is not None:
            return
        interface = device.get_active_configuration()[(codec.INTERFACE, 0)]
        addresses = [endpoint.bEndpointAddress for endpoint in interface]
        outs = [address for address in addresses if not address & usb.util.ENDPOINT_IN]
        ins = [address for address in addresses if address & usb.util.ENDPOINT_IN]
        if not outs or not ins:
            raise ProtocolError(f"interface {codec.INTERFACE} has no pair of endpoints", HOW_TO_REPLUG)
        self._out, self._in = outs[-1], ins[-1]

    def _reset(self, device: Any) -> Any:
        """A USB reset of a device that was ours, and the device to go on with: a reset lets go of the claim, and may
        bring it back under another address. A device that cannot be reset is used as it is.
        """
        is_away = False
        try:
            device.reset()
        except (usb.core.USBError, NotImplementedError) as error:
            is_away = getattr(error, "errno", None) in _GONE
        if not is_away:
            return self._claimed(device)
        _dispose(device)
        for pause_s in _RESET_BACKOFF_S:
            try:
                return self._claimed(self._find())
            except (NotFound, Unplugged):
                clock.sleep(pause_s)
        return self._claimed(self._find())

    def _is_chosen(self, device: Any) -> bool:
        """Is it the one the options name, where they name one?"""
        options = self._options
        return options.bus in (None, device.bus) and options.address in (None, device.address)

    def _detach_kernel_driver(self, device: Any) -> None:
        """Linux binds cdc_acm to some firmwares. Failure is not an error: claiming will tell the truth."""
        try:
            if device.is_kernel_driver_active(codec.INTERFACE):
                device.detach_kernel_driver(codec.INTERFACE)
        except NotImplementedError:
            return  # Windows
        except usb.core.USBError as error:
            if error.errno in _FORBIDDEN | _GONE:
                raise

    def _configure(self, device: Any) -> None:
        """Set configuration 1, only where another one is active: setting it again resets the device."""
        try:
            active = device.get_active_configuration().bConfigurationValue
        except usb.core.USBError as error:
            if error.errno in _FORBIDDEN | _GONE | {errno.EBUSY}:
                raise
            active = None
        if active != codec.CONFIGURATION:
            device.set_configuration(codec.CONFIGURATION)

    def _why_not_written(self, device: Any, error: Exception) -> DriverError:
        """A failed write: gone, or may have left."""
        if self._is_gone(error):
            return Unplugged("the roaster was unplugged while writing", HOW_TO_REPLUG)
        self._clear_stall(device, self._out, error)
        return InDoubt(f"the write did not end well ({error}); it may have left", "Read back before anything else.")

    def _why_not_read(self, device: Any, error: Exception) -> DriverError:
        """A failed read: gone, silent, or stalled."""
        if _is_timeout(error):
            return NoAnswer("the roaster did not answer in time", HOW_TO_REPLUG)
        if self._is_gone(error):
            return Unplugged("the roaster was unplugged", HOW_TO_REPLUG)
        self._clear_stall(device, self._in, error)
        return ProtocolError(f"the read failed ({error})")

    def _is_gone(self, error: Exception) -> bool:
        """ENODEV says so; a plain I/O error may mean the same, so look whether it is still listed."""
        number = getattr(error, "errno", None)
        if number in _GONE:
            return True
        if number != errno.EIO:
            return False
        try:
            self._find()
        except NotFound:
            return True
        except DriverError:
            return False
        return False

    def _clear_stall(self, device: Any, endpoint: int, error: Exception) -> None:
        """A stalled endpoint answers nothing until it is cleared."""
        if getattr(error, "errno", None) != errno.EPIPE:
            return
        try:
            device.clear_halt(endpoint)
        except (usb.core.USBError, NotImplementedError):
            self.is_suspect = True


def _is_timeout(error: Exception) -> bool:
    """Nothing came in time (backends say it in two ways)."""
    return isinstance(error, usb.core.USBTimeoutError) or getattr(error, "errno", None) == errno.ETIMEDOUT


def _dispose(device: Any) -> None:
    """Release and close; a device that is gone cannot refuse."""
    try:
        usb.util.dispose_resources(device)
    except usb.core.USBError:
        return


def _why_not_open(error: Exception) -> DriverError:
    """The operating system's number → what a person can do about it."""
    number = getattr(error, "errno", None)
    if number in _FORBIDDEN:
        return NoPermission("the roaster is there, but this user may not open it", HOW_TO_PERMIT)
    if number == errno.EBUSY:
        return Busy("another program holds the roaster", HOW_TO_FREE)
    if number in _GONE:
        return Unplugged("the roaster went away while it was being opened", HOW_TO_REPLUG)
    return ProtocolError(f"the roaster could not be opened: {error}", HOW_TO_REPLUG)
