"""Runs a WSGI application in threads under an ASGI server, one hop each way: bodies are read, and answers sent, whole.

a2wsgi hands every piece over singly, which costs three waits between threads per request (docs/benchmarks.md). Ours
has no streaming answers on this side (streams are ASGI applications), so nothing is lost.
"""

from __future__ import annotations

import asyncio
import contextvars
import io
import json
import sys
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

Send = Callable[[Any], Awaitable[None]]
Receive = Callable[[], Awaitable[Any]]
Answer = tuple[int, list[tuple[bytes, bytes]], bytes]

MAX_BODY_BYTES = 2_000_000
#: Paths that take more: a roast as a file.
LARGER_BODIES = {"/v1/imports": 8_100_000, "/v1/imports/": 8_100_000}
MAX_QUERY_BYTES = 8000


class ClientGone(Exception):
    """The client left before its request was whole."""


class TooLarge(Exception):
    """The body is larger than anything we take."""


class WsgiInThreads:
    """`WsgiInThreads(app, workers=24)` is an ASGI application for `http` scopes."""

    def __init__(self, app: Callable[..., Iterable[bytes]], *, workers: int) -> None:
        self.app = app
        self._threads = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="http")

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        query = scope["query_string"]
        if not query.isascii() or len(query) > MAX_QUERY_BYTES:
            await _refuse(send, 400, "malformed_request", "The address is not readable.", "Encode it as UTF-8.")
            return
        try:
            body = await _read_body(scope, receive)
        except ClientGone:
            return
        except TooLarge:
            await _refuse(
                send, 413, "body_too_large", "The body is larger than what is taken here.", "Send less at once."
            )
            return
        context = contextvars.copy_context()
        status, headers, content = await asyncio.get_running_loop().run_in_executor(
            self._threads, context.run, self._answer, environ(scope, body)
        )
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _answer(self, environment: dict[str, Any]) -> Answer:
        """In a thread: the whole answer."""
        started: list[tuple[int, list[tuple[bytes, bytes]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> None:
            encoded = [(name.lower().encode("latin-1"), value.strip().encode("latin-1")) for name, value in headers]
            started.append((int(status[:3]), encoded))

        try:
            parts = self.app(environment, start_response)
            try:
                content = b"".join(parts)
            finally:
                close = getattr(parts, "close", None)
                if close is not None:
                    close()
        finally:
            # A request of the API holds itself in a circle, and what was sent with it, until Python looks for garbage:
            # seldom (kernel/garbage.py). A hundred files of 8 MB would stand in memory meanwhile.
            environment["wsgi.input"].close()
        status, headers = started[-1]
        return status, headers, content


async def _read_body(scope: dict[str, Any], receive: Receive) -> bytes:
    if scope["method"] in ("GET", "HEAD", "OPTIONS") and not _announces_body(scope):
        return b""
    limit = LARGER_BODIES.get(scope["path"], MAX_BODY_BYTES)
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise TooLarge
        if not message.get("more_body", False):
            return b"".join(parts)


def _announces_body(scope: dict[str, Any]) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _value in scope["headers"])


def environ(scope: dict[str, Any], body: bytes) -> dict[str, Any]:
    """The WSGI environment of an ASGI scope (PEP 3333: text is latin-1 of the bytes)."""
    server = scope.get("server") or ("localhost", 80)
    environment: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"].encode("utf-8", "replace").decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("ascii"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1] or 0),
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    client = scope.get("client")
    if client:
        environment["REMOTE_ADDR"], environment["REMOTE_PORT"] = client[0], str(client[1])
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin-1").upper().replace("-", "_")
        if name == "CONTENT_LENGTH" or "_" in raw_name.decode("latin-1"):
            continue  # counted ourselves; a name with an underscore could pass for one with a dash
        key = name if name == "CONTENT_TYPE" else f"HTTP_{name}"
        value = raw_value.decode("latin-1")
        glue = "; " if name == "COOKIE" else ","
        environment[key] = f"{environment[key]}{glue}{value}" if key in environment else value
    return environment


async def _refuse(send: Send, status: int, code: str, message: str, how_to_fix: str) -> None:
    body = json.dumps({"error": code, "message": message, "how_to_fix": how_to_fix}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
