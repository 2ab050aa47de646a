"""Kept-alive HTTP/1.1 connections to the endpoint gateway; bodies stream both ways.

Rules: the head is ours, the parser is llhttp's (httptools).  A connection that broke is dropped.
One that the gateway closed while it lay idle shows before a byte of the answer: the request goes
out once more, on a new connection, if its whole body is still at hand.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

import httptools

from nbaas.errors import EndpointError

IDLE_CONNECTIONS = 32
READ_AHEAD = 1 << 20  # bytes of an answer that wait here before the gateway is held back
CONNECT_TIMEOUT = 5.0  # seconds
HINT = "%endpoints shows its state"

Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Address:
    """Where the gateway listens, and the token that may see every endpoint."""

    host: str
    port: int
    token: str = field(repr=False)


Locate = Callable[[], Awaitable[Address]]


@dataclass(frozen=True, slots=True)
class Call:
    """A request to pass on; without an authorization of its own it goes out with the host's."""

    method: str
    target: str  # raw path and query
    headers: tuple[Header, ...]
    authorization: str = field(default="", repr=False)

    def head(self, address: Address, length: int | None) -> bytes:
        """Return the request's head; `length` is that of the body, None where it has none."""
        lines = [
            f"{self.method} {self.target} HTTP/1.1",
            f"Host: {address.host}:{address.port}",
            f"Authorization: {self.authorization or f'Bearer {address.token}'}",
        ]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        head = [line.encode("latin-1") for line in lines]
        head += [name + b": " + value for name, value in self.headers]
        return b"\r\n".join(head) + b"\r\n\r\n"


class Connection(asyncio.Protocol):
    """One exchange at a time; also the callbacks of httptools' parser."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.used = False  # has carried an exchange before this one
        self.complete = True  # no answer under way
        self.status = 0
        self.headers: list[Header] = []
        self.has_head = False  # of the answer under way
        self.lost = False
        self._chunks: deque[bytes] = deque()
        self._watcher: Callable[[], None] | None = None
        self._keep = True
        self._waiting = 0  # bytes in chunks
        self._paused = False
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None

    # what the pool and the handler call

    def start(self, data: bytes) -> None:
        """Begin an exchange: `data` is the head and as much of the body as is here."""
        self.status, self.headers, self.has_head, self.complete = 0, [], False, False
        self._chunks.clear()
        self._waiting = 0
        self._parser = httptools.HttpResponseParser(self)
        self._write(data)

    def watch(self, watcher: Callable[[], None] | None) -> None:
        """Let `watcher` be called at each part of the answer, and where the connection is lost."""
        self._watcher = watcher

    async def send(self, data: bytes) -> None:
        """Write a part of the body; waits while the gateway reads slower than the client sends.

        What comes after the gateway has answered or left is dropped: the answer says why.
        """
        if not self.has_head and not self.lost:
            self._write(data)
            await self._writable.wait()

    async def answered(self) -> None:
        """Return once the head of the answer is here: `status` and `headers` hold it."""
        while not self.has_head:
            if self.lost:
                raise EndpointError("the endpoint gateway does not answer", hint=HINT)
            await self._change()

    def whole(self) -> bytes | None:
        """Return the body if all of it is here: the common case of one small packet."""
        return b"".join(self._chunks) if self.complete else None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; EndpointError where the gateway leaves before its end."""
        while True:
            while not self._chunks:
                if self.complete:
                    return
                if self.lost:
                    raise EndpointError("the endpoint gateway left amid its answer", hint=HINT)
                await self._change()
            chunk = self._chunks.popleft()
            self._waiting -= len(chunk)
            self._hold(self._waiting > READ_AHEAD)
            yield chunk

    @property
    def reusable(self) -> bool:
        return self.complete and self._keep and not self.lost and not self._paused

    def close(self) -> None:
        self.lost = True
        if self._transport is not None:
            self._transport.abort()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _hold(self, hold: bool) -> None:  # noqa: FBT001 - a state, not a switch
        if hold != self._paused and self._transport is not None:
            (self._transport.pause_reading if hold else self._transport.resume_reading)()
            self._paused = hold

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not a check: uvloop's transports do not derive from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        if self.complete or self._parser is None:  # bytes that nobody asked for
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()
        self._changed.set()
        if self._watcher is not None:
            self._watcher()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.lost = True
        self._changed.set()
        self._writable.set()
        if self._watcher is not None:
            self._watcher()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser = cast("httptools.HttpResponseParser", self._parser)
        self.status = parser.get_status_code()
        if self.status == 100:  # noqa: PLR2004 - Continue: the answer itself comes later
            self.headers = []
            return
        self._keep = parser.should_keep_alive()
        self.has_head = True

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)
        self._waiting += len(body)
        self._hold(self._waiting > READ_AHEAD)

    def on_message_complete(self) -> None:
        self.complete = self.has_head


@dataclass(slots=True)
class Pool:
    """Connections to one gateway; `locate` gives its address anew for each one that is opened.

    The address is read at every opening: the gateway may have come back on another port, and the
    old one may by then belong to somebody who would like our tokens.
    """

    locate: Locate
    idle: list[Connection] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def exchange(self, call: Call, body: bytes | None) -> AsyncIterator[Connection]:
        """Send a request whose body is all here; give its connection, answered."""
        connection = await self._sent(call, body)
        try:
            yield connection
        finally:
            self.give_back(connection)

    async def open(self, call: Call, length: int) -> Connection:
        """Return a connection that waits for `length` bytes of body; the caller gives it back."""
        connection = await self._connected()
        connection.start(call.head(connection.address, length))
        return connection

    def give_back(self, connection: Connection) -> None:
        if connection.reusable and len(self.idle) < IDLE_CONNECTIONS:
            connection.used = True
            self.idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        for connection in self.idle:
            connection.close()
        self.idle.clear()

    def take(self) -> Connection | None:
        """Return a connection that lay idle, if there is one; the caller gives it back."""
        while self.idle:
            connection = self.idle.pop()
            if connection.reusable:
                return connection
        return None

    async def _sent(self, call: Call, body: bytes | None) -> Connection:
        while connection := self.take():
            # Closed by the gateway while idle: nothing of an answer came, so nothing is lost.
            with contextlib.suppress(EndpointError):
                return await _round(connection, call, body)
            connection.close()
        return await _round(await self._connected(), call, body)

    async def _connected(self) -> Connection:
        address = await self.locate()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                _, connection = await loop.create_connection(
                    lambda: Connection(address), address.host, address.port
                )
        except (OSError, TimeoutError) as lost:
            raise EndpointError("the endpoint gateway does not answer", hint=HINT) from lost
        return connection


async def _round(connection: Connection, call: Call, body: bytes | None) -> Connection:
    length = None if body is None else len(body)
    connection.start(call.head(connection.address, length) + (body or b""))
    await connection.answered()
    return connection
