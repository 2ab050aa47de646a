"""The gateway process as the host sees it: always one, told the whole table at every change."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nbaas.deploy.children import Backoff, Child, start_child
from nbaas.deploy.tls import Tls

APPLY_TIMEOUT = 10.0  # seconds


class Front:
    """Keeps a gateway on the listening socket; tables reach it in order."""

    def __init__(
        self,
        listener: socket.socket,
        environment: Mapping[str, str],
        log: Path,
        lifeline: int,
        table: Callable[[], dict[str, Any]],
        on_drained: Callable[[str], None],
        on_wake: Callable[[str, int], None],
        secure: tuple[socket.socket, Tls] | None = None,
    ) -> None:
        self.listener = listener
        self.environment = environment
        self.log = log
        self.lifeline = lifeline
        self.table = table
        self.on_drained = on_drained
        self.on_wake = on_wake
        self.secure = secure  # where TLS is spoken
        self.child: Child | None = None
        self.restarts = 0
        self.stopping = False
        self._backoff = Backoff()
        self._serial = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start a gateway; returns once it serves the present table."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)  # noqa: FBT003 - positional only
        numbers = (self.listener.fileno(), theirs.fileno(), self.lifeline, os.getpid())
        more: list[str] = []
        keep: tuple[int, ...] = numbers[:3]
        if self.secure is not None:
            listener, tls = self.secure
            more = [str(listener.fileno()), tls.cert, tls.key]
            keep = (*keep, listener.fileno())
        try:
            self.child = start_child(
                "nbaas.deploy.gateway",
                [*map(str, numbers), *more],
                env=self.environment,
                log=self.log,
                keep=keep,
                on_exit=self._exited,
            )
        finally:
            theirs.close()
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=64 << 20)
        self._spawn_task(self._listen(reader))
        await self.push()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                message = json.loads(line)
                if "drained" in message:
                    self.on_drained(message["drained"])
                if "wake" in message:
                    self.on_wake(*message["wake"])
                waiting = self._waiting.pop(message.get("applied", message.get("serial", -1)), None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)

    async def push(self) -> bool:
        """Send the present table; returns whether the gateway serves it now."""
        return await self._ask({"table": self.table()}) is not None

    async def stats(self) -> dict[str, Any]:
        """Return the gateway's counters by endpoint and version; empty while it is away."""
        answered = await self._ask({"stats": True})
        found: dict[str, Any] = answered["stats"] if answered else {}
        return found

    async def _ask(self, message: dict[str, Any]) -> dict[str, Any] | None:
        if self._writer is None:
            return None
        self._serial += 1
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[self._serial] = future
        try:
            self._writer.write(json.dumps({**message, "serial": self._serial}).encode() + b"\n")
            async with asyncio.timeout(APPLY_TIMEOUT):
                return await future
        except (TimeoutError, ConnectionError, RuntimeError):
            return None  # it died: the next one starts with a fresh table

    def _exited(self, code: int) -> None:
        self._writer = None
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionError(f"the gateway ended with {code}"))
        self._waiting.clear()
        if not self.stopping:
            self._spawn_task(self._again())

    async def _again(self) -> None:
        # The socket stays open here: clients wait in its backlog meanwhile, none is refused.
        pause = self._backoff.pause(time.monotonic(), was_ready=True)
        await asyncio.sleep((pause or 1.0) / 4)
        if not self.stopping:
            self.restarts += 1
            await self.start()

    def _spawn_task(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self, grace: float) -> None:
        self.stopping = True
        if self.child is not None:
            self.child.send(signal.SIGTERM)
            await self.child.end(grace)
