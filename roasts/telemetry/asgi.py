"""`POST /v1/telemetry` as an ASGI application of its own, beside Django: a body in, `door` in a thread, an answer out.

What takes long has a thread of its own: when a neighbour dies, its machines come to us all at once, and those that were
ours all along do not wait behind them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kernel import ids
from roasts.telemetry import door, turns
from roasts.telemetry.envelope import MAX_BODY_BYTES

Send = Callable[[Any], Awaitable[None]]
Receive = Callable[[], Awaitable[Any]]

PATHS = frozenset({"/v1/telemetry", "/v1/telemetry/"})
#: Most wait for the database; one computes (`roasts.telemetry.turns`).
THREADS = 6
_threads = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="telemetry")
#: One: two would take the interpreter from the others twice as often, and be ready no sooner.
_restoring = ThreadPoolExecutor(max_workers=1, thread_name_prefix="telemetry-restore")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


async def telemetry_asgi(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """One envelope. A body past the bound is read no further, and refused."""
    headers = dict(scope["headers"])
    body = await _read(receive)
    if body is None:
        return
    loop = asyncio.get_running_loop()
    begun = await loop.run_in_executor(
        _threads,
        _begin,
        headers.get(b"authorization", b"").decode("latin-1"),
        headers.get(b"content-type", b"").decode("latin-1"),
        body,
    )
    answer = begun if isinstance(begun, door.Answer) else await loop.run_in_executor(_restoring, begun)
    given = headers.get(b"x-request-id", b"")
    request_id = given if _REQUEST_ID.fullmatch(given) else ids.new("req").encode()
    sent = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(answer.body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-request-id", request_id),
        *((name.lower().encode(), value.encode()) for name, value in answer.headers),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": sent})
    await send({"type": "http.response.body", "body": answer.body})


def _begin(authorization: str, content_type: str, body: bytes) -> door.Answer | door.Later:
    """:func:`door.begin` in its turn."""
    with turns.computing():
        return door.begin(authorization, content_type, body)


async def _read(receive: Receive) -> bytes | None:
    """The body, or what came of it until it passed the bound; None when the client left."""
    parts: list[bytes] = []
    size = 0
    while size <= MAX_BODY_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if not message.get("more_body", False):
            break
    return b"".join(parts)
