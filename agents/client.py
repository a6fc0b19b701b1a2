"""A RoastOps client for agents: REST and the live stream over HTTP. Imports nothing of ours.

Every wait is bounded; what may be repeated is repeated a bounded number of times, and every POST carries an
idempotency key so that repeating it cannot act twice. The caller gives ``sleep``: the client reads no clock.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

ATTEMPTS = 4
BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)
MAX_RETRY_AFTER_S = 10.0
MAX_FRAME_BYTES = 1_000_000
STREAM_SILENCE_S = 40.0  # the server's heartbeat comes every 15 s
_MAY_PASS = frozenset({429, 502, 503, 504})  # the server asks to come back


class ClientError(Exception):
    """The server said no, or nothing. ``code`` is its stable word, ``how_to_fix`` its advice."""

    def __init__(self, code: str, message: str, how_to_fix: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.how_to_fix = how_to_fix
        self.status = status

    def __str__(self) -> str:
        return " ".join(part for part in (f"{self.message} [{self.code}]", self.how_to_fix) if part)


class Unauthorized(ClientError):
    """401: the key opens nothing. There is no point in trying again."""


class Refused(ClientError):
    """Any other 4xx: understood and refused."""


class Unreachable(ClientError):
    """No answer, or a 5xx, after every attempt we allow ourselves."""


@dataclass(frozen=True, slots=True)
class Event:
    """One frame of the stream. ``kind`` is the server's (reading, decision, …) or one of ours: ``connected``,
    ``lost`` (``data`` has ``reason`` and ``retry_in_s``), ``silence`` (a heartbeat: nothing new)."""

    kind: str
    data: dict[str, Any] = field(default_factory=dict)
    number: int | None = None


class RoastOpsClient:
    """One key at one server."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        sleep: Callable[[float], None],
        timeout_s: float = 10.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._sleep = sleep
        self._http = httpx.Client(
            base_url=url.rstrip("/"),
            headers={"Authorization": f"Bearer {key}", "User-Agent": "roastops-agent/1"},
            timeout=httpx.Timeout(timeout_s, connect=min(5.0, timeout_s)),
            transport=transport,
            trust_env=False,
            follow_redirects=False,
        )

    def close(self) -> None:
        self._http.close()

    # --- requests ---

    def machines(self) -> list[dict[str, Any]]:
        """Every machine of our organisation (first page: 200)."""
        return list(self._get("/v1/machines", limit=200).get("results", []))

    def machine(self, machine_id: str) -> dict[str, Any]:
        """One machine with its latest reading, envelope, state and halts."""
        return self._get(f"/v1/machines/{machine_id}")

    def roasts(self, **filters: Any) -> list[dict[str, Any]]:
        """Roasts, newest first (one page)."""
        return list(self._get("/v1/roasts", **filters).get("results", []))

    def events(self, roast_id: str) -> list[dict[str, Any]]:
        """The marks on one roast's curve."""
        return list(self._get(f"/v1/roasts/{roast_id}/events").get("results", []))

    def proposal(self, proposal_id: str) -> dict[str, Any]:
        """One proposal as it stands."""
        return self._get(f"/v1/proposals/{proposal_id}")

    def propose(self, body: Mapping[str, Any], *, idempotency_key: str) -> dict[str, Any]:
        """Ask for one order; the answer says whether it is held, allowed or refused, and why."""
        return self._request("POST", "/v1/proposals", json=dict(body), headers={"Idempotency-Key": idempotency_key})

    def _get(self, path: str, **query: Any) -> dict[str, Any]:
        return self._request("GET", path, params={name: value for name, value in query.items() if value is not None})

    def _request(self, method: str, path: str, **parts: Any) -> dict[str, Any]:
        failure: ClientError = Unreachable("unreachable", f"{method} {path} was not tried.")
        for attempt in range(ATTEMPTS):
            wait_s = BACKOFF_S[attempt]
            try:
                response = self._http.request(method, path, **parts)
            except httpx.TransportError as error:
                failure = Unreachable("unreachable", f"{method} {path}: {error or type(error).__name__}.")
            else:
                if response.is_success:
                    return _json(response)
                failure = _error(response)
                if not _is_worth_repeating(response, failure):
                    raise failure
                wait_s = _retry_after_s(response, wait_s)
            if attempt + 1 < ATTEMPTS:
                self._sleep(wait_s)
        raise failure

    # --- the stream ---

    def follow(self, machine_id: str, *, kinds: str = "readings,decisions") -> Iterator[Event]:
        """The live stream of one machine, for ever: reconnects, resumes decisions after the last one seen, and
        says ``connected`` and ``lost`` in between. Raises Unauthorized (401) and Refused (403, 404) only."""
        last_number: int | None = None
        failures = 0
        while True:
            retry_s: float | None = None
            try:
                for event in self._read_stream(machine_id, kinds, last_number):
                    if event.kind == "retry":
                        retry_s = min(event.data["retry_s"], BACKOFF_S[-1])
                        continue
                    failures = 0
                    if event.number is not None or event.kind == "reset":
                        last_number = event.number
                    yield event
                reason = "the server ended the stream"
            except httpx.TransportError as error:
                reason = str(error) or type(error).__name__
            except Unreachable as error:
                reason = str(error)
            wait_s = retry_s if retry_s is not None else BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
            failures += 1
            yield Event("lost", {"reason": reason, "retry_in_s": wait_s})
            self._sleep(wait_s)

    def _read_stream(self, machine_id: str, kinds: str, last_number: int | None) -> Iterator[Event]:
        query = {"machine": machine_id, "kind": kinds}
        headers = {"Accept": "text/event-stream"}
        if last_number is not None:
            headers["Last-Event-ID"] = str(last_number)
        timeout = httpx.Timeout(STREAM_SILENCE_S, connect=5.0)
        with self._http.stream("GET", "/v1/stream", params=query, headers=headers, timeout=timeout) as response:
            if not response.is_success:
                response.read()
                failure = _error(response)
                if _is_worth_repeating(response, failure):
                    raise Unreachable(failure.code, failure.message, failure.how_to_fix, failure.status)
                raise failure
            yield Event("connected")
            yield from parse_events(response.iter_bytes())


def parse_events(chunks: Iterator[bytes]) -> Iterator[Event]:
    """Server-sent events out of bytes. A comment is ``silence``; ``retry:`` is its own event; data that is not a
    JSON object is passed over. A frame over 1 MB ends the stream."""
    buffer = b""
    for chunk in chunks:
        buffer = (buffer + chunk).replace(b"\r\n", b"\n")
        while b"\n\n" in buffer:
            frame, buffer = buffer.split(b"\n\n", 1)
            yield from _parse_frame(frame.decode("utf-8", errors="replace"))
        if len(buffer) > MAX_FRAME_BYTES:
            raise Unreachable("frame_too_long", f"The stream sent a frame of over {MAX_FRAME_BYTES} bytes.")


def _parse_frame(frame: str) -> Iterator[Event]:
    fields: dict[str, list[str]] = {}
    is_comment = False
    for line in frame.split("\n"):
        name, _, value = line.partition(":")
        if not name:
            is_comment = True
        else:
            fields.setdefault(name, []).append(value.removeprefix(" "))
    if "retry" in fields and fields["retry"][-1].isdigit():
        yield Event("retry", {"retry_s": int(fields["retry"][-1]) / 1000})
    if "data" in fields:
        data = _object("\n".join(fields["data"]))
        number = fields.get("id", [""])[-1]
        if data is not None:
            yield Event(fields.get("event", ["message"])[-1], data, int(number) if number.isdigit() else None)
    elif is_comment:
        yield Event("silence")


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _json(response: httpx.Response) -> dict[str, Any]:
    body = _object(response.text)
    if body is None:
        raise Unreachable("not_json", f"{response.request.url.path} answered something that is not a JSON object.")
    return body


def _error(response: httpx.Response) -> ClientError:
    body = _object(response.text) or {}
    kind = Unauthorized if response.status_code == 401 else Refused if response.status_code < 500 else Unreachable
    return kind(
        str(body.get("error") or f"http_{response.status_code}"),
        str(body.get("message") or f"{response.request.url.path} answered {response.status_code}."),
        str(body.get("how_to_fix") or ""),
        response.status_code,
    )


def _is_worth_repeating(response: httpx.Response, failure: ClientError) -> bool:
    return response.status_code in _MAY_PASS or response.status_code == 500 or failure.code == "in_progress"


def _retry_after_s(response: httpx.Response, otherwise_s: float) -> float:
    text = response.headers.get("Retry-After", "")
    return min(float(text), MAX_RETRY_AFTER_S) if text.isdigit() else otherwise_s
