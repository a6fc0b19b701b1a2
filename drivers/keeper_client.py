"""How the rooms above speak to a keeper: a blocking client, and STOP for the asynchronous path."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from drivers import stop_token
from drivers.keeper_config import KeeperConfig, Limits
from drivers.port import DriverError, Receipt, SettingOrder, StateOrder
from drivers.wire_json import order_kind, order_to_json, receipt_from_json
from kernel import clock

LINE_BYTES_MAX = 4_000_000  # an answer may hold many stops
STOP_WAIT_S = 8.0


class KeeperUnreachable(DriverError):
    """No keeper answers there (now). For an order in flight: in doubt."""

    code = "keeper_unreachable"


class KeeperRefused(DriverError):
    """The keeper said no; `code` is its word: fenced, halted, loop_silent, unauthorised, bad_request…"""

    def __init__(self, code: str, message: str, how_to_fix: str = "") -> None:
        super().__init__(message, how_to_fix)
        self.code = code


@dataclass(frozen=True, slots=True)
class StopAnswer:
    """What a stop came to. ``first_byte_monotonic_s`` is on the host's clock; None: heat was off already.

    ``latched``: the latch that stands since then, as the keeper has it; of an earlier press where one came first.
    """

    first_byte_monotonic_s: float | None
    receipt: Receipt
    latched: dict[str, Any] | None = None


#: Called as soon as the first byte left: its monotonic second, and the latch that stands.
OnSent = Callable[[float | None, dict[str, Any] | None], None]


def dial(path: str, timeout_s: float) -> socket.socket:
    """A connection to the keeper that listens at ``path``. OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


Dial = Callable[[str, float], Any]  # what it gives has a socket's sendall, recv, settimeout and close
_dial: Dial = dial


def install_dial(chosen: Dial) -> Dial:
    """Reach keepers another way (the simulation's live in its own process); returns the way there was."""
    global _dial
    previous, _dial = _dial, chosen
    return previous


class KeeperClient:
    """One connection, made when needed and again after it broke. Calls from several threads take turns."""

    def __init__(self, socket_path: str, timeout_s: float = 5.0) -> None:
        self._path = str(socket_path)
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._buffer = b""
        self._next_id = 0
        self.is_fenced = False  # the keeper told us so on this connection

    def status(self) -> dict[str, Any]:
        """See the contract: boot_id, link, latched, token, loop_silent_s, reading, identity, capabilities, stops."""
        return self._ask({"op": "status"})

    def hello(self, token: int) -> dict[str, Any]:
        """Become the loop of this machine. KeeperRefused ``fenced`` where a higher token was seen."""
        self.is_fenced = False
        return self._ask({"op": "hello", "role": "loop", "token": token})

    def beat(self, token: int) -> dict[str, Any]:
        """I am here (at most 0.5 s apart)."""
        return self._ask({"op": "beat", "token": token})

    def set_limits(self, token: int, limits: Limits) -> None:
        """New bounds for the keeper's own interlocks; they hold from now on. KeeperRefused, KeeperUnreachable."""
        self._ask({"op": "limits", "token": token, "limits": dataclasses.asdict(limits)})

    def apply(self, order: SettingOrder | StateOrder, *, token: int, deadline_s: float = 5.0) -> Receipt:
        """Carry out an order at most once. KeeperRefused: nothing was sent. KeeperUnreachable: in doubt."""
        request = {"op": "apply", "token": token, "kind": order_kind(order), "order": order_to_json(order),
                   "deadline_s": deadline_s, "sent_at": [clock.monotonic(), clock.now().timestamp()]}
        return receipt_from_json(self._ask(request, timeout_s=deadline_s + self._timeout_s)["receipt"])

    def abort(self, order_id: str, *, token: int) -> dict[str, Any]:
        """The order writes nothing more; ask on another connection than the one its `apply` waits on.

        ``{known, is_over}``. KeeperRefused (``fenced``, ``no_hello``), KeeperUnreachable.
        """
        return self._ask({"op": "abort", "token": token, "order_id": order_id})

    def stop(
        self, *, stop_id: str, by: str, reason: str, auth: str | None = None, token: str | None = None,
        on_sent: OnSent | None = None,
    ) -> StopAnswer:
        """Stop the machine. ``on_sent`` is called as soon as the first byte left, see OnSent."""
        request = _stop_request(stop_id, by, reason, auth, token)
        stages: list[dict[str, Any]] = []

        def staged(line: dict[str, Any]) -> None:
            stages.append(line)
            if on_sent is not None:
                on_sent(line.get("first_byte_monotonic_s"), line.get("latched"))

        answer = self._ask(request, timeout_s=max(self._timeout_s, STOP_WAIT_S), on_stage=staged)
        return StopAnswer(stages[-1].get("first_byte_monotonic_s") if stages else None,
                          receipt_from_json(answer["receipt"]), answer.get("latched"))

    def release(self, *, stop_id: str, by: str, auth: str) -> dict[str, Any]:
        """Clear the latch of a stop (``*``: whichever)."""
        return self._ask({"op": "release", "stop_id": stop_id, "by": by, "auth": auth})

    def trace(self, order_id: str) -> dict[str, Any]:
        """``{known, writes, receipt}`` from the wire log."""
        return self._ask({"op": "trace", "order_id": order_id})

    def follow(self, after_sequence: int = 0, boot_id: str | None = None) -> Iterator[dict[str, Any]]:
        """Events on a connection of its own: first ``{"event": "hello", boot_id, link, latched, newest_sequence}``,
        then readings and the rest. Yields ``{"event": "quiet"}`` where none came for ``timeout_s``. Ends by
        KeeperUnreachable. A generator: close it to hang up.
        """
        connection = self._connect()
        reader = _Lines(connection)
        try:
            _send(connection, {"id": 1, "op": "follow", "after_sequence": after_sequence, "boot_id": boot_id})
            answer = reader.next()
            if answer is None:
                raise KeeperUnreachable("the keeper does not answer")
            yield {"event": "hello", **_checked(answer)}
            while True:
                yield reader.next() or {"event": "quiet"}
        finally:
            connection.close()

    def close(self) -> None:
        """Hang up."""
        with self._lock:
            self._hang_up()

    # -- inside --

    def _ask(
        self, request: dict[str, Any], *, timeout_s: float | None = None,
        on_stage: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        with self._lock:
            self._next_id += 1
            wanted = self._next_id
            until_s = clock.monotonic() + (timeout_s or self._timeout_s)
            try:
                connection = self._put({"id": wanted, **request})
                while True:
                    line = self._read_line(connection, until_s)
                    if line.get("event") == "fenced":
                        self.is_fenced = True
                    elif line.get("id") == wanted and "stage" in line:
                        if on_stage is not None:
                            on_stage(line)
                    elif line.get("id") in (wanted, None) and "ok" in line:
                        return _checked(line)
            except KeeperUnreachable:
                self._hang_up()
                raise
            except (OSError, ValueError) as error:
                self._hang_up()
                raise _unreachable(error) from error

    def _put(self, request: dict[str, Any]) -> socket.socket:
        """Send on the connection there is. Where that one is broken the keeper was started anew since, and never saw
        the request (an order is known by its id besides): once more, on a new one."""
        if self._connection is not None:
            try:
                _send(self._connection, request)
                return self._connection
            except OSError:
                self._hang_up()
        self._connection, self._buffer = self._connect(), b""
        _send(self._connection, request)
        return self._connection

    def _read_line(self, connection: socket.socket, until_s: float) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            connection.settimeout(max(0.001, until_s - clock.monotonic()))
            received = connection.recv(65_536)
            if not received:
                raise KeeperUnreachable("the keeper hung up")
            self._buffer += received
            if len(self._buffer) > LINE_BYTES_MAX:
                raise KeeperUnreachable("the keeper's answer is too long")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return _object(line)

    def _connect(self) -> socket.socket:
        try:
            return _dial(self._path, self._timeout_s)
        except OSError as error:
            raise _unreachable(error) from error

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class _Lines:
    """Lines of a follow connection, one at a time; None when a time-out passes without one."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""

    def next(self) -> dict[str, Any] | None:
        while b"\n" not in self._buffer:
            try:
                received = self._connection.recv(262_144)
            except TimeoutError:
                return None
            except OSError as error:
                raise KeeperUnreachable(f"the keeper hung up: {error}") from error
            if not received:
                raise KeeperUnreachable("the keeper hung up")
            self._buffer += received
            if len(self._buffer) > LINE_BYTES_MAX:
                raise KeeperUnreachable("the keeper's line is too long")
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            return _object(line)
        except ValueError as error:
            raise KeeperUnreachable(f"the keeper speaks no JSON: {error}") from error


async def stop_async(
    config: KeeperConfig, *, stop_id: str, by: str, reason: str, auth: str | None = None, token: str | None = None,
    on_sent: OnSent | None = None, timeout_s: float = STOP_WAIT_S,
) -> StopAnswer:
    """STOP from an event loop. Without ``auth`` and ``token`` it signs with the config's STOP key.

    KeeperUnreachable (nobody there, or no answer in time), KeeperRefused.
    """
    if auth is None and token is None:
        auth = stop_token.sign_request(config.stop_key(), "stop", config.machine_id, stop_id)
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(config.socket, limit=LINE_BYTES_MAX)
            try:
                writer.write(json.dumps({"id": 1, **_stop_request(stop_id, by, reason, auth, token)}).encode() + b"\n")
                await writer.drain()
                return await _read_stop(reader, on_sent)
            finally:
                writer.close()
    except (OSError, ValueError, TimeoutError) as error:
        raise _unreachable(error) from error


async def _read_stop(reader: asyncio.StreamReader, on_sent: OnSent | None) -> StopAnswer:
    first_byte_s: float | None = None
    while True:
        raw = await reader.readline()
        if not raw:
            raise KeeperUnreachable("the keeper hung up")
        line = _object(raw)
        if "stage" in line:
            first_byte_s = line.get("first_byte_monotonic_s")
            if on_sent is not None:
                on_sent(first_byte_s, line.get("latched"))
        elif "ok" in line:
            answer = _checked(line)
            return StopAnswer(first_byte_s, receipt_from_json(answer["receipt"]), answer.get("latched"))


def _stop_request(stop_id: str, by: str, reason: str, auth: str | None, token: str | None) -> dict[str, Any]:
    request: dict[str, Any] = {"op": "stop", "stop_id": stop_id, "by": by, "reason": reason}
    if auth is not None:
        request["auth"] = auth
    elif token is not None:
        request["token"] = token
    return request


def _send(connection: socket.socket, content: dict[str, Any]) -> None:
    connection.sendall(json.dumps(content, separators=(",", ":")).encode() + b"\n")


def _object(line: bytes) -> dict[str, Any]:
    content = json.loads(line)
    if not isinstance(content, dict):
        raise ValueError("not an object")
    return content


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    if answer.get("ok") is not True:
        raise KeeperRefused(str(answer.get("error")), str(answer.get("message")), str(answer.get("how_to_fix", "")))
    return {name: value for name, value in answer.items() if name not in ("id", "ok")}


def _unreachable(error: Exception) -> KeeperUnreachable:
    return KeeperUnreachable(
        f"no keeper answers: {error or type(error).__name__}",
        "The machine loop starts it again; until then use the machine's panel.",
    )
