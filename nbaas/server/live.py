"""What changes, pushed: one look at the jobs for all sockets, sent to those who have not seen it.

Rules: a look is taken once, in a thread, however many watch.  A client that reads slower than things
change gets the newest state, not a queue.  A hidden panel is only told of jobs that ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.extension.handler import ExtensionHandlerMixin
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from nbaas.errors import NbaasError
from nbaas.server.base import Context
from nbaas.server.guard import guarded_socket
from nbaas.server.hosts import HostRow, OtherHost, read_hosts
from nbaas.server.jobs import JobRow

INTERVAL = 0.5  # seconds between two looks while somebody watches
IDLE_INTERVAL = 1.0  # while nobody does: a job whose supervisor died must be found LOST
FACTS_EVERY = 4  # looks between two at hosts and endpoints while somebody watches
IDLE_FACTS_EVERY = 10  # while nobody does: endpoints keep a history, and traffic keeps a server up
NEWEST = 30  # finished jobs that a look covers
MOST_SOCKETS = 64
LONGEST_MESSAGE = 1024  # bytes from a client


class Watcher(Protocol):
    """A client's socket."""

    visible: bool

    def push(self, message: bytes) -> bool:
        """Send it unless the last one is still on its way; returns whether it was taken."""
        ...


class Visible(msgspec.Struct, forbid_unknown_fields=True):
    """What a client may say: whether its panel is in view."""

    visible: bool


@dataclass(slots=True)
class Ends:
    """Finds the jobs that ended between two looks."""

    began: float  # seconds since the epoch: what ended before is no news
    told: set[str] = field(default_factory=set)

    def since_last(self, rows: list[JobRow]) -> list[JobRow]:
        """Return the jobs that have ended and were not returned before."""
        ended = [
            row for row in rows if row.final and row.since >= self.began and row.id not in self.told
        ]
        self.told.update(row.id for row in ended)
        return ended


class Live:
    """Looks, and tells every socket."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._sockets: dict[Watcher, dict[str, bytes]] = {}  # what each has been sent, by part
        self._owed: dict[Watcher, list[JobRow]] = {}  # jobs that ended, not yet told
        self._ends = Ends(time.time())
        self._wake = asyncio.Event()
        self._facts: dict[str, Any] = {}

    def add(self, socket: Watcher) -> bool:
        """Take a socket on; False where there are too many."""
        if len(self._sockets) >= MOST_SOCKETS:
            return False
        self._sockets[socket] = {}
        self._owed[socket] = []
        self.look_now()
        return True

    def remove(self, socket: Watcher) -> None:
        self._sockets.pop(socket, None)
        self._owed.pop(socket, None)

    def tell_all(self, socket: Watcher) -> None:
        """Send everything to a socket once more, after a look that is taken now."""
        if socket in self._sockets:
            self._sockets[socket] = {}
            self.look_now()

    def look_now(self) -> None:
        self._wake.set()

    async def run(self, active: asyncio.Event) -> None:
        """Look for ever; `active` is set after each look that found something at work."""
        turn, every = 0, IDLE_FACTS_EVERY
        while True:
            # A look that fails is told by the routes; this one goes on.
            with contextlib.suppress(NbaasError, OSError):
                if await self._look(with_facts=turn % every == 0):
                    active.set()
            watched = any(socket.visible for socket in self._sockets)
            before, every = every, FACTS_EVERY if watched else IDLE_FACTS_EVERY
            turn = turn + 1 if before == every else 0
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL if watched else IDLE_INTERVAL):
                    await self._wake.wait()

    async def _look(self, *, with_facts: bool) -> bool:
        """Look and tell; returns whether anything is at work: jobs that run, requests that come."""
        context = self._context
        rows, finished = await context.call(context.jobs.rows, NEWEST)
        running = [row for row in rows if not row.final]
        ended = self._ends.since_last(rows)
        asked_of = 0
        if with_facts:
            endpoints = await context.call(context.endpoints.rows)
            asked_of = sum(bool(endpoint.requests_per_second) for endpoint in endpoints)
            self._facts = {**self._facts, "endpoints": endpoints}
            if any(socket.visible for socket in self._sockets):
                # Other hosts are asked by ssh: only for who looks.
                here, others = await context.call(_hosts, context)
                self._facts |= {"hosts": [here], "others": others}
        parts = {"running": running, "finished": finished, **self._facts}
        self._tell({name: msgspec.json.encode(value) for name, value in parts.items()}, ended)
        return bool(running or asked_of)

    def _tell(self, parts: dict[str, bytes], ended: list[JobRow]) -> None:
        for socket, sent in list(self._sockets.items()):
            owed = self._owed[socket]
            owed.extend(ended)
            wanted = parts if socket.visible else {"finished": parts["finished"]}
            news = {name: part for name, part in wanted.items() if sent.get(name) != part}
            if not owed and not (news and socket.visible):
                continue
            message = b",".join(b'"%b":%b' % (name.encode(), part) for name, part in news.items())
            told = b'{"ended":%b%b}' % (msgspec.json.encode(owed), b"," + message if news else b"")
            if socket.push(told):
                sent.update(news)
                owed.clear()


def _hosts(context: Context) -> tuple[HostRow, list[OtherHost]]:
    return read_hosts(context.jobs.holders())


class LiveHandler(WebSocketMixin, ExtensionHandlerMixin, JupyterHandler, WebSocketHandler):
    """The socket of one panel."""

    visible = True
    _sending: asyncio.Future[None] | None = None

    @guarded_socket("read")
    async def get(self, *args: Any, **kwargs: Any) -> None:
        await super().get(*args, **kwargs)

    @property
    def live(self) -> Live:
        live: Live = self.settings["nbaas_live"]
        return live

    def open(self, *args: Any, **kwargs: Any) -> None:
        super().open(*args, **kwargs)
        if not self.live.add(self):
            self.close(1013, "too many panels are open")

    def on_message(self, message: str | bytes) -> None:
        try:
            if len(message) > LONGEST_MESSAGE:
                raise msgspec.ValidationError("too long")
            self.visible = msgspec.json.decode(message, type=Visible).visible
        except msgspec.MsgspecError:
            self.close(1008, "not a message of ours")
            return
        self.live.tell_all(self)

    def on_close(self) -> None:
        self.live.remove(self)

    def push(self, message: bytes) -> bool:
        if self._sending is not None and not self._sending.done():
            return False
        with contextlib.suppress(WebSocketClosedError):
            self._sending = asyncio.ensure_future(self._send(message))
        return True

    async def _send(self, message: bytes) -> None:
        # The client left: `on_close` follows.
        with contextlib.suppress(WebSocketClosedError):
            await self.write_message(message.decode())
