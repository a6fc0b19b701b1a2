"""Virtual roasters: shipped firmware behind a real USB backend. See ``docs/bullet-usb.md``.

>>> import usb.core, drivers.virtual
>>> backend = drivers.virtual.backend("bullet-r1", seed=1)
>>> device = usb.core.find(idVendor=0x0483, idProduct=0xA27E, backend=backend)

A ``bullet-r2`` is found as 0483:a4cd, and speaks by itself.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drivers.virtual.clocks import Clock
    from drivers.virtual.faults import Fault
    from drivers.virtual.settings import R1Settings, R2Settings
    from drivers.virtual.usb_backend import VirtualBackend

KINDS = ("bullet-r1", "bullet-r2")


def backend(
    kind: str = "bullet-r1",
    *,
    seed: int,
    clock: Clock | None = None,
    faults: str | Iterable[Fault | str | dict[str, Any]] = (),
    settings: R1Settings | R2Settings | dict[str, Any] | str | None = None,
    replay: str | Path | None = None,
    initial_state: str = "roasting",
    speed: float = 1.0,
    wire_log: str | Path | None = None,
) -> VirtualBackend:
    """A virtual machine in this process, as a ``usb.backend.IBackend``; its ``.machine`` is the person's side.

    ``clock``: anything with the methods of ``kernel.clock.Clock`` (None: the house clock); device time runs
    ``speed`` times as fast. ``initial_state``: off, charge (preheated, waiting for beans) or roasting (150 s
    into a batch, heater 5, fan 3, drum 7). The same seed, clock and bytes written give the same bytes read.
    """
    _require_kind(kind)
    from drivers.virtual.machine import VirtualMachine
    from drivers.virtual.usb_backend import VirtualBackend

    machine = VirtualMachine(
        kind=kind, seed=seed, clock=clock, speed=speed, faults=faults, settings=settings,
        initial_state=initial_state, replay=replay, wire_log=wire_log,
    )  # fmt: skip
    return VirtualBackend(machine, machine)


def socket_backend(path: str | Path) -> VirtualBackend:
    """A machine served by another process (``manage.py virtualroaster --serve PATH``) as an ``IBackend``."""
    from drivers.virtual.socket_port import SocketPort
    from drivers.virtual.usb_backend import VirtualBackend

    return VirtualBackend(SocketPort(path))


def install_as_default(chosen: VirtualBackend) -> None:
    """Let a program that calls ``usb.core.find`` without a backend find this machine (for the rest of this
    process). ``python -m drivers.virtual.run_client SOCKET script.py`` does it for a whole program.
    """
    import usb.backend.libusb0
    import usb.backend.libusb1
    import usb.backend.openusb

    def get_backend(find_library: Any = None) -> VirtualBackend:
        return chosen

    for module in (usb.backend.libusb1, usb.backend.openusb, usb.backend.libusb0):
        module.get_backend = get_backend


def _require_kind(kind: str) -> None:
    if kind not in KINDS:
        nearest = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.0)
        raise ValueError(f"no virtual roaster {kind!r}; the nearest is {nearest[0] if nearest else KINDS[0]!r}")
