"""The keeper: the small process that alone owns one roaster. No Django, no database, no broker.

``python -m drivers.keeper --config FILE``. It polls the machine ten times a second, serves a local socket
(`keeper_socket`), makes the machine safe on STOP (`keeper_stops`) and by its own interlocks (`keeper_watch`), and
writes down what it puts on the wire before it does (`keeper_record`).
"""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from drivers import keeper_config
from drivers.keeper_config import KeeperConfig, Limits
from drivers.keeper_events import EventRing, MoveWatch, reading_event
from drivers.keeper_record import Latch, LatchFile, WireLog
from drivers.keeper_socket import KeeperServer
from drivers.keeper_stops import StopDesk, StopRun
from drivers.keeper_watch import View, Watch, should_try_again
from drivers.port import (
    Busy,
    Control,
    Driver,
    DriverError,
    InDoubt,
    NotSent,
    Outcome,
    ProtocolError,
    Reading,
    Receipt,
    SettingOrder,
    StateOrder,
    Unplugged,
    WriteNote,
    longest_age_s,
)
from drivers.registry import make_driver
from drivers.wire_json import order_kind, order_to_json, receipt_from_json, receipt_to_json, time_to_json
from kernel import clock, garbage, ids, priority
from kernel.log_lines import JsonFormatter

log = logging.getLogger("drivers.keeper")

POLL_S = 0.1
WATCH_S = 0.1
STALE_S = 1.0
REOPEN_AFTER_S = 3.0  # silent that long with the cable in (a slow source: longer): close and open again
RETRY_FIRST_S = 0.1
RETRY_MAX_S = 0.5
SLEPT_S = 1.0
EXIT_BUSY = 3
EXIT_CONFIG = 4


class Refused(DriverError):
    """The keeper will not take this order; nothing was sent. `code` says why."""

    def __init__(self, code: str, message: str, how_to_fix: str = "") -> None:
        super().__init__(message, how_to_fix)
        self.code = code


class Keeper:
    """One machine, held. Threads: link (polls), watch (interlocks), stopper, and the socket's."""

    def __init__(self, config: KeeperConfig) -> None:
        self.config = config
        self.boot_id = ids.random_bytes(8).hex()
        self.started_s = clock.monotonic()
        self.events = EventRing()
        self.wire_log = WireLog(Path(config.wire_log))
        self.latches = LatchFile(config.latch_file)
        self.driver: Driver = make_driver(config.driver_kind, config.driver_options, hooks=self)
        self.stops = StopDesk(self._make_safe, self._stop_done)
        self.reading: Reading | None = None
        self.link_code, self.link_message, self.link_fix = "starting", "not opened yet", ""
        self.is_link_open = False
        self.link_since_s = self.started_s
        self.link_state = "down"
        self._is_reopening = False
        self._read_error: DriverError | None = None  # why the last poll brought nothing
        self._last_good_s = self.started_s  # when one last brought a reading
        self.beat_at_s: float | None = None
        self.is_applying = False
        self._apply_lock = threading.Lock()
        self._latch_lock = threading.Lock()  # latching and releasing take turns; nothing inside waits for anything
        self._moves = MoveWatch()
        self._watch = Watch(config.limits, config.silence_policy)
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=self._link_loop, name="link", daemon=True),
            threading.Thread(target=self._watch_loop, name="watch", daemon=True),
        ]

    # -- life --

    def start(self) -> None:
        """Begin to hold the machine."""
        self.log_line("boot", boot_id=self.boot_id, pid=os.getpid())
        self.stops.start()
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Let go. The machine keeps its settings: going away is not a reason to move anything."""
        self._closing.set()
        self.events.close()
        for thread in self._threads:
            thread.join(timeout=2.0)
        self.stops.close()
        self.driver.close()
        self.wire_log.close()

    def set_limits(self, limits: Limits) -> None:
        """The bounds of our own interlocks have been changed: they hold at once."""
        self._watch.set_limits(limits)
        self.log_line("limits", **dataclasses.asdict(limits))

    # -- what the driver tells (Hooks) --

    def before_write(self, note: WriteNote) -> None:
        """The last gate before the wire, and its record. NotSent stops an order here; STOP passes always."""
        line = {"hex": note.data_hex, "meaning": note.meaning, "order_id": note.order_id, "step": note.step,
                "steps": note.steps}
        if self._is_stop(note.order_id):
            self.wire_log.append_soon("out", **line)
            return
        self._gate(note)
        try:
            self.wire_log.append("out", **line)
        except OSError as error:
            log.exception("the wire log cannot be written")
            raise NotSent(f"the wire log cannot be written: {error}", "Free the disk.") from error
        self._gate(note)  # the disk may have taken its time, and a STOP come and gone

    def _gate(self, note: WriteNote) -> None:
        """NotSent while halted: but for heat down, and not beside a running stop, which counts the steps itself."""
        is_heat_down = note.meaning.startswith("heater -")  # one step, or (a line machine) to a lower setting
        if self.latches.latch is not None and (self.stops.is_running or not is_heat_down):
            raise NotSent("the machine was halted before the byte left")

    def after_write(self, note: WriteNote, monotonic_s: float) -> None:
        """The byte was handed over."""
        self.stops.wrote(note.order_id, monotonic_s)
        self._moves.wrote(note.meaning, monotonic_s)
        self.log_line("done", order_id=note.order_id, step=note.step)

    def on_reading(self, reading: Reading) -> None:
        """Every reading, whoever asked for it."""
        self.reading = reading
        self.events.add("reading", reading_event(reading), sequence=reading.sequence)
        for move in self._moves.see(reading):
            self.events.add("moved", move)

    def log_line(self, direction: str, **content: Any) -> None:
        """A line that forbids nothing when it cannot be written; STOP's do not even wait for the disk."""
        if self._is_stop(str(content.get("order_id"))):
            self.wire_log.append_soon(direction, **content)
            return
        try:
            self.wire_log.append(direction, **content)
        except OSError:
            log.exception("the wire log cannot be written")

    # -- what the socket asks --

    def see_token(self, token: int, *, is_beat: bool) -> None:
        """Refused ``fenced`` for a token lower than one seen before; a higher one fences the others."""
        if token < self.latches.token:
            raise Refused("fenced", f"token {token} is older than {self.latches.token}", "Another loop owns it now.")
        if token > self.latches.token:
            self.latches.set_token(token)
        if is_beat:
            self.beat_at_s = clock.monotonic()

    def loop_silent_s(self, now_s: float) -> float | None:
        """Seconds since a loop was heard; None: never since our start."""
        return None if self.beat_at_s is None else now_s - self.beat_at_s

    def apply(
        self, token: int, order: SettingOrder | StateOrder, deadline_s: float, *,
        sent_at: tuple[float, float] | None = None,
    ) -> Receipt:
        """Carry out one order at most once, by its id. Refused where nothing may be sent.

        ``sent_at``: the sender's monotonic and wall seconds (it is on this host): ``deadline_s`` counts from then,
        so that an order whose sender has given up, because we or the box slept, is not carried out later.
        """
        sent_at = sent_at or (clock.monotonic(), clock.now().timestamp())
        if not self._apply_lock.acquire(timeout=deadline_s):
            raise Refused("busy_applying", "another order is being carried out")
        try:
            known = self._known_receipt(order.order_id)
            if known is not None:
                return known
            order = self._admit(token, order)
            left_s = deadline_s - _late_s(sent_at)
            if left_s <= 0:
                raise Refused("too_late", f"the order is {deadline_s - left_s:.1f} s old", "Look, then order again.")
            try:
                self.wire_log.append("order", order_id=order.order_id, kind=order_kind(order),
                                     order=order_to_json(order), token=token)
            except OSError as error:
                raise Refused("no_wire_log", f"the wire log cannot be written: {error}", "Free the disk.") from error
            self.is_applying = True
            receipt = self.driver.apply(order, left_s)
            self.log_line("receipt", order_id=order.order_id, receipt=receipt_to_json(receipt))
            return receipt
        finally:
            if self.is_applying:
                self.is_applying = False
                self.beat_at_s = clock.monotonic()  # it was waiting for us, not silent
            self._apply_lock.release()

    def abort(self, token: int, order_id: str) -> dict[str, bool]:
        """A person called an order off: it writes nothing more, whether it is under way, waits here or comes later.

        ``{known, is_over}``: what the wire log knows of it now. Refused for any but the newest token.
        """
        self.see_token(token, is_beat=False)
        if token != self.latches.token or token == 0:
            raise Refused("no_hello", "no loop with this token has said hello", "Say hello first.")
        self.driver.abort(order_id)
        self.log_line("abort", aborts=order_id, token=token)  # (an "order_id" would make it an order it has begun)
        trace = self.wire_log.trace(order_id)
        return {"known": trace is not None, "is_over": trace is not None and trace.receipt is not None}

    def stop(self, stop_id: str, by: str, reason: str) -> StopRun:
        """Latch, then the wire. Everybody who asks while one runs shares it."""
        with self._latch_lock:
            is_new = self.latches.latch is None
            if is_new:
                self.latches.latch = Latch(stop_id, by, time_to_json(clock.now()), reason)
            run = self.stops.request(stop_id, by, reason)
        if is_new:
            self._tell_latch()
            self.wire_log.later.do(self.latches.save)
        return run

    def release(self, stop_id: str, by: str) -> None:
        """Clear the latch. Refused while a stop runs, or where another stop latched it."""
        with self._latch_lock:
            latch = self.latches.latch
            if latch is None:
                return
            if self.stops.is_running:
                raise Refused("stopping", "the machine is being made safe right now", "Wait for its receipt.")
            if stop_id not in ("*", latch.stop_id):
                raise Refused("other_stop", f"the machine was halted by {latch.stop_id}", "Name that stop, or *.")
            self.latches.latch = None
        self.log_line("release", stop_id=latch.stop_id, by=by)
        self._tell_latch()
        self.latches.save()

    # -- inside: orders --

    def _known_receipt(self, order_id: str) -> Receipt | None:
        """The receipt of an order seen before; one that a crash cut short is in doubt, never sent again."""
        trace = self.wire_log.trace(order_id)
        if trace is None:
            return None
        if trace.receipt is not None:
            return receipt_from_json(trace.receipt)
        return Receipt(
            order_id=order_id, outcome=Outcome.IN_DOUBT if trace.writes else Outcome.NOT_SENT, reason="interrupted",
            message=f"the keeper died while carrying it out; {len(trace.writes)} write(s) may have left",
        )

    def _admit(self, token: int, order: SettingOrder | StateOrder) -> SettingOrder | StateOrder:
        """Refused, or the order as it may go."""
        self.see_token(token, is_beat=False)
        if token != self.latches.token or token == 0:
            raise Refused("no_hello", "no loop with this token has said hello", "Say hello first.")
        silent_s = self.loop_silent_s(clock.monotonic())
        if silent_s is None or silent_s > 2.0:
            raise Refused("loop_silent", "the loop was silent for more than 2 s", "Beat, look, then order again.")
        if self.latches.latch is None:
            return order
        if self.stops.is_running:
            raise Refused("stopping", "the machine is being made safe right now", "Wait for its receipt.")
        current = self.reading.heater_step if self.reading is not None else None
        is_heater = isinstance(order, SettingOrder) and order.control is Control.HEATER
        if isinstance(order, SettingOrder) and is_heater and current is not None and order.target_step < current:
            return order  # its steps are held to heat down by before_write
        raise Refused("halted", f"halted by {self.latches.latch.by}: {self.latches.latch.reason}",
                      "A lead resets the halt.")

    # -- inside: safety --

    def _make_safe(self, deadline_s: float, stop_id: str) -> Receipt:
        return self.driver.make_safe(deadline_s, stop_id)

    def _is_stop(self, order_id: str) -> bool:
        run = self.stops.current
        return run is not None and run.stop_id == order_id

    def _stop_done(self, run: StopRun) -> None:
        receipt = run.receipt
        if receipt is None:
            return
        self.wire_log.append_soon("receipt", order_id=run.stop_id, receipt=receipt_to_json(receipt))
        is_proved = receipt.outcome is Outcome.PROVED
        with self._latch_lock:
            latch = self.latches.latch
            if latch is None or latch.is_proved == is_proved:
                return
            self.latches.latch = Latch(latch.stop_id, latch.by, latch.at, latch.reason, is_proved)
        self._tell_latch()
        self.wire_log.later.do(self.latches.save)

    def _tell_latch(self) -> None:
        latch = self.latches.latch
        self.events.add("latch", {"latched": latch.to_json() if latch else None})

    def _watch_loop(self) -> None:
        """The interlocks, on a thread that no read can block."""
        count = 0
        while not self._closing.wait(WATCH_S):
            try:
                count += self._watch_tick(clock.monotonic(), count)
            except Exception:  # the outermost loop: an interlock that died would be silent for ever
                log.exception("the watch failed")

    @property
    def interval_s(self) -> float:
        """How far apart the machine's readings come, in seconds, as its driver says."""
        return self.driver.capabilities.poll_interval_s

    def _watch_tick(self, now_s: float, count: int) -> bool:
        """One look; True where it made the machine safe."""
        latch = self.latches.latch
        view = View(
            now_s=now_s, is_link_open=self.is_link_open, reading=self.reading,
            loop_silent_s=self.loop_silent_s(now_s), up_for_s=now_s - self.started_s,
            link_up_for_s=now_s - self.link_since_s, is_applying=self.is_applying, is_latched=latch is not None,
            interval_s=self.interval_s,
        )
        self._tell_staleness(view)
        reason = self._watch.tick(view)
        if reason is not None:
            self.stop(f"keeper-{reason.value}-{self.boot_id}-{count}", "keeper", reason.value)
            return True
        ended_ago_s = now_s - self.stops.ended_at_s
        has_heat_control = Control.HEATER in self.driver.capabilities.controls  # else there is nothing to try
        if latch is not None and has_heat_control and not self.stops.is_running and should_try_again(
            view, is_proved=latch.is_proved, ended_ago_s=ended_ago_s,
        ):
            self.stops.request(f"{latch.stop_id}-again-{self.boot_id}-{count}", "keeper", latch.reason)
            return True
        return False

    def _tell_staleness(self, view: View) -> None:
        """Up becomes stale when nothing came for a second, and back."""
        if not view.is_link_open:
            return
        last_s = self.link_since_s if self.reading is None else max(self.reading.monotonic_s, self.link_since_s)
        is_stale = view.now_s - last_s > longest_age_s(STALE_S, view.interval_s)
        if is_stale and self.link_state == "up":
            self._set_link("stale", *silence_words(self._read_error))
        elif not is_stale and self.link_state == "stale":
            self._set_link("up", "", "", "")

    # -- inside: the link --

    def _link_loop(self) -> None:
        """Open, poll at 10 Hz, open again when it is gone: for ever."""
        retry_s = RETRY_FIRST_S
        while not self._closing.is_set():
            try:
                if self.is_link_open or self._open_link():
                    retry_s = RETRY_FIRST_S
                    self._poll_while_open()
                else:
                    self._closing.wait(retry_s)
                    retry_s = min(RETRY_MAX_S, retry_s * 2)
            except Exception:  # the outermost loop: a keeper that stops polling is blind
                log.exception("the link failed")
                self.is_link_open = False
                self._closing.wait(RETRY_MAX_S)

    def _open_link(self) -> bool:
        try:
            self.driver.open()
        except DriverError as error:
            self._is_reopening = False
            self._set_link("down", error.code, error.message, error.how_to_fix)
            return False
        self.is_link_open = True
        if not self._is_reopening:  # else it is as silent as before, and stays so until a reading comes
            self.link_since_s = clock.monotonic()
            self._set_link("up", "", "", "")
        self._is_reopening = False
        return True

    def _poll_while_open(self) -> None:
        """Until it is unplugged, silent for too long, or we close. A machine that pushes is read at once again: the
        read waits for what it sends, and so has it when it comes.
        """
        next_s = self._last_good_s = clock.monotonic()
        poll_s = min(POLL_S, self.driver.capabilities.poll_interval_s)
        offset_s = clock.now().timestamp() - next_s
        while not self._closing.is_set():
            if not self._poll():
                return
            now_s = clock.monotonic()
            wall_offset_s = clock.now().timestamp() - now_s
            if now_s - next_s > SLEPT_S or abs(wall_offset_s - offset_s) > SLEPT_S:
                log.warning("this process or this clock slept: %.1f s", max(now_s - next_s, wall_offset_s - offset_s))
                offset_s, next_s = wall_offset_s, now_s
            next_s = max(next_s + poll_s, now_s)
            self._closing.wait(next_s - now_s)

    def _poll(self) -> bool:
        """One look at the machine; False where the link was dropped by it."""
        try:
            self.driver.read()
            self._last_good_s, self._read_error = clock.monotonic(), None
        except Unplugged as error:
            self._drop_link(error)
            return False
        except DriverError as error:
            self._read_error = error
            if clock.monotonic() - self._last_good_s > longest_age_s(REOPEN_AFTER_S, self.interval_s):
                self._drop_link(error)
                return False
        return True

    def _drop_link(self, error: DriverError) -> None:
        self.driver.close()
        self._is_reopening = not isinstance(error, Unplugged)
        self.is_link_open = False
        if self._is_reopening:
            self._set_link("stale", *silence_words(error))
        else:
            self._set_link("down", error.code, error.message, error.how_to_fix)

    def _set_link(self, state: str, code: str, message: str, how_to_fix: str) -> None:
        if (state, code) != (self.link_state, self.link_code):
            self.log_line("link", state=state, code=code, message=message)
            self.events.add("link", {
                "state": state, "code": code, "message": message, "how_to_fix": how_to_fix,
                "at": time_to_json(clock.now()),
            })
        self.link_state, self.link_code, self.link_message, self.link_fix = state, code, message, how_to_fix


def silence_words(error: DriverError | None) -> tuple[str, str, str]:
    """(code, message, cure) for a machine whose cable is in and that gives no reading: silent, deaf or garbled."""
    if isinstance(error, InDoubt):
        return ("not_taken", "the machine does not take what is sent to it",
                "Look at its panel; pull the USB cable and put it back.")
    if isinstance(error, ProtocolError) and error.code != "no_answer":
        return ("unreadable", f"the machine answers, but it cannot be read: {error.message}",
                "Look at its panel; try another USB cable, without a hub.")
    return "stale_reading", "the machine does not answer", "Check the cable and the panel."


def _late_s(sent_at: tuple[float, float]) -> float:
    """Seconds since an order was sent, by whichever clock says more: the monotonic one stands while a box sleeps."""
    return max(0.0, clock.monotonic() - sent_at[0], clock.now().timestamp() - sent_at[1])


def take_lock(config: KeeperConfig) -> int:
    """The machine's lock, held as long as this process lives. Busy names the holder."""
    path = Path(config.lock_file)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(handle)
        raise Busy(f"machine {config.machine_id} is held by process {holder}",
                   "Use its keeper's socket, or stop that process first.") from error
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return handle


def serve(config: KeeperConfig, closing: threading.Event) -> None:
    """Hold the machine until ``closing``. Busy where another process does."""
    handle = take_lock(config)
    keeper = Keeper(config)
    server = KeeperServer(keeper)
    try:
        server.start()
        keeper.start()
        log.info("holding %s (%s) at %s", config.machine_id, config.driver_kind, config.socket)
        closing.wait()
    finally:
        server.close()
        keeper.close()
        os.close(handle)


def main(arguments: list[str] | None = None) -> int:
    """The process. Exit codes: 0 asked to end, 3 busy, 4 config."""
    parser = argparse.ArgumentParser(description="Hold one roaster (no Django, no database).")
    parser.add_argument("--config", required=True, help="DATA_DIR/run/<machine_id>.json")
    options = parser.parse_args(arguments)
    words = logging.StreamHandler()
    words.setFormatter(JsonFormatter(machine_id=Path(options.config).stem))
    logging.basicConfig(level=logging.INFO, handlers=[words])
    closing = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: closing.set())
    priority.go_first()
    garbage.settle()
    try:
        serve(keeper_config.read(options.config), closing)
    except Busy as error:
        print(f"{error.message}. {error.how_to_fix}", file=sys.stderr)
        return EXIT_BUSY
    except (DriverError, OSError) as error:
        print(f"{error}. {getattr(error, 'how_to_fix', '')}", file=sys.stderr)
        return EXIT_CONFIG
    return 0


if __name__ == "__main__":
    sys.exit(main())
