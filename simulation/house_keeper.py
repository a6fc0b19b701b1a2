"""A keeper without threads, sockets or a process of its own: the real deciding code, reached by an in-process line.

The real `Keeper` holds the real driver of a virtual R1; requests go through the real `keeper_socket.Client`, so that
what is parsed, refused and answered is the product's. Polls, interlocks and stops happen when the house says.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import threading
from collections.abc import Callable
from typing import Any

from drivers.keeper import Keeper
from drivers.keeper_config import KeeperConfig
from drivers.keeper_socket import Client, KeeperServer
from drivers.keeper_stops import StopDesk, StopRun
from kernel import clock


class AtOnce:
    """In place of `keeper_record.Later`: what would be written behind the wire is written now."""

    def do(self, act: Callable[[], None]) -> None:
        act()

    def close(self) -> None:
        return


class _Awaited(threading.Event):
    """An event of a stop: who waits for it makes the stop happen."""

    def __init__(self, desk: HouseStopDesk) -> None:
        super().__init__()
        self._desk = desk

    def wait(self, timeout: float | None = None) -> bool:
        self._desk.work()
        return self.is_set()


class HouseStopDesk(StopDesk):
    """The stopper without its thread: :meth:`work` does what is asked, then and there."""

    def request(self, stop_id: str, by: str, reason: str) -> StopRun:
        run = super().request(stop_id, by, reason)
        if self._is_waiting and run.stop_id == stop_id:
            run.has_sent, run.is_done = _Awaited(self), _Awaited(self)
        return run

    def work(self) -> bool:
        """Carry out a stop that was asked for; True where there was one."""
        run = self._current
        if not self._is_waiting or run is None:
            return False
        self._is_waiting = False
        self._run(run)
        return True


class HouseServer(KeeperServer):
    """The clients of an in-process keeper: nothing is bound, nothing listens."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self._clients: set[Client] = set()
        self._lock = threading.Lock()

    def take(self, client: Client) -> None:
        self._clients.add(client)


class KeeperProcess:
    """One life of a keeper. A dead one answers nobody."""

    def __init__(self, config: KeeperConfig, backend: Any) -> None:
        options = {**config.driver_options, "backend": backend}
        self.keeper = Keeper(dataclasses.replace(config, driver_options=options))
        desk = HouseStopDesk(self.keeper._make_safe, self.keeper._stop_done)
        self.keeper.stops = desk
        self.desk = desk
        self.server = HouseServer(self.keeper)
        self.is_alive = True
        self._watched = 0
        self._opened_at_s = float("-inf")
        self.keeper.log_line("boot", boot_id=self.keeper.boot_id)

    @property
    def is_reading(self) -> bool:
        """In the middle of a poll: nobody else may begin one."""
        return self.keeper.driver._poll_lock.locked()  # type: ignore[attr-defined]

    def turn(self) -> None:
        """What its threads do once: keep the link, poll, look at the interlocks, stop where that is asked."""
        keeper = self.keeper
        if not self.is_reading:
            now_s = clock.monotonic()
            if keeper.is_link_open:
                keeper._poll()
            elif now_s - self._opened_at_s >= 0.5:
                self._opened_at_s = now_s
                if keeper._open_link():
                    keeper._last_good_s = now_s
                    keeper._poll()
        self._watched += keeper._watch_tick(clock.monotonic(), self._watched)
        self.desk.work()

    def die(self) -> None:
        """kill -9: the operating system lets the device go; files stay as they are."""
        self.is_alive = False
        self.keeper.driver.close()
        self.keeper.wire_log.close()


class Line:
    """Both ends of a connection to an in-process keeper: a client writes a request and finds the answer waiting."""

    def __init__(self, process: KeeperProcess, run: Callable[[KeeperProcess, Callable[[], Any]], bool]) -> None:
        self._process = process
        self._run = run
        self._answers = bytearray()
        self._client = Client(process.server, _ServerEnd(self._answers), is_reserved=False)  # type: ignore[arg-type]
        process.server.take(self._client)

    def sendall(self, data: bytes) -> None:
        """ConnectionResetError where the keeper is dead, or dies over it."""
        for line in data.splitlines():
            answer = functools.partial(self._client._answer, line)
            if not self._process.is_alive or not self._run(self._process, answer):
                self._answers.clear()
                raise ConnectionResetError("the keeper is gone")

    def recv(self, size: int) -> bytes:
        taken = bytes(self._answers[:size])
        del self._answers[:size]
        if not taken and self._process.is_alive:
            raise TimeoutError("the keeper said nothing")
        return taken

    def settimeout(self, timeout_s: float | None) -> None:
        return

    def close(self) -> None:
        self._process.server.leave(self._client)


class _ServerEnd:
    """What the keeper's side of a line writes to."""

    def __init__(self, answers: bytearray) -> None:
        self._answers = answers

    def sendall(self, raw: bytes) -> None:
        self._answers += raw

    def shutdown(self, how: int) -> None:
        return

    def close(self) -> None:
        return


def events_after(process: KeeperProcess, index: int) -> tuple[list[dict[str, Any]], int]:
    """What followers are told from ``index`` on, and where to go on."""
    found: list[dict[str, Any]] = []
    while True:
        lines, lost = process.keeper.events.wait_from(index, 0)
        if not lines:
            return found, index + lost
        index += lost + len(lines)
        found += [json.loads(line.raw) for line in lines]
