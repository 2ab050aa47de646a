"""How the gateway process listens: its doors, plain and TLS, and the host that tells it what to serve."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import signal
import socket
import ssl
from typing import TYPE_CHECKING, Any

from nbaas.deploy.http import Connection
from nbaas.deploy.tls import Tls

if TYPE_CHECKING:
    from nbaas.deploy.gateway import Gateway

RENEWAL = 2.0  # seconds between looks at the certificate's files

Door = tuple[socket.socket, Tls | None]  # a listening socket, and how it speaks


async def serve(made: type[Gateway], doors: list[Door], control: socket.socket) -> None:
    """Serve until the host closes the control socket or asks for the end."""
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(sock=control, limit=64 << 20)

    def tell(message: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):
            writer.write(json.dumps(message).encode() + b"\n")

    gateway = made(loop, tell)
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    listening = asyncio.create_task(_listen(gateway, reader, doors, stopped))
    gateway.sweep()
    gc.collect()
    gc.freeze()
    await stopped.wait()
    listening.cancel()
    await gateway.drain(10.0)


async def _listen(
    gateway: Gateway, reader: asyncio.StreamReader, doors: list[Door], stopped: asyncio.Event
) -> None:
    """Obey the host: tables, questions, the end.  The port is served from the first table on."""
    servers: list[asyncio.Server] = []
    loop = asyncio.get_running_loop()
    while line := await reader.readline():
        message = json.loads(line)
        if "table" in message:
            gateway.apply(message["table"])
            gateway.tell({"applied": message["serial"]})
        if "stats" in message:
            gateway.tell({"stats": gateway.stats(), "serial": message["serial"]})
        if servers:
            continue
        for listener, tls in doors:
            context = tls.context() if tls else None
            servers.append(
                await loop.create_server(
                    lambda: Connection(gateway, gateway.connections, loop),
                    sock=listener, backlog=1024, ssl=context,
                )
            )  # fmt: skip
            if tls is not None and context is not None:
                _keep_fresh(loop, tls, context, tls.changed())
    stopped.set()


def _keep_fresh(
    loop: asyncio.AbstractEventLoop, tls: Tls, context: ssl.SSLContext, read: float
) -> None:
    """Read the certificate again once its files are newer than `read`: it was renewed."""
    if (changed := tls.changed()) > read:
        with contextlib.suppress(OSError):  # half written: the next look sees the rest
            context.load_cert_chain(tls.cert, tls.key)
            read = changed
    loop.call_later(RENEWAL, _keep_fresh, loop, tls, context, read)
