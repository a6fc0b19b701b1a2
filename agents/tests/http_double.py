"""A RoastOps server of cardboard on a real socket: what it answers is set by the test, what it heard is kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Answer = tuple[int, dict[str, Any]]


@dataclass
class Heard:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class HttpDouble:
    """`answers[(method, path)]` is called for each request; `frames` yields the stream's frames, one connection at
    a time, and the connection ends where the frames end."""

    url: str = ""
    heard: list[Heard] = field(default_factory=list)
    answers: dict[tuple[str, str], Callable[[Heard], Answer]] = field(default_factory=dict)
    frames: Callable[[Heard], Iterator[str]] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    close: Callable[[], None] = lambda: None

    def hears(self, method: str, path: str) -> list[Heard]:
        with self.lock:
            return [heard for heard in self.heard if (heard.method, heard.path) == (method, path)]


@contextmanager
def serving(double: HttpDouble, port: int = 0) -> Iterator[HttpDouble]:
    """Serve on a free local port (or on ``port``, to come back where one was before)."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_arguments: Any) -> None:
            return

        def do_GET(self) -> None:
            self._answer("GET")

        def do_POST(self) -> None:
            self._answer("POST")

        def _answer(self, method: str) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = urlsplit(self.path).path
            heard = Heard(method, path, dict(self.headers.items()), json.loads(raw) if raw else {})
            with double.lock:
                double.heard.append(heard)
            if path == "/v1/stream" and double.frames is not None:
                self._stream(double.frames(heard))
                return
            answer = double.answers.get((method, path), lambda _heard: (404, {"error": "not_found", "message": path}))
            status, body = answer(heard)
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _stream(self, frames: Iterator[str]) -> None:
            self.close_connection = True
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            try:
                for frame in frames:
                    self.wfile.write(frame.encode())
                    self.wfile.flush()
            except (BrokenPipeError, ConnectionResetError):
                return

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    double.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join(5)

    double.close = close
    try:
        yield double
    finally:
        close()


def reading_frame(**reading: Any) -> str:
    return f"event: reading\ndata: {json.dumps(reading)}\n\n"


def decision_frame(number: int, kind: str, subject_id: str, payload: dict[str, Any]) -> str:
    data = {"number": number, "kind": kind, "machine_id": "mch_1", "subject_id": subject_id, "payload": payload}
    return f"event: decision\nid: {number}\ndata: {json.dumps(data)}\n\n"
