"""The control socket of a supervisor: one JSON line asks, one answers.

Rules: only processes of the same user are answered (SO_PEERCRED, socket 0600 in a 0700 folder).  The
server never waits for a client: everything is non-blocking, a line is at most MAX_REQUEST bytes.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbaas.launchers.sockets import same_user

MAX_REQUEST = 4096  # bytes
ANSWER_TIMEOUT = 2.0  # seconds
Answer = Callable[[dict[str, Any]], dict[str, Any]]


class ControlServer:
    """Answers requests from within the supervisor's own loop."""

    def __init__(self, path: Path, selector: selectors.BaseSelector, answer: Answer) -> None:
        self.path = path
        self._selector = selector
        self._answer = answer
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        path.chmod(0o600)
        self._socket.listen(16)
        selector.register(self._socket, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        self._selector.unregister(self._socket)
        self._socket.close()
        self.path.unlink(missing_ok=True)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            client, _ = self._socket.accept()
            client.setblocking(False)  # noqa: FBT003 - positional only
            if not same_user(client):
                client.close()
                return
            received = bytearray()
            self._selector.register(
                client, selectors.EVENT_READ, lambda: self._read(client, received)
            )

    def _read(self, client: socket.socket, received: bytearray) -> None:
        try:
            data = client.recv(MAX_REQUEST)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        received += data
        if data and b"\n" not in received and len(received) <= MAX_REQUEST:
            return
        self._selector.unregister(client)
        with client, contextlib.suppress(OSError):
            if b"\n" in received:
                client.sendall(json.dumps(self._reply(bytes(received))).encode() + b"\n")

    def _reply(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line.partition(b"\n")[0])
        except ValueError:
            return {"error": "not a JSON line"}
        if not isinstance(request, dict):
            return {"error": "not a JSON object"}
        return self._answer(request)


def ask(path: str, request: dict[str, Any]) -> dict[str, Any] | None:
    """Return a supervisor's answer, None where it does not answer within 2 seconds."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(ANSWER_TIMEOUT)
            client.connect(path)
            client.sendall(json.dumps(request).encode() + b"\n")
            with client.makefile("rb") as stream:
                line = stream.readline(MAX_REQUEST * 16)
        answer = json.loads(line)
    except (OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None
