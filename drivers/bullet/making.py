"""JSON options → a Bullet driver. The one place that knows what an option may be."""

from __future__ import annotations

from typing import Any, TypeVar

from drivers.bullet.codec_r1 import SensorMap
from drivers.bullet.driver import BulletR1
from drivers.bullet.driver_r2 import BulletR2
from drivers.bullet.readings import DeviceClock
from drivers.bullet.tables import R1, R2, BulletModel
from drivers.bullet.usb import UsbOptions
from drivers.port import Hooks
from drivers.registry import CANNOT_BE, KNOWN, NO_OPTION, NOT_WHOLE, BadOption, closest

OPTIONS = ("product_id", "bus", "address", "backend", "device_clock", "counter_hz", "sensor_map",
           "read_timeout_ms", "write_timeout_ms")
_BACKENDS = ("virtual-socket", "libusb")

Choice = TypeVar("Choice", SensorMap, DeviceClock)


def make_r1(options: dict[str, Any], hooks: Hooks | None) -> BulletR1:
    """A driver of a Bullet R1 that is not open yet. BadOption names what is wrong.

    ``backend``: null (the system's libusb), ``{"kind": "virtual-socket", "path": …}``, or, in process, a
    ``usb.backend.IBackend``.
    """
    return BulletR1(hooks=hooks, **_understood(options, R1))


def make_r2(options: dict[str, Any], hooks: Hooks | None) -> BulletR2:
    """The same for a Bullet R2; the same options."""
    return BulletR2(hooks=hooks, **_understood(options, R2))


def _understood(options: dict[str, Any], model: BulletModel) -> dict[str, Any]:
    """The options as a driver takes them."""
    for name in options:
        if name not in OPTIONS:
            known, meant = ", ".join(OPTIONS), closest(name, OPTIONS)
            raise BadOption(NO_OPTION, KNOWN, kind=model.name, name=repr(name), known=known, meant=meant)
    usb_options = UsbOptions(
        backend=_backend(options.get("backend")),
        product_id=_product_id(options.get("product_id"), model),
        bus=_whole(options, "bus", None, 0, 255),
        address=_whole(options, "address", None, 0, 255),
        read_timeout_ms=_whole(options, "read_timeout_ms", 300, 10, 5000) or 300,
        write_timeout_ms=_whole(options, "write_timeout_ms", 200, 10, 5000) or 200,
    )
    return {
        "usb_options": usb_options,
        "sensor_map": _choice(SensorMap, "sensor_map", options.get("sensor_map"), SensorMap.PROBE_B),
        "device_clock": _choice(DeviceClock, "device_clock", options.get("device_clock"), DeviceClock.WALL),
        "counter_hz": float(_whole(options, "counter_hz", 10, 1, 1000) or 10),
    }


def _backend(value: Any) -> Any:
    """None, an IBackend as it is, or the one a description names."""
    if value is None or not isinstance(value, dict):
        return value if value is None or hasattr(value, "enumerate_devices") else _refuse("backend", value)
    kind = value.get("kind")
    if kind == "libusb":
        return None
    if kind != "virtual-socket":
        known, meant = ", ".join(_BACKENDS), closest(str(kind), _BACKENDS)
        raise BadOption("there is no backend {name}", KNOWN, name=repr(kind), known=known, meant=meant)
    path = value.get("path")
    if not isinstance(path, str) or set(value) != {"kind", "path"}:
        raise BadOption("the backend virtual-socket takes exactly kind and path")
    from drivers.virtual import socket_backend  # a real machine's keeper does not load the virtual one

    return socket_backend(path)


def _product_id(value: Any, model: BulletModel) -> int | None:
    """None, a number, or hexadecimal text; one of those the model has."""
    if value is None:
        return None
    try:
        number = int(value, 16) if isinstance(value, str) else int(value)
    except (TypeError, ValueError):
        return _refuse("product_id", value)
    if number not in model.product_ids:
        known = ", ".join(f"0x{each:04x}" for each in model.product_ids)
        raise BadOption("{value} is no {kind}", KNOWN, value=f"0x{number:04x}", kind=model.name, known=known)
    return number


def _whole(options: dict[str, Any], name: str, default: int | None, low: int, high: int) -> int | None:
    """A whole number within bounds."""
    value = options.get(name, default)
    if value is None:
        return default
    if isinstance(value, str) and value.isdecimal():
        value = int(value)  # the command line has only text
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadOption(NOT_WHOLE, name=name, low=low, high=high, value=repr(value))
    return value


def _choice(kind: type[Choice], name: str, value: Any, default: Choice) -> Choice:
    """A member of a small enum."""
    if value is None:
        return default
    try:
        return kind(value)
    except ValueError:
        known = [member.value for member in kind]
        meant = closest(str(value), known)
        raise BadOption(CANNOT_BE, KNOWN, name=name, value=repr(value), known=", ".join(known), meant=meant) from None


def _refuse(name: str, value: Any) -> Any:
    raise BadOption(CANNOT_BE, name=name, value=repr(value))
