"""What the drivers' room promises, measured: decode, poll, stop. No Django. `manage.py bench` prints these.

Each bench starts what it needs (a virtual machine and a keeper as processes of their own) and ends it again.
"""

from __future__ import annotations

import random
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drivers import keeper_config, stop_token
from drivers.bullet import codec_r1 as codec
from drivers.bullet import codec_r2
from drivers.keeper_client import KeeperClient, KeeperUnreachable, StopAnswer
from drivers.keeper_config import KeeperConfig
from drivers.keeper_process import ensure_keeper, stop_keeper
from drivers.port import Control, Outcome, SettingOrder
from kernel import clock

_ROOT = Path(__file__).resolve().parent.parent
_START_WAIT_S = 10.0
_FRAMES = 512


@dataclass(frozen=True, slots=True)
class DecodeFigures:
    """Frames (of an R1: pairs) per second of ours and of a plain client's style, in the same run."""

    ours_per_s: float
    yardstick_per_s: float
    seconds: float

    @property
    def ratio(self) -> float:
        """How many times faster ours is; the bar is 3."""
        return self.ours_per_s / self.yardstick_per_s


@dataclass(frozen=True, slots=True)
class PollFigures:
    """Sample age: from the machine's answer in the keeper to a follower having it, and the spacing of polls."""

    readings: int
    seconds: float
    rate_hz: float
    age_p50_ms: float
    age_p99_ms: float
    age_max_ms: float
    present_age_p99_ms: float  # how old the newest reading a follower holds is, at any moment


@dataclass(frozen=True, slots=True)
class StopFigures:
    """STOP over the keeper's socket against a served virtual machine."""

    stops: int
    proved: int
    first_byte_p50_ms: float
    first_byte_p99_ms: float
    first_byte_max_ms: float
    written_max_s: float  # request → last heat-down step written
    proved_p50_s: float
    proved_max_s: float


def bench_decode(seconds: float = 2.0) -> DecodeFigures:
    """Decode random good frames, ours and the yardstick's turn about, for about ``seconds`` in all."""
    pairs = _random_frames(_FRAMES)
    joined = [frame_a + frame_b for frame_a, frame_b in pairs]
    ours, yardstick, spent_ours_s, spent_yardstick_s = 0, 0, 0.0, 0.0
    decode, until_s = codec.decode_status, clock.monotonic() + seconds
    while clock.monotonic() < until_s:
        started_s = clock.monotonic()
        for frame_a, frame_b in pairs:
            decode(frame_a, frame_b)
        between_s = clock.monotonic()
        for frames in joined:
            decode_plainly(frames)
        spent_yardstick_s += clock.monotonic() - between_s
        spent_ours_s += between_s - started_s
        ours += _FRAMES
        yardstick += _FRAMES
    return DecodeFigures(ours / spent_ours_s, yardstick / spent_yardstick_s, seconds)


def decode_plainly(frames: bytes) -> dict[str, float]:
    """The yardstick: one slice and one unpack per field, rounded, as a plain client would write it.

    It reads the fields that the existing Python client reads (docs/bullet-usb.md), no more.
    """
    out: dict[str, float] = {}
    if frames[41] == codec.VALID_MARKER:
        out["bt"] = round(struct.unpack("<f", frames[0:4])[0], 1)
        out["bt_ror"] = round(struct.unpack("<f", frames[4:8])[0], 1)
        out["dt"] = round(struct.unpack("<f", frames[8:12])[0], 1)
        out["exit"] = round(struct.unpack("<f", frames[16:20])[0], 1)
        out["minutes"] = frames[24]
        out["seconds"] = frames[25]
        out["fan"] = frames[26]
        out["heater"] = frames[27]
        out["drum"] = frames[28]
        out["state"] = frames[29]
        out["ir"] = round(struct.unpack("<f", frames[32:36])[0], 1)
        out["pcb"] = round(struct.unpack("<f", frames[36:40])[0], 1)
        out["fan_rpm"] = struct.unpack("<h", frames[44:46])[0]
        out["voltage"] = struct.unpack("<h", frames[48:50])[0]
        out["coil_fan"] = round(struct.unpack("<i", frames[52:56])[0], 1)
    out["coil_fan_2"] = round(struct.unpack("<i", frames[96:100])[0], 1)
    out["preheat"] = struct.unpack("<H", frames[104:106])[0]
    return out


def bench_decode_r2(seconds: float = 2.0) -> DecodeFigures:
    """The same for an R2's pushed sets of three frames; a frame counts, not a set."""
    frames = _random_frames_r2(_FRAMES)
    ours, spent_ours_s, spent_yardstick_s = 0, 0.0, 0.0
    decode, until_s = codec_r2.decode_frame, clock.monotonic() + seconds
    while clock.monotonic() < until_s:
        started_s = clock.monotonic()
        for frame in frames:
            decode(frame)
        between_s = clock.monotonic()
        for frame in frames:
            decode_r2_plainly(frame)
        spent_yardstick_s += clock.monotonic() - between_s
        spent_ours_s += between_s - started_s
        ours += len(frames)
    return DecodeFigures(ours / spent_ours_s, ours / spent_yardstick_s, seconds)


def decode_r2_plainly(frame: bytes) -> dict[str, float]:
    """The yardstick for an R2: as :func:`decode_plainly`, the documented fields of A0, A1 and A2."""
    out: dict[str, float] = {}
    if frame[0] == codec_r2.TEMPERATURES:
        out["bt"] = round(struct.unpack("<f", frame[4:8])[0], 1)
        out["bt_ror"] = round(struct.unpack("<f", frame[8:12])[0], 1)
        out["ambient"] = struct.unpack("<f", frame[12:16])[0]
        out["probe"] = round(struct.unpack("<f", frame[16:20])[0], 1)
        out["probe_ror"] = struct.unpack("<f", frame[20:24])[0]
        out["energy"] = struct.unpack("<f", frame[24:28])[0]
        out["pressure_difference"] = struct.unpack("<f", frame[28:32])[0]
        out["fan_rpm"] = struct.unpack("<H", frame[32:34])[0]
        for name, offset in (("inlet", 34), ("hot_air", 36), ("exhaust", 38), ("pressure", 40), ("humidity", 42),
                             ("humidity_temp", 44)):
            out[name] = struct.unpack("<H", frame[offset:offset + 2])[0] / 10
        for name, offset in (("minutes", 46), ("crack_mark", 47), ("seconds", 48), ("heater", 50), ("fan", 51),
                             ("hot_air_set", 52), ("drum", 53), ("counter", 54), ("crack_index", 55),
                             ("cracks", 56), ("method", 57), ("status", 58), ("state", 59)):
            out[name] = frame[offset]
    elif frame[0] == codec_r2.FANS:
        out["error_count"] = frame[4]
        for offset in range(8, 16):
            out[f"error_{offset}"] = frame[offset]
        for offset in (*range(16, 32, 2), *range(34, 50, 2), 52, 58):
            out[f"fan_{offset}"] = struct.unpack("<H", frame[offset:offset + 2])[0]
    elif frame[0] == codec_r2.POWER:
        for offset in (4, 6, 8, 10, 12, 14, 16, 18, 20, 24, 26, 30, 32):
            out[f"power_{offset}"] = struct.unpack("<H", frame[offset:offset + 2])[0]
        out["active_power"] = struct.unpack("<H", frame[22:24])[0] / 10
        out["voltage"] = struct.unpack("<H", frame[28:30])[0] / 10
    return out


def bench_poll(seconds: float = 5.0, *, kind: str = "bullet-r1") -> PollFigures:
    """Follow a keeper for ``seconds``; ages are against the monotonic clock both processes share."""
    ages_ms: list[float] = []
    present_ms: list[float] = []
    with served_machine(kind=kind) as bench:
        started_s = clock.monotonic()
        last_read_s = 0.0
        for event in KeeperClient(bench.config.socket).follow(after_sequence=1 << 60, boot_id=bench.boot_id):
            now_s = clock.monotonic()
            if event["event"] == "reading":
                read_s = event["reading"]["monotonic_s"]
                if last_read_s:
                    present_ms.append((now_s - last_read_s) * 1000)  # its age just before it was replaced
                ages_ms.append((now_s - read_s) * 1000)
                last_read_s = read_s
            if now_s - started_s >= seconds:
                break
        spent_s = clock.monotonic() - started_s
    return PollFigures(
        readings=len(ages_ms), seconds=spent_s, rate_hz=len(ages_ms) / spent_s, age_p50_ms=quantile(ages_ms, 0.5),
        age_p99_ms=quantile(ages_ms, 0.99), age_max_ms=max(ages_ms), present_age_p99_ms=quantile(present_ms, 0.99),
    )


def bench_stop_keeper(stops: int = 20, *, kind: str = "bullet-r1", heater_step: int = 9) -> StopFigures:
    """Heat to ``heater_step``, STOP over the socket, release; again. First byte is measured from the request."""
    first_ms: list[float] = []
    written_s: list[float] = []
    proved_s: list[float] = []
    proved = 0
    with served_machine(kind=kind) as bench:
        for number in range(stops):
            bench.heat_to(heater_step, f"up-{number}")
            clock.sleep(random.uniform(0.12, 0.22))  # so that a STOP meets every phase of the poll
            answer, asked_s = bench.stop(f"stop-{number}")
            if answer.first_byte_monotonic_s is not None:
                first_ms.append((answer.first_byte_monotonic_s - asked_s) * 1000)
            receipt = answer.receipt
            downs = [write.monotonic_s for write in receipt.writes if write.meaning == "heater -1"]
            written_s.append(max(downs) - asked_s)
            if receipt.outcome is Outcome.PROVED and receipt.proved_monotonic_s is not None:
                proved += 1
                proved_s.append(receipt.proved_monotonic_s - asked_s)
            bench.release()
    return StopFigures(
        stops=stops, proved=proved, first_byte_p50_ms=quantile(first_ms, 0.5),
        first_byte_p99_ms=quantile(first_ms, 0.99), first_byte_max_ms=max(first_ms), written_max_s=max(written_s),
        proved_p50_s=quantile(proved_s, 0.5), proved_max_s=max(proved_s),
    )


class Bench:
    """A served machine and its keeper, with the few acts that benches and tests need."""

    def __init__(self, folder: Path, config: KeeperConfig, machine_socket: Path) -> None:
        self.folder = folder
        self.config = config
        self.machine_socket = machine_socket
        self.client = KeeperClient(config.socket, timeout_s=5.0)
        self.boot_id = ""
        self.token = 1

    def hello(self, token: int | None = None) -> None:
        """Become its loop."""
        self.token = token or self.token
        self.boot_id = self.client.hello(self.token)["boot_id"]

    def heat_to(self, step: int, order_id: str) -> None:
        """Raise the heater as a loop would; RuntimeError where it is not proved."""
        self.client.beat(self.token)
        order = SettingOrder(order_id, Control.HEATER, step)
        receipt = self.client.apply(order, token=self.token, deadline_s=5.0)
        if receipt.outcome is not Outcome.PROVED:
            raise RuntimeError(f"the heater did not go to {step}: {receipt.reason} {receipt.message}")

    def stop(self, stop_id: str) -> tuple[StopAnswer, float]:
        """STOP, signed; with the moment of the request."""
        auth = self.sign("stop", stop_id)
        asked_s = clock.monotonic()
        return self.client.stop(stop_id=stop_id, by="bench", reason="bench", auth=auth), asked_s

    def release(self) -> None:
        """Clear the latch."""
        self.client.release(stop_id="*", by="bench", auth=self.sign("release", "*"))

    def sign(self, op: str, stop_id: str) -> str:
        """A signature with the STOP key."""
        return stop_token.sign_request(self.config.stop_key(), op, self.config.machine_id, stop_id)


@contextmanager
def served_machine(
    *, kind: str = "bullet-r1", speed: float = 1.0, initial_state: str = "roasting", settings: str = "", seed: int = 1,
    make_config: Callable[[KeeperConfig], KeeperConfig] = lambda config: config,
) -> Iterator[Bench]:
    """A virtual machine and a keeper, each a process of its own; both are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="roastops-bench-") as name:
        folder = Path(name)
        machine_socket = folder / "machine.sock"
        config = make_config(keeper_config.make(
            folder / "run", machine_id="mch_bench", name="Bench", driver_kind=kind,
            driver_options={"backend": {"kind": "virtual-socket", "path": str(machine_socket)},
                            "device_clock": "counter"},
        ))
        machine = subprocess.Popen(
            [sys.executable, "-m", "drivers.virtual.server", "--socket", str(machine_socket), "--seed", str(seed),
             "--speed", str(speed), "--kind", kind, "--initial-state", initial_state,
             "--wire-log", str(folder / "machine.jsonl"),
             *(["--settings", settings] if settings else [])],
            cwd=_ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        try:
            _await(machine_socket.exists, "the virtual machine")
            keeper_config.write(folder / "run", config)
            ensure_keeper(config)
            bench = Bench(folder, config, machine_socket)
            _await(lambda: bench.client.status()["link"]["state"] == "up", "the keeper's link")
            bench.hello()
            yield bench
            bench.client.close()
        finally:
            stop_keeper(config)
            machine.send_signal(signal.SIGTERM)
            try:
                machine.wait(timeout=5.0)
            except subprocess.TimeoutExpired:
                machine.kill()
                machine.wait(timeout=5.0)


def quantile(values: list[float], share: float) -> float:
    """Nearest-rank quantile; NaN of nothing."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _await(is_there: Callable[[], bool], what: str) -> None:
    until_s = clock.monotonic() + _START_WAIT_S
    while clock.monotonic() < until_s:
        if is_there():
            return
        clock.sleep(0.02)
    raise KeeperUnreachable(f"{what} did not come up in {_START_WAIT_S:.0f} s")


def _random_frames(count: int) -> list[tuple[bytes, bytes]]:
    """Good frames with random content."""
    chance = random.Random(1)
    frames = []
    for _ in range(count):
        frame_a, frame_b = bytearray(chance.randbytes(64)), bytearray(chance.randbytes(64))
        frame_a[41], frame_a[62], frame_a[63] = codec.VALID_MARKER, 0xFF, 0xAA
        frame_b[41] = 0
        for offset in (0, 4, 8, 12, 16, 32, 36):
            frame_a[offset:offset + 4] = struct.pack("<f", chance.uniform(-50.0, 300.0))
        frames.append((bytes(frame_a), bytes(frame_b)))
    return frames


def _random_frames_r2(sets: int) -> list[bytes]:
    """Sets of the three frames with random content, in the order a machine pushes them."""
    chance = random.Random(1)
    frames = []
    for _ in range(sets):
        for kind in (codec_r2.TEMPERATURES, codec_r2.FANS, codec_r2.POWER):
            frame = bytearray(chance.randbytes(64))
            frame[0] = kind
            if kind == codec_r2.TEMPERATURES:
                for offset in range(4, 32, 4):
                    frame[offset:offset + 4] = struct.pack("<f", chance.uniform(-50.0, 300.0))
            frames.append(bytes(frame))
    return frames
