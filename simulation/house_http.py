"""Requests to the house, through every middleware to the view and back, without what Django's test client adds.

The handler is Django's own; what it leaves out is keeping templates and signals for a test to look at. As the test
client does, it raises what a view raised: an error that nobody answers for is a finding, not a 500.
"""

from __future__ import annotations

import sys
from io import BytesIO
from typing import Any

from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIRequest
from django.core.signals import got_request_exception

_ALWAYS: dict[str, Any] = {
    "REMOTE_ADDR": "127.0.0.1", "SCRIPT_NAME": "", "SERVER_NAME": "testserver", "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.1", "CONTENT_TYPE": "application/json", "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http", "wsgi.errors": sys.stderr, "wsgi.multiprocess": True, "wsgi.multithread": False,
    "wsgi.run_once": False,
}  # fmt: skip


class Handler(BaseHandler):
    """``ask`` is one request and its answer."""

    _middleware_chain: Any

    def __init__(self) -> None:
        super().__init__()
        self._raised: BaseException | None = None

    def _hear(self, **_sent: Any) -> None:
        self._raised = sys.exc_info()[1]

    def ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Any:
        """``headers`` as WSGI names them. Raises whatever a view did not answer for."""
        if self._middleware_chain is None:
            self.load_middleware()
            got_request_exception.connect(self._hear)
        place, _, query = path.partition("?")
        environ = {
            **_ALWAYS, "REQUEST_METHOD": method, "PATH_INFO": place, "QUERY_STRING": query,
            "CONTENT_LENGTH": str(len(body)), "wsgi.input": BytesIO(body), **headers,
        }  # fmt: skip
        self._raised = None
        response: Any = self.get_response(WSGIRequest(environ))
        for closer in response._resource_closers:
            closer()
        if self._raised is not None:
            raise self._raised
        return response
