"""The key-value store where Horovod's Gloo contexts exchange their addresses, over HTTP.

Rules: bound to one address.  On loopback it answers processes of this user only; on the network it
answers who knows the job's secret, the first part of each path, since Horovod's client can send
nothing else.  It holds bytes and never unpickles them.  http.server would cost the supervisor 10 MB,
so the four lines of HTTP that Horovod's client speaks are read here: one request a connection, the
length of a body given.
"""

from __future__ import annotations

import hmac
import os
import socket
import socketserver
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self

from nbaas.engines.peers import owner_of

LOOPBACK = "127.0.0.1"
MAX_LINE = 4096  # bytes
MAX_VALUE = 1 << 20  # bytes; Gloo's addresses take some 100 bytes a rank
REQUEST_TIMEOUT = 10.0  # seconds for one request to arrive
REASONS = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found"}


class Readable(Protocol):
    def readline(self, limit: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Meeting:
    """A rendezvous somewhere on the network, for one start of a gang."""

    address: str  # host:port
    token: str  # "<secret>.<start>": keys of two starts do not mix
    interfaces: Mapping[str, str] = field(default_factory=dict)  # host -> network of its ranks

    def close(self) -> None:
        """Leave the server to whoever opened it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class KeyValueServer:
    """PUT, GET and DELETE of /scope/key on a free port; GET /scope/ lists the scope's keys.

    With a `secret` paths begin with `/<secret>.<start>:<anything>`.
    """

    token = ""
    interfaces: Mapping[str, str] = {}

    def __init__(self, host: str = LOOPBACK, secret: str = "") -> None:
        if host != LOOPBACK and not secret:
            raise ValueError(f"a rendezvous on {host} needs a secret")
        self._server = _Server((host, 0), _Handler, secret)
        self.port: int = self._server.server_address[1]
        self.address = f"{host}:{self.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="rendezvous", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 512  # a gang joins at once

    def __init__(self, address: tuple[str, int], handler: type[_Handler], secret: str) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)
        self.secret = secret
        self.values: dict[tuple[str, str], bytes] = {}
        self.guard = threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that broke off is its own loss: Horovod's asks again."""


class _Handler(socketserver.StreamRequestHandler):
    server: _Server
    timeout = REQUEST_TIMEOUT

    def handle(self) -> None:
        status, body = self._answer()
        head = f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + body)

    def _answer(self) -> tuple[int, bytes]:
        method, target, size = read_request(self.rfile)
        secret, token = self.server.secret, ""
        if secret:
            token, _, target = target.removeprefix("/").partition("/")
            if not hmac.compare_digest(token.partition(".")[0].encode(), secret.encode()):
                return 403, b""
        elif not same_user(self.client_address, self.server.server_address[1]):
            return 403, b""
        scope, _, key = target.removeprefix("/").partition("/")
        if not scope or "/" in key or not 0 <= size <= MAX_VALUE:
            return 400, b""
        value = self.rfile.read(size)
        with self.server.guard:
            return answer(self.server.values, method, (f"{token}/{scope}", key), value)


def answer(
    values: dict[tuple[str, str], bytes], method: str, place: tuple[str, str], value: bytes
) -> tuple[int, bytes]:
    """Return status and body of one request, carried out on `values`."""
    scope, key = place
    if method == "GET" and not key:
        return 200, ",".join(name for held, name in values if held == scope).encode()
    if method == "GET":
        return (200, values[place]) if place in values else (404, b"")
    if method == "PUT" and key:
        values[place] = value
        return 200, b""
    if method == "DELETE":
        # "This rank has connected."  Others may still read: a store lives for one start only.
        return 200, b""
    return 400, b""


def read_request(stream: Readable) -> tuple[str, str, int]:
    """Return method, target and body length; ('', '', -1) for what is no request."""
    method, _, target = (
        stream.readline(MAX_LINE).decode("latin-1").rpartition(" ")[0].partition(" ")
    )
    size = 0
    while (line := stream.readline(MAX_LINE).strip()) != b"":
        name, _, given = line.partition(b":")
        if name.lower() == b"content-length":
            size = int(given) if given.strip().isdigit() else -1
    return (method, target, size) if target else ("", "", -1)


def same_user(client: tuple[str, int], port: int) -> bool:
    """Return whether the process at the other end of a loopback connection runs as this user."""
    return owner_of(client, (LOOPBACK, port)) in (os.getuid(), 0)
