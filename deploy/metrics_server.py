"""``/metrics`` over HTTP, on a port of its own. An adapter (Trio).

In Trio rather than beside it in asyncio: what it shows is the Trio loop's, and a scrape that
does not come back shows that the loop stands still. One request for each connection, each
bounded in size, time and number.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import trio

from deploy.metrics import MetricsSnapshot, render

log = logging.getLogger("roost.metrics")

HEAD_BYTES_MAX = 8192
REQUEST_TIMEOUT_S = 5.0
CONNECTIONS_MAX = 16
TEXT = "text/plain; charset=utf-8"

Source = Callable[[], MetricsSnapshot]


async def serve_metrics(source: Source, listeners: list[trio.SocketListener]) -> None:
    """Answer ``GET /metrics`` with ``source()``, for ever; the listeners are closed at the end."""
    limiter = trio.CapacityLimiter(CONNECTIONS_MAX)
    await trio.serve_listeners(partial(_answer_one, source, limiter), listeners)


async def _answer_one(
    source: Source, limiter: trio.CapacityLimiter, stream: trio.SocketStream
) -> None:
    async with stream:
        # Twice: whoever holds a place leaves it after once.
        with trio.move_on_after(2 * REQUEST_TIMEOUT_S):
            async with limiter:
                with trio.move_on_after(REQUEST_TIMEOUT_S):
                    await _answer(source, stream)


async def _answer(source: Source, stream: trio.SocketStream) -> None:
    try:
        head = await _read_head(stream)
        if head is not None:
            await stream.send_all(respond(head, source))
            await stream.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def _read_head(stream: trio.SocketStream) -> bytes | None:
    """The request line and headers; None when the other side leaves or says too much."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = await stream.receive_some(HEAD_BYTES_MAX)
        head += data
        if not data or len(head) > HEAD_BYTES_MAX:
            return None
    return head


def respond(head: bytes, source: Source) -> bytes:
    """The whole response to the request that ``head`` is."""
    first, *lines = head.split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return _response("400 Bad Request", b"not an HTTP/1 request\n")
    method, target, _ = words
    if target.partition("?")[0] != "/metrics":
        return _response("404 Not Found", b"metrics are at /metrics\n")
    if method not in ("GET", "HEAD"):
        return _response("405 Method Not Allowed", b"only GET and HEAD\n")
    accept = ",".join(
        v.strip() for k, _, v in (x.partition(":") for x in lines) if k.lower() == "accept"
    )
    try:
        body, content_type = render(source(), accept)
    except Exception:
        log.exception("the metrics could not be read")
        return _response("500 Internal Server Error", b"see the host's log\n")
    return _response("200 OK", body, content_type, with_body=method == "GET")


def _response(
    status: str,
    body: bytes,
    content_type: str = "text/plain; charset=utf-8",
    with_body: bool = True,
) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (body if with_body else b"")
