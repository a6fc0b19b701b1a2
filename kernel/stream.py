"""`GET /v1/stream`: server-sent events, an ASGI application beside Django's ordinary requests.

A viewer joins the hub before it reads its backlog, so nothing numbered in between is lost; numbers already sent are
skipped. Frames: `hello` (id: where you stand), `decision` (id: its number), `reading`, `reset` (too far behind: load
afresh), `bye` (with a reason), and `: heartbeat` every 15 s.
"""

from __future__ import annotations

import asyncio
import dataclasses
import io
import itertools
import json
import logging
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any
from urllib.parse import parse_qsl

from django.conf import settings
from django.contrib.auth import get_user
from django.core.handlers.asgi import ASGIRequest
from django.db import DatabaseError, close_old_connections

from kernel import authentication, draining, keys, live, metrics, permissions
from kernel.errors import ApiError, Malformed, NotNow, Unauthenticated
from kernel.hub import Hub, Viewer, decision_body, encode_frame
from kernel.models import StreamEvent
from kernel.principals import Principal
from kernel.serializers import nearest_hint

logger = logging.getLogger(__name__)
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

KINDS = frozenset({"readings", "decisions"})
PARAMETERS = ("machine", "kind", "last_event_id")
HEARTBEAT_S = 15.0
MAX_VIEWERS = 500
MAX_BACKLOG = 1000
SEND_TIMEOUT_S = 20.0
MAX_ID_CHARACTERS = 40

#: Viewers who came together (a server that was started anew) do not ask the database together: by the golden section
#: their first questions fall all over the interval.
_turns = (0.1 + 0.9 * (number * 0.618034 % 1) for number in itertools.count(1))
_hub: Hub | None = None
_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="stream")


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """What a viewer asked for. ``after`` None: from now on."""

    machine_id: str | None
    kinds: frozenset[str]
    after: int | None


def parse_wish(query: bytes, last_event_id: str | None) -> Wish:
    """The query string and the `Last-Event-ID` header, which wins: the browser knows better. Malformed names faults."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=20, errors="strict")
    except ValueError:
        raise Malformed("malformed_query", "The query is not readable.", "Encode it as UTF-8.") from None
    given = dict(pairs)
    for name in given:
        if name not in PARAMETERS:
            raise Malformed("unknown_filter", f"`{name}` is not a filter here. {nearest_hint(name, PARAMETERS)}", "")
    if len(given.get("machine", "")) > MAX_ID_CHARACTERS or "\0" in given.get("machine", ""):
        raise Malformed("bad_machine", "`machine` is not the id of a machine.", "List them with GET /v1/machines.")
    kinds = frozenset(part for part in given.get("kind", "").split(",") if part) or KINDS
    if unknown := kinds - KINDS:
        name = sorted(unknown)[0]
        raise Malformed("unknown_kind", f"`{name[:40]}` is not a kind. {nearest_hint(name, KINDS)}", "")
    after_text = last_event_id or given.get("last_event_id") or ""
    if after_text and (not after_text.isascii() or not after_text.isdigit() or len(after_text) > 18):
        raise Malformed(
            "bad_last_event_id", "`last_event_id` must be a whole number.", "Send the id of the last event."
        )
    return Wish(given.get("machine") or None, kinds, int(after_text) if after_text else None)


def _who(scope: Scope) -> Principal:
    """Blocking: the principal by key or session; ApiError for a stranger."""
    close_old_connections()
    try:
        request = ASGIRequest(dict(scope), io.BytesIO())
        store = import_module(settings.SESSION_ENGINE).SessionStore
        request.session = store(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
        request.user = get_user(request)
        request.principal = authentication.resolve_principal(request)  # type: ignore[attr-defined]
        return permissions.require(request, "view")
    except keys.BadKey as error:
        raise Unauthenticated(error.code, error.message, "Ask an admin for a new key.") from None
    except DatabaseError:
        raise NotNow("database_unavailable", "The database does not answer now.", "Try again in a moment.") from None


def _backlog(organization_id: str, wish: Wish, after: int, newest: int) -> tuple[bool, list[tuple[int | None, bytes]]]:
    """Blocking: whether the viewer is too far behind to catch up, and else the frames it missed."""
    if after > newest:
        return True, []
    missed = StreamEvent.objects.filter(organization_id=organization_id, number__gt=after, number__lte=newest)
    events = list(missed.order_by("number")[: MAX_BACKLOG + 1])
    if len(events) > MAX_BACKLOG or (events and events[0].number != after + 1):
        return True, []
    if newest > after and not events:
        return True, []
    wanted = [event for event in events if wish.machine_id in (None, event.machine_id)]
    return False, [(event.number, encode_frame("decision", decision_body(event), event.number)) for event in wanted]


def hub() -> Hub:
    """The hub of the running event loop."""
    global _hub
    loop = asyncio.get_running_loop()
    if _hub is None or _hub.loop is not loop:
        _hub = Hub(loop)
    return _hub


async def stream_asgi(scope: Scope, receive: Receive, send: Send) -> None:
    """The application. Refusals are ordinary JSON answers."""
    loop = asyncio.get_running_loop()
    try:
        if scope["method"] not in ("GET", "HEAD"):
            raise ApiError("method_not_allowed", "The stream is read with GET.", "Use GET.", status=405)
        if draining.is_draining():
            raise NotNow("draining", "This server is shutting down.", "Try again in a few seconds.")
        principal = await loop.run_in_executor(_threads, _who, scope)
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        wish = parse_wish(scope["query_string"], headers.get(b"last-event-id"))
        if len(hub().viewers) >= MAX_VIEWERS:
            raise NotNow("too_many_viewers", "Too many streams are open.", "Close one, or try again later.")
    except ApiError as error:
        await _refuse(send, error)
        return
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    if scope["method"] == "HEAD":
        await send({"type": "http.response.body", "body": b""})
        return
    await _serve(scope, principal, wish, receive, send)


_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]


async def _refuse(send: Send, error: ApiError) -> None:
    body = json.dumps(error.body()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.status == 503:
        headers.append((b"retry-after", b"1"))
    if error.status == 405:
        headers.append((b"allow", b"GET, HEAD"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Pipe:
    """A viewer's connection. It is written to without waking a task, and without a timer, as long as it takes bytes.

    ASGI's `send` is a coroutine that ends at its very first step unless the client's socket is full. So the first step
    is made here, by whoever has the bytes; only where it does not end, the viewer's own task sees it through.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._begun: _Begun | None = None
        self.wrote_at_s = float("-inf")  # the event loop's time

    @property
    def is_full(self) -> bool:
        """Whether a write waits for its client: nothing may be written before `finish`."""
        return self._begun is not None

    def write(self, body: bytes, *, more: bool = True) -> bool:
        """Hand bytes over now; False where the client does not take them at once."""
        self.wrote_at_s = asyncio.get_running_loop().time()
        steps = self._send({"type": "http.response.body", "body": body, "more_body": more}).__await__()
        try:
            waits_for = next(steps)
        except StopIteration:
            return True
        self._begun = _Begun(waits_for, steps)
        return False

    async def finish(self) -> None:
        """Until the client has taken what was begun; TimeoutError for one whose socket stays full for
        SEND_TIMEOUT_S."""
        if self._begun is not None:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._begun
            self._begun = None

    async def write_whole(self, body: bytes, *, more: bool = True) -> None:
        """Write, and wait until it is taken; TimeoutError."""
        await self.finish()
        if not self.write(body, more=more):
            await self.finish()


class _Begun:
    """A coroutine of which the first step is done: awaiting it takes the others, in the task that awaits."""

    def __init__(self, waits_for: Any, steps: Generator[Any, Any, Any]) -> None:
        self._waits_for = waits_for
        self._steps = steps

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            yield self._waits_for
            yield from self._steps
        finally:
            self._steps.close()


async def _serve(scope: Scope, principal: Principal, wish: Wish, receive: Receive, send: Send) -> None:
    organization_id = principal.organization.pk if principal.organization else ""
    viewer, pipe = Viewer(organization_id, wish.machine_id, wish.kinds), Pipe(send)
    house = hub()
    house.join(viewer)
    metrics.STREAM_VIEWERS.set(len(house.viewers))
    leaving = asyncio.create_task(_watch_leaving(receive, viewer))
    try:
        sent = await _greet(viewer, wish, house, pipe)
        viewer.fit(pipe, sent)
        await _pump(scope, viewer, pipe)
        await pipe.write_whole(_farewell(viewer), more=False)
    except (OSError, TimeoutError):
        logger.info("stream: viewer gone")
    finally:
        house.leave(viewer)
        metrics.STREAM_VIEWERS.set(len(house.viewers))
        metrics.STREAM_DROPPED.labels(reason=viewer.reason or "gone").inc()
        leaving.cancel()


async def _greet(viewer: Viewer, wish: Wish, house: Hub, pipe: Pipe) -> int:
    """Hello, what was missed, and the newest readings; the number up to which everything is sent."""
    loop = asyncio.get_running_loop()
    try:
        newest = await loop.run_in_executor(_threads, house.tail.follow, viewer.organization_id)
        after = newest if wish.after is None else wish.after
        is_lost = False
        frames: list[tuple[int | None, bytes]] = []
        if "decisions" in wish.kinds and after != newest:
            is_lost, frames = await loop.run_in_executor(
                _threads, _backlog, viewer.organization_id, wish, after, newest
            )
    except DatabaseError:
        viewer.end("database_unavailable")
        return 0
    hello = encode_frame("hello", {"number": newest}, newest if not frames else None)
    parts = [b"retry: 1000\n\n", hello]
    if is_lost:
        parts.append(encode_frame("reset", {"reason": "too_far_behind"}, newest))
    parts += [frame for _number, frame in frames]
    if "readings" in wish.kinds:
        parts += [
            encode_frame("reading", payload) for payload in live.readings_of(viewer.organization_id, wish.machine_id)
        ]
    await pipe.write_whole(b"".join(parts))
    return newest


async def _pump(scope: Scope, viewer: Viewer, pipe: Pipe) -> None:
    """Until the viewer ends: what its pipe did not take at once, a heartbeat in silence, and now and then who it is."""
    loop = asyncio.get_running_loop()
    check_at_s = loop.time() + HEARTBEAT_S * next(_turns)
    while not viewer.reason:
        wake_at_s = min(check_at_s, pipe.wrote_at_s + HEARTBEAT_S)
        frames = await viewer.take(max(0.01, wake_at_s - loop.time()))
        await pipe.finish()
        if body := viewer.unsent(frames):
            await pipe.write_whole(body)
        elif loop.time() >= pipe.wrote_at_s + HEARTBEAT_S:
            await pipe.write_whole(b": heartbeat\n\n")
        if loop.time() >= check_at_s:
            check_at_s = loop.time() + HEARTBEAT_S
            await _check_again(scope, viewer)


async def _check_again(scope: Scope, viewer: Viewer) -> None:
    """A revoked key or a closed session ends the stream; a database that is away does not."""
    try:
        principal = await asyncio.get_running_loop().run_in_executor(_threads, _who, scope)
    except NotNow:
        return
    except ApiError as error:
        viewer.end(error.code)
        return
    if principal.organization is None or principal.organization.pk != viewer.organization_id:
        viewer.end("not_allowed")


def _farewell(viewer: Viewer) -> bytes:
    return b"retry: 1000\n" + encode_frame("bye", {"reason": viewer.reason})


async def _watch_leaving(receive: Receive, viewer: Viewer) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            viewer.end("left")
            return
