"""A network between a browser and the house that can be cut: packets vanish, or connections are refused."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator

CHUNK_BYTES = 65536
LOOK_S = 0.05


class Cable:
    """Forwards TCP from ``port`` to ``to_port`` on this host. ``cut`` is ``""``, ``"silent"`` or ``"refused"``."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._cut = ""
        self._ending = threading.Event()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, how: str = "silent") -> None:
        """``silent``: nothing arrives, nobody is told. ``refused``: every connection is closed, new ones at once."""
        self._cut = how
        if how == "refused":
            self._close_all()

    def mend(self) -> None:
        """What was held back arrives; new connections get through."""
        self._cut = ""

    def close(self) -> None:
        self._ending.set()
        self._listener.close()
        self._close_all()

    def _close_all(self) -> None:
        with self._lock:
            for pair in self._pairs:
                for end in pair:
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._ending.is_set():
            try:
                browser, _ = self._listener.accept()
            except OSError:
                return  # closed
            if self._cut == "refused":
                browser.close()
                continue
            threading.Thread(target=self._carry, args=(browser,), daemon=True).start()

    def _carry(self, browser: socket.socket) -> None:
        while self._cut == "silent" and not self._ending.is_set():
            self._ending.wait(LOOK_S)
        try:
            house = socket.create_connection(("127.0.0.1", self._to_port), timeout=10)
        except OSError:
            browser.close()
            return
        pair = (browser, house)
        with self._lock:
            self._pairs.add(pair)
        try:
            self._forward(browser, house)
        except OSError:
            pass  # one end is gone: so is the other
        finally:
            with self._lock:
                self._pairs.discard(pair)
            browser.close()
            house.close()

    def _forward(self, browser: socket.socket, house: socket.socket) -> None:
        other = {browser: house, house: browser}
        while not self._ending.is_set():
            if self._cut == "silent":
                self._ending.wait(LOOK_S)
                continue
            ready, _, _ = select.select([browser, house], [], [], LOOK_S)
            for end in ready if self._cut != "silent" else ():  # it may have been cut while we looked
                data = end.recv(CHUNK_BYTES)
                if not data:
                    return
                other[end].sendall(data)


@contextlib.contextmanager
def cable(to_port: int) -> Iterator[Cable]:
    """One for a ``with``."""
    between = Cable(to_port)
    try:
        yield between
    finally:
        between.close()
