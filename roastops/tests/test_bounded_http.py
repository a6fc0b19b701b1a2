"""The server's own parser of requests: what it takes as before, and the bound on heads."""

import asyncio

import pytest
import uvicorn

from roastops.bounded_http import MAX_HEAD_BYTES, BoundedHttp


async def _echo(scope, receive, send):
    """Answers with the path and the length of the body."""
    if scope["type"] != "http":
        return
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = f"{scope['path']} {size}".encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _read_on(reader, said):
    try:
        while part := await reader.read(65_536):
            said += part
    except ConnectionError:
        return


def spoken(*pieces, until=b""):
    """What a server answers to the pieces, each sent as a read of its own, until it hangs up, or has said
    ``until`` (where nothing is waited for: for a moment)."""

    async def scenario():
        config = uvicorn.Config(_echo, http=BoundedHttp, lifespan="off", log_config=None, host="127.0.0.1", port=0)
        server = uvicorn.Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup()
        reader, writer = await asyncio.open_connection(*server.servers[0].sockets[0].getsockname())
        said = bytearray()
        reading = asyncio.create_task(_read_on(reader, said))
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.002)  # a read of its own
                if reading.done():
                    break
            begun_s = asyncio.get_running_loop().time()
            while not reading.done() and asyncio.get_running_loop().time() - begun_s < (10 if until else 0.2):
                if until and until in said:
                    break
                await asyncio.sleep(0.005)
        except ConnectionError:
            await reading
        finally:
            reading.cancel()
            writer.close()
            await server.shutdown()
        return bytes(said)

    return asyncio.run(scenario())


HEAD = b"GET /x HTTP/1.1\r\nHost: here\r\n"
CHUNKED = b"POST /x HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
TOO_LONG = b"head is too long."
PIECE = b"a" * 4096


def test_request_in_one_piece_and_byte_by_byte():
    assert spoken(HEAD + b"\r\n", until=b"/x 0").endswith(b"/x 0")
    assert spoken(*(bytes([byte]) for byte in HEAD + b"\r\n"), until=b"/x 0").endswith(b"/x 0")


def test_head_as_long_as_the_bound_is_taken():
    room = MAX_HEAD_BYTES - len(HEAD) - 10
    long_head = HEAD + b"x: " + b"a" * room
    pieces = [long_head[at : at + 4096] for at in range(0, len(long_head), 4096)]
    assert spoken(*pieces, b"\r\n\r\n", until=b"/x 0").endswith(b"/x 0")


@pytest.mark.parametrize("begin", [b"", b"GET /", HEAD, HEAD + b"x: "], ids=["nothing", "line", "name", "value"])
def test_head_without_an_end_is_refused(begin):
    said = spoken(begin, *[PIECE] * (MAX_HEAD_BYTES // 4096 + 20), until=b"HTTP/1.1 400")
    assert said.startswith(b"HTTP/1.1 400")


def test_many_short_headers_without_an_end_are_refused():
    pieces = [b"".join(b"n%d-%d: 1\r\n" % (piece, each) for each in range(400)) for piece in range(20)]
    said = spoken(HEAD, *pieces, until=TOO_LONG)
    assert said.startswith(b"HTTP/1.1 400")
    assert TOO_LONG in said


def test_trailers_without_an_end_are_refused():
    said = spoken(CHUNKED, b"5\r\nhello\r\n0\r\n", b"x: ", *[PIECE] * (MAX_HEAD_BYTES // 4096 + 20), until=TOO_LONG)
    assert TOO_LONG in said


def test_long_bodies_are_not_heads():
    plain = b"POST /x HTTP/1.1\r\nHost: here\r\nContent-Length: 204800\r\n\r\n"
    assert spoken(plain, *[PIECE] * 50, until=b"/x 204800").endswith(b"/x 204800")
    chunks = [b"1000\r\n" + PIECE + b"\r\n"] * 50
    assert spoken(CHUNKED, *chunks, b"0\r\n\r\n", until=b"/x 204800").endswith(b"/x 204800")


def test_many_requests_on_one_connection_are_counted_singly():
    whole, last = b"x: " + b"a" * 8000 + b"\r\n\r\n", HEAD.replace(b"/x", b"/last") + b"\r\n"
    assert spoken(*[HEAD + whole] * 12, last, until=b"/last 0").count(b"/x 0") == 12


@pytest.mark.parametrize(
    "hostile",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET /\xff\xfe HTTP/1.1\r\n\r\n", b"GET\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"GET / HTTP/9.9\r\n\r\n", b"CONNECT x:1 HTTP/1.1\r\n\r\n" + b"\0" * 40, b"GET http://[ HTTP/1.1\r\n\r\n",
        CHUNKED + b"zz\r\n\r\n",
    ],
)  # fmt: skip
def test_nonsense_is_no_error_of_ours(hostile):
    said = spoken(hostile)
    assert b"HTTP/1.1 5" not in said
    assert b"Traceback" not in said
