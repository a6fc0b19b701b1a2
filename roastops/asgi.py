"""One server for everything: STOP on its own path, streams on the event loop, all other requests in threads.

Django's views are synchronous; through its WSGI handler in a pool of threads they answer faster than through its ASGI
handler (docs/benchmarks.md, "Serving").
"""

from __future__ import annotations

import functools
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "roastops.settings")

# First of all: this sets Django up.
from roastops.wsgi import application as django_wsgi  # isort: skip

from django.conf import settings

from kernel import draining, log_files, request_gate
from kernel.sealer import SealerThread
from kernel.stream import stream_asgi
from roastops.wsgi_threads import WsgiInThreads
from roasts.files import artisan_socket
from roasts.telemetry import asgi as telemetry

logger = logging.getLogger(__name__)
Send = Callable[[Any], Awaitable[None]]
Receive = Callable[[], Awaitable[Any]]

STOP_PATH = re.compile(r"^/v1/machines/[^/]+/stop/?$")
STREAM_PATHS = frozenset({"/v1/stream", "/v1/stream/"})

# Requests hop between threads, and STOP's loop is one of them: with the default of 5 ms each busy neighbour holds each
# hop up that long. (Below this the hops themselves begin to cost: docs/benchmarks.md.)
sys.setswitchinterval(0.0005)
_django = WsgiInThreads(django_wsgi, workers=settings.ENVIRONMENT.http_threads)


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Dispatch by path."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "websocket" and scope["path"].startswith(artisan_socket.PREFIX):
        await artisan_socket.artisan_asgi(scope, receive, send)
    elif scope["type"] != "http":
        await send({"type": "websocket.close", "code": 1000})
    elif STOP_PATH.match(scope["path"]) and scope["method"] == "POST":
        from commands.stop.asgi import stop_asgi

        await stop_asgi(scope, receive, send)
    elif scope["path"] in STREAM_PATHS:
        await stream_asgi(scope, receive, send)
    elif scope["path"] in telemetry.PATHS and scope["method"] == "POST":
        await telemetry.telemetry_asgi(scope, receive, send)
    elif scope["path"] == "/livez":
        await _answer(send, 200, b'{"status": "ok"}')
    else:
        await _django(scope, receive, send)


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: Receive, send: Send) -> None:
    """Under a bare uvicorn the sealer lives here, and streams end when the signal comes, not when the door is shut."""
    sealer = SealerThread()
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            from commands.stop import asgi

            log_files.keep(settings.DATA_DIR)
            request_gate.open_door()
            asgi.start()  # who may STOP is known before anybody asks, and stays known without a database
            sealer.start()
            _drain_on_signal()
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            draining.begin()
            sealer.stop()
            log_files.close()
            await send({"type": "lifespan.shutdown.complete"})
            return


def _drain_on_signal() -> None:
    """Put ourselves before the server's own handler of SIGTERM and SIGINT."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        previous = signal.getsignal(number)
        if callable(previous):
            signal.signal(number, functools.partial(_drain_then, previous))


def _drain_then(previous: Callable[[int, Any], Any], number: int, frame: Any) -> None:
    draining.begin()
    previous(number, frame)
