"""The adapter between the server and Django: what a request sent is let go with its answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from roastops.wsgi_threads import WsgiInThreads

SCOPE: dict[str, Any] = {
    "method": "POST", "path": "/v1/imports", "query_string": b"", "http_version": "1.1", "headers": [],
}  # fmt: skip


@pytest.mark.parametrize("fails", [False, True])
def test_what_was_sent_is_let_go_with_the_answer_though_the_request_lives_on(fails: bool) -> None:
    lives_on: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    read: list[bytes] = []

    def application(environment: dict[str, Any], start_response: Any) -> list[bytes]:
        lives_on.append(environment)  # as a request does that holds itself in a circle
        read.append(environment["wsgi.input"].read())
        if fails:
            raise ValueError("told")
        start_response("200 OK", [])
        return [b"done"]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"a roast"}

    async def send(message: dict[str, Any]) -> None:
        answers.append(message)

    async def ask() -> None:
        await WsgiInThreads(application, workers=1)(SCOPE, receive, send)

    if fails:
        with pytest.raises(ValueError, match="told"):
            asyncio.run(ask())
    else:
        asyncio.run(ask())
        assert answers[-1]["body"] == b"done"
    assert read == [b"a roast"] and lives_on[0]["wsgi.input"].closed
