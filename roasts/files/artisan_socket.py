"""`/artisan/<machine>/<read-only key>`: Artisan's desktop watches a machine of ours by its WebSocket device protocol.

An ASGI application. It answers questions and pushes what happened; it has no way to command. The key stands in the
address because Artisan's client can send no header: only a key that may do nothing but read is let in, it is kept out
of every log, and whether it still holds is asked again every few seconds.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from django.db import DatabaseError, close_old_connections
from django.db.models import Q

from kernel import clock, draining, keys, live, principals
from kernel.hub import Hub, Viewer
from kernel.stream import hub
from roasts.files import artisan_words
from roasts.models import Machine

logger = logging.getLogger(__name__)
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PREFIX = "/artisan/"
MAX_CLIENTS = 60
MAX_CLIENTS_PER_KEY = 6
CHECK_EVERY_S = 2.0
#: Artisan asks once a second or so; whoever asks faster than this waits.
MIN_INTERVAL_S = 0.02
SEND_TIMEOUT_S = 10.0
#: A key that was refused is not looked up again for this long: Artisan tries again five times a second.
REFUSED_FOR_S = 2.0
MAX_REMEMBERED = 1_000
READ_ONLY = frozenset({"read"})
#: Close codes: 4401 who are you, 4404 not there for you, 4429 too many, 1001 we go away.
UNKNOWN_KEY, NOT_THERE, TOO_MANY, GOING_AWAY = 4401, 4404, 4429, 1001

_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="artisan")


class NotAdmitted(Exception):
    """Nobody who may watch this machine. ``code`` is the close code, the message a word for the log."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who watches which machine."""

    key_id: str
    organization_id: str
    machine_id: str


@dataclass(slots=True)
class Door:
    """Who is connected now, and which addresses were refused a moment ago. On the event loop alone."""

    clients: Counter[str] = field(default_factory=Counter)  # key id → connections
    refused: dict[str, tuple[float, NotAdmitted]] = field(default_factory=dict)  # digest → until, why

    def enter(self, watcher: Watcher) -> None:
        if self.clients.total() >= MAX_CLIENTS or self.clients[watcher.key_id] >= MAX_CLIENTS_PER_KEY:
            raise NotAdmitted(TOO_MANY, "too_many_watchers")
        self.clients[watcher.key_id] += 1

    def leave(self, watcher: Watcher) -> None:
        self.clients[watcher.key_id] -= 1
        self.clients += Counter()  # forget who is at zero

    def recall(self, address: str, now_s: float) -> None:
        """Raise what this address was refused with a moment ago."""
        until_s, why = self.refused.get(address, (0.0, None))
        if why is not None and now_s < until_s:
            raise why

    def remember(self, address: str, why: NotAdmitted, now_s: float) -> None:
        if len(self.refused) >= MAX_REMEMBERED:
            self.refused.clear()
        self.refused[address] = (now_s + REFUSED_FOR_S, why)


_door = Door()


async def artisan_asgi(scope: Scope, receive: Receive, send: Send) -> None:
    """One connection, from its opening to its end."""
    machine_word, _, plain = scope["path"].removeprefix(PREFIX).strip("/").partition("/")
    scope["path"] = f"{PREFIX}…"  # the server logs it
    scope["raw_path"] = PREFIX.encode()
    await receive()  # websocket.connect
    try:
        watcher = await _admit(machine_word, plain)
    except NotAdmitted as error:
        logger.info("artisan: not admitted: %s", error.reason)
        await send({"type": "websocket.close", "code": error.code, "reason": error.reason})
        return
    try:
        await send({"type": "websocket.accept"})
        await _Connection(watcher, machine_word, plain, receive, send).serve()
    finally:
        _door.leave(watcher)


async def _admit(machine_word: str, plain: str) -> Watcher:
    """The watcher, counted in; NotAdmitted otherwise."""
    loop = asyncio.get_running_loop()
    if draining.is_draining():
        raise NotAdmitted(GOING_AWAY, "draining")
    address = keys.digest_key(f"{machine_word}/{plain}")
    _door.recall(address, loop.time())
    try:
        watcher = await loop.run_in_executor(_threads, _find_in_thread, machine_word, plain)
    except NotAdmitted as error:
        _door.remember(address, error, loop.time())
        raise
    _door.enter(watcher)
    return watcher


def _find_in_thread(machine_word: str, plain: str) -> Watcher:
    """In a thread of ours, which no request opens and closes connections for."""
    close_old_connections()
    try:
        return find_watcher(machine_word, plain)
    finally:
        close_old_connections()


def _follow_in_thread(house: Hub, organization_id: str) -> None:
    """From now on the hub's tail brings this organisation's decisions."""
    close_old_connections()
    try:
        house.tail.follow(organization_id)
    finally:
        close_old_connections()


def find_watcher(machine_word: str, plain: str) -> Watcher:
    """Blocking: the holder of a live key that may only read, and the machine by id or name in its organisation."""
    try:
        key = keys.find_key(plain, now=clock.now())
        principal = principals.for_key(key)
        if not set(key.scopes) <= READ_ONLY:
            raise NotAdmitted(UNKNOWN_KEY, "key_may_do_more_than_read")
        if not principal.may("view"):
            raise NotAdmitted(UNKNOWN_KEY, "key_may_not_view")
        rows = Machine.objects.for_principal(principal).filter(is_archived=False)
        named = machine_word[:100].replace("\0", "")
        machine = rows.filter(Q(pk=named) | Q(name=named)).order_by("pk").values_list("pk", "organization_id").first()
    except keys.BadKey as error:
        raise NotAdmitted(UNKNOWN_KEY, error.code) from None
    except DatabaseError:
        raise NotAdmitted(1013, "database_unavailable") from None
    if machine is None:
        raise NotAdmitted(NOT_THERE, "machine_not_found")
    return Watcher(key.pk, machine[1], machine[0])


class _Connection:
    """One Artisan. Questions are answered as they come; pushes go between them."""

    def __init__(self, watcher: Watcher, machine_word: str, plain: str, receive: Receive, send: Send) -> None:
        self._watcher = watcher
        self._address = (machine_word, plain)
        self._receive = receive
        self._send = send
        self._sending = asyncio.Lock()
        self._pushed: set[tuple[str, str]] = set()
        self._viewer = Viewer(watcher.organization_id, watcher.machine_id, frozenset({"decisions"}))

    async def serve(self) -> None:
        """Until the client leaves, its key is taken back, or the house closes."""
        house = hub()
        house.join(self._viewer)
        tasks = [asyncio.create_task(work()) for work in (self._answer, self._push, self._check)]
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(_threads, _follow_in_thread, house, self._watcher.organization_id)
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except (OSError, TimeoutError, DatabaseError) as error:
            logger.info("artisan: connection ended: %s", error)
        finally:
            house.leave(self._viewer)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            message = await self._receive()
            if message["type"] != "websocket.receive":
                return
            began_s = loop.time()
            text = message.get("text")
            if text is None:
                text = (message.get("bytes") or b"")[: artisan_words.MAX_FRAME_CHARS + 1].decode("utf-8", "replace")
            lines = artisan_words.answers(
                text, live.latest_reading(self._watcher.organization_id, self._watcher.machine_id), now=clock.now()
            )
            if lines:
                await self._write(artisan_words.frame_of(lines))
            await asyncio.sleep(max(0.0, MIN_INTERVAL_S * max(1, len(lines)) - (loop.time() - began_s)))

    async def _push(self) -> None:
        """What happened to the machine's roast, each thing once."""
        while not self._viewer.reason:
            lines = []
            for _, frame in await self._viewer.take(60.0):
                push = artisan_words.push_of(_decision_in(frame))
                if push is not None and push.key not in self._pushed:
                    self._pushed.add(push.key)
                    lines.append(push.line)
            if lines:
                await self._write(artisan_words.frame_of(lines))
        await self._close(GOING_AWAY, self._viewer.reason)

    async def _check(self) -> None:
        """A key that was taken back watches no longer; a database that is away takes nothing back."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            try:
                await loop.run_in_executor(_threads, _find_in_thread, *self._address)
            except NotAdmitted as error:
                if error.code in (UNKNOWN_KEY, NOT_THERE):
                    await self._close(error.code, error.reason)
                    return

    async def _write(self, text: str) -> None:
        async with self._sending:
            await asyncio.wait_for(self._send({"type": "websocket.send", "text": text}), SEND_TIMEOUT_S)

    async def _close(self, code: int, reason: str) -> None:
        async with self._sending:
            message = {"type": "websocket.close", "code": code, "reason": reason}
            await asyncio.wait_for(self._send(message), SEND_TIMEOUT_S)


def _decision_in(frame: bytes) -> dict[str, Any]:
    """The body of one server-sent `decision`; empty for any other frame."""
    for line in frame.split(b"\n"):
        if line.startswith(b"data: "):
            body = json.loads(line[6:])
            return body if isinstance(body, dict) else {}
    return {}
