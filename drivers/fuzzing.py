"""Noise against everything that reads bytes of a Bullet: both codecs, both drivers' read paths, both virtual machines.

Random byte strings and mutated frames. What must hold: nothing is raised but ProtocolError, no driver writes anything
but its questions, no virtual machine moves a control for bytes that are no command. The same seed and count give the
same digest. No Django; ``manage.py fuzzcodecs`` prints what came of it.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from drivers.bullet import codec_r1, codec_r2
from drivers.bullet.driver import Bullet
from drivers.port import ProtocolError
from drivers.registry import make_driver
from drivers.virtual import frames_r1
from drivers.virtual.clocks import ManualClock
from drivers.virtual.firmware import Firmware
from drivers.virtual.firmware_r1 import FirmwareR1
from drivers.virtual.firmware_r2 import FirmwareR2
from drivers.virtual.machine import ETIMEDOUT, UsbFailure
from drivers.virtual.settings import R2Settings
from drivers.virtual.usb_backend import VirtualBackend
from kernel import clock

ROUND = 1024  # inputs per round
_SHARES = (("codec_r1", 0.4), ("codec_r2", 0.4), ("drivers", 0.1), ("machines", 0.1))
_QUESTIONS = frozenset(codec_r1.REQUESTS)


class Broken(Exception):
    """Something came out that must not; the message has the input."""


@dataclass(slots=True)
class FuzzFigures:
    """What came of ``inputs`` byte strings. ``outcomes``: how often each."""

    inputs: int = 0
    seconds: float = 0.0
    readings: int = 0
    digest: str = ""
    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def per_s(self) -> float:
        """Inputs per second."""
        return self.inputs / self.seconds if self.seconds else 0.0


def fuzz(inputs: int, seed: int, *, told: Callable[[int], None] = lambda done: None) -> FuzzFigures:
    """Feed at least ``inputs`` byte strings. Broken at the first thing that must not be."""
    figures, digest = FuzzFigures(), hashlib.sha256()
    started_s = clock.monotonic()
    before = clock.install(ManualClock(1000.0))  # so that nothing waits, and the digest does not depend on the box
    try:
        targets = _Targets(seed)
        while figures.inputs < inputs:
            for name, share in _SHARES:
                digest.update(targets.feed(name, round(ROUND * share), figures))
            told(figures.inputs)
    finally:
        clock.install(before)
    figures.seconds = clock.monotonic() - started_s
    figures.digest = digest.hexdigest()
    return figures


class Noise:
    """Byte strings: half of them random (most as long as a frame), half good ones with a few bytes changed or cut."""

    def __init__(self, seed: int, good: list[bytes]) -> None:
        self._chance = random.Random(seed)
        self._good = good

    def strings(self, count: int) -> Iterator[bytes]:
        """``count`` of them."""
        blob = self._chance.randbytes(96 * count)
        for place in range(0, 96 * count, 96):
            choice = blob[place]
            if choice < 112:
                yield blob[place + 1 : place + 65]
            elif choice < 128:
                yield blob[place + 1 : place + 1 + blob[place + 95] % 95]
            else:
                yield self._mutated(blob[place + 1 : place + 96])

    def _mutated(self, decisions: bytes) -> bytes:
        made = bytearray(self._good[decisions[0] % len(self._good)])
        for number in range(1 + decisions[1] % 6):
            made[decisions[2 + 2 * number] % len(made)] = decisions[3 + 2 * number]
        cut = decisions[20]
        if cut < 12:
            return bytes(made[: decisions[21] % (len(made) + 1)])
        if cut < 20:
            return bytes(made) + decisions[22 : 22 + decisions[21] % 70]
        if cut < 28:
            return bytes(made[decisions[21] % len(made) :] + made[: decisions[21] % len(made)])
        return bytes(made)


class _Targets:
    """All that is fed, with what each remembers."""

    def __init__(self, seed: int) -> None:
        machines: tuple[Firmware, ...] = (
            FirmwareR1(seed=1, initial_state="roasting"), FirmwareR2(seed=1, initial_state="roasting"),
        )  # fmt: skip
        self._machines = [(machine, set(_commands(machine))) for machine in machines]
        good_r1, good_r2 = _good_r1(), _good_r2()
        self._noise_r1, self._noise_r2 = Noise(seed, good_r1), Noise(seed + 1, good_r2)
        orders = [Noise(seed + 2 + number, sorted(known)) for number, (_, known) in enumerate(self._machines)]
        self._orders = orders
        self._drivers = [
            _opened("bullet-r1", Noise(seed + 8, good_r1), seed), _opened("bullet-r2", Noise(seed + 9, good_r2), seed),
        ]  # fmt: skip
        self._artisan_r2 = codec_r2.ArtisanR2()
        self._artisan_r1 = codec_r1.ArtisanStatus()
        self._seal = codec_r2.SealWatch()

    def feed(self, name: str, count: int, figures: FuzzFigures) -> bytes:
        """``count`` strings to one target; returns what came of them, for the digest."""
        feed: dict[str, Callable[[int, FuzzFigures], bytes]] = {
            "codec_r1": self._feed_codec_r1, "codec_r2": self._feed_codec_r2, "drivers": self._feed_drivers,
            "machines": self._feed_machines,
        }  # fmt: skip
        return feed[name](count, figures)

    def _feed_codec_r1(self, count: int, figures: FuzzFigures) -> bytes:
        came = bytearray()
        strings = list(self._noise_r1.strings(count))
        for frame_a, frame_b in zip(strings[::2], strings[1::2], strict=True):
            came.append(_caught(figures, "r1", codec_r1.decode_status, frame_a, frame_b))
            for decode in (codec_r1.decode_info1, codec_r1.decode_info2):
                came.append(_caught(figures, "r1 info", decode, frame_a))
            if len(frame_a) + len(frame_b) == 128:
                self._artisan_r1 = codec_r1.decode_as_artisan(frame_a + frame_b, self._artisan_r1)
        figures.inputs += len(strings)
        return bytes(came)

    def _feed_codec_r2(self, count: int, figures: FuzzFigures) -> bytes:
        came = bytearray()
        for data in self._noise_r2.strings(count):
            came.append(_caught(figures, "r2", self._decode_r2, data))
        figures.inputs += count
        return bytes(came)

    def _decode_r2(self, data: bytes) -> None:
        frame = codec_r2.decode_frame(data)
        self._artisan_r2 = codec_r2.decode_as_artisan(data, self._artisan_r2)
        codec_r2.require_plausible(frame)
        self._seal.check(data)

    def _feed_drivers(self, count: int, figures: FuzzFigures) -> bytes:
        came = bytearray()
        for driver, wire in self._drivers:
            until = wire.given + count // 2
            before = wire.given
            while wire.given < until:
                came.append(_caught(figures, "read", driver.read))
                latest = driver.latest
                came += repr(latest.state_code if latest else None).encode()
                clock.sleep(0.05)
            figures.inputs += wire.given - before
            figures.readings = sum(each.counts["polls"] for each, _ in self._drivers)  # type: ignore[attr-defined]
            moves = wire.written - _QUESTIONS
            if moves:
                raise Broken(f"{driver.model.name}: reading wrote {sorted(each.hex(' ') for each in moves)}")
        return bytes(came)

    def _feed_machines(self, count: int, figures: FuzzFigures) -> bytes:
        came = bytearray()
        for (machine, commands), noise in zip(self._machines, self._orders, strict=True):
            for data in noise.strings(count // 2):
                before = (machine.heater_step, machine.fan_step, machine.drum_step, machine.state)
                answer = machine.receive(data)
                after = (machine.heater_step, machine.fan_step, machine.drum_step, machine.state)
                if after != before and not _is_command(machine, data, commands):
                    raise Broken(f"{type(machine).__name__}: {data.hex(' ')} moved {before} to {after}")
                came.append(bool(answer.alarm))
                figures.outcomes["machine: " + ("alarm" if answer.alarm else "heard")] += 1
            figures.inputs += count // 2
            machine.tick()
        return bytes(came)


def _caught(figures: FuzzFigures, where: str, call: Callable[..., Any], *arguments: bytes) -> int:
    """Call; 0 where it went well, else a number for the kind of refusal. Broken for any other exception."""
    try:
        call(*arguments)
    except ProtocolError as error:
        figures.outcomes[f"{where}: {error.code}"] += 1
        return len(error.code)
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, OSError, RuntimeError,
            MemoryError) as error:
        raise Broken(f"{where}: {error!r} for {[each.hex() for each in arguments]}") from error
    figures.outcomes[f"{where}: decoded"] += 1
    return 0


def _good_r1() -> list[bytes]:
    """Frames and replies of a virtual R1 in several states."""
    good = [frames_r1.idle_message(7), frames_r1.info_1(1183, 563), frames_r1.info_2(9999, 1237)]
    for state in ("off", "charge", "roasting"):
        values = FirmwareR1(seed=1, initial_state=state).wire_values()
        good += [frames_r1.frame_a(values), frames_r1.frame_b(values)]
    return good


def _good_r2() -> list[bytes]:
    """Pushed sets of a virtual R2 in several states."""
    good: list[bytes] = []
    for state in ("off", "charge", "roasting"):
        settings = R2Settings(has_spare_frames=True)
        good += FirmwareR2(settings, seed=1, initial_state=state).pushed_frames()
    return good


def _commands(machine: Firmware) -> Iterator[bytes]:
    """What a machine takes as a command, from the reference's tables and not from our codecs."""
    steps = ("3401AAAA", "3402AAAA", "3101AAAA", "3102AAAA")
    if isinstance(machine, FirmwareR1):
        yield from (bytes.fromhex(each) for each in ("3001", "3002", "3003", "8901", "30010000", *steps))
        yield from (bytes((0x32, kind, step, 0)) for step in range(1, 10) for kind in (0, 1))
        return
    sealed = ("30010000AE1A21DB", "3401AAAA90E5E4F1", "3402AAAA19108DF3", "3101AAAA22337C51", "3102AAAAABC61553",
              "3201AAAA4C810B31", "3202AAAAC5746233", "350000C8BA1DE301")  # fmt: skip
    yield from (bytes.fromhex(each) for each in sealed)


def _is_command(machine: Firmware, data: bytes, commands: set[bytes]) -> bool:
    """Is ``data`` a command? On an R1 a padded press is one too: that is the trap of its wire."""
    return data in commands or (isinstance(machine, FirmwareR1) and data[:4] == bytes.fromhex("30010000"))


class NoiseWire:
    """A USB port whose every reply is noise, with a silence now and then; remembers what was written."""

    def __init__(self, kind: str, noise: Noise, seed: int) -> None:
        self._about = {
            "address": 4, "product_id": 0xA4CD if kind == "bullet-r2" else 0xA27E, "serial": "noise",
            "product": "noise", "out_endpoint": 3, "in_endpoint": 0x81, "has_decoys": False,
        }  # fmt: skip
        self._strings = self._poured(noise)
        self._chance = random.Random(seed)
        self.given = 0
        self.written: set[bytes] = set()

    @staticmethod
    def _poured(noise: Noise) -> Iterator[bytes]:
        while True:
            yield from noise.strings(256)

    def describe(self) -> dict[str, Any]:
        return self._about

    def open(self, owner: str = "local") -> int:
        return 1

    def close(self, handle: int) -> None: ...

    def claim(self, handle: int, interface: int) -> None: ...

    def release(self, handle: int, interface: int) -> None: ...

    def kernel_driver_active(self, handle: int, interface: int) -> bool:
        return False

    def detach_kernel_driver(self, handle: int, interface: int) -> None: ...

    def attach_kernel_driver(self, handle: int, interface: int) -> None: ...

    def get_configuration(self, handle: int) -> int:
        return 1

    def set_configuration(self, handle: int, value: int) -> None: ...

    def reset(self, handle: int) -> None: ...

    def write(self, handle: int, data: bytes, timeout_ms: int) -> int:
        self.written.add(bytes(data))
        return len(data)

    def read(self, handle: int, size: int, timeout_ms: int) -> bytes:
        if self._chance.random() < 0.1:
            clock.sleep(timeout_ms / 1000)
            raise UsbFailure(ETIMEDOUT, "Operation timed out")
        clock.sleep(self._chance.choice((0.0, 0.0, 0.0005, 0.004)))
        self.given += 1
        return next(self._strings)[:size]


def _opened(kind: str, noise: Noise, seed: int) -> tuple[Bullet, NoiseWire]:
    """A driver that is open on a wire of noise."""
    wire = NoiseWire(kind, noise, seed)
    driver = make_driver(kind, {"backend": VirtualBackend(wire)})
    if not isinstance(driver, Bullet):
        raise TypeError(kind)
    driver.open()
    return driver, wire
