"""A ``usb.backend.IBackend`` whose one device is a virtual roaster. pyusb and everything above it is real.

The backend speaks to a :class:`UsbPort`: the machine itself (in process) or a served one (over a socket).
"""

from __future__ import annotations

import array
import struct
from types import SimpleNamespace
from typing import Any, NoReturn, Protocol

import usb.backend
import usb.core

from drivers.virtual.machine import (
    EIO,
    ENODEV,
    ENOENT,
    EPIPE,
    ETIMEDOUT,
    INTERFACE,
    UsbFailure,
)  # fmt: skip

VENDOR_ID = 0x0483
MAX_PACKET_BYTES = 64
#: errno → libusb's own error code, as pyusb's libusb1 backend reports both.
LIBUSB_CODES = {5: -1, 13: -3, 19: -4, 2: -5, 16: -6, 110: -7, 75: -8, 32: -9}
MAKER = "Aillio"
DECOY_OUT, DECOY_IN = 0x04, 0x85  # endpoints that lead nowhere


class UsbPort(Protocol):
    """What a machine offers to a backend; failures are :class:`UsbFailure`."""

    def describe(self) -> dict[str, Any] | None: ...
    def open(self, owner: str = "local") -> int: ...
    def close(self, handle: int) -> None: ...
    def claim(self, handle: int, interface: int) -> None: ...
    def release(self, handle: int, interface: int) -> None: ...
    def kernel_driver_active(self, handle: int, interface: int) -> bool: ...
    def detach_kernel_driver(self, handle: int, interface: int) -> None: ...
    def attach_kernel_driver(self, handle: int, interface: int) -> None: ...
    def get_configuration(self, handle: int) -> int: ...
    def set_configuration(self, handle: int, value: int) -> None: ...
    def reset(self, handle: int) -> None: ...
    def write(self, handle: int, data: bytes, timeout_ms: int) -> int: ...
    def read(self, handle: int, size: int, timeout_ms: int) -> bytes: ...


class VirtualBackend(usb.backend.IBackend):  # type: ignore[misc]
    """``usb.core.find(backend=…)`` finds the machine behind ``port`` while it is plugged in.

    ``machine`` is the :class:`VirtualMachine` when it lives in this process (for its panel, faults and wire
    log), else None.
    """

    def __init__(self, port: UsbPort, machine: Any = None) -> None:
        super().__init__()
        self.port = port
        self.machine = machine
        self._endpoints: dict[int, tuple[int, int]] = {}  # by handle: (OUT, IN) that work

    # -- enumeration ------------------------------------------------------------------------------

    def enumerate_devices(self) -> list[SimpleNamespace]:
        found = _called(self.port.describe)
        return [SimpleNamespace(**found)] if found else []

    def get_parent(self, dev: Any) -> None:
        return None

    def get_device_descriptor(self, dev: Any) -> SimpleNamespace:
        return SimpleNamespace(
            bLength=18, bDescriptorType=1, bcdUSB=0x0200, bDeviceClass=0xEF, bDeviceSubClass=2, bDeviceProtocol=1,
            bMaxPacketSize0=64, idVendor=VENDOR_ID, idProduct=dev.product_id, bcdDevice=0x0200, iManufacturer=1,
            iProduct=2, iSerialNumber=3, bNumConfigurations=1, address=dev.address, bus=1, port_number=1,
            port_numbers=(1,), speed=2,
        )  # fmt: skip

    def get_configuration_descriptor(self, dev: Any, config: int) -> SimpleNamespace:
        _within(config, 1, "configuration")
        return SimpleNamespace(
            bLength=9, bDescriptorType=2, wTotalLength=62, bNumInterfaces=2, bConfigurationValue=1, iConfiguration=0,
            bmAttributes=0xC0, bMaxPower=50, extra_descriptors=[],
        )  # fmt: skip

    def get_interface_descriptor(self, dev: Any, intf: int, alt: int, config: int) -> SimpleNamespace:
        _within(config, 1, "configuration")
        _within(intf, 2, "interface")
        _within(alt, 1, "alternate setting")
        is_vendor = intf == INTERFACE
        return SimpleNamespace(
            bLength=9, bDescriptorType=4, bInterfaceNumber=intf, bAlternateSetting=0,
            bNumEndpoints=len(_addresses(dev)) if is_vendor else 1, bInterfaceClass=0x0A if is_vendor else 0x02,
            bInterfaceSubClass=0 if is_vendor else 2, bInterfaceProtocol=0 if is_vendor else 1, iInterface=0,
            extra_descriptors=[],
        )  # fmt: skip

    def get_endpoint_descriptor(self, dev: Any, ep: int, intf: int, alt: int, config: int) -> SimpleNamespace:
        addresses = {0: (0x82,), INTERFACE: _addresses(dev)}[_within(intf, 2, "interface")]
        address = addresses[_within(ep, len(addresses), "endpoint")]
        return SimpleNamespace(
            bLength=7, bDescriptorType=5, bEndpointAddress=address, bmAttributes=2 if intf == INTERFACE else 3,
            wMaxPacketSize=MAX_PACKET_BYTES, bInterval=0 if intf == INTERFACE else 16, bRefresh=0, bSynchAddress=0,
            extra_descriptors=[],
        )  # fmt: skip

    # -- handles ----------------------------------------------------------------------------------

    def open_device(self, dev: Any) -> int:
        found = _called(self.port.describe)
        if not found or found["address"] != dev.address:
            _raise(UsbFailure(ENODEV, "No such device (it may have been disconnected)"))
        handle = int(_called(self.port.open))
        self._endpoints[handle] = (dev.out_endpoint, dev.in_endpoint)
        return handle

    def close_device(self, dev_handle: int) -> None:
        self._endpoints.pop(dev_handle, None)
        _called(self.port.close, dev_handle)

    def set_configuration(self, dev_handle: int, config_value: int) -> None:
        _called(self.port.set_configuration, dev_handle, config_value)

    def get_configuration(self, dev_handle: int) -> int:
        return int(_called(self.port.get_configuration, dev_handle))

    def set_interface_altsetting(self, dev_handle: int, intf: int, altsetting: int) -> None:
        if altsetting != 0:
            _raise(UsbFailure(ENOENT, "Entity not found"))

    def claim_interface(self, dev_handle: int, intf: int) -> None:
        _called(self.port.claim, dev_handle, intf)

    def release_interface(self, dev_handle: int, intf: int) -> None:
        _called(self.port.release, dev_handle, intf)

    def is_kernel_driver_active(self, dev_handle: int, intf: int) -> bool:
        return bool(_called(self.port.kernel_driver_active, dev_handle, intf))

    def detach_kernel_driver(self, dev_handle: int, intf: int) -> None:
        _called(self.port.detach_kernel_driver, dev_handle, intf)

    def attach_kernel_driver(self, dev_handle: int, intf: int) -> None:
        _called(self.port.attach_kernel_driver, dev_handle, intf)

    def clear_halt(self, dev_handle: int, ep: int) -> None:
        _called(self.port.get_configuration, dev_handle)

    def reset_device(self, dev_handle: int) -> None:
        _called(self.port.reset, dev_handle)

    # -- transfers --------------------------------------------------------------------------------

    def bulk_write(self, dev_handle: int, ep: int, intf: int, data: Any, timeout: int) -> int:
        if ep == DECOY_OUT:
            _raise(UsbFailure(ETIMEDOUT, "Operation timed out"))
        if ep != self._endpoints.get(dev_handle, (0, 0))[0]:
            _raise(UsbFailure(EIO, "Input/Output Error"))
        return int(_called(self.port.write, dev_handle, bytes(data), timeout))

    def bulk_read(self, dev_handle: int, ep: int, intf: int, buff: Any, timeout: int) -> int:
        if ep in (0x82, DECOY_IN):
            _raise(UsbFailure(ETIMEDOUT, "Operation timed out"))
        if ep != self._endpoints.get(dev_handle, (0, 0))[1]:
            _raise(UsbFailure(EIO, "Input/Output Error"))
        reply = _called(self.port.read, dev_handle, len(buff) * buff.itemsize, timeout)
        return _filled(buff, reply)

    def intr_write(self, dev_handle: int, ep: int, intf: int, data: Any, timeout: int) -> int:
        return self.bulk_write(dev_handle, ep, intf, data, timeout)

    def intr_read(self, dev_handle: int, ep: int, intf: int, buff: Any, timeout: int) -> int:
        return self.bulk_read(dev_handle, ep, intf, buff, timeout)

    def ctrl_transfer(
        self, dev_handle: int, bmRequestType: int, bRequest: int, wValue: int, wIndex: int, data: Any, timeout: int
    ) -> int:
        """String descriptors only; everything else stalls."""
        _called(self.port.get_configuration, dev_handle)
        if bmRequestType != 0x80 or bRequest != 6 or wValue >> 8 != 3:
            _raise(UsbFailure(EPIPE, "Pipe error"))
        return _filled(data, self._string_descriptor(wValue & 0xFF)[: len(data)])

    def _string_descriptor(self, index: int) -> bytes:
        if index == 0:
            return struct.pack("<BBH", 4, 3, 0x0409)
        found = _called(self.port.describe)
        about = found or {"product": "", "serial": ""}
        text = {1: MAKER, 2: about["product"], 3: about["serial"]}.get(index)
        if text is None:
            _raise(UsbFailure(EPIPE, "Pipe error"))
        encoded = text.encode("utf-16-le")
        return bytes((2 + len(encoded), 3)) + encoded


def _addresses(dev: Any) -> tuple[int, ...]:
    """Endpoints of the vendor interface, in the order of their descriptors."""
    decoys = (DECOY_OUT, DECOY_IN) if dev.has_decoys else ()
    return (*decoys, dev.out_endpoint, dev.in_endpoint)


def _filled(buff: Any, reply: bytes) -> int:
    if isinstance(buff, array.array) and buff.itemsize == 1:
        buff[: len(reply)] = array.array(buff.typecode, reply)
    else:
        memoryview(buff).cast("B")[: len(reply)] = reply
    return len(reply)


def _within(index: int, count: int, what: str) -> int:
    if not 0 <= index < count:
        raise IndexError(f"Invalid {what} index {index}")
    return index


def _called(method: Any, *arguments: Any) -> Any:
    """Call the machine; its failures become what pyusb's libusb1 backend would raise."""
    try:
        return method(*arguments)
    except UsbFailure as failure:
        _raise(failure)


def _raise(failure: UsbFailure) -> NoReturn:
    code = LIBUSB_CODES.get(failure.errno, -99)
    kind = usb.core.USBTimeoutError if failure.errno == ETIMEDOUT else usb.core.USBError
    raise kind(failure.message, code, failure.errno) from None
