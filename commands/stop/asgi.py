"""STOP over HTTP: an ASGI application of its own. Wire first, record after; no database before the wire.

``POST /v1/machines/<id>/stop`` with one of: a console STOP token (header ``X-Stop-Token`` or ``stop_token`` in
the JSON body), a bearer key, or the session cookie with its CSRF token. The answer is
``{result, halt_id, first_byte_ms, proved_ms, by_hand, proof, recorded}``: ``heat_off`` or ``unproved``.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.db import DatabaseError, close_old_connections, connection
from rest_framework.authentication import CSRFCheck

from commands.stop import authority as stop_authority
from commands.stop import filing as halt_filing
from commands.stop import journal, wire
from commands.stop.authority import AUTHORITY, Credentials, Refused
from commands.stop.journal import HaltNote
from drivers import keeper_client, keeper_config
from drivers.keeper_client import KeeperUnreachable, StopAnswer
from drivers.keeper_config import BadConfig, KeeperConfig
from drivers.port import DriverError
from kernel import clock, ids, metrics
from kernel.principals import Principal

logger = logging.getLogger(__name__)
Send = Callable[[Any], Awaitable[None]]
Receive = Callable[[], Awaitable[Any]]

PATH = re.compile(r"^/v1/machines/(?P<machine_id>[A-Za-z0-9_\-]{1,64})/stop/?$")
MAX_BODY_BYTES = 65_536
BODY_WAIT_S = 1.0
NEWER_WAIT_S = 0.25
KEEPER_WAIT_S = 8.0
#: A living keeper says within milliseconds that the byte left (or that there is none to send).
FIRST_WORD_S = 1.5
#: An answer without a keeper is given after this long; trying goes on behind it.
ANSWER_WITHOUT_KEEPER_S = 2.5
RECORD_WAIT_S = 0.3

# Pools of their own: a busy web pool, or a frozen database, never stands before a STOP.
_records = ThreadPoolExecutor(max_workers=8, thread_name_prefix="stop-record")
_notes = ThreadPoolExecutor(max_workers=4, thread_name_prefix="stop-note")
_revivals = ThreadPoolExecutor(max_workers=64, thread_name_prefix="stop-revive")
_left_behind: set[asyncio.Task[StopAnswer]] = set()
_lookups = ThreadPoolExecutor(max_workers=8, thread_name_prefix="stop-lookup")


def start() -> None:
    """Begin to know who may stop, and have the STOP key (called when the server starts)."""
    keeper_config.ensure_stop_key(settings.RUN_DIR)
    AUTHORITY.start()


async def stop_asgi(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """One STOP request."""
    begun_s = clock.monotonic()
    try:
        machine_id, principal, config = await _admit(scope, receive)
        status, body = 200, await stop_machine(machine_id, principal, config, begun_s=begun_s)
    except Refused as refusal:
        status = refusal.status
        body = {"error": refusal.code, "message": refusal.message, "how_to_fix": refusal.how_to_fix}
    except Exception:  # the outermost loop of STOP: an honest answer must come, whatever broke
        logger.exception("STOP failed")
        status, body = 200, _unproved(ids.new("hlt"), "stop_failed", is_recorded=False)
    await _answer(send, status, body)


async def _answer(send: Send, status: int, body: dict[str, Any]) -> None:
    raw = json.dumps(body).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(raw)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": raw})


# --- who, and which machine ---


async def _admit(scope: dict[str, Any], receive: Receive) -> tuple[str, Principal, KeeperConfig | None]:
    """The machine's id, who stops it, and how to reach its keeper (None: no keeper was ever configured here)."""
    match = PATH.match(scope["path"])
    if match is None:
        raise Refused(404, "machine_not_found", "There is no such machine here.", "List them with GET /v1/machines.")
    machine_id = match["machine_id"]
    given = _credentials(scope)
    if given.is_empty:
        given = Credentials(stop_token=_token_in(await _read_body(receive)))
    config = known_config(machine_id)
    try:
        return machine_id, _authorize(given, machine_id, config), config
    except Refused as refusal:
        if not refusal.is_unknown:
            raise
    loop = asyncio.get_running_loop()
    has_newer = await loop.run_in_executor(_lookups, AUTHORITY.wait_for_newer, NEWER_WAIT_S)
    try:
        return machine_id, _authorize(given, machine_id, config), config
    except Refused as refusal:
        if refusal.is_unknown and not has_newer:
            raise Refused(
                503, "cannot_check", "We cannot check who you are: the database does not answer.",
                "Use the console's STOP, `manage.py stop`, the machine's panel or the mains.",
            ) from None  # fmt: skip
        raise


def _authorize(given: Credentials, machine_id: str, config: KeeperConfig | None) -> Principal:
    snapshot = AUTHORITY.snapshot
    organization_id = snapshot.machines.get(machine_id) or (config.organization_id if config is not None else None)
    try:
        key = keeper_config.read_stop_key(settings.RUN_DIR / keeper_config.STOP_KEY_NAME)
    except (OSError, BadConfig) as error:
        logger.error("the STOP key cannot be read: %s", error)
        key = ids.random_bytes(32)  # no token was signed with it
    return stop_authority.authorize(
        given, machine_id, organization_id or None, snapshot=snapshot, stop_key=key, now=clock.now()
    )


def known_config(machine_id: str) -> KeeperConfig | None:
    """How to reach the machine's keeper, as the loop wrote it down; None where no loop ever did."""
    try:
        return keeper_config.read(keeper_config.config_path(settings.RUN_DIR, machine_id))
    except BadConfig as error:
        if settings.RUN_DIR.joinpath(f"{machine_id}.json").exists():
            logger.error("%s", error)
        return None


def _credentials(scope: dict[str, Any]) -> Credentials:
    """What the headers say. A bearer key makes a session beside it count for nothing, as elsewhere."""
    headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
    authorization = headers.get(b"authorization", "")
    if authorization[:7].lower() == "bearer ":
        return Credentials(bearer=authorization[7:].strip())
    token = headers.get(b"x-stop-token", "")
    if b"cookie" not in headers:
        return Credentials(stop_token=token)
    request = ASGIRequest(scope, io.BytesIO())
    session_key = request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")
    if not session_key or not headers.get(b"x-csrftoken"):
        return Credentials(stop_token=token)  # or perhaps the body has a token
    return Credentials(stop_token=token, session_key=session_key, is_csrf_good=_is_csrf_good(request))


def _is_csrf_good(request: ASGIRequest) -> bool:
    check = CSRFCheck(lambda _request: None)  # type: ignore[arg-type,return-value]
    check.process_request(request)
    return not check.process_view(request, None, (), {})  # type: ignore[arg-type]


async def _read_body(receive: Receive) -> bytes:
    """At most MAX_BODY_BYTES, at most BODY_WAIT_S."""
    body = b""
    try:
        async with asyncio.timeout(BODY_WAIT_S):
            while len(body) <= MAX_BODY_BYTES:
                message = await receive()
                body += message.get("body", b"")
                if message["type"] != "http.request" or not message.get("more_body"):
                    break
    except TimeoutError:
        return b""
    return body


def _token_in(body: bytes) -> str:
    """``stop_token`` of a JSON object; nonsense is no token (and never a reason not to stop)."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    token = content.get("stop_token") if isinstance(content, dict) else None
    return token if isinstance(token, str) else ""


# --- the wire, then the record ---


async def stop_machine(
    machine_id: str, principal: Principal, config: KeeperConfig | None, *, begun_s: float
) -> dict[str, Any]:
    """Make the machine safe and say honestly what is proved. ``begun_s``: the request's monotonic second."""
    note = _new_note(machine_id, principal)
    if config is None:
        return await _recorded(note.ended(**_failed("no_keeper_configured")))
    by = f"{principal.name} ({principal.id})"
    opened: list[Future[Any]] = []
    is_sent = asyncio.Event()

    def sent(_first_byte_s: float | None, latched: dict[str, Any] | None) -> None:
        is_sent.set()
        opened.append(_records.submit(_file, wire.joined(note, latched)))

    asking = asyncio.create_task(
        keeper_client.stop_async(
            config, stop_id=note.stop_id, by=by, reason="STOP", on_sent=sent, timeout_s=KEEPER_WAIT_S
        )
    )
    try:
        if not await _has_begun(asking, is_sent):
            _left_behind.add(asking)  # it stays asked: a keeper that wakes up obeys
            asking.add_done_callback(_forget)
            raise KeeperUnreachable("the keeper is there and does not answer")
        answer = await asking
    except (DriverError, OSError) as error:
        logger.warning("STOP: the keeper of %s does not answer: %s", machine_id, error)
        return await _without_keeper(note, config, by, begun_s)
    ended = wire.joined(note, answer.latched).ended(**_outcome(answer, begun_s))
    return await _recorded(ended, after=opened)


async def _has_begun(asking: asyncio.Task[StopAnswer], is_sent: asyncio.Event) -> bool:
    """Whether the keeper said within FIRST_WORD_S that the byte left, or ended the request one way or other."""
    waiting = asyncio.create_task(is_sent.wait())
    done, _ = await asyncio.wait({asking, waiting}, timeout=FIRST_WORD_S, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    return bool(done)


def _forget(asking: asyncio.Task[StopAnswer]) -> None:
    _left_behind.discard(asking)
    if not asking.cancelled() and asking.exception() is not None:
        logger.warning("STOP: a keeper that did not answer in time: %s", asking.exception())


async def _without_keeper(note: HaltNote, config: KeeperConfig, by: str, begun_s: float) -> dict[str, Any]:
    """Nobody holds the machine: start a keeper or take the device; answer in time and go on trying behind it."""
    trying = _revivals.submit(_revive, note, config, by, begun_s)
    try:
        ended = await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(trying)), ANSWER_WITHOUT_KEEPER_S)
    except TimeoutError:
        note = wire.joined(note, wire.standing_latch(config))
        return await _recorded(note.ended(**_failed("keeper_dead")), later=trying)
    return await _recorded(ended)


def _revive(note: HaltNote, config: KeeperConfig, by: str, begun_s: float) -> HaltNote:
    try:
        answer = wire.stop_reviving(config, by=by, reason="STOP", stop_id=note.stop_id)
    except (DriverError, OSError) as error:
        logger.error("STOP: %s cannot be reached: %s", config.machine_id, error)
        note = wire.joined(note, wire.standing_latch(config))
        return note.ended(**_failed(getattr(error, "code", "unreachable"), str(error)))
    return wire.joined(note, answer.latched).ended(**_outcome(answer, begun_s))


def _outcome(answer: StopAnswer, begun_s: float) -> dict[str, Any]:
    return wire.outcome_of(answer, begun_s)


def _failed(reason: str, message: str = "") -> dict[str, Any]:
    return {
        "result": wire.UNPROVED,
        "by_hand": list(wire.BY_HAND_NO_KEEPER),
        "proof": {"outcome": "unproved", "reason": reason, "message": message},
    }


async def _recorded(
    note: HaltNote,
    *,
    after: list[Future[Any]] | None = None,
    later: Future[HaltNote] | None = None,
) -> dict[str, Any]:
    """Journal, then file; the answer waits for the store RECORD_WAIT_S at most, and names the same halt either way.
    What comes ``later`` is filed after it: the newest word stands."""
    loop = asyncio.get_running_loop()
    is_recorded, halt_id = False, note.halt_id
    filing = _records.submit(_keep_and_file, note, after or [])
    if later is not None:
        later.add_done_callback(lambda done: _records.submit(_keep_and_file, done.result(), [filing]))
    try:
        filed_id = await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(filing)), RECORD_WAIT_S)
        is_recorded, halt_id = bool(filed_id), filed_id or halt_id
    except TimeoutError:
        # The pool may be full of jobs that wait for a frozen database: the note goes to disk past it. (A job that
        # has begun wrote it already, and may have filed a later one since.)
        if not filing.running() and not filing.done():
            await loop.run_in_executor(_notes, _keep, note)
    return {
        "result": note.result,
        "halt_id": halt_id,
        "first_byte_ms": note.first_byte_ms,
        "proved_ms": note.proved_ms,
        "by_hand": note.by_hand,
        "proof": note.proof,
        "recorded": is_recorded,
    }


def _keep(note: HaltNote) -> None:
    try:
        journal.write(settings.DATA_DIR, note)
    except OSError as error:
        logger.error("halt %s could not be journalled: %s", note.stop_id, error)


def _keep_and_file(note: HaltNote, after: list[Future[Any]] | None = None) -> str:
    """The halt's id once it is in the store; "" where it is only journalled (the loop files it later)."""
    _keep(note)
    _count(note)
    for earlier in after or []:
        earlier.result()
    halt_id = _file(note)
    if halt_id:
        journal.remove(journal.folder(settings.DATA_DIR) / f"{note.stop_id}.json", note)
    return halt_id


def _count(note: HaltNote) -> None:
    """Long after the wire: the figures, and a line in the log."""
    if note.first_byte_ms is not None:
        metrics.STOP_FIRST_BYTE_SECONDS.observe(note.first_byte_ms / 1000)
    logger.info(
        "STOP by %s: %s, first byte after %s ms, proved after %s ms",
        note.by_name,
        note.result,
        note.first_byte_ms,
        note.proved_ms,
        extra={"machine_id": note.machine_id},
    )


def _file(note: HaltNote) -> str:
    try:
        close_old_connections()
        return str(halt_filing.file_note(note, now=clock.now()).pk)
    except (DatabaseError, halt_filing.UnknownMachine) as error:
        logger.error("halt %s is journalled, not filed: %s", note.stop_id, error)
        return ""
    finally:
        connection.close()


def _new_note(machine_id: str, principal: Principal) -> HaltNote:
    return HaltNote(
        stop_id=ids.new("hlt"),
        machine_id=machine_id,
        kind="stop",
        code="",
        by_kind=principal.kind,
        by_id=principal.id,
        by_name=principal.name,
        opened_at=clock.now().isoformat(),
    )


def _unproved(halt_id: str, reason: str, *, is_recorded: bool) -> dict[str, Any]:
    failed = _failed(reason)
    return {**failed, "halt_id": halt_id, "first_byte_ms": None, "proved_ms": None, "recorded": is_recorded}
