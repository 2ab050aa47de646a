"""Replicas as the gateway sees them: one socket each, credits, and the queue before them.

Rules: at most `credits` requests are in flight to a replica, the rest wait here where the next free
replica takes them.  A client that hangs up is forgotten, its answer dropped; it never touches the
link.  What a dying replica had in flight goes once to another one.  One write per loop turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from nbaas.deploy.counters import Counters
from nbaas.deploy.exchanges import Exchange, StreamExchange
from nbaas.deploy.frames import (
    ANSWER,
    ANSWER_REST,
    ITEM,
    LENGTH,
    STREAM,
    request_head,
)
from nbaas.deploy.messages import error_body

RECONNECT = 0.05  # seconds
MAX_ATTEMPTS = 2
FEW = 8  # requests that may always wait
MAX_WAIT = 2.0  # seconds that a request is expected to wait at most; more is refused
SMOOTHING = 0.1


class Link(asyncio.Protocol):
    """The connection to one replica; connects again until it is closed."""

    def __init__(self, pool: Pool, path: str, credits_: int) -> None:
        self.pool = pool
        self.path = path
        self.credits = credits_
        self.pending: dict[int, Exchange] = {}
        self.ready = False
        self.draining = False
        self.on_drained: Callable[[Link], None] | None = None
        self._closed = False
        self._transport: asyncio.Transport | None = None
        self._tail = b""
        self._out: list[bytes] = []
        self._flush_due = False
        self._next = 0
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        self._task = self.pool.loop.create_task(self._connect())

    async def _connect(self) -> None:
        while not self._closed:
            try:
                await self.pool.loop.create_unix_connection(lambda: self, self.path)
            except OSError:
                await asyncio.sleep(RECONNECT)
            else:
                return

    def send(self, exchange: Exchange) -> None:
        self._next += 1
        exchange.attempts += 1
        self.pending[self._next] = exchange
        if exchange.flags & STREAM:
            exchange.sent(self, self._next)
        body = exchange.body
        self._out.append(
            request_head(self._next, exchange.flags, exchange.header_length, len(body))
        )
        self._out.append(body)
        self._flush_soon()

    def tell(self, exchange: StreamExchange, flags: int, count: int) -> None:
        """Send word about a stream that this replica has; nothing where it has it no longer."""
        if self.pending.get(exchange.identity) is exchange:
            self._out.append(request_head(exchange.identity, flags, count, 0))
            self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self.pool.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._transport is not None:
            self._transport.writelines(self._out)
        self._out = []

    def drain(self, on_drained: Callable[[Link], None]) -> None:
        """Send nothing more; call back once every answer is here."""
        self.draining, self.on_drained = True, on_drained
        self._check_drained()

    def _check_drained(self) -> None:
        if self.draining and not self.pending and self.on_drained is not None:
            callback, self.on_drained = self.on_drained, None
            self.close()
            callback(self)

    def close(self) -> None:
        self._closed = True
        self.ready = False
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not a check: uvloop's transports do not derive from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=1 << 30)  # credits bound what lies here
        self._tail = b""
        if self._closed:
            self._transport.close()
            return
        self.ready = not self.draining
        self.pool.dispatch()

    def data_received(self, data: bytes) -> None:
        if self._tail:
            data = self._tail + data
        offset, size, before = 0, len(data), len(self.pending)
        while size - offset >= ANSWER.size:
            length, identity, status, batch, header_length = ANSWER.unpack_from(data, offset)
            end = offset + LENGTH + length
            if end > size:
                break
            body = data[offset + ANSWER.size : end]
            offset = end
            if status == ITEM:
                self.pool.pass_on(self.pending.get(identity), body)
                continue
            if (exchange := self.pending.pop(identity, None)) is not None:
                self.pool.finish(exchange, status, header_length, body, batch)
        self._tail = data[offset:]
        self.pool.note_pace(before - len(self.pending))
        if self.draining:
            self._check_drained()
        else:
            self.pool.dispatch()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.ready, self._transport, self._out = False, None, []
        lost, self.pending = list(self.pending.values()), {}
        self.pool.take_back(lost)
        if self.draining:
            self._check_drained()
        elif not self._closed:
            self.open()


assert ANSWER.size - LENGTH == ANSWER_REST  # noqa: S101 - the loop above relies on it


class Pool:
    """The replicas of one version, and the requests that wait for one of them."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, counters: Counters, *, queue: int, timeout: float
    ) -> None:
        self.loop = loop
        self.counters = counters
        self.queue = queue
        self.timeout = timeout  # seconds
        self.pace = 0.0  # seconds from one answer to the next while there is work, smoothed
        self._busy_since = 0.0
        self.asked = loop.time()  # the last request
        self.links: dict[str, Link] = {}
        self.waiting: deque[Exchange] = deque()
        self._on_retired: Callable[[Link], None] | None = None

    @property
    def ready(self) -> bool:
        return any(link.ready for link in self.links.values())

    @property
    def outstanding(self) -> int:
        return len(self.waiting) + sum(len(link.pending) for link in self.links.values())

    def set_links(self, wanted: dict[str, int], on_drained: Callable[[Link], None]) -> None:
        """Have links to the sockets in `wanted` ({path: credits}); others are drained."""
        for path in self.links.keys() - wanted.keys():
            self.links.pop(path).drain(on_drained)
        for path, credits_ in wanted.items():
            if path in self.links:
                self.links[path].credits = credits_
            else:
                self.links[path] = Link(self, path, credits_)
                self.links[path].open()

    def full(self) -> bool:
        """Whether a further request would wait too long: by count, or by the pace of late."""
        waiting = len(self.waiting)
        return waiting >= self.queue or (waiting > FEW and self.expected_wait() > MAX_WAIT)

    def expected_wait(self) -> float:
        """Return the seconds that a request would wait now, by the pace of late."""
        return len(self.waiting) * self.pace

    def note_pace(self, answers: int) -> None:
        """Learn from `answers` that have just arrived."""
        if answers:
            now = self.loop.time()
            pace = (now - self._busy_since) / answers
            self.pace += SMOOTHING * (pace - self.pace) if self.pace else pace
            self._busy_since = now

    def load(self) -> dict[str, Any]:
        """Return what the host scales by: requests, and seconds since the last one."""
        waiting = len(self.waiting)
        return {
            "waiting": waiting,
            "in_flight": self.outstanding - waiting,
            "silent": self.loop.time() - self.asked,
        }

    def submit(self, exchange: Exchange) -> None:
        """Send a request to the replica with the least in flight, or let it wait."""
        self.asked = exchange.started
        link = self._free() if not self.waiting else None
        if link is None:
            self.waiting.append(exchange)
            return
        if not link.pending:
            self._busy_since = exchange.started  # this replica was idle until now
        link.send(exchange)

    def _free(self) -> Link | None:
        best, least = None, 1 << 30
        for link in self.links.values():
            load = len(link.pending)
            if load < link.credits and load < least and link.ready:
                best, least = link, load
        return best

    def dispatch(self) -> None:
        """Give waiting requests to replicas that have room."""
        waiting = self.waiting
        while waiting:
            if waiting[0].client is None:
                waiting.popleft()
                continue
            link = self._free()
            if link is None:
                return
            link.send(waiting.popleft())
        if self._on_retired is not None:
            self.set_links({}, self._on_retired)

    def finish(
        self, exchange: Exchange, status: int, header_length: int, body: bytes, batch: int
    ) -> None:
        self.counters.batches(batch)
        self._answer(exchange, status, header_length, body)

    def pass_on(self, exchange: Exchange | None, body: bytes) -> None:
        """Give an item to the client of its stream; the one over the limit ends it."""
        if not isinstance(exchange, StreamExchange) or exchange.client is None:
            return
        if exchange.items == exchange.limit:
            self._break_off(exchange, 413, f"the stream was cut after {exchange.limit} items")
            return
        exchange.items += 1
        exchange.moved = self.loop.time()
        self.counters.items += 1
        exchange.client.item(exchange, body)
        exchange.begun = True

    def _break_off(self, exchange: Exchange, status: int, reason: str) -> None:
        self._answer(exchange, status, -1, error_body(reason))
        exchange.leave()

    def _answer(self, exchange: Exchange, status: int, header_length: int, body: bytes) -> None:
        client, exchange.client = exchange.client, None
        if client is not None:
            self.counters.request(status, self.loop.time() - exchange.started)
            client.answer(exchange, status, header_length, body)

    def take_back(self, lost: list[Exchange]) -> None:
        """Queue again what a replica left unanswered; refuse what has been lost before."""
        for exchange in reversed(lost):
            if exchange.begun:
                self._answer(exchange, 503, -1, error_body("the replica ended amid the stream"))
            elif exchange.attempts < MAX_ATTEMPTS and (self.links or self._on_retired is None):
                # Without links: the host told of the death first, and will tell of the next replica.
                self.waiting.appendleft(exchange)
            else:
                self._answer(
                    exchange, 503, -1, b'{"error":"the replica ended twice on this request"}'
                )
        self.counters.restarts += bool(lost)
        self.dispatch()

    def expire(self, now: float) -> None:
        """Answer 504 to what has waited longer than the timeout."""
        in_flight = [x for link in self.links.values() for x in link.pending.values()]
        for exchange in [*self.waiting, *in_flight]:
            if exchange.client is not None and exchange.silent(now) > self.timeout:
                self._break_off(exchange, 504, f"no answer within {self.timeout:g} s")
        self.dispatch()

    def retire(self, on_drained: Callable[[Link], None]) -> None:
        """Take nothing new; the replicas are let go once what waits here is answered."""
        self._on_retired = on_drained
        self.dispatch()
