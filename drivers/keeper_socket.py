"""The keeper's local socket: newline JSON, one thread per client, bounded in clients, line length and send time.

``{"id": n, "op": …}`` → ``{"id": n, "ok": true, …}`` or ``{"id": n, "ok": false, "error": code, "message": …,
"how_to_fix": …}``. Ops: status, hello, beat, limits, follow, apply, abort, stop, release, trace.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivers import stop_token
from drivers.keeper_config import BadConfig, Limits
from drivers.port import DriverError, ProtocolError
from drivers.wire_json import (
    capabilities_to_json,
    identity_to_json,
    order_from_json,
    reading_to_json,
    receipt_to_json,
)
from kernel import clock

if TYPE_CHECKING:
    from drivers.keeper import Keeper

log = logging.getLogger("drivers.keeper")

LINE_BYTES_MAX = 65_536
CLIENTS_MAX = 40
STOP_CLIENTS_RESERVED = 8  # the last places are for status, stop and release only
SEND_TIMEOUT_S = 2.0
FOLLOW_WAIT_S = 1.0
DEADLINE_MAX_S = 30.0
WORDS_MAX = 500
_RESERVED_OPS = frozenset({"status", "stop", "release", "trace"})


class BadRequest(DriverError):
    """Not something the keeper understands."""

    code = "bad_request"


class KeeperServer:
    """Listens; keeps count of its clients."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self._path = Path(keeper.config.socket)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._clients: set[Client] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, name="accept", daemon=True)

    def start(self) -> None:
        """Bind (the lock is ours, so a socket that lies there is a dead keeper's) and listen."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._listener.bind(str(self._path))
        finally:
            os.umask(before)
        self._listener.listen(CLIENTS_MAX)
        self._thread.start()

    def close(self) -> None:
        """Hang up on everybody."""
        self._path.unlink(missing_ok=True)
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            log.debug("the listener was not listening")
        self._listener.close()
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            client.hang_up()

    def fence(self, token: int) -> None:
        """Tell the clients of older tokens that they are out."""
        with self._lock:
            fenced = [client for client in self._clients if client.token is not None and client.token < token]
        for client in fenced:
            client.token = None
            client.send({"event": "fenced", "token": token})

    def leave(self, client: Client) -> None:
        """A client is gone."""
        with self._lock:
            self._clients.discard(client)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(SEND_TIMEOUT_S), 0))
            with self._lock:
                count = len(self._clients)
                client = Client(self, connection, is_reserved=count >= CLIENTS_MAX - STOP_CLIENTS_RESERVED)
                is_full = count >= CLIENTS_MAX
                if not is_full:
                    self._clients.add(client)
            if is_full:
                client.send({"id": None, "ok": False, "error": "too_many_clients",
                             "message": f"the keeper serves {CLIENTS_MAX} clients", "how_to_fix": "Close one."})
                client.hang_up()
                continue
            threading.Thread(target=client.serve, name="client", daemon=True).start()


class Client:
    """One connection."""

    def __init__(self, server: KeeperServer, connection: socket.socket, *, is_reserved: bool) -> None:
        self._server = server
        self._keeper = server.keeper
        self._connection = connection
        self._is_reserved = is_reserved
        self._send_lock = threading.Lock()
        self._is_open = True
        self.token: int | None = None
        self._ops: dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]] = {
            "status": self._status, "hello": self._hello, "beat": self._beat, "limits": self._limits,
            "follow": self._follow,
            "apply": self._apply, "abort": self._abort, "stop": self._stop, "release": self._release,
            "trace": self._trace,
        }

    def serve(self) -> None:
        """Answer lines until the client goes or breaks the rules."""
        buffer = b""
        try:
            while self._is_open:
                received = self._connection.recv(65_536)
                if not received:
                    return
                buffer += received
                while (end := buffer.find(b"\n")) >= 0:
                    line, buffer = buffer[:end], buffer[end + 1:]
                    if len(line) > LINE_BYTES_MAX or not self._answer(line):
                        return
                if len(buffer) > LINE_BYTES_MAX:
                    self._refuse(None, BadRequest(f"a line has at most {LINE_BYTES_MAX} bytes"))
                    return
        except OSError:
            return  # hung up
        except Exception:  # the outermost loop of a client: one client's bug is not the keeper's end
            log.exception("a client failed")
        finally:
            self.hang_up()
            self._server.leave(self)

    def send(self, content: dict[str, Any]) -> bool:
        """One line; False (and hung up) where the client does not take it in time."""
        return self._send_raw(json.dumps(content, separators=(",", ":")).encode() + b"\n")

    def hang_up(self) -> None:
        """End the connection; its thread ends by itself."""
        self._is_open = False
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            log.debug("already hung up")
        self._connection.close()

    # -- inside --

    def _send_raw(self, raw: bytes) -> bool:
        with self._send_lock:
            try:
                self._connection.sendall(raw)
            except OSError:  # BlockingIOError after SEND_TIMEOUT_S, or gone
                self._is_open = False
                return False
        return True

    def _answer(self, line: bytes) -> bool:
        """One request; False: hang up."""
        request_id: Any = None
        try:
            request = _parse(line)
            request_id = request.get("id")
            op = request.get("op")
            handler = self._ops.get(op) if isinstance(op, str) else None
            if handler is None:
                raise BadRequest(f"there is no op {op!r}", f"Known: {', '.join(self._ops)}.")
            if self._is_reserved and op not in _RESERVED_OPS:
                raise BadRequest("the last places are for status, stop and release", "Close other clients.")
            answer = handler(request)
        except DriverError as error:
            return self._refuse(request_id, error)
        if answer is None:
            return self._is_open
        return self.send({"id": request_id, "ok": True, **answer})

    def _refuse(self, request_id: Any, error: DriverError) -> bool:
        return self.send({"id": request_id, "ok": False, "error": error.code, "message": error.message,
                          "how_to_fix": error.how_to_fix})

    # -- ops --

    def _status(self, request: dict[str, Any]) -> dict[str, Any]:
        keeper, now_s = self._keeper, clock.monotonic()
        reading, latch = keeper.reading, keeper.latches.latch
        return {
            "machine_id": keeper.config.machine_id, "boot_id": keeper.boot_id, "pid": os.getpid(),
            "monotonic_s": now_s,
            "link": {"state": keeper.link_state, "code": keeper.link_code, "message": keeper.link_message,
                     "how_to_fix": keeper.link_fix},
            "latched": latch.to_json() if latch else None,
            "token": keeper.latches.token, "loop_silent_s": keeper.loop_silent_s(now_s),
            "reading": reading_to_json(reading) if reading else None,
            "reading_age_s": reading.age_s(now_s) if reading else None,
            "identity": identity_to_json(keeper.driver.identity),
            "capabilities": capabilities_to_json(keeper.driver.capabilities),
            "stops": keeper.stops.recent(), "record_error": keeper.latches.write_error,
        }

    def _hello(self, request: dict[str, Any]) -> dict[str, Any]:
        if request.get("role") != "loop":
            raise BadRequest("only a loop says hello", 'role is "loop".')
        token = _token(request)
        self._keeper.see_token(token, is_beat=True)
        self.token = token
        self._server.fence(token)
        return {"boot_id": self._keeper.boot_id, "token": token}

    def _beat(self, request: dict[str, Any]) -> dict[str, Any]:
        self._keeper.see_token(_token(request), is_beat=True)
        latch = self._keeper.latches.latch
        return {"boot_id": self._keeper.boot_id, "latched": latch.to_json() if latch else None}

    def _limits(self, request: dict[str, Any]) -> dict[str, Any]:
        """New bounds for the keeper's own interlocks, from the loop that holds us."""
        self._keeper.see_token(_token(request), is_beat=True)
        given = request.get("limits")
        names = {field.name for field in dataclasses.fields(Limits)}
        if not isinstance(given, dict) or given.keys() != names:
            raise BadRequest("limits is an object", f"Give exactly {', '.join(sorted(names))}.")
        if not all(_is_bound(value) for value in given.values()):
            raise BadRequest("a limit is null or a number above 0")
        self._keeper.set_limits(Limits(**given))
        return {"limits": given}

    def _follow(self, request: dict[str, Any]) -> None:
        """Answers, then pushes events on this connection until the client hangs up."""
        after = request.get("after_sequence", 0)
        if isinstance(after, bool) or not isinstance(after, int):
            raise BadRequest("after_sequence is a whole number")
        keeper = self._keeper
        is_same_boot = request.get("boot_id") in (None, keeper.boot_id)
        index = keeper.events.start_after(after if is_same_boot else -1)
        latch = keeper.latches.latch
        reading = keeper.reading
        self.send({"id": request.get("id"), "ok": True, "boot_id": keeper.boot_id,
                   "newest_sequence": reading.sequence if reading else 0,
                   "latched": latch.to_json() if latch else None,
                   "link": {"state": keeper.link_state, "code": keeper.link_code, "message": keeper.link_message}})
        threading.Thread(target=self._push, args=(index,), name="follow", daemon=True).start()

    def _push(self, index: int) -> None:
        while self._is_open:
            lines, lost = self._keeper.events.wait_from(index, FOLLOW_WAIT_S)
            index += lost + len(lines)
            if lost and not self.send({"event": "lost", "events": lost}):
                break
            if lines and not self._send_raw(b"".join(line.raw for line in lines)):
                break
        self.hang_up()

    def _apply(self, request: dict[str, Any]) -> dict[str, Any]:
        order_json = request.get("order")
        if not isinstance(order_json, dict):
            raise BadRequest("an order is an object")
        order = order_from_json(str(request.get("kind")), order_json)
        deadline_s = request.get("deadline_s", 5.0)
        is_number = isinstance(deadline_s, (int, float)) and not isinstance(deadline_s, bool)
        if not is_number or not math.isfinite(deadline_s) or not 0 < deadline_s <= DEADLINE_MAX_S:
            raise BadRequest(f"deadline_s is between 0 and {DEADLINE_MAX_S:.0f}")
        receipt = self._keeper.apply(_token(request), order, float(deadline_s), sent_at=_sent_at(request))
        return {"receipt": receipt_to_json(receipt)}

    def _abort(self, request: dict[str, Any]) -> dict[str, Any]:
        """An order writes nothing more; the answer to its `apply`, on another connection, says where it stands."""
        return dict(self._keeper.abort(_token(request), _words(request, "order_id")))

    def _stop(self, request: dict[str, Any]) -> dict[str, Any]:
        """Two lines: what left first, then the receipt."""
        stop_id, by, reason = (_words(request, name) for name in ("stop_id", "by", "reason"))
        self._authorise(request, "stop", stop_id)
        run = self._keeper.stop(stop_id, by, reason)
        run.has_sent.wait(DEADLINE_MAX_S)
        latch = self._keeper.latches.latch
        latched = latch.to_json() if latch is not None else None  # of the press that came first, perhaps another's
        self.send({"id": request.get("id"), "stage": "sent", "first_byte_monotonic_s": run.first_byte_s,
                   "latched": latched})
        run.is_done.wait(DEADLINE_MAX_S)
        if run.receipt is None:
            raise ProtocolError("the stop did not end in time", "Use the machine's panel, or cut the mains.")
        return {"receipt": receipt_to_json(run.receipt), "stop_id": run.stop_id, "latched": latched}

    def _release(self, request: dict[str, Any]) -> dict[str, Any]:
        stop_id, by = _words(request, "stop_id"), _words(request, "by")
        if not isinstance(request.get("auth"), str):
            raise _Unauthorised("a release needs auth")
        self._authorise({"auth": request["auth"]}, "release", stop_id)
        self._keeper.release(stop_id, by)
        return {"latched": None}

    def _trace(self, request: dict[str, Any]) -> dict[str, Any]:
        trace = self._keeper.wire_log.trace(_words(request, "order_id"))
        if trace is None:
            return {"known": False, "writes": [], "receipt": None}
        return {"known": True, "writes": list(trace.writes), "receipt": trace.receipt}

    def _authorise(self, request: dict[str, Any], op: str, stop_id: str) -> None:
        """By the STOP key's signature, or (stop only) a console STOP token."""
        config = self._keeper.config
        try:
            key = config.stop_key()
        except (OSError, BadConfig) as error:
            raise _Unauthorised(f"the STOP key cannot be read: {error}", "Restore it, or use the panel.") from error
        auth, token = request.get("auth"), request.get("token")
        if isinstance(auth, str):
            if stop_token.is_signed(key, op, config.machine_id, stop_id, auth):
                return
            raise _Unauthorised("the signature is not this machine's", "Sign with DATA_DIR/run/stop.key.")
        try:
            stop_token.verify(key, token or "", machine_id=config.machine_id, now_unix=clock.now().timestamp())
        except stop_token.BadToken as error:
            raise _Unauthorised(str(error), "Reload the page, or use `manage.py stop`.") from error


class _Unauthorised(DriverError):
    code = "unauthorised"


def _parse(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"not JSON: {type(error).__name__}") from error
    if not isinstance(request, dict):
        raise BadRequest("a request is an object")
    request_id = request.get("id")
    if not isinstance(request_id, (int, str, type(None))) or len(str(request_id)) > 64:
        raise BadRequest("an id is a number or a short text")
    return request


def _is_bound(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6


def _token(request: dict[str, Any]) -> int:
    token = request.get("token")
    if isinstance(token, bool) or not isinstance(token, int) or not 0 < token < 1 << 62:
        raise BadRequest("a fencing token is a positive number")
    return token


def _sent_at(request: dict[str, Any]) -> tuple[float, float] | None:
    """The sender's monotonic and wall seconds; None where it does not say."""
    at = request.get("sent_at")
    if at is None:
        return None
    is_pair = isinstance(at, list) and len(at) == 2
    if not is_pair or not all(isinstance(s, float) and math.isfinite(s) for s in at):
        raise BadRequest("sent_at is [monotonic_s, unix_s]")
    return at[0], at[1]


def _words(request: dict[str, Any], name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= WORDS_MAX:
        raise BadRequest(f"{name} is a text of 1–{WORDS_MAX} characters")
    return value
