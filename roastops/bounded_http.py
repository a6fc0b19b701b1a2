"""Requests parsed by httptools (in C), with the bound on their heads that it lacks: an endless one is refused.

h11, in plain Python, has such a bound; a tenth of the web process's CPU on a full floor was its answers' framing.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Of request line and headers, or of the trailers behind a chunked body.
MAX_HEAD_BYTES = 32_768


class BoundedHttp(HttpToolsProtocol):
    """One connection. The parser keeps what it cannot hand on yet; more than MAX_HEAD_BYTES of it, beside what one read
    of the socket brings, ends the connection with 400."""

    _kept_bytes = 0
    _has_handed_on = False

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        self._has_handed_on = False
        super().data_received(data)
        self._kept_bytes = 0 if self._has_handed_on else self._kept_bytes + len(data)
        if self._kept_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's head is too long.")

    def on_headers_complete(self) -> None:
        """A head is whole."""
        self._has_handed_on = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        self._has_handed_on = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._has_handed_on = True
        super().on_message_complete()
