"""One HTTP/1.1 connection of a client to the gateway; llhttp (httptools) parses, the routes decide.

Rules: what can be refused by its head (route, token, length) is refused before its body is read.
Answers leave in the order of the requests.  Whatever a client does to its own connection ends there.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import deque
from typing import Protocol, cast

import httptools

from nbaas.deploy.events import STREAM_HEAD, chunk, ending, event
from nbaas.deploy.exchanges import Exchange, StreamExchange
from nbaas.deploy.heads import Heads
from nbaas.deploy.messages import JSON, WANTED, Answer, Request, error_body, status_line

KEPT_BODY = 64 << 10  # a refused body of at most so many bytes is read to keep the connection
LINGER = 2.0  # seconds to read on after a refusal, so that the client sees the answer
MAX_HEADERS = 32 << 10  # bytes
MAX_PIPELINED = 16


class Routes(Protocol):
    """What the gateway decides: by the head alone, then with the body."""

    heads: Heads

    def admit(self, request: Request) -> Answer | None: ...
    def readmit(self, request: Request) -> Answer | None: ...
    def handle(self, connection: Connection, request: Request) -> None: ...


class Connection(asyncio.Protocol):
    """Parser callbacks, pipelining and limits; holds at most one request in work."""

    __slots__ = (
        "_between", "_full", "_header_bytes", "_owed", "_parser", "_queue", "_received", "_request",
        "_routes", "_transport", "busy", "closing", "connections", "exchange", "lingering", "loop",
        "since",
    )  # fmt: skip

    def __init__(
        self, routes: Routes, connections: set[Connection], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._routes = routes
        self.loop = loop
        self.connections = connections
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._request = Request()
        self._queue: deque[Request] = deque()
        self._header_bytes = 0
        self._received = 0
        self._between = True  # the parser has seen the end of the last message, and nothing since
        self._full = False  # the client reads slower than we write
        self._owed = 0  # items written while it was so
        self.busy: Request | None = None
        self.exchange: Exchange | None = None
        self.closing = False
        self.lingering = False
        self.since = loop.time()  # when the present state began: idle, reading or lingering

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not a check: uvloop's transports do not derive from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._transport = None
        self.connections.discard(self)
        self._queue.clear()
        if self.exchange is not None:
            self.exchange.leave()
            self.exchange = None

    def data_received(self, data: bytes) -> None:
        if self.lingering or self.closing:
            return
        fresh = self._between
        if fresh and (known := self._routes.heads.recall(data)) is not None:
            known.refusal = self._routes.readmit(known)
            self._request = known
            self._complete(known)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse_connection(400, "no protocol to upgrade to")
        except httptools.HttpParserCallbackError:
            traceback.print_exc()  # ours
            self._refuse_connection(400, "the request cannot be read")
        except httptools.HttpParserError as wrong:
            self._refuse_connection(400, f"this is not HTTP/1.1: {wrong}")
        else:
            if fresh and self._between:
                self._routes.heads.learn(data, self._request)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if isinstance(self.exchange, StreamExchange):
            self.exchange.moved = self.loop.time()
            self.exchange.more(self._owed)
        self._owed = 0

    def eof_received(self) -> bool:
        return False

    # httptools

    def on_message_begin(self) -> None:
        self._between = False
        self._request = Request()
        self._header_bytes = self._received = 0
        self.since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        self._request.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        lower = name.lower()
        if lower in WANTED:
            self._request.headers[lower] = value
        if self._header_bytes > MAX_HEADERS and not self.closing:
            self._refuse_connection(431, f"headers over {MAX_HEADERS} bytes")

    def on_headers_complete(self) -> None:
        if self.closing or self.lingering:
            return
        request = self._request
        request.method = self._parser.get_method()
        request.keep_alive = self._parser.should_keep_alive()
        request.chunked = self._parser.get_http_version() != "1.0"
        identity = request.headers.get(b"x-request-id")
        if identity is not None and len(identity) <= 128:  # noqa: PLR2004 - an id, not a text
            request.extra = b"X-Request-Id: %b\r\n" % identity
        request.refusal = self._routes.admit(request)
        if request.refusal is not None:
            length = request.headers.get(b"content-length", b"0")
            small = length.isdigit() and int(length) <= KEPT_BODY
            if not small or b"transfer-encoding" in request.headers:
                self._refuse(request.refusal)
        elif request.headers.get(b"expect", b"").lower() == b"100-continue" and self._transport:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        request = self._request
        if self.closing or self.lingering or request.refusal is not None:
            return
        self._received += len(body)
        if self._received > request.limit:
            self._refuse_connection(413, f"the body is over {request.limit} bytes")
            return
        request.body.append(body)

    def on_message_complete(self) -> None:
        self._between = True
        if not (self.closing or self.lingering):
            self._complete(self._request)

    def _complete(self, request: Request) -> None:
        if self.busy is None:
            self._begin(request)
            return
        self._queue.append(request)
        if len(self._queue) > MAX_PIPELINED:
            self._refuse_connection(400, f"over {MAX_PIPELINED} requests at a time")
        elif self._transport is not None:
            self._transport.pause_reading()  # one that pipelines waits for its answers

    # requests and answers

    def _begin(self, request: Request) -> None:
        self.busy = request
        if request.refusal is not None:
            self.respond(request.refusal)
        else:
            self._routes.handle(self, request)

    def answer(self, exchange: Exchange, status: int, header_length: int, body: bytes) -> None:
        """Write what a replica answered: links call this."""
        self.exchange = None
        if isinstance(exchange, StreamExchange) and (exchange.begun or status == 200):  # noqa: PLR2004
            self._end(exchange, status, body)
            return
        if header_length >= 0:
            kind = (
                b"Content-Type: application/octet-stream\r\n"
                b"Inference-Header-Content-Length: %d\r\n" % header_length
            )
        else:
            kind = JSON
        self._write(status_line(status), kind + exchange.answer_head, body)

    def item(self, exchange: StreamExchange, body: bytes) -> None:
        """Write one item of a stream; the next is asked for once the client has room."""
        if self._transport is None or self.busy is None:
            return
        self._transport.write(self._opening(exchange) + chunk(event(body), self.busy.chunked))
        if self._full:
            self._owed += 1
        else:
            exchange.more(1)

    def break_off(self, reason: str) -> None:
        """End a stream that is under way, and the connection with it."""
        if self.busy is not None and isinstance(self.exchange, StreamExchange):
            self.busy.keep_alive = False
            self.exchange.leave()
            self.answer(self.exchange, 503, -1, error_body(reason))

    def _opening(self, exchange: StreamExchange) -> bytes:
        """Return the head of a stream, before its first event; nothing later on."""
        request = self.busy
        if exchange.begun or request is None:
            return b""
        if not request.chunked:
            request.keep_alive = False  # its end is that of the connection
        self._owed = 0
        head = status_line(200) + STREAM_HEAD + exchange.answer_head + request.extra
        head += b"Transfer-Encoding: chunked\r\n" if request.chunked else b""
        return head + (b"\r\n" if request.keep_alive else b"Connection: close\r\n\r\n")

    def _end(self, exchange: StreamExchange, status: int, body: bytes) -> None:
        """Write the last event of a stream: its end, or what went wrong."""
        if self._transport is None or self.busy is None:
            return
        if self._full and status == 504:  # noqa: PLR2004 - it has not read for so long
            self._transport.abort()
            return
        opening = self._opening(exchange)
        last = ending(exchange.items) if status == 200 else event(body, "error")  # noqa: PLR2004
        end = b"0\r\n\r\n" if self.busy.chunked else b""
        self._transport.write(opening + chunk(last, self.busy.chunked) + end)
        self._finished(self.busy)

    def respond(self, answer: Answer) -> None:
        self._write(status_line(answer.status), answer.headers, answer.body)

    def _write(self, line: bytes, headers: bytes, body: bytes) -> None:
        request = self.busy
        if self._transport is None or request is None:
            self.busy = None
            return
        headers += request.extra
        if not request.keep_alive:
            headers += b"Connection: close\r\n"
        if request.method == b"HEAD":
            self._transport.write(b"%b%bContent-Length: %d\r\n\r\n" % (line, headers, len(body)))
        else:
            self._transport.write(
                b"%b%bContent-Length: %d\r\n\r\n%b" % (line, headers, len(body), body)
            )
        self._finished(request)

    def _finished(self, request: Request) -> None:
        """Go on to the next request, or close."""
        self.busy = None
        self.since = self.loop.time()
        if self._transport is None:
            return
        if not request.keep_alive:
            self.closing = True
            self._transport.close()
        elif self._queue:
            self.loop.call_soon(self._next)

    def _next(self) -> None:
        if self.busy is None and self._queue:
            self._begin(self._queue.popleft())
        if not self._queue and self._transport is not None and not self.closing:
            self._transport.resume_reading()

    def _refuse(self, answer: Answer) -> None:
        """Answer at once and read on for a moment, so that a client still sending sees the answer."""
        if self._transport is None:
            return
        self._queue.clear()
        self.lingering = True
        self.since = self.loop.time()
        head = b"%b%bConnection: close\r\nContent-Length: %d\r\n\r\n" % (
            status_line(answer.status),
            answer.headers,
            len(answer.body),
        )
        if self.busy is None:  # else an answer is due first; the connection just closes
            self._transport.write(head + answer.body)
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _refuse_connection(self, status: int, reason: str) -> None:
        self._refuse(Answer(status, error_body(reason)))

    def sweep(self, now: float, *, idle: float, reading: float) -> None:
        """Close what has been silent too long; seconds."""
        if self._transport is None:
            return
        silent = now - self.since
        if self.lingering:
            if silent > LINGER:
                self._transport.abort()
        elif self.busy is None and not self._between:
            if silent > reading:
                self._refuse_connection(408, f"the request was not complete after {reading:g} s")
        elif self.busy is None and silent > idle:
            self._transport.close()

    def close_when_idle(self) -> None:
        """Close now, or after the answer that is due."""
        if self.busy is not None:
            self.busy.keep_alive = False
        elif self._transport is not None:
            self._transport.close()
