"""Kept-alive HTTP/1.1 connections to the endpoint gateway; bodies stream both ways.

Rules: the head is ours, the parser is llhttp's (httptools).  A connection that broke is dropped.
One that the gateway closed while it lay idle shows before a byte of the answer: the request goes
out once more, on a new connection, if its whole body is still at hand.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import httptools

from nbaas.errors import EndpointError

IDLE_CONNECTIONS = 16
READ_AHEAD = 1 << 20  # bytes of an answer that wait here before the gateway is held back
CONNECT_TIMEOUT = 5.0
UNREACHABLE = "the endpoint gateway does not answer"

Header = tuple[bytes, bytes]
Connect = Callable[[], Awaitable[tuple[str, int]]]


def request_head(method: str, target: str, host: str, headers: list[Header]) -> bytes:
    """Return a request's head; `target` is raw path and query, `headers` hold no line breaks."""
    lines = [f"{method} {target} HTTP/1.1\r\nHost: {host}".encode("latin-1")]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


@dataclass(slots=True)
class Answer:
    """The head of an answer, and its body as it arrives."""

    status: int
    headers: list[Header]
    _connection: Connection

    @property
    def whole(self) -> bytes | None:
        """The body, if all of it is here already: the common case of one small packet."""
        if not self._connection.complete:
            return None
        body = b"".join(self._connection.chunks)
        self._connection.chunks.clear()
        return body

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body; EndpointError where the gateway leaves before its end."""
        while (chunk := await self._connection.next_chunk()) is not None:
            yield chunk


class Connection(asyncio.Protocol):
    """One exchange at a time; also the callbacks of httptools' parser."""

    def __init__(self) -> None:
        self.chunks: deque[bytes] = deque()
        self.complete = True  # no answer under way
        self.used = False  # has carried an exchange before this one
        self.lost = False
        self._status = 0
        self._headers: list[Header] = []
        self._has_head = False
        self._waiting = 0  # bytes in chunks
        self._paused = False
        self._keep = True
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None

    # what the pool and the handler call

    def start(self, head: bytes) -> None:
        """Begin an exchange; the body follows by `send`."""
        self._status, self._has_head, self._headers = 0, False, []
        self.complete = False
        self.chunks.clear()
        self._waiting = 0
        self._changed.clear()
        self._parser = httptools.HttpResponseParser(self)
        assert self._transport is not None  # noqa: S101 - connected by the pool
        self._transport.write(head)

    async def send(self, data: bytes) -> None:
        """Write a part of the body; waits while the gateway reads slower than the client sends."""
        if self.lost or self._transport is None:
            raise EndpointError(UNREACHABLE, hint="%endpoints shows its state")
        self._transport.write(data)
        await self._writable.wait()

    async def answer(self) -> Answer:
        """Return the answer once its head is here."""
        while not self._has_head:
            if self.lost:
                raise EndpointError(UNREACHABLE, hint="%endpoints shows its state")
            self._changed.clear()
            await self._changed.wait()
        return Answer(self._status, self._headers, self)

    async def next_chunk(self) -> bytes | None:
        while not self.chunks:
            if self.complete:
                return None
            if self.lost:
                raise EndpointError("the endpoint gateway left in the middle of its answer")
            self._changed.clear()
            await self._changed.wait()
        chunk = self.chunks.popleft()
        self._waiting -= len(chunk)
        if self._paused and self._waiting < READ_AHEAD and self._transport is not None:
            self._transport.resume_reading()
            self._paused = False
        return chunk

    @property
    def reusable(self) -> bool:
        return self.complete and self._keep and not self.lost and not self._paused

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - TCP
        self._transport = transport
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        if self.complete or self._parser is None:  # bytes that nobody asked for
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()
            self.connection_lost(None)
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.lost = True
        self._changed.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None  # noqa: S101 - it calls
        self._status = parser.get_status_code()
        self._keep = parser.should_keep_alive()
        self._has_head = True

    def on_body(self, body: bytes) -> None:
        self.chunks.append(body)
        self._waiting += len(body)
        if self._waiting > READ_AHEAD and not self._paused and self._transport is not None:
            self._transport.pause_reading()
            self._paused = True

    def on_message_complete(self) -> None:
        self.complete = True


@dataclass(slots=True)
class Pool:
    """Connections to one gateway; `locate` gives its address anew for each one that is opened.

    The address is read at every opening: the gateway may have come back on another port, and the
    old one may by then belong to somebody who would like our tokens.
    """

    locate: Connect
    idle: list[Connection] = field(default_factory=list)

    async def take(self, *, fresh: bool = False) -> Connection:
        """Return an idle connection, else a new one; EndpointError where none can be opened."""
        while self.idle and not fresh:
            connection = self.idle.pop()
            if connection.reusable:
                connection.used = True
                return connection
        host, port = await self.locate()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                _, opened = await loop.create_connection(Connection, host, port)
        except (OSError, TimeoutError) as lost:
            raise EndpointError(UNREACHABLE, hint="%endpoints shows its state") from lost
        return opened

    def give_back(self, connection: Connection) -> None:
        if connection.reusable and len(self.idle) < IDLE_CONNECTIONS:
            self.idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        for connection in self.idle:
            connection.close()
        self.idle.clear()

    async def exchange(self, head: bytes, body: bytes) -> tuple[Connection, Answer]:
        """Send a request whose body is all here; the caller gives the connection back."""
        connection = await self.take()
        try:
            return connection, await _round(connection, head, body)
        except EndpointError:
            # Closed by the gateway while idle: nothing of an answer came, so nothing was lost.
            connection.close()
            if not connection.used:
                raise
        connection = await self.take(fresh=True)
        return connection, await _round(connection, head, body)


async def _round(connection: Connection, head: bytes, body: bytes) -> Answer:
    connection.start(head + body)
    return await connection.answer()
